# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
From recorded demonstrations to a policy that is deployed like any other.

This is the function behind ``rl_nodes train algorithm:=bc dataset:=FOLDER``.
"""

from collections.abc import Sequence
import contextlib
import hashlib
from pathlib import Path
import time
from typing import Annotated, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.bc import BcConfig, BehaviourCloning
from rl_nodes.core import config, resources
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.core.origin import Origin
from rl_nodes.core.types import TransitionBatch
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.runs.record import flat, folder_of, RunKeeper, RunRecord
from rl_nodes.training.evaluation import evaluate, Evaluation, FRESH_SEED
from rl_nodes.training.metrics import MetricSink
from rl_nodes.training.progress import Progress
import torch


class CloneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A file of ``config/train`` with ``algorithm: bc``.

    :param algorithm: bc.
    :param learner: its settings.
    """

    algorithm: Literal['bc']
    learner: BcConfig = BcConfig()


class CloneOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to learn from.

    :param dataset: folder of recorded episodes (.mcap), or one of them.
    :param algorithm: name of a file in ``config/train`` or path of one.
    :param run_dir: everything is written here; empty makes one below ``runs/`` named after
        the task and the time.
    :param seed: of every random draw.
    :param backend: simulator in which the policy is evaluated.
    :param evaluation_episodes: how many of them; 0 for none, as for a robot without a simulator.
    """

    dataset: str
    algorithm: str = 'bc'
    run_dir: str = ''
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    backend: str = 'pybullet'
    evaluation_episodes: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 50


class CloneResult(msgspec.Struct, frozen=True):
    """
    What came of it.

    :param run_dir: where everything lies.
    :param policy: the ONNX file.
    :param transitions: demonstrated ones, learned from and validated on.
    :param validation_loss: the least.
    :param evaluation: on fresh episodes in simulation; None where there was none.
    """

    run_dir: Path
    policy: Path
    transitions: int
    validation_loss: float
    evaluation: Evaluation | None


def clone(options: CloneOptions, batch: TransitionBatch, contract: Contract,
          files: Sequence[Path], progress: Progress | None = None) -> CloneResult:
    """
    Learn, export and evaluate a policy.

    :param batch: transitions of the recorded episodes.
    :param contract: that they were recorded under.
    :param files: the recordings, whose hashes the policy carries.
    :param progress: None for the live line on standard error.
    :raises ConfigError: wrong settings, or a run directory in use.
    :raises TrainingError: too little demonstrated, or learning diverged.
    """
    settings = config.load(resources.find_config('train', options.algorithm), CloneSettings)
    folder = folder_of(options.run_dir, f'{contract.task}_bc')
    if (folder / 'policy.onnx').exists():
        raise ConfigError(f'{folder} holds a policy already; give another run_dir')
    observation, action, episode = _demonstrated(batch)
    progress = Progress() if progress is None else progress
    progress.say(f'cloning {len(action):,} demonstrated transitions of '
                 f'{len(np.unique(episode))} episodes')
    torch.set_num_threads(1)  # fastest for small networks
    learner = BehaviourCloning(len(contract.observation.elements), contract.action,
                               settings.learner, options.seed)
    data = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    record = RunRecord(
        task=contract.task, robot=contract.robot, algorithm='bc', seed=options.seed,
        settings=flat({'dataset': options.dataset, 'contract': contract.fingerprint(),
                       'backend': options.backend,
                       'learner': msgspec.to_builtins(settings.learner)}))
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        keeper = stack.enter_context(RunKeeper(folder, record))
        metrics, begun = MetricSink(folder), time.monotonic()
        stack.callback(metrics.close)

        def report(epoch: int, loss: float, checked: float) -> None:
            metrics.write('train', epoch, time.monotonic() - begun,
                          {'loss': loss, 'validation_loss': checked})
            if epoch % 10 == 0:
                progress.say(f'epoch {epoch}: loss {loss:.4g}, validation {checked:.4g}')

        best = learner.fit(observation, action, episode, report)
        progress.say(f'{learner.epochs} epochs; least validation loss {best:.4g}')
        exporter = PolicyExporter(learner.policy_module(), contract, contract.task, 'bc',
                                  settings.learner.head)

        def export(found: Evaluation | None) -> PolicyBundle:
            return exporter.export(
                learner.policy_module(), 1, learner.updates, observation,
                None if found is None else found.summary(), data)

        bundle = export(None)
        evaluation = None
        if options.evaluation_episodes:
            env = SimEnv(contract.robot, contract.task, options.backend)
            try:
                evaluation = evaluate(env, PolicyRuntime(bundle), range(
                    FRESH_SEED, FRESH_SEED + options.evaluation_episodes))
            finally:
                env.close()
            progress.say(f'in simulation: {evaluation.text()}')
            metrics.write('evaluation', learner.epochs, time.monotonic() - begun,
                          evaluation.summary())
        policy = export(evaluation).save(folder / 'policy.onnx')
        keeper.end('steps', evaluation and evaluation.summary())
    return CloneResult(folder, policy, len(action), best, evaluation)


def _demonstrated(batch: TransitionBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (observations (N, O), actions (N, A), episodes (N,)) of what somebody showed."""
    shown = np.ones(len(batch), bool) if batch.origin is None else np.isin(
        batch.origin, (Origin.DEMONSTRATION, Origin.INTERVENTION))
    if not shown.any():
        raise TrainingError(f'bc: none of {len(batch)} recorded transitions was demonstrated: a '
                            'policy or nobody acted in all of them; "rl_nodes launch record" '
                            'records demonstrations')
    # As it was wanted: what a monitor, a change of source or noise made of it is not to be copied.
    return batch.observation[shown], batch.wanted[shown], batch.episode[shown]
