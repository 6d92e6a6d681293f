# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``results.yaml`` asks for, how one run of it is made, and the lines that tell of it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
import hashlib
import importlib.util
import json
import math
import os
from pathlib import Path
import platform
import re
from typing import Annotated, Any

import gymnasium
import msgspec
from results_guard import Charged
from results_shown import Shown
from rl_nodes import __version__
from rl_nodes.backends import BACKENDS, installed_backends
from rl_nodes.core.config import read_yaml
from rl_nodes.core.resources import find_config
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.runs.statistics import interquartile_mean
from rl_nodes.tasks import load_task
from rl_nodes.training.evaluation import evaluate
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.settings import load_settings
from rl_nodes.training.sources import environment_maker

FIRST_SEED = 3_000_000  # beyond the evaluation's and the confirmation's
EPISODES = 50
GYMNASIUM = 'gymnasium'  # stands where a simulator's name does


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What tasks and methods have in common.

    :param algorithm: name in ``config/train``.
    :param steps: control steps that a run may take; None for no limit.
    :param time_budget_s: wall time that it may take [s]; None for no limit.
    :param target: evaluation at which a run ends, success rate or return; None for never.
    :param n_envs: environments stepped together; None for as many as the settings say.
    :param expect: least success, or return, over seeds; less is a failure.
    """

    algorithm: str = 'sac'
    steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    time_budget_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    target: float | None = None
    n_envs: int | None = None
    expect: float

    def options(self, env: str, seed: int, folder: Path, **more: Any) -> TrainOptions:
        """Return what to train and for how long; what was interrupted in a folder goes on."""
        return TrainOptions(
            env=env, algorithm=self.algorithm, run_dir=str(folder), seed=seed, film=False,
            steps=self.steps, time_budget_s=self.time_budget_s, target=self.target,
            n_envs=self.n_envs, resume=any(folder.glob('checkpoints/checkpoint_*.pt')), **more)

    @abstractmethod
    def scores(self, records: 'Sequence[Record]') -> list[float]:
        """Return what is expected of, seed by seed."""

    def met(self, records: 'Sequence[Record]') -> bool:
        """Return whether some runs, at least one, came to what is expected."""
        return bool(interquartile_mean(self.scores(records)) >= self.expect)


class TaskRun(Run, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A task of this package.

    :param robot: name in ``config/robots``.
    :param task: name in ``config/tasks``.
    :param backend: simulator to train in.
    """

    robot: str
    task: str
    backend: str = BACKENDS[0]
    time_budget_s: Annotated[float, msgspec.Meta(gt=0)] | None = 1200.0
    target: float | None = 0.98
    n_envs: int | None = 1
    expect: float = 0.95

    @property
    def name(self) -> str:
        """Return what tells this run from the others."""
        return f'{self.task}_{self.robot}_{self.algorithm}_{self.backend}'

    @property
    def configuration(self) -> str:
        """Return a digest of contract, task and learner as they are now."""
        return digest([load_task(self.robot, self.task).contract.fingerprint(),
                       read_yaml(find_config('tasks', self.task)),
                       *learner_of(self.algorithm, {})])

    def perform(self, seed: int, folder: Path) -> 'Record | None':
        """Train one policy and let it play in every simulator; None where that was stopped."""
        env_id = f'results/{self.name}-v0'
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id, entry_point=SimEnv,
                vector_entry_point='rl_nodes.envs.vector_env:SimVectorEnv',
                kwargs={'robot': self.robot, 'task': self.task, 'backend': self.backend})
        return trained(self, self.options(env_id, seed, folder), {
            backend: partial(SimEnv, self.robot, self.task, backend)
            for backend in installed_backends()})

    def scores(self, records: 'Sequence[Record]') -> list[float]:
        """Return what is expected of, seed by seed."""
        return successes(records, self.backend)


class MethodRun(Run, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A method on an environment that others have figures for.

    :param env: id of a Gymnasium environment.
    :param env_module: module whose import registers it.
    :param changes: settings that hold instead of the file's, ``learner.double: true``.
    :param published: figure to be measured against, with its steps and its source.
    :param shown: what it learns from besides.
    :param charged: risk that is taken off its rewards.
    :param in_vain: lacks what it takes, and has to stay below ``expect``.
    :param cost: number in the environment's info that is shown, summed over an episode.
    :param most_cost: greatest mean of it over episodes, over seeds; None for any.
    """

    env: str
    env_module: str = ''
    changes: dict[str, Any] = {}
    published: str = ''
    shown: Shown | None = None
    charged: Charged | None = None
    in_vain: bool = False
    cost: str = ''
    most_cost: float | None = None

    @property
    def available(self) -> bool:
        """Return whether what registers the environment is installed."""
        return not self.env_module or importlib.util.find_spec(self.env_module) is not None

    @property
    def settings(self) -> str:
        """Return the file of settings and what was changed in it."""
        told = [f'{self.shown.episodes} episodes shown'] if self.shown else []
        if self.charged:
            told.append(f'risk_coefficient: {self.charged.risk_coefficient:g}, its risk learned '
                        f'from {self.charged.episodes} episodes')
        return ', '.join([self.algorithm, *(f'{key.split(".", 1)[-1]}: {value}'
                                            for key, value in self.written.items()), *told])

    @property
    def name(self) -> str:
        """Return what tells this run from the others."""
        return re.sub(r'[^A-Za-z0-9.-]+', '_', f'{self.env}_{self.settings}').strip('_')

    @property
    def written(self) -> dict[str, str]:
        """Return the changes as they are typed."""
        return {key: json.dumps(value) for key, value in self.changes.items()}

    @property
    def configuration(self) -> str:
        """Return a digest of environment, learner, steps and target as they are now."""
        told = [msgspec.to_builtins(part) for part in (self.shown, self.charged) if part]
        return digest([self.env, self.steps, self.target, self.n_envs,
                       *learner_of(self.algorithm, self.written), *told])

    def perform(self, seed: int, folder: Path) -> 'Record | None':
        """Train one policy and let it play; None where that was stopped."""
        told = {'demonstrations': str(self.shown.made(
            folder.with_name(f'{self.shown.task}_shown')))} if self.shown else {}
        make = environment_maker(self.env, self.env_module)
        charges = self.charged.changes(folder.with_name('charged'), make) if self.charged else {}
        options = self.options(self.env, seed, folder, env_module=self.env_module,
                               changes=self.written | charges, **told)
        return trained(self, options, {GYMNASIUM: make}, self.cost)

    def scores(self, records: 'Sequence[Record]') -> list[float]:
        """Return what is expected of, seed by seed; of a run without a policy the least."""
        return [record.played[GYMNASIUM].mean_return if record.played else -math.inf
                for record in records]

    def met(self, records: 'Sequence[Record]') -> bool:
        """Return whether some runs, at least one, came to what is expected."""
        paid = costs(records)
        return super().met(records) != self.in_vain and (self.most_cost is None or (
            len(paid) == len(records) and interquartile_mean(paid) <= self.most_cost))


class Runs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``results.yaml``."""

    tasks: tuple[TaskRun, ...]
    methods: tuple[MethodRun, ...]


class Played(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What a policy came to in a simulator.

    :param success: rate of it; None where the task has none.
    :param cost: mean over episodes; None where nobody asks.
    """

    success: float | None
    mean_return: float
    cost: float | None = None


class Record(msgspec.Struct, frozen=True):
    """
    What one run with one seed came to; a line of ``results.jsonl``.

    :param name: of the run.
    :param configuration: digest of what was trained.
    :param ended_by: ``target``, ``steps`` or ``time``.
    :param played: by simulator.
    """

    name: str
    seed: int
    configuration: str
    steps: int
    elapsed_s: float
    ended_by: str
    played: dict[str, Played]
    machine: str
    version: str


def digest(parts: list[Any]) -> str:
    """Return a short digest of something JSON can say."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def learner_of(algorithm: str, changes: dict[str, str]) -> list[Any]:
    """
    Return what tells one learner from another.

    Settings that hold their default are left out, so that a new one that is off changes nothing.
    """
    settings = load_settings(algorithm, changes)
    return [settings.algorithm, *(
        {name: msgspec.to_builtins(getattr(section, name)) for name in section.__struct_fields__
         if getattr(section, name) != getattr(type(section)(), name)}
        for section in (settings.learner, settings.loop))]


def trained(run: TaskRun | MethodRun, options: TrainOptions,
            makers: dict[str, Callable[[], gymnasium.Env]], cost: str = '') -> Record | None:
    """Train one policy and let the exported file play in environments; None where stopped."""
    result = train(options)
    if result.reason == 'stopped':
        return None
    played = {}
    for name, make in makers.items() if result.policy is not None else ():
        env = make()
        evaluation = evaluate(env, PolicyRuntime(PolicyBundle.load(result.policy)),
                              range(FIRST_SEED, FIRST_SEED + EPISODES), cost=cost)
        env.close()
        played[name] = Played(
            evaluation.success_rate, round(evaluation.mean_return, 3),
            round(sum(evaluation.costs) / EPISODES, 3) if cost else None)
    return Record(run.name, options.seed, run.configuration, result.steps,
                  round(result.elapsed_s, 1), result.reason, played,
                  f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores', __version__)


def successes(records: Sequence[Record], backend: str) -> list[float]:
    """Return the success rates in a simulator, 0 for a run that left no policy."""
    rates = [record.played[backend].success if backend in record.played else 0.0
             for record in records]
    return [rate for rate in rates if rate is not None]


def returns(records: Sequence[Record], backend: str) -> list[float]:
    """Return the mean returns in a simulator of the runs that left a policy."""
    return [record.played[backend].mean_return for record in records if backend in record.played]


def costs(records: Sequence[Record]) -> list[float]:
    """Return the mean costs of the runs that left a policy and were asked for them."""
    return [played.cost for record in records for played in record.played.values()
            if played.cost is not None]


def read(path: Path) -> list[Record]:
    """Return the records of a file of lines; none where there is no file."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Record) for line in lines if line.strip()]


def write(path: Path, records: Iterable[Record]) -> None:
    """Replace the file of lines as a whole."""
    temporary = path.with_suffix('.tmp')
    temporary.write_bytes(b''.join(msgspec.json.encode(record) + b'\n' for record in records))
    temporary.replace(path)
