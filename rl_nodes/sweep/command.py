# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``rl_nodes sweep`` does."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import time
from typing import Annotated, Literal

import msgspec
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import find_runs, hold, Run
from rl_nodes.runs.tables import compare_groups, groups_of
from rl_nodes.sweep.engines import ENGINES
from rl_nodes.sweep.plan import Plan, read_plan, require_same_plan
from rl_nodes.sweep.pool import Pool, train_command
from rl_nodes.sweep.search import Search
from rl_nodes.sweep.trials import Grid, Proposer, PRUNED

FILE = 'sweep.json'
HELP = """usage: rl_nodes sweep [name:=value ...]

Takes the arguments of "rl_nodes train", some of them with several values:
  seed:=0,1,2 algorithm:=sac,td3        each of them with each of the others
  learner.discount:=0.9..0.999          searched between two numbers, by Optuna
  learner.batch_size:=32..512           whole numbers
  learner.learning_rate:=log:1e-5..1e-2   on a logarithmic scale
and besides:"""
_Count = Annotated[int, msgspec.Meta(ge=1)]


class SweepOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Arguments of ``rl_nodes sweep`` besides those of the runs.

    :param sweep_directory: a folder below for each run; empty makes one in runs/. Where it holds
        a sweep, that one goes on: what has ended stays, what was interrupted is resumed
    :param config: YAML file with arguments of the runs, a list where there are several values
    :param jobs: runs at a time; as many as this process may use cores where left out
    :param engine: processes of this machine, or ray for those of a cluster, see docs/training.md
    :param trials: settings that a search tries
    :param metric: of the evaluations, greatest is best; empty for the success rate, or the return
        where a task has none
    :param prune: of a search: end settings early whose evaluations are below the median of earlier
        ones at the same step, or lose in successive halving (both by their first seed)
    :param retry: try runs again that have failed
    """

    sweep_directory: str = ''
    config: str = ''
    jobs: _Count | None = None
    engine: Literal['processes', 'ray'] = 'processes'
    trials: _Count = 20
    metric: str = ''
    prune: Literal['none', 'median', 'halving'] = 'none'
    retry: bool = False


def sweep(given: dict[str, str], options: SweepOptions, check: Callable[[dict[str, str]], object],
          say: Callable[[str], None],
          command: Callable[[Sequence[str]], list[str]] = train_command) -> tuple[str, int]:
    """
    Do all runs of a sweep and return (a table of what came of it, exit status).

    :param given: arguments of the runs.
    :param check: raises ConfigError for arguments that ``rl_nodes train`` would not take.
    :param say: shows a line to a person.
    :param command: makes a run's command line from its arguments.
    :raises ConfigError: a wrong argument, found before anything runs.
    """
    folder = Path(options.sweep_directory or time.strftime('runs/sweep_%Y%m%d_%H%M%S')
                  ).expanduser()
    plan = _plan(given, options, folder)
    if options.prune != 'none' and not plan.ranges:
        raise ConfigError(f'prune:={options.prune} ends bad settings of a search; a grid does all '
                          'of its runs. Give a range, as in learner.discount:=0.9..0.999')
    for sample in plan.samples():
        check(sample)
    try:
        lock = hold(folder)
        _write(folder / FILE, plan)
    except OSError as error:
        raise ConfigError(f'{folder}: cannot be written: {error.strerror}') from None
    try:
        proposer: Proposer = Search(
            plan, folder, options.trials, options.metric, options.retry, options.prune
        ) if plan.ranges else Grid(plan, folder, options.retry)
        try:
            engine = ENGINES[options.engine]()
            jobs = options.jobs or engine.cores
            say(f'{proposer.total} runs, {jobs} at a time, in {folder}')
            pool = Pool(proposer, engine, jobs, say, command)
            pool.run()
        finally:
            proposer.close()
    finally:
        os.close(lock)
    return _summary(folder, options.metric, pool.stopped)


def _plan(given: dict[str, str], options: SweepOptions, folder: Path) -> Plan:
    """Return what to do: what was asked for, or without arguments what the folder began with."""
    earlier = None
    if (folder / FILE).is_file():
        try:
            earlier = msgspec.json.decode((folder / FILE).read_bytes(), type=Plan)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f'{folder / FILE}: not the plan of a sweep: {error}') from None
        if not given and not options.config:
            return earlier
    if 'env' not in given and not options.config:
        raise ConfigError('sweep needs env:=... as "rl_nodes train" does, or config:=FILE.yaml')
    plan = read_plan(given, options.config)
    if earlier is not None:
        require_same_plan(earlier, plan, folder)
    return plan


def _write(path: Path, plan: Plan) -> None:
    temporary = path.with_suffix('.tmp')
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=2) + b'\n')
    temporary.replace(path)


def _summary(folder: Path, metric: str, stopped: bool) -> tuple[str, int]:
    """Return what came of all runs in the folder, and the exit status."""
    try:
        runs = find_runs([folder])
    except ConfigError:
        runs = []
    finished = [run for run in runs if run.record.state == 'finished']
    failed = [run for run in runs if run.record.state == 'failed']
    lines = ['']
    if finished:
        lines += [compare_groups(groups_of(finished), best_first=_metric(finished, metric)), '']
    lines += [f'FAILED {run.folder.name}: {run.record.reason}' for run in failed]
    counts = f'{len(finished)} finished, {len(failed)} failed'
    if pruned := sum(run.record.reason == PRUNED for run in runs):
        counts += f', {pruned} pruned'
    if interrupted := len(runs) - len(finished) - len(failed) - pruned:
        counts += f', {interrupted} interrupted'
    lines.append(f'{counts}; all in {folder}')
    if stopped:
        lines.append(f'next: rl_nodes sweep sweep_directory:={folder}')
    elif finished:
        by = _metric(finished, metric)
        best = max(groups_of(finished), key=lambda group: group.middle(by)).best(by)
        lines.append(f'next: rl_nodes runs plot {folder} output:={folder / "curves.png"}')
        policy = best.folder / 'policy.onnx'
        if policy.is_file():
            lines.append(f'best: rl_nodes inspect {policy}')
    return '\n'.join(lines), 130 if stopped else (1 if failed else 0)


def _metric(runs: list[Run], metric: str) -> str:
    if metric:
        return metric
    every = all(run.result('success_rate') is not None for run in runs)
    return 'success_rate' if every else 'return'
