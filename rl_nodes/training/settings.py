# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: ``config/train/<algorithm>.yaml`` as frozen records."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.actor_critic import ActorCriticConfig
from rl_nodes.algorithms.base import Learner
from rl_nodes.algorithms.constraint import ConstraintConfig, Penalty, PenaltyConfig
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.on_policy import OnPolicyConfig
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.recurrent_ppo import RecurrentPpo, RecurrentPpoConfig
from rl_nodes.algorithms.recurrent_sac import RecurrentSac, RecurrentSacConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.algorithms.trpo import Trpo, TrpoConfig
from rl_nodes.core import config, resources
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.training.curriculum import CurriculumConfig
from rl_nodes.training.risk import risk_in

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
LearnerConfig = ActorCriticConfig | DqnConfig | OnPolicyConfig


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
    :param checkpoint_every_steps: control steps between two checkpoints, instead of time. All
        episodes begin anew at each, and evaluations come by steps only, so that a run that was
        killed and resumed without a graph equals one that was not, bit by bit.
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
    checkpoint_every_steps: _Count | None = None
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


class Method(NamedTuple):
    """
    A method that can be trained.

    :param learner: its class.
    :param config: the record of its settings.
    :param actions: what it can choose from.
    """

    learner: Callable[..., Learner]
    config: type[LearnerConfig]
    actions: tuple[Literal['continuous', 'discrete'], ...]


METHODS = {
    'a2c': Method(A2c, A2cConfig, ('continuous', 'discrete')),
    'ddpg': Method(Ddpg, DdpgConfig, ('continuous',)),
    'dqn': Method(Dqn, DqnConfig, ('discrete',)),
    'ppo': Method(Ppo, PpoConfig, ('continuous', 'discrete')),
    'recurrent_ppo': Method(RecurrentPpo, RecurrentPpoConfig, ('continuous', 'discrete')),
    'recurrent_sac': Method(RecurrentSac, RecurrentSacConfig, ('continuous',)),
    'reinforce': Method(Reinforce, ReinforceConfig, ('continuous', 'discrete')),
    'sac': Method(Sac, SacConfig, ('continuous',)),
    'td3': Method(Td3, Td3Config, ('continuous',)),
    'trpo': Method(Trpo, TrpoConfig, ('continuous', 'discrete')),
}


class TrainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One file of ``config/train``; each algorithm has its own form of it.

    :param algorithm: which learner, a key of ``METHODS``.
    :param learner: its settings.
    :param loop: the training loop's settings.
    """

    algorithm: str
    learner: LearnerConfig
    loop: ScheduleConfig

    @property
    def on_policy(self) -> bool:
        """Return whether the method learns only from what its newest policy has just done."""
        return isinstance(self.learner, OnPolicyConfig)

    @property
    def constraint(self) -> ConstraintConfig:
        """Return the limit on what episodes cost; of a method that takes none, an idle one."""
        return ConstraintConfig() if isinstance(self.learner, DqnConfig) \
            else self.learner.constraint

    @property
    def penalty(self) -> PenaltyConfig:
        """Return the price of costs and risks; of a method that takes none, an idle one."""
        return PenaltyConfig() if isinstance(self.learner, DqnConfig) else self.learner.penalty

    @property
    def cost(self) -> str:
        """Return the name of what every step has to cost; empty where nobody asks."""
        return self.constraint.cost or self.penalty.cost


def load_settings(name: str, changes: Mapping[str, str] | None = None) -> TrainSettings:
    """
    Return the settings of a shipped file (``sac``) or of a path ending in ``.yaml``.

    :param changes: what holds instead of the file, ``learner.discount`` -> value as in YAML.
    :raises ConfigError: no such file, an unknown key or a value out of range.
    """
    path = resources.find_config('train', name)
    data, source = config.read_yaml(path), str(path)
    for key, text in (changes or {}).items():
        source = f'{path} with {key}:={text}'
        *sections, last = key.split('.')
        section = data
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f'{source}: {part} has one value and no {last}')
        section[last] = config.parse_yaml(f'value: {text}', f'{key}:={text}')['value']
        settings_from(data, source)
    return settings_from(data, source)


def settings_from(data: dict[str, Any], source: str) -> TrainSettings:
    """
    Return the settings in what a YAML loader made.

    :param source: name used in error messages.
    :raises ConfigError: an unknown method or key, or a value out of range.
    """
    algorithm = data.get('algorithm')
    if algorithm not in METHODS:
        raise ConfigError(f'{source}: algorithm = {algorithm!r}'
                          f'{config.suggestion(str(algorithm), METHODS)}; there are '
                          f'{", ".join(METHODS)}')
    kind = METHODS[algorithm].config
    loop = ScheduleConfig if issubclass(kind, OnPolicyConfig) else LoopConfig
    file: Any = config.convert(data, msgspec.defstruct(
        'TrainSettings', [('algorithm', str), ('learner', kind, kind()), ('loop', loop, loop())],
        frozen=True, forbid_unknown_fields=True), source)
    return TrainSettings(algorithm, file.learner, file.loop)


def require_flat(contract: Contract) -> None:
    """Refuse a task that observes pictures; TrainingError says what to do with it."""
    if contract.pictures:
        raise TrainingError(
            f'task {contract.task} observes {"; ".join(map(str, contract.pictures))}; the '
            'learners here take a flat Box. Train elsewhere on SimEnv and bring the policy in by '
            '"rl_nodes import", or leave pictures out of the task')


def make_learner(settings: TrainSettings, contract: Contract, seed: int) -> Learner:
    """
    Return a fresh learner for a contract.

    :param seed: of every random draw of the learner.
    :raises TrainingError: what is observed or the action space does not fit the algorithm.
    :raises ConfigError: its guard cannot be used, likewise BundleError and ContractError.
    """
    if not settings.constraint.active and settings.constraint != ConstraintConfig():
        raise TrainingError('learner.constraint limits nothing without a cost; name one of the '
                            "environment's info with learner.constraint.cost")
    if settings.penalty.cost not in ('', settings.cost):
        raise TrainingError(f'learner.constraint.cost = {settings.cost!r} and learner.penalty.cost'
                            f' = {settings.penalty.cost!r}; a run has one cost. Name the same one '
                            'twice, or leave one out')
    if not settings.penalty.active and settings.penalty != PenaltyConfig():
        raise TrainingError('learner.penalty has a coefficient and nothing that it is of; name a '
                            'cost with learner.penalty.cost or a guard with learner.penalty.guard')
    require_flat(contract)
    method, given = METHODS[settings.algorithm], contract.action_choices
    if given not in method.actions:
        fit = [name for name, other in METHODS.items() if given in other.actions]
        raise TrainingError(f'{settings.algorithm} chooses {method.actions[0]} actions, but those '
                            f'of {contract.task} are {given}; methods that fit: {", ".join(fit)}')
    if settings.on_policy:
        learner = method.learner(contract, settings.learner, seed)
    else:
        privileged = contract.privileged
        learner = method.learner(
            len(contract.observation.elements), *contract.action.bounds(), settings.learner, seed,
            0 if privileged is None else len(privileged.elements))
    if settings.penalty.active:
        guard = settings.penalty.guard
        learner.penalty = Penalty(settings.penalty, risk_in(guard, contract) if guard else None)
    return learner
