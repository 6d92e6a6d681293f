# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a folder of recorded episodes is worth, from the files themselves."""

from collections import Counter
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from rl_nodes.core.origin import is_engaged
from rl_nodes.core.timing import NS
from rl_nodes.data.reader import Episode, episode_files, read_episode

STATES = 'joint_states'


@dataclass(frozen=True)
class Collection:
    """
    A summary of episodes.

    :param episodes: how many.
    :param successes: how many of them.
    :param steps: control steps in all.
    :param demonstrated: share of the executed commands that somebody gave.
    :param return_mean: mean undiscounted return.
    :param return_discounted_mean: mean discounted return.
    :param rate_hz: states per recorded second of wall time; 0 where it cannot be told.
    :param lost: messages that the recorder had to drop.
    :param operators: episodes by operator.
    """

    episodes: int
    successes: int
    steps: int
    demonstrated: float
    return_mean: float
    return_discounted_mean: float
    rate_hz: float
    lost: int
    operators: dict[str, int]

    def lines(self) -> list[str]:
        """Return it for people."""
        return [
            f'success       {self.successes} of {self.episodes} episodes',
            f'return        {self.return_mean:.2f} (mean; discounted '
            f'{self.return_discounted_mean:.2f})',
            f'steps         {self.steps}, {self.demonstrated:.0%} of their commands demonstrated',
            f'states        {self.rate_hz:.1f} per second of wall time, {self.lost} messages lost',
            'operators     ' + ', '.join(f'{name}: {count}'
                                         for name, count in sorted(self.operators.items()))]


def summarise(folder: Path) -> Collection:
    """
    Return the summary of the episodes in a folder.

    :raises RecordingError: there is none, or one is damaged.
    """
    episodes = [read_episode(path) for path in episode_files([folder])]
    found = [episode.metadata for episode in episodes]
    sources: Counter[str] = Counter()
    for metadata in found:
        sources.update(json.loads(metadata['sources']))
    engaged = sum(count for source, count in sources.items() if is_engaged(source))
    spans = np.array([_span(episode) for episode in episodes]).sum(0)
    return Collection(
        len(found), sum(metadata['success'] == 'true' for metadata in found),
        sum(int(metadata['steps']) for metadata in found), engaged / max(1, sources.total()),
        _mean(found, 'return_undiscounted'), _mean(found, 'return_discounted'),
        float(spans[0] / spans[1]) if spans[1] > 0 else 0.0,
        sum(int(metadata['dropped']) for metadata in found),
        dict(Counter(json.loads(metadata['notes']).get('operator', '') for metadata in found)))


def _mean(found: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([float(metadata[key]) for metadata in found]))


def _span(episode: Episode) -> tuple[int, float]:
    """Return (intervals between states, seconds that they took on the recorder's clock)."""
    times = [message.log_time_ns for message in episode.messages((STATES,))]
    return max(0, len(times) - 1), (times[-1] - times[0]) / NS if times else 0.0
