# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Train every shipped task and write docs/results.md: ``python test/learning/results.py``.

What is trained is in ``results.yaml`` beside this file. Each run is trained in this process by the
shipped settings; then its exported ONNX policy plays 50 episodes that neither training nor its
evaluations have seen, in every simulator that is installed. A run is one line of
``docs/results.jsonl``, written when it ends, and the page is drawn from those lines. Runs that are
there, of the task as it is now, are not repeated. The exit status is 1 where a task misses what
is expected of it.
"""

import argparse
from collections.abc import Iterable, Sequence
import hashlib
import json
import os
from pathlib import Path
import platform
import sys
from typing import Annotated

import gymnasium
import msgspec
from rl_nodes import __version__
from rl_nodes.backends import BACKENDS, installed_backends
from rl_nodes.core.config import load, read_yaml, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.runs.statistics import interquartile_mean
from rl_nodes.tasks import load_task
from rl_nodes.training.evaluation import evaluate
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'results.md'
FIRST_SEED = 3_000_000  # beyond the evaluation's and the confirmation's
EPISODES = 50

HEAD = """# Results

Written by `python test/learning/results.py` (`make test-learning` runs it) from the runs in
[results.jsonl](results.jsonl), which also has every seed by itself.

Success and return are those of the exported ONNX policy on {episodes} episodes that neither
training nor its evaluations have seen. Over seeds: the mean of the middle half (IQM) of the runs,
in brackets the least and the greatest. A run ends when its target is confirmed, so steps and time
say how long that took, beside whatever else the machine had to do.
"""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One line of ``results.yaml``.

    :param robot: name in ``config/robots``.
    :param task: name in ``config/tasks``.
    :param algorithm: name in ``config/train``.
    :param backend: simulator to train in.
    :param steps: control steps that a run may take; None for no limit.
    :param time_budget_s: wall time that it may take [s].
    :param target: evaluated success rate at which a run ends.
    :param n_envs: environments stepped together.
    :param expect: least success over seeds; less is a failure.
    """

    robot: str
    task: str
    algorithm: str = 'sac'
    backend: str = BACKENDS[0]
    steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    time_budget_s: Annotated[float, msgspec.Meta(gt=0)] = 1200.0
    target: float = 0.98
    n_envs: int = 1
    expect: float = 0.95

    @property
    def name(self) -> str:
        """Return what tells this run from the others."""
        return f'{self.task}_{self.robot}_{self.algorithm}_{self.backend}'


class Runs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``results.yaml``."""

    runs: tuple[Run, ...]


class Played(msgspec.Struct, frozen=True):
    """Success rate (None where the task has none) and mean return of a policy in a simulator."""

    success: float | None
    mean_return: float


class Record(msgspec.Struct, frozen=True):
    """
    What one run with one seed came to; a line of ``results.jsonl``.

    :param name: of the run.
    :param configuration: digest of what was trained, see :func:`configuration_of`.
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


def configuration_of(run: Run) -> str:
    """
    Return a digest of a run's contract, task and learner as they are now.

    Settings that hold their default are left out, so that a new one that is off changes nothing.
    """
    settings = load_settings(run.algorithm)
    parts = [load_task(run.robot, run.task).contract.fingerprint(),
             read_yaml(find_config('tasks', run.task)), settings.algorithm,
             *(changed(section) for section in (settings.learner, settings.loop))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def changed(section: msgspec.Struct) -> dict[str, object]:
    """Return the fields of a record that do not hold their default."""
    default = type(section)()
    return {name: msgspec.to_builtins(getattr(section, name)) for name in section.__struct_fields__
            if getattr(section, name) != getattr(default, name)}


def perform(run: Run, seed: int, folder: Path) -> Record:
    """Train one policy and let it play in every simulator."""
    env_id = f'results/{run.name}-v0'
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id, entry_point=SimEnv, vector_entry_point='rl_nodes.envs.vector_env:SimVectorEnv',
            kwargs={'robot': run.robot, 'task': run.task, 'backend': run.backend})
    result = train(TrainOptions(
        env=env_id, algorithm=run.algorithm, run_dir=str(folder), seed=seed,
        steps=run.steps, time_budget_s=run.time_budget_s, target=run.target, n_envs=run.n_envs))
    played = {}
    if result.policy is not None:
        policy = PolicyRuntime(PolicyBundle.load(result.policy))
        seeds = range(FIRST_SEED, FIRST_SEED + EPISODES)
        for backend in installed_backends():
            env = SimEnv(run.robot, run.task, backend)
            evaluation = evaluate(env, policy, seeds)
            env.close()
            played[backend] = Played(evaluation.success_rate, round(evaluation.mean_return, 3))
    return Record(run.name, seed, configuration_of(run), result.steps, round(result.elapsed_s, 1),
                  result.reason, played,
                  f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores', __version__)


def read(path: Path) -> list[Record]:
    """Return the records of a file of lines; none where there is no file."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Record) for line in lines if line.strip()]


def write(path: Path, records: Iterable[Record]) -> None:
    """Replace the file of lines as a whole."""
    temporary = path.with_suffix('.tmp')
    temporary.write_bytes(b''.join(msgspec.json.encode(record) + b'\n' for record in records))
    temporary.replace(path)


def successes(records: Sequence[Record], backend: str) -> list[float]:
    """Return the success rates in a simulator, 0 for a run that left no policy."""
    rates = [record.played[backend].success if backend in record.played else 0.0
             for record in records]
    return [rate for rate in rates if rate is not None]


def page(runs: Sequence[Run], records: Sequence[Record], present: dict[str, str]) -> str:
    """
    Return the text of ``docs/results.md``.

    :param present: digest of the present configuration by name of run.
    """
    lines = [HEAD.format(episodes=EPISODES), '## Learned', '',
             '| task | robot | trained in | config | seeds | steps | wall time | success | '
             'return |',
             '| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |']
    across = ['## Carried over to the other simulator', '',
              'The same policies, without any further learning.', '',
              '| task | robot | trained in | '
              + ' | '.join(f'success in {name}' for name in BACKENDS) + ' |',
              '| --- | --- | --- |' + ' ---: |' * len(BACKENDS)]
    outdated = False
    for run in runs:
        mine = [record for record in records if record.name == run.name]
        if not mine:
            lines.append(f'| {run.task} | {run.robot} | {run.backend} | {run.algorithm} | '
                         '0 | | | not run yet | |')
            continue
        old = any(record.configuration != present[run.name] for record in mine)
        outdated |= old
        task = f'{run.task}{" †" if old else ""}'
        returns = [record.played[run.backend].mean_return for record in mine
                   if run.backend in record.played]
        lines.append(' | '.join([
            f'| {task}', run.robot, run.backend, run.algorithm, str(len(mine)),
            _range([record.steps for record in mine], '{:,.0f}'),
            _range([record.elapsed_s for record in mine], '{:.0f} s'),
            _range(successes(mine, run.backend), '{:.0%}'), _range(returns, '{:.1f}')]) + ' |')
        across.append(' | '.join([f'| {task}', run.robot, run.backend, *(
            _range(successes(mine, backend), '{:.0%}') for backend in BACKENDS)]) + ' |')
    machines = sorted({record.machine for record in records})
    if outdated:
        lines += ['', '† of an earlier form of task, robot or learner; run it again.']
    return '\n'.join([*lines, '', f'Machines: {"; ".join(machines) or "none yet"}.', '', *across,
                      ''])


def _range(values: Sequence[float], form: str) -> str:
    """Return the middle mean of values and, of several, the least and the greatest."""
    if not values:
        return ''
    low, high = form.format(min(values)), form.format(max(values))
    return form.format(interquartile_mean(values)) + (f' ({low} to {high})' if low != high else '')


def chosen(runs: Sequence[Run], tasks: Sequence[str]) -> list[Run]:
    """Return the runs of some tasks, all where none are named; ConfigError for an unknown one."""
    known = sorted({run.task for run in runs})
    for task in tasks:
        if task not in known:
            raise ConfigError(f'results.yaml has no task {task!r}{suggestion(task, known)}; '
                              f'it has {", ".join(known)}')
    return [run for run in runs if not tasks or run.task in tasks]


def main() -> int:
    """Train what is missing, write the page, and say by the status whether all is as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('tasks', nargs='*', help='only these; all where left out')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one run for each')
    parser.add_argument('--again', action='store_true', help='repeat runs that are there')
    parser.add_argument('--page', action='store_true', help='train nothing, draw the page only')
    options = parser.parse_args()
    everything = load(Path(__file__).with_suffix('.yaml'), Runs).runs
    lines = PAGE.with_suffix('.jsonl')
    present = {run.name: configuration_of(run) for run in everything}
    missed = []
    for run in chosen(everything, options.tasks):
        for seed in [] if options.page else options.seeds:
            done = [record for record in read(lines) if (record.name, record.seed) == (
                run.name, seed) and record.configuration == present[run.name]]
            if done and not options.again:
                continue
            attempt = 1
            while (folder := ROOT / 'runs' / 'results' / f'{run.name}_{seed}.{attempt}').exists():
                attempt += 1
            record = perform(run, seed, folder)
            others = [other for other in read(lines)
                      if (other.name, other.seed) != (run.name, seed)]
            write(lines, sorted([*others, record], key=lambda row: (row.name, row.seed)))
            PAGE.write_text(page(everything, read(lines), present), encoding='utf-8')
        mine = [record for record in read(lines) if record.name == run.name]
        rates = successes(mine, run.backend)
        if rates and interquartile_mean(rates) < run.expect:
            missed.append(f'{run.name}: {interquartile_mean(rates):.0%} of {run.expect:.0%}')
    PAGE.write_text(page(everything, read(lines), present), encoding='utf-8')
    for text in missed:
        sys.stderr.write(f'missed: {text}\n')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
