# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Train what ``results.yaml`` asks for, write docs/results.md: ``python test/learning/results.py``.

That are the tasks of this package, by their shipped settings, and every method on environments
that others have figures for. Each run is trained in this process; then its exported ONNX policy
plays 50 episodes that neither training nor its evaluations have seen, tasks in every simulator
that is installed. A run is one line of ``docs/results.jsonl``, written when it ends, and the page
is drawn from those lines. Runs that are there, of task and learner as they are now, are not
repeated; one that Ctrl-C stopped goes on where it was. The exit status is 1 where something misses
what is expected of it.
"""

import argparse
from collections.abc import Sequence
import itertools
from pathlib import Path
import sys

from results_page import page
from results_runs import MethodRun, read, Runs, TaskRun, write
from rl_nodes.core.config import load, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.statistics import interquartile_mean

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'results.md'
ASKED = Path(__file__).with_suffix('.yaml')


def chosen(runs: Runs, names: Sequence[str]) -> list[TaskRun | MethodRun]:
    """
    Return the runs of some tasks, environments or names of runs, all where none are named.

    :raises ConfigError: an unknown one.
    """
<<<<<<< HEAD

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
=======
    everything = [*runs.tasks, *runs.methods]
    named = {run.name: {run.name, run.task if isinstance(run, TaskRun) else run.env}
             for run in everything}
    known = sorted(set().union(*named.values()))
    for name in names:
        if name not in known:
            raise ConfigError(f'results.yaml has no {name!r}{suggestion(name, known)}; '
>>>>>>> h6
                              f'it has {", ".join(known)}')
    return [run for run in everything if not names or named[run.name] & set(names)]


def free(folder: Path) -> Path:
    """Return the first of ``folder.1``, ``folder.2``... that is not there yet."""
    return next(path for number in itertools.count(1)
                if not (path := folder.with_name(f'{folder.name}.{number}')).exists())


def main() -> int:
    """Train what is missing, write the page, and say by the status whether all is as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('names', nargs='*', help='tasks, environments or runs; all if left out')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one run for each')
    parser.add_argument('--again', action='store_true', help='repeat runs that are there')
    parser.add_argument('--page', action='store_true', help='train nothing, draw the page only')
    options = parser.parse_args()
    runs = load(ASKED, Runs)
    lines = PAGE.with_suffix('.jsonl')
    present = {run.name: run.configuration for run in (*runs.tasks, *runs.methods)}
    missed = []
    for run in chosen(runs, options.names):
        if isinstance(run, MethodRun) and not run.available:
            sys.stderr.write(f'left out: {run.name}, as {run.env_module} is not installed\n')
            continue
        for seed in [] if options.page else options.seeds:
            done = [record for record in read(lines) if (record.name, record.seed) == (
                run.name, seed) and record.configuration == present[run.name]]
            if done and not options.again:
                continue
            folder = ROOT / 'runs' / 'results' / f'{run.name}_{seed}_{present[run.name]}'
            if done:
                folder = free(folder)
            record = run.perform(seed, folder)
            if record is None:
                return 130  # as a shell says it of Ctrl-C
            others = [other for other in read(lines)
                      if (other.name, other.seed) != (run.name, seed)]
            write(lines, sorted([*others, record], key=lambda row: (row.name, row.seed)))
            PAGE.write_text(page(runs, read(lines), present), encoding='utf-8')
        scores = run.scores([record for record in read(lines) if record.name == run.name])
        if scores and interquartile_mean(scores) < run.expect:
            missed.append(f'{run.name}: {interquartile_mean(scores):g} of {run.expect:g}')
    PAGE.write_text(page(runs, read(lines), present), encoding='utf-8')
    for text in missed:
        sys.stderr.write(f'missed: {text}\n')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
