# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind for people: ``learning_curve.png`` and ``summary.md``."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: that takes a second to import at the end
import numpy as np
from rl_nodes.runs.curves import finish, INK, time_unit
from rl_nodes.runs.record import read_rows
from rl_nodes.runs.tables import duration_text
from rl_nodes.training.limits import Target
from rl_nodes.training.off_policy import RunResult

FILM = 'rollout.gif'  # one episode of the best policy
_TRAIN, _EVALUATION, _TARGET = '#8fb8de', '#0b4f9c', '#c2410c'


def write_learning_curve(folder: Path, title: str, target: Target | None) -> Path:
    """
    Draw the run's metrics against control steps and wall time.

    :param folder: the run directory with its ``metrics.jsonl``.
    :param title: name of task and algorithm.
    :param target: drawn as a line where there is one.
    :return: the PNG file.
    """
    rows = read_rows(folder / 'metrics.jsonl')
    has_success = any(row.get('success_rate') is not None for row in rows
                      if row['kind'] == 'evaluation')
    metrics = (['success_rate'] if has_success else []) + ['return']
    names = {'success_rate': 'success rate', 'return': 'return (undiscounted)'}
    time_scale, unit = time_unit(max((row['wall_s'] for row in rows), default=0.0))
    figure = Figure(figsize=(11.0, 1.2 + 3.0 * len(metrics)), dpi=130, layout='constrained')
    axes = figure.subplots(len(metrics), 2, squeeze=False, sharey='row')
    for line, metric in enumerate(metrics):
        for column, (key, scale) in enumerate((('step', 1.0), ('wall_s', time_scale))):
            ax = axes[line, column]
            _draw(ax, rows, metric, key, scale)
            if target is not None and target.metric == metric:
                ax.axhline(target.at_least, color=_TARGET, linewidth=1.2, linestyle='--',
                           label=f'target {target.at_least:g}')
            finish(ax, metric)
            if line == len(metrics) - 1:
                ax.set_xlabel('control steps' if key == 'step' else f'wall time [{unit}]')
            if key == 'step':
                ax.set_ylabel(names[metric])
                ax.xaxis.set_major_formatter(lambda x, _: f'{x:,.0f}')
    handles, labels = axes[0, 0].get_legend_handles_labels()
    for ax in axes.flat:
        more = [pair for pair in zip(*ax.get_legend_handles_labels()) if pair[1] not in labels]
        handles += [pair[0] for pair in more]
        labels += [pair[1] for pair in more]
    figure.suptitle(title, color=INK, fontsize=13, fontweight='bold', x=0.01, ha='left')
    if handles:
        figure.legend(handles, labels, loc='outside lower center', ncols=4, frameon=False,
                      labelcolor=INK)
    path = folder / 'learning_curve.png'
    figure.savefig(path)
    return path


def _draw(ax: Axes, rows: list[dict[str, Any]], metric: str, key: str, scale: float) -> None:
    for kind, style in (
            ('train', {'color': _TRAIN, 'linewidth': 1.6,
                       'label': 'training, last 50 episodes'}),
            ('evaluation', {'color': _EVALUATION, 'linewidth': 1.4, 'marker': 'o',
                            'markersize': 4.5, 'label': 'evaluation, deterministic'})):
        chosen = [row for row in rows if row['kind'] == kind and row.get(metric) is not None]
        if not chosen:
            continue
        x = np.array([row[key] for row in chosen]) / scale
        y = np.array([row[metric] for row in chosen])
        ax.plot(x, y, **style)
        if kind == 'evaluation' and metric == 'return':
            spread = np.array([row.get('return_std') or 0.0 for row in chosen])
            ax.fill_between(x, y - spread, y + spread, color=_EVALUATION, alpha=0.10,
                            linewidth=0, label='± 1 standard deviation over episodes')


def write_summary(folder: Path, title: str, result: RunResult, target: Target | None,
                  settings: dict[str, Any]) -> Path:
    """
    Write ``summary.md``: what was run, how it ended, every scheduled evaluation.

    :param settings: name -> value, as given and as defaulted.
    """
    ends = {'target': 'the target was reached and confirmed', 'steps': 'the step limit',
            'time': 'the time limit', 'stopped': 'asked to stop'}
    speed = result.steps / result.elapsed_s if result.elapsed_s > 0 else 0.0
    lines = [f'# {title}', '', '| | |', '| --- | --- |',
             f'| ended by | {ends.get(result.reason, result.reason)} |',
             f'| target | {target if target is not None else "none"} |',
             f'| control steps | {result.steps:,} |', f'| gradient steps | {result.updates:,} |',
             f'| wall time | {duration_text(result.elapsed_s)} ({speed:.0f} steps/s) |',
             '| best policy on fresh episodes | '
             + (result.evaluation.text() if result.evaluation else 'not evaluated') + ' |', '',
             '![learning curve](learning_curve.png)', '',
             *([f'![one episode of the best policy]({FILM})', '']
               if (folder / FILM).is_file() else []), '## Evaluations', '',
             '| step | wall time | return | spread | success | length |',
             '| ---: | ---: | ---: | ---: | ---: | ---: |']
    for row in read_rows(folder / 'metrics.jsonl'):
        if row['kind'] == 'evaluation':
            rate = row.get('success_rate')
            lines.append(
                f'| {row["step"]:,} | {duration_text(row["wall_s"])} | {row["return"]:.2f} | '
                f'{row["return_std"]:.2f} | {"–" if rate is None else f"{rate:.0%}"} | '
                f'{row["length"]:.0f} |')
    lines += ['', '## Settings', '', '| key | value |', '| --- | --- |']
    lines += [f'| {key} | {value} |' for key, value in settings.items()]
    path = folder / 'summary.md'
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path
