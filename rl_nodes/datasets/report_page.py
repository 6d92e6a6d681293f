# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A data set's report as one page that needs nothing else: the text and a figure inside of it."""

import base64
import html
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.datasets.report import BINS, Coverage, describe, Report

_INK, _BLUE, _LIGHT, _RED, _GRID = '#1f2933', '#0b4f9c', '#8fb8de', '#c2410c', '#e4e7eb'
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 2em auto; max-width: 75em;
 padding: 0 1em }}
pre {{ font: 12.5px/1.45 ui-monospace, monospace; overflow-x: auto; background: #f7f8fa;
 padding: 1em }}
img {{ width: 100% }}
</style></head><body><h1>{title}</h1>
<img alt="Figures of the data set" src="data:image/png;base64,{picture}">
<pre>{text}</pre></body></html>
"""


def write_page(report: Report, output: Path) -> Path:
    """
    Write the page.

    :param output: ends in ``.html``.
    :raises RecordingError: it cannot be written.
    """
    text = html.escape(describe(report))
    picture = base64.b64encode(draw(report)).decode()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(_PAGE.format(title=html.escape(report.title), picture=picture,
                                       text=text), encoding='utf-8')
    except OSError as error:
        raise RecordingError(f'{output} cannot be written: {error}') from error
    return output


def draw(report: Report) -> bytes:
    """Return the figure as a PNG file."""
    widest = max(len(report.observation.names), len(report.action.names))
    figure = Figure(figsize=(13.0, 7.5 + 0.16 * widest), dpi=100, layout='constrained')
    axes = figure.subplots(3, 3, height_ratios=[1, 1, 0.6 + 0.07 * widest])
    _returns(axes[0, 0], report)
    _histogram(axes[0, 1], report.steps, 'steps of an episode', 'episodes')
    _histogram(axes[0, 2], report.periods_ms, 'time between states [ms]', 'states', log=True)
    axes[0, 2].axvline(report.expected_ms, color=_RED, linewidth=1)
    _skew(axes[1, 0], report)
    _bars(axes[1, 1], {name: float(n) for name, n in report.origins.items()}, 'rows by who acted')
    _bars(axes[1, 2], dict(zip(report.action.names, report.action_change.tolist())),
          'change of the action per step (RMS)')
    _covered(axes[2, 0], report.observation, 'observation: where the values lie')
    _covered(axes[2, 1], report.action, 'action: where the values lie')
    _bars(axes[2, 2], dict(list(report.outliers.items())[:12]) or {'none': 0.0},
          'values far out, by element')
    for ax in axes.flat:
        ax.tick_params(labelsize=8, colors=_INK)
        ax.spines[['top', 'right']].set_visible(False)
    stream = BytesIO()
    figure.savefig(stream, format='png')
    return stream.getvalue()


def _returns(ax: Axes, report: Report) -> None:
    numbers = np.arange(len(report.returns))
    for wanted, color, label in ((True, _BLUE, 'success'), (False, _RED, 'none')):
        rows = report.success == wanted
        ax.plot(numbers[rows], report.returns[rows], '.', color=color, label=label)
    ax.set_title('return by episode', fontsize=9, loc='left')
    ax.legend(fontsize=8, frameon=False)


def _histogram(ax: Axes, values: np.ndarray, title: str, what: str, log: bool = False) -> None:
    ax.hist(values, bins=min(40, max(5, len(np.unique(values)))), color=_LIGHT)
    ax.set_title(f'{title}: {what}', fontsize=9, loc='left')
    if log:
        ax.set_yscale('log')


def _skew(ax: Axes, report: Report) -> None:
    found = {name: np.concatenate(timing.skew_ms) for name, timing in sorted(
        report.topics.items()) if timing.skew_ms}
    ax.set_title('arrival minus header stamp [ms]', fontsize=9, loc='left')
    if not found:
        ax.text(0.5, 0.5, 'stamps are simulated time', ha='center', transform=ax.transAxes)
        return
    ax.boxplot(list(found.values()), orientation='horizontal', whis=(1, 99), showfliers=False)
    ax.set_yticks(range(1, len(found) + 1), list(found))


def _bars(ax: Axes, values: dict[str, float], title: str) -> None:
    names = list(values)
    ax.barh(range(len(names)), list(values.values()), color=_LIGHT)
    ax.set_yticks(range(len(names)), [_short(name) for name in names])
    ax.invert_yaxis()
    ax.set_title(title, fontsize=9, loc='left')


def _covered(ax: Axes, part: Coverage, title: str) -> None:
    ax.imshow(np.sqrt(part.histogram), aspect='auto', cmap='Blues', interpolation='nearest',
              extent=(0.0, 1.0, len(part.names) - 0.5, -0.5))
    ax.set_yticks(range(len(part.names)), [
        f'{_short(name)} {filled:.0%}' for name, filled in zip(part.names, part.filled)])
    ax.set_xticks([0, 1], ['least', 'greatest'])
    ax.set_title(f'{title} ({BINS} bins)', fontsize=9, loc='left')


def _short(name: str) -> str:
    return name if len(name) <= 26 else f'...{name[-23:]}'
