# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Learning curves of several runs in one picture: interquartile mean over seeds, with a band."""

from collections.abc import Sequence
from pathlib import Path
import textwrap
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: that takes a second to import
import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import Run
from rl_nodes.runs.statistics import confidence_interval, interquartile_mean
from rl_nodes.runs.tables import differing, Group, groups_of

INK, MUTED, GRID = '#1f2933', '#7b8794', '#e4e7eb'
# M. Okabe and K. Ito, Color Universal Design, 2008: told apart by colour-blind readers, too.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#4d4d4d', '#b0a000')
STYLES = ('-', '--', ':', '-.')
_POINTS = 200  # at which curves are compared
_PANELS_ABREAST = 3
_LETTERS = 13  # of the legend, per inch
_METRICS = {'success_rate': 'success rate', 'return': 'return (undiscounted)'}


def draw(runs: Sequence[Run], output: Path, metric: str = '',
         against: Literal['steps', 'time'] = 'steps') -> Path:
    """
    Draw the evaluations of runs, a panel for each task, a colour for each group of settings.

    A run that ended at its target counts with its last value from then on; one that ended
    otherwise counts up to its end.

    :param output: the PNG file.
    :param metric: column of the evaluations; empty for the success rate, or the return where a
        task of them has none.
    :param against: control steps or wall time.
    :raises ConfigError: nothing to draw, or the file cannot be written.
    """
    metric = metric or _default_metric(runs)
    drawable = [run for run in runs if len(_evaluations(run, metric)) > 0]
    if not drawable:
        known = sorted({key for run in runs for row in run.rows if row['kind'] == 'evaluation'
                        for key in row if key not in ('kind', 'step', 'wall_s')})
        raise ConfigError(f'no run has an evaluation with {metric!r}; there are '
                          f'{", ".join(known) or "no evaluations yet"}')
    groups = groups_of(drawable)
    tasks = list(dict.fromkeys(group.settings['task'] for group in groups))
    keys = [key for key in differing(groups) if key != 'task'] or ['algorithm']
    names = list(dict.fromkeys(group.name(keys) for group in groups))
    wide = min(len(tasks), _PANELS_ABREAST)
    high = -(-len(tasks) // wide)
    abreast = 2 if max(map(len, names)) < 20 * wide else 1
    width = max(7.0, 4.6 * wide)
    letters = round(_LETTERS * width / abreast) - 8
    lines = sum(len(textwrap.wrap(f'{name} (99 seeds)', letters)) for name in names)
    figure = Figure(figsize=(width, 0.8 + 3.6 * high + 0.25 * -(-lines // abreast)),
                    dpi=130, layout='constrained')
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    longest = max((run.elapsed_s for run in drawable), default=0.0)
    scale, unit = time_unit(longest) if against == 'time' else (1.0, '')
    for ax, task in zip(axes, tasks):
        for group in groups:
            if group.settings['task'] == task:
                _draw_group(ax, group, metric, against, scale, names.index(group.name(keys)),
                            group.name(keys))
        finish(ax, metric)
        ax.set_title(task, color=INK, fontsize=11, fontweight='bold', loc='left')
        ax.set_xlabel('control steps' if against == 'steps' else f'wall time [{unit}]')
        if against == 'steps':
            ax.xaxis.set_major_formatter(lambda x, _: f'{x:,.0f}')
        ax.set_ylabel(_METRICS.get(metric, metric))
    for ax in axes[len(tasks):]:
        ax.set_visible(False)
    handles = {label: handle for ax in axes
               for handle, label in zip(*ax.get_legend_handles_labels())}
    figure.legend([*handles.values()], [textwrap.fill(label, letters) for label in handles], loc='outside lower center', ncols=abreast,
                  frameon=False, labelcolor=INK, fontsize=9)
    note = 'interquartile mean over seeds, 95 % bootstrap interval' if any(
        len(group.runs) > 1 for group in groups) else 'one seed each'
    figure.suptitle(f'Evaluations: {note}', color=MUTED, fontsize=9, x=0.01, ha='left')
    try:
        figure.savefig(output)
    except OSError as error:
        raise ConfigError(f'{output} cannot be written: {error.strerror}') from None
    return output


def _draw_group(ax: Axes, group: Group, metric: str, against: str, scale: float, number: int,
                name: str) -> None:
    colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
    curves = []
    for run in group.runs:
        rows = _evaluations(run, metric)
        key = 'step' if against == 'steps' else 'wall_s'
        x = np.array([row[key] for row in rows], np.float64) / scale
        y = np.array([row[metric] for row in rows], np.float64)
        curves.append((x, y, run.record.reason == 'target'))
    count = len(curves)
    label = f'{name} ({count} {"seed" if count == 1 else "seeds"})'
    if count == 1:
        x, y, _ = curves[0]
        ax.plot(x, y, color=colour, linestyle=style, linewidth=1.8, marker='o', markersize=3.5,
                label=label)
        return
    grid, values = aligned(curves)
    for x, y, _ in curves:
        ax.plot(x, y, color=colour, linestyle=style, linewidth=0.7, alpha=0.25)
    low, high = confidence_interval(values)
    ax.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(grid, interquartile_mean(values, axis=0), color=colour, linestyle=style,
            linewidth=2.0, label=label)


def aligned(curves: Sequence[tuple[np.ndarray, np.ndarray, bool]]
            ) -> tuple[np.ndarray, np.ndarray]:
    """
    Return curves at common points: (x, shape (P,); values, shape (N, P)).

    :param curves: (x, ascending; values; whether the last value holds from then on). The common
        points begin where all curves have begun and end where the first one of those that do not
        hold ends.
    """
    begin = max(float(x[0]) for x, _, _ in curves)
    ends = [float(x[-1]) for x, _, holds in curves if not holds]
    end = max(begin, min(ends) if ends else max(float(x[-1]) for x, _, _ in curves))
    grid = np.linspace(begin, end, _POINTS)
    return grid, np.stack([np.interp(grid, x, y) for x, y, _ in curves])


def finish(ax: Axes, metric: str) -> None:
    """Give axes of a curve the grid, the colours and the range that all pictures of runs have."""
    if metric == 'success_rate':
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter('{x:.0%}')
    ax.set_xlim(left=0)
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=MUTED, labelcolor=INK)
    for side in ('top', 'right'):
        ax.spines[side].set_visible(False)
    for side in ('left', 'bottom'):
        ax.spines[side].set_color(MUTED)


def time_unit(longest_s: float) -> tuple[float, str]:
    """Return (seconds, name) of the unit in which times up to this one are read most easily."""
    if longest_s > 7200:
        return 3600.0, 'h'
    return (60.0, 'min') if longest_s > 180 else (1.0, 's')


def _evaluations(run: Run, metric: str) -> list[dict]:
    return [row for row in run.rows
            if row['kind'] == 'evaluation' and row.get(metric) is not None]


def _default_metric(runs: Sequence[Run]) -> str:
    judged = [run for run in runs if _evaluations(run, 'return')]
    every = bool(judged) and all(_evaluations(run, 'success_rate') for run in judged)
    return 'success_rate' if every else 'return'
