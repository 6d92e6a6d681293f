# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs as tables for a terminal: one by one, and those of equal settings side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rl_nodes.runs.record import Run
from rl_nodes.runs.statistics import confidence_interval, interquartile_mean

ABSENT = '–'
_WIDEST = 60  # characters of a cell
_NARROWEST = 12  # to which a cell is cut where a terminal is narrow
# Where a terminal is too narrow for all.
_LEAST_NEEDED = ('robot', 'time', 'seed', 'algorithm')


class Group:
    """
    Runs whose settings differ in nothing but the seed.

    :param runs: at least one.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        self.settings = settings_of(runs[0])

    def results(self, metric: str) -> list[float]:
        """Return a quantity of those runs that have it."""
        return [value for run in self.runs if (value := run.result(metric)) is not None]

    def middle(self, metric: str) -> float:
        """Return the interquartile mean of a quantity; minus infinity where no run has it."""
        values = self.results(metric)
        return float(interquartile_mean(values)) if values else -float('inf')

    def best(self, metric: str) -> Run:
        """Return the run with the greatest value of a quantity."""
        return max(self.runs, key=lambda run: _or_least(run.result(metric)))

    def name(self, keys: Sequence[str]) -> str:
        """Return what tells this group from others that differ in some settings."""
        return ', '.join(f'{key.rpartition(".")[2]} {_text(self.settings[key])}' for key in keys
                         if key in self.settings) or self.settings['task']


def settings_of(run: Run) -> dict[str, Any]:
    """Return what decides how a run goes, but its seed."""
    record = run.record
    return {'task': record.task, 'robot': record.robot, 'algorithm': record.algorithm,
            **record.settings}


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Return runs of equal settings together, in the order of their first runs."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(repr(sorted(settings_of(run).items())), []).append(run)
    return [Group(members) for members in found.values()]


def differing(groups: Sequence[Group]) -> list[str]:
    """
    Return the settings that have more than one value among the groups that have them.

    Those of a learner are compared with learners of the same method only, and what task and robot
    decide is left out where these differ.
    """
    values: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        for key, value in group.settings.items():
            method = group.settings['algorithm'] if key.startswith('learner.') else ''
            values.setdefault((key, method), set()).add(repr(value))
    found = dict.fromkeys(key for (key, _), different in values.items() if len(different) > 1)
    implied = ('env', 'contract') if {'task', 'robot'} & found.keys() else ()
    return [key for key in found if key not in implied]


def list_runs(runs: Sequence[Run], base: Path, width: int | None = None) -> str:
    """
    Return a table with a line per run.

    :param base: folders are named from here where they lie below.
    :param width: see :func:`table`.
    """
    rows = [('run', 'task', 'robot', 'algorithm', 'seed', 'steps', 'success', 'return', 'time',
             'state')]
    for run in runs:
        record, rate, total = run.record, run.result('success_rate'), run.result('return')
        why = f' ({" ".join(record.reason.split())})' if record.reason else ''
        rows.append((
            _place(run.folder, base), record.task, record.robot or ABSENT, record.algorithm,
            str(record.seed), f'{run.steps:,}', ABSENT if rate is None else f'{rate:.0%}',
            ABSENT if total is None else number_text(total), duration_text(run.elapsed_s),
            f'{record.state}{why}'))
    return table(rows, right=(4, 5, 6, 7, 8), width=width)


def compare_groups(groups: Sequence[Group], best_first: str = '') -> str:
    """
    Return a table with a line per group: the settings that differ, and what came of them.

    :param best_first: quantity by which the lines are ordered; as given where empty.
    """
    keys = differing(groups)
    if best_first:
        groups = sorted(groups, key=lambda group: group.middle(best_first), reverse=True)
    rows = [(*keys, 'runs', 'success', 'return', 'steps done', 'time')]
    for group in groups:
        judged = max(len(group.results('return')), len(group.results('success_rate')))
        count = str(judged) if judged == len(group.runs) else f'{judged} of {len(group.runs)}'
        steps = [float(run.steps) for run in group.runs]
        seconds = [run.elapsed_s for run in group.runs]
        rows.append((
            *(_text(group.settings[key]) if key in group.settings else ABSENT for key in keys),
            count, with_interval(group.results('success_rate'), '{:.0%}'.format),
            with_interval(group.results('return'), number_text),
            f'{interquartile_mean(steps):,.0f}', duration_text(float(interquartile_mean(seconds)))))
    count = len(rows[0])
    note = 'IQM over seeds [95 % bootstrap interval], of the policy left, on fresh episodes'
    if not keys:
        note = f'the settings do not differ\n{note}'
    return f'{table(rows, right=range(count - 5, count))}\n{note}'


def with_interval(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the interquartile mean of values and, of several, its confidence interval."""
    if not values:
        return ABSENT
    middle = form(float(interquartile_mean(values)))
    if len(values) == 1:
        return middle
    low, high = (form(float(end)) for end in confidence_interval(values))
    return f'{middle} [{low}, {high}]'


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = (),
          width: int | None = None) -> str:
    """
    Return rows in columns, the first row as their heads.

    :param right: columns whose cells end, instead of begin, below each other.
    :param width: letters that there is room for: until it fits, columns that say nothing or can
        best be done without are left out, then the widest cells are cut in their middle. None for
        any number.
    """
    columns = [[_cut(cell, _WIDEST) for cell in column] for column in zip(*rows)]
    ends = [index in right for index in range(len(columns))]
    silent = [column[0] for column in columns if {*column[1:]} == {ABSENT}]
    for name in (*silent, *_LEAST_NEEDED):
        if width is None or _width(columns) <= width:
            break
        kept = [index for index, column in enumerate(columns) if column[0] != name]
        columns, ends = [columns[index] for index in kept], [ends[index] for index in kept]
    while width is not None and (excess := _width(columns) - width) > 0:
        widest = max(columns, key=lambda column: max(map(len, column)))
        room = max(_NARROWEST, max(map(len, widest)) - excess)
        if room >= max(map(len, widest)):
            break
        widest[:] = [_cut(cell, room) for cell in widest]
    widths = [max(map(len, column)) for column in columns]
    return '\n'.join('  '.join(
        cell.rjust(room) if end else cell.ljust(room)
        for cell, room, end in zip(row, widths, ends)).rstrip() for row in zip(*columns))


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def _cut(cell: str, room: int) -> str:
    """Return a cell without its middle where it is too long: names differ at their ends."""
    if len(cell) <= room:
        return cell
    end = (room - 1) // 2
    return f'{cell[:room - 1 - end]}…{cell[len(cell) - end:]}'


def number_text(value: float) -> str:
    """Return a number with the digits that say something beside others of its size."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f'{value:,.{digits}f}'


def duration_text(seconds: float) -> str:
    """Return a duration as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def _or_least(value: float | None) -> float:
    return -float('inf') if value is None else value


def _place(folder: Path, base: Path) -> str:
    return str(folder.relative_to(base)) if folder.is_relative_to(base) else str(folder)


def _text(value: Any) -> str:
    if value is None:
        return 'none'
    return f'{value:g}' if isinstance(value, float) else str(value)
