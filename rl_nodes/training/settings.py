# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: ``config/train/<algorithm>.yaml`` as frozen records."""

from typing import Annotated

import msgspec
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.base import Learner
from rl_nodes.algorithms.on_policy import OnPolicyConfig, OnPolicyLearner
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.trpo import Trpo, TrpoConfig
from rl_nodes.core import config, resources
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.training.curriculum import CurriculumConfig

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class ScheduleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What every training loop does besides learning, and when.

    :param n_envs: environments stepped together in process, unless the command line says so.
    :param evaluate_every_steps: control steps between two evaluations.
    :param evaluate_every_s: time between two evaluations [s], if that comes first.
    :param evaluation_episodes: episodes of a scheduled evaluation, the same ones each time.
    :param confirmation_episodes: fresh episodes that confirm a reached target and judge the best
        policy at the end.
    :param checkpoint_every_s: time between two checkpoints [s].
    :param checkpoints_kept: newest checkpoints that stay on the disk.
    :param snapshot_every_updates: gradient steps between two snapshots to roll back to.
    :param max_rollbacks: rolled-back divergences after which training gives up.
    :param source_timeout_s: silence of the source that is reported [s].
    :param log_every_s: time between two rows of metrics [s].
    :param curriculum: how difficult training episodes are, see ``curriculum.py``.
    """

    n_envs: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    evaluate_every_steps: _Count = 5000
    evaluate_every_s: _Positive = 60.0
    evaluation_episodes: _Count = 20
    confirmation_episodes: _Count = 50
    checkpoint_every_s: _Positive = 300.0
    checkpoints_kept: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    snapshot_every_updates: _Count = 500
    max_rollbacks: Annotated[int, msgspec.Meta(ge=0)] = 3
    source_timeout_s: _Positive = 10.0
    log_every_s: _Positive = 5.0
    curriculum: CurriculumConfig = CurriculumConfig()


class LoopConfig(ScheduleConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the off-policy training loop, besides those of :class:`ScheduleConfig`.

    :param updates_per_step: greatest number of gradient steps per stored transition.
    :param updates_per_round: greatest number of gradient steps between two looks at the source.
    :param max_staleness_updates: gradient steps that the learner may be ahead of the policy that
        is seen acting; it waits at that point. None removes the bound.
    :param publish_every_updates: gradient steps between two published policies.
    :param publish_every_s: time between two published policies [s], if that comes first.
    """

    updates_per_step: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] = 1.0
    updates_per_round: _Count = 64
    max_staleness_updates: _Count | None = 2000
    publish_every_updates: _Count = 500
    publish_every_s: _Positive = 5.0


class TrainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One file of ``config/train``; each algorithm has its own form of it.

    :param algorithm: which learner.
    :param learner: its settings.
    :param loop: the training loop's settings.
    """

    algorithm: str
    learner: SacConfig | OnPolicyConfig
    loop: ScheduleConfig


class SacSettings(TrainSettings, frozen=True, forbid_unknown_fields=True):
    """A file with ``algorithm: sac``."""

    learner: SacConfig = SacConfig()
    loop: LoopConfig = LoopConfig()


class PpoSettings(TrainSettings, frozen=True, forbid_unknown_fields=True):
    """A file with ``algorithm: ppo``."""

    learner: PpoConfig = PpoConfig()
    loop: ScheduleConfig = ScheduleConfig()


class A2cSettings(TrainSettings, frozen=True, forbid_unknown_fields=True):
    """A file with ``algorithm: a2c``."""

    learner: A2cConfig = A2cConfig()
    loop: ScheduleConfig = ScheduleConfig()


class ReinforceSettings(TrainSettings, frozen=True, forbid_unknown_fields=True):
    """A file with ``algorithm: reinforce``."""

    learner: ReinforceConfig = ReinforceConfig()
    loop: ScheduleConfig = ScheduleConfig()


class TrpoSettings(TrainSettings, frozen=True, forbid_unknown_fields=True):
    """A file with ``algorithm: trpo``."""

    learner: TrpoConfig = TrpoConfig()
    loop: ScheduleConfig = ScheduleConfig()


ON_POLICY: dict[str, type[OnPolicyLearner]] = {
    'ppo': Ppo, 'a2c': A2c, 'reinforce': Reinforce, 'trpo': Trpo}
SETTINGS: dict[str, type[TrainSettings]] = {
    'sac': SacSettings, 'ppo': PpoSettings, 'a2c': A2cSettings, 'reinforce': ReinforceSettings,
    'trpo': TrpoSettings}


def load_settings(name: str) -> TrainSettings:
    """
    Return the settings of a shipped file (``sac``) or of a path ending in ``.yaml``.

    :raises ConfigError: no such file, an unknown key or a value out of range.
    """
    path = resources.find_config('train', name)
    data = config.read_yaml(path)
    algorithm = str(data.get('algorithm', '')) if isinstance(data, dict) else ''
    if algorithm not in SETTINGS:
        raise ConfigError(f'{path}: algorithm = {algorithm!r}'
                          f'{config.suggestion(algorithm, SETTINGS)}; '
                          f'allowed: {", ".join(SETTINGS)}')
    return config.convert(data, SETTINGS[algorithm], str(path))


def make_learner(settings: TrainSettings, contract: Contract, seed: int) -> Learner:
    """
    Return a fresh learner for a contract.

    :param seed: of every random draw of the learner.
    :raises TrainingError: the action space does not fit the algorithm.
    """
    if settings.algorithm in ON_POLICY:
        return ON_POLICY[settings.algorithm](contract, settings.learner, seed)
    if contract.discrete:
        raise TrainingError(f'{contract.task}: its actions are discrete, {settings.algorithm} '
                            'needs continuous ones; choose an algorithm for discrete actions: '
                            f'{", ".join(ON_POLICY)}')
    low, high = contract.action.bounds()
    privileged = contract.privileged
    return Sac(len(contract.observation.elements), low, high, settings.learner, seed,
               0 if privileged is None else len(privileged.elements))
