# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The live line: redrawn in place on a terminal, one line every 5 s into a pipe or a log."""

from collections.abc import Callable
from dataclasses import dataclass
import shutil
import sys
import time
from typing import TextIO

from rl_nodes.runs.tables import duration_text

REDRAW_S = 0.25  # on a terminal
LINE_S = 5.0     # into a pipe
# Where a terminal is too narrow for all.
LEAST_NEEDED = ('updates/s', 'episode', 'stale', 'staleness', 'difficulty', 'train', 'bar',
                'steps/s')


@dataclass(frozen=True)
class ProgressState:
    """
    What the line shows; None where there is nothing to show yet.

    :param steps: control steps so far.
    :param step_limit: steps at which training stops.
    :param elapsed_s: wall time so far, over all resumed parts [s].
    :param time_limit_s: wall time at which training stops [s].
    :param episodes: finished training episodes.
    :param train_success: part of the last 50 training episodes that succeeded.
    :param train_return: their mean undiscounted return.
    :param evaluation: last evaluation, as text.
    :param updates: gradient steps so far.
    :param staleness: gradient steps that the learner is ahead of the acting policy.
    :param difficulty: of the training episodes, 0 to 1; None where that does not change.
    :param waiting: why nothing moves; empty while it does.
    :param stale: control steps that were refused, not being the newest policy's.
    """

    steps: int
    step_limit: int | None
    elapsed_s: float
    time_limit_s: float | None
    episodes: int
    train_success: float | None
    train_return: float | None
    evaluation: str | None
    updates: int
    staleness: int
    difficulty: float | None = None
    waiting: str = ''
    stale: int = 0


class Progress:
    """Writes :class:`ProgressState` to a stream, not too often."""

    def __init__(self, stream: TextIO | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """
        Look at the stream.

        :param stream: None for standard error.
        """
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._period_s = REDRAW_S if self._terminal else LINE_S
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self._rates = (0.0, 0.0)
        self._drawn = False

    def show(self, state: Callable[[], ProgressState], force: bool = False) -> None:
        """
        Write the line if it is time.

        :param state: called only then.
        :param force: write it now.
        """
        now = self._clock()
        if self._last is not None and not force and now - self._last[0] < self._period_s:
            return
        current = state()
        if self._last is not None and now > self._last[0]:
            span = now - self._last[0]
            fresh = ((current.steps - self._last[1]) / span,
                     (current.updates - self._last[2]) / span)
            weight = 0.2 if self._terminal and any(self._rates) else 1.0
            self._rates = (self._rates[0] + weight * (fresh[0] - self._rates[0]),
                           self._rates[1] + weight * (fresh[1] - self._rates[1]))
        self._last = (now, current.steps, current.updates)
        self._first = self._first or (now, current.steps)
        since_s, done = now - self._first[0], current.steps - self._first[1]
        left_s = _left(current, done / since_s if since_s > 0 else 0.0)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            text = progress_text(current, *self._rates, left_s, width)
            self._stream.write('\r' + text[:width].ljust(width))
            self._drawn = True
        else:
            self._stream.write(progress_text(current, *self._rates, left_s) + '\n')
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line of its own, above the live one."""
        if self._drawn:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write('\r' + ' ' * width + '\r')
            self._drawn = False
        self._stream.write(text + '\n')
        self._stream.flush()

    def close(self) -> None:
        """Leave the cursor on a fresh line."""
        if self._drawn:
            self._stream.write('\n')
            self._stream.flush()
            self._drawn = False


def progress_text(state: ProgressState, steps_per_s: float, updates_per_s: float,
                  left_s: float | None, width: int | None = None) -> str:
    """
    Return the line; parts that have no value yet are left out.

    :param steps_per_s: control steps of late, and likewise gradient steps.
    :param left_s: time until a limit is reached [s]; None where that is not known.
    :param width: letters that there is room for; what can best be done without is left out,
        too, until it fits. None for any number.
    """
    fraction = _done(state)
    parts = {'step': f'step {state.steps:,}', 'episode': f'episode {state.episodes:,}'}
    if fraction is not None:
        filled = int(10 * fraction)
        parts = {'bar': f'[{"#" * filled}{"." * (10 - filled)}]', 'done': f'{fraction:4.0%}',
                 **parts}
    if state.train_return is not None:
        success = f'success {state.train_success:.0%} ' if state.train_success else ''
        parts['train'] = f'train {success}return {state.train_return:.1f}'
    if state.difficulty is not None:
        parts['difficulty'] = f'difficulty {state.difficulty:.0%}'
    if state.evaluation is not None:
        parts['evaluation'] = f'evaluation {state.evaluation}'
    parts['steps/s'] = f'{steps_per_s:.0f} steps/s'
    parts['updates/s'] = f'{updates_per_s:.0f} updates/s'
    if state.staleness:
        parts['staleness'] = f'policy {state.staleness} updates old'
    if state.stale:
        parts['stale'] = f'{state.stale:,} stale steps refused'
    if left_s is not None:
        parts['left'] = f'{duration_text(left_s)} left'
    if state.waiting:
        parts['waiting'] = f'WAITING: {state.waiting}'
    for name in LEAST_NEEDED:
        if width is None or len(_line(parts)) <= width:
            break
        parts.pop(name, None)
    return _line(parts)


def _line(parts: dict[str, str]) -> str:
    rest = ' | '.join(text for name, text in parts.items() if name != 'bar')
    return f'{parts["bar"]} {rest}' if 'bar' in parts else rest


def _done(state: ProgressState) -> float | None:
    """Return the part that is done of the limit that is nearest; None without limits."""
    ways = [now / limit for now, limit in ((state.elapsed_s, state.time_limit_s),
                                           (state.steps, state.step_limit)) if limit]
    return min(max(ways), 1.0) if ways else None


def _left(state: ProgressState, steps_per_s: float) -> float | None:
    """
    Return the time until the first limit is reached [s]; None where that is not known.

    :param steps_per_s: since the beginning: evaluations take their time then, too.
    """
    ways = []
    if state.time_limit_s:
        ways.append(state.time_limit_s - state.elapsed_s)
    if state.step_limit and (steps_per_s > 0 or state.steps >= state.step_limit):
        ways.append((state.step_limit - state.steps) / steps_per_s if steps_per_s > 0 else 0.0)
    return max(min(ways), 0.0) if ways else None
