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

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'results.md'
ASKED = Path(__file__).with_suffix('.yaml')


def chosen(runs: Runs, names: Sequence[str]) -> list[TaskRun | MethodRun]:
    """
    Return the runs of some tasks, environments or names of runs, all where none are named.

    :raises ConfigError: an unknown one.
    """
    everything = [*runs.tasks, *runs.methods]
    named = {run.name: {run.name, run.task if isinstance(run, TaskRun) else run.env}
             for run in everything}
    known = sorted(set().union(*named.values()))
    for name in names:
        if name not in known:
            raise ConfigError(f'results.yaml has no {name!r}{suggestion(name, known)}; '
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
        found = [record for record in read(lines) if record.name == run.name]
        if found and not run.met(found):
            missed.append(f'{run.name}: {run.scores(found)} of {run.expect:g}')
    PAGE.write_text(page(runs, read(lines), present), encoding='utf-8')
    for text in missed:
        sys.stderr.write(f'missed: {text}\n')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
