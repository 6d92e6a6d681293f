# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a data set of recorded episodes is like: numbers for people before anything learns from it.

Legend: N transitions, O observation, A action.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
import hashlib

import numpy as np
from rl_nodes.core.origin import ORIGINS
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.reader import Episode
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.datasets.formats import as_texts
from rl_nodes.tasks.base import Task

BINS = 20
OUTLIER_SIGMAS = 8.0
MAD_TO_SIGMA = 1.4826  # of a normal distribution
_NO_STATE = ('safety/state', 'robot/status')  # not stamped with a state


@dataclass
class TopicTiming:
    """
    When the messages of one topic came.

    :ivar messages: their number.
    :ivar rates_hz: per episode.
    :ivar skew_ms: arrival minus header stamp of each message.
    """

    messages: int = 0
    rates_hz: list[float] = field(default_factory=list)
    skew_ms: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Coverage:
    """
    How much of its range each element of a vector has visited.

    :param names: of the elements.
    :param low: least value, shape (W,).
    :param high: greatest value, shape (W,).
    :param filled: part of the ``BINS`` bins of its range that hold a value, shape (W,); the range
        is that of the contract where it is bounded, else from least to greatest.
    :param bounded: whether the contract bounds it, shape (W,).
    :param histogram: part of the rows by bin, shape (W, BINS).
    """

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    filled: np.ndarray
    bounded: np.ndarray
    histogram: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that is said of a data set."""

    title: str
    episodes: int
    steps: np.ndarray          # per episode
    returns: np.ndarray        # per episode, undiscounted
    success: np.ndarray        # per episode, bool
    reasons: Counter
    origins: dict[str, int]    # rows by who acted
    interventions: Counter     # rows by what the monitor did, ``<level>/<check>``
    seconds: float
    periods_ms: np.ndarray     # between neighbouring states
    expected_ms: float
    gaps: int
    dropped: int               # messages lost while recording
    topics: dict[str, TopicTiming]
    observation: Coverage
    action: Coverage
    action_change: np.ndarray  # root mean square from step to step, per element
    same_rows: int             # rows that are copies of another one
    same_episodes: list[str]
    outliers: dict[str, int]   # rows far out, by element of the observation
    odd_episodes: list[str]
    notes: list[str] = field(default_factory=list)


def make_report(opened: Sequence[Episode], recorded: Sequence[RecordedEpisode], task: Task,
                notes: Sequence[str] = ()) -> Report:
    """
    Look at every message and every transition.

    :param opened: the files.
    :param recorded: the transitions of those that have any, by the same task.
    :param notes: what was found before, in words.
    """
    topics: dict[str, TopicTiming] = {}
    gaps, dropped, periods = 0, 0, []
    for episode in opened:
        stamps = _timing(episode, topics)
        apart = np.diff(np.unique(stamps))
        periods.append(apart / 1e6)
        gaps += int((apart > 1.5 * task.period_ns).sum())
        dropped += int(episode.metadata.get('dropped') or 0)
    batch = [episode.batch for episode in recorded]
    observation = np.concatenate([part.observation for part in batch])
    action = np.concatenate([part.action for part in batch])
    changes = np.concatenate([np.diff(part.action, axis=0) for part in batch])
    returns = np.array([float(part.reward.sum(dtype=np.float64)) for part in batch])
    steps = np.array([len(part) for part in batch])
    outliers, odd = _outliers(task.contract.observation.elements, observation, recorded, returns,
                              steps)
    origin = np.concatenate([part.origin for part in batch if part.origin is not None])
    return Report(
        f'{task.name} with {task.robot.name}', len(opened), steps, returns,
        np.array([bool(part.success[-1]) for part in batch]),
        Counter(episode.metadata.get('reason', '') for episode in opened),
        {name: int((origin == code).sum()) for code, name in enumerate(ORIGINS)},
        Counter(label for part in batch if part.intervention is not None
                for label in as_texts(part.intervention) if label),
        float(steps.sum()) * task.period_ns / NS, np.concatenate(periods), task.period_ns / 1e6,
        gaps, dropped, topics, coverage(task.contract.observation, observation),
        coverage(task.contract.action, action),
        np.sqrt(np.mean(changes.astype(np.float64) ** 2, axis=0)) if len(changes)
        else np.zeros(action.shape[1]),
        len(observation) - len(_unique_rows(observation, action)),
        _same_episodes(recorded), outliers, odd, list(notes))


def describe(report: Report) -> str:
    """Return the report as text."""
    count = int(report.steps.sum())
    lines = [
        report.title, '',
        f'episodes      {report.episodes}, {len(report.steps)} with transitions; '
        + ', '.join(f'{name or "?"} {n}' for name, n in report.reasons.most_common()),
        f'transitions   {count}, {report.seconds:.1f} s; per episode {_range(report.steps)}',
        f'return        {_range(report.returns)}',
        f'success       {report.success.mean():.0%} of the episodes at their last step',
        'acted         ' + ', '.join(f'{name} {n / count:.0%}'
                                     for name, n in report.origins.items()),
        'interventions ' + (', '.join(f'{name} {n} ({n / count:.1%})' for name, n
                                      in report.interventions.most_common()) or 'none'),
        f'period        {_percentiles(report.periods_ms)} ms, expected '
        f'{report.expected_ms:g}; {report.gaps} gaps, {report.dropped} messages dropped',
        f'duplicates    {report.same_rows} rows ({report.same_rows / count:.1%}); episodes: '
        + (', '.join(report.same_episodes) or 'none'),
        f'outliers      {sum(report.outliers.values())} values beyond {OUTLIER_SIGMAS:g} sigma'
        + ''.join(f'; {name} {n}' for name, n in list(report.outliers.items())[:5]),
        'odd episodes  ' + ('; '.join(report.odd_episodes[:10]) or 'none'), '',
        f'{"topic":<26}{"messages":>9}{"rate [Hz]":>11}   arrival minus stamp [ms]']
    for name, timing in sorted(report.topics.items()):
        skew = np.concatenate(timing.skew_ms) if timing.skew_ms else np.zeros(0)
        lines.append(f'{name:<26}{timing.messages:>9}{np.mean(timing.rates_hz):>11.1f}   '
                     + (_percentiles(skew) if len(skew) else 'simulated or unstamped'))
    for name, part in (('observation', report.observation), ('action', report.action)):
        lines += ['', f'{name:<34}{"least":>10}{"greatest":>10}{"covered":>9}'
                  + ('   change per step' if part is report.action else '')]
        lines += [f'{element[:33]:<34}{low:>10.3g}{high:>10.3g}{filled:>9.0%}'
                  + ('' if bounded else ' (of what came)')
                  + (f'{report.action_change[i]:>10.3g}' if part is report.action else '')
                  for i, (element, low, high, filled, bounded) in enumerate(zip(
                      part.names, part.low, part.high, part.filled, part.bounded))]
    return '\n'.join([*lines, *(['', *report.notes] if report.notes else [])])


def coverage(spec: ArraySpec, values: np.ndarray) -> Coverage:
    """Return what of its range each element has visited; values of shape (N, W)."""
    low, high = values.min(0).astype(np.float64), values.max(0).astype(np.float64)
    least, most = (bound.astype(np.float64) for bound in spec.bounds())
    bounded = np.isfinite(least) & np.isfinite(most) & (most > least)
    least, most = np.where(bounded, least, low), np.where(bounded, most, high)
    width = np.where(most > least, most - least, 1.0)
    bins = np.clip(((values - least) / width * BINS).astype(np.int64), 0, BINS - 1)
    histogram = np.stack([np.bincount(bins[:, i], minlength=BINS) for i in range(len(low))])
    return Coverage(spec.elements, low, high, (histogram > 0).mean(1), bounded,
                    histogram / len(values))


def _timing(episode: Episode, topics: dict[str, TopicTiming]) -> np.ndarray:
    """Note when the messages of an episode came; return the stamps of its states [ns]."""
    stamps: dict[str, list[tuple[int, int]]] = {}
    for message in episode.messages():
        stamp = (0 if message.topic in _NO_STATE or message.topic in episode.unstamped
                 else header_stamp_ns(message.data))
        stamps.setdefault(message.topic, []).append((stamp, message.log_time_ns))
    states = np.array([stamp for stamp, _ in stamps.get('joint_states', [])], np.int64)
    span = (states.max() - states.min()) / NS if len(states) > 1 else 0.0
    for topic, pairs in stamps.items():
        timing = topics.setdefault(topic, TopicTiming())
        timing.messages += len(pairs)
        timing.rates_hz.append(len(pairs) / span if span else 0.0)
        skew = np.array([(arrival - stamp) / 1e6 for stamp, arrival in pairs if stamp])
        if len(skew) and abs(float(np.median(skew))) < 60e3:  # else the stamps are simulated
            timing.skew_ms.append(skew)
    return states


def _unique_rows(observation: np.ndarray, action: np.ndarray) -> set[bytes]:
    rows = np.ascontiguousarray(np.concatenate([observation, action], axis=1))
    return {hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in rows}


def _same_episodes(recorded: Sequence[RecordedEpisode]) -> list[str]:
    known: dict[bytes, str] = {}
    found = []
    for episode in recorded:
        batch = episode.batch
        digest = hashlib.sha256(batch.observation.tobytes() + batch.action.tobytes()).digest()
        first = known.setdefault(digest, episode.name)
        if first is not episode.name:
            found.append(f'{episode.name} = {first}')
    return found


def _outliers(names: Sequence[str], observation: np.ndarray,
              recorded: Sequence[RecordedEpisode], returns: np.ndarray, steps: np.ndarray
              ) -> tuple[dict[str, int], list[str]]:
    """Return (rows far out by element, episodes unlike the others in words)."""
    far = _far(observation).sum(0)
    order = [i for i in np.argsort(-far, kind='stable').tolist() if far[i]]
    odd = [f'{recorded[i].name} {what} {values[i]:.4g}'
           for what, values in (('return', returns), ('steps', steps.astype(np.float64)))
           for i in np.flatnonzero(_far(values[:, None])[:, 0]).tolist()]
    return {names[i]: int(far[i]) for i in order}, odd


def _far(values: np.ndarray) -> np.ndarray:
    """Return which values lie far from the median, in units of a robust deviation."""
    middle = np.median(values, axis=0)
    sigma = MAD_TO_SIGMA * np.median(np.abs(values - middle), axis=0)
    return (np.abs(values - middle) > OUTLIER_SIGMAS * sigma) & (sigma > 0)


def _range(values: np.ndarray) -> str:
    return f'mean {values.mean():.4g}, {values.min():.4g} to {values.max():.4g}'


def _percentiles(values: np.ndarray) -> str:
    if not len(values):
        return 'none'
    found = np.percentile(values, [50, 99, 100])
    return f'p50 {found[0]:.3g}, p99 {found[1]:.3g}, max {found[2]:.3g}'
