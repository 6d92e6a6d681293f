# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A safety report as one picture: how often, by how much, how long until it stood, and when."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.datasets.interventions import by_check, Intervention, SafetyReport
from rl_nodes.safety.verdict import Level

_INK, _GRID = '#1f2933', '#e4e7eb'
_COLORS = {Level.CLAMP: '#8fb8de', Level.HOLD: '#0b4f9c', Level.STOP: '#c2410c'}


def write_figure(report: SafetyReport, output: Path) -> Path:
    """
    Draw a report.

    :param output: ends in ``.png``.
    :raises RecordingError: it cannot be written.
    """
    groups = by_check(report.interventions)
    height = 4.4 + 0.36 * max(len(groups), 4)
    figure = Figure(figsize=(12.0, height), dpi=120, layout='constrained')
    figure.suptitle(f'Interventions of the safety monitor: {report.title}', color=_INK,
                    fontsize=13, fontweight='bold', x=0.01, ha='left')
    axes = figure.subplots(2, 2)
    _counts(axes[0, 0], groups)
    _margins(axes[0, 1], [group for group in groups if any(one.worst for one in group)])
    _stops(axes[1, 0], [group for group in groups if group[0].level == Level.STOP])
    _times(axes[1, 1], groups, report)
    for ax in axes.flat:
        ax.tick_params(labelsize=9, colors=_INK)
        ax.spines[['top', 'right']].set_visible(False)
        ax.grid(axis='x', color=_GRID, linewidth=0.8)
        ax.set_axisbelow(True)
    figure.legend(handles=[
        *(Line2D([], [], marker='s', linestyle='', color=color, label=level.name)
          for level, color in _COLORS.items()),
        Line2D([], [], marker='o', linestyle='', markerfacecolor='white',
               color=_COLORS[Level.STOP], label='STOP whose cause was gone at once'),
        Line2D([], [], marker='|', linestyle='', markersize=12, markeredgewidth=1.6, color=_INK,
               label='worst of all')],
        loc='outside lower left', ncols=5, frameon=False, fontsize=9, labelcolor=_INK)
    try:
        figure.savefig(output)
    except OSError as error:
        raise RecordingError(f'{output} cannot be written: {error}') from error
    return output


def _counts(ax: Axes, groups: list[list[Intervention]]) -> None:
    _rows(ax, groups, 'how often (a constant clamp is one)')
    counts = [len(group) for group in groups]
    bars = ax.barh(range(len(groups)), counts, height=0.6,
                   color=[_COLORS[group[0].level] for group in groups])
    ax.bar_label(bars, padding=3, fontsize=9, color=_INK)
    ax.set_xlim(0, 1.12 * max(counts, default=1))
    ax.xaxis.get_major_locator().set_params(integer=True)


def _margins(ax: Axes, groups: list[list[Intervention]]) -> None:
    _rows(ax, groups, "worst excess of each, in shares of the joint's limit")
    for row, group in enumerate(groups):
        excess = [one.worst.excess for one in group if one.worst is not None]
        _dots(ax, row, np.array(excess), group[0].level)
    ax.set_xlim(left=0)
    _nothing(ax, groups, 'no command was limited')


def _stops(ax: Axes, groups: list[list[Intervention]]) -> None:
    _rows(ax, groups, 'time from the decision to stop until the robot stood [ms]')
    for row, group in enumerate(groups):
        seen = [1e3 * one.stop_s for one in group if one.stop_s is not None]
        _dots(ax, row, np.array(seen), Level.STOP)
        if len(seen) < len(group):
            ax.text(0.99, row, f'{len(group) - len(seen)} not seen', fontsize=8, color=_INK,
                    ha='right', va='center', transform=ax.get_yaxis_transform())
    ax.set_xlim(left=0)
    _nothing(ax, groups, 'no stop')


def _times(ax: Axes, groups: list[list[Intervention]], report: SafetyReport) -> None:
    _rows(ax, groups, 'when [s since the first message]')
    for row, group in enumerate(groups):
        color = _COLORS[group[0].level]
        for brief, face in ((False, color), (True, 'white')):
            times = [(one.at_ns - report.began_ns) / NS for one in group
                     if (one.brief is True) == brief]
            ax.plot(times, np.full(len(times), row), 'o', color=color, markerfacecolor=face,
                    markersize=6, markeredgewidth=1.4)
    ax.set_xlim(0, 1.03 * max(report.span_s, 1e-3))


def _rows(ax: Axes, groups: list[list[Intervention]], title: str) -> None:
    ax.set_title(title, fontsize=10, loc='left', color=_INK)
    ax.set_yticks(range(len(groups)), [group[0].check for group in groups])
    ax.set_ylim(max(len(groups), 1) - 0.5, -0.5)


def _dots(ax: Axes, row: int, values: np.ndarray, level: Level) -> None:
    """Draw values beside each other so that many of the same can be told from one."""
    spread = 0.18 * np.sin(2.4 * np.arange(len(values)))
    ax.plot(values, row + spread, 'o', color=_COLORS[level], markersize=5, alpha=0.7)
    if len(values):
        ax.plot([values.max()], [row], '|', color=_INK, markersize=16, markeredgewidth=1.6)


def _nothing(ax: Axes, groups: list[list[Intervention]], text: str) -> None:
    if not groups:
        ax.text(0.5, 0.5, text, ha='center', color=_INK, transform=ax.transAxes)
