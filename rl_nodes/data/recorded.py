# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The transitions of one recorded episode, and what is known of each beside."""

from dataclasses import dataclass, field

import numpy as np
from rl_nodes.core.types import TransitionBatch


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """
    N transitions of one episode, in order.

    :param name: of the file or the part of a data set that they come from.
    :param batch: the rows.
    :param stamp_ns: of the state that each row starts from [ns], int64, shape (N,).
    :param metadata: provenance and result, as texts.
    """

    name: str
    batch: TransitionBatch
    stamp_ns: np.ndarray
    metadata: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.batch)

    def columns(self) -> dict[str, np.ndarray]:
        """Return everything that is known of each row, by name."""
        return {**self.batch.columns(), 'stamp_ns': self.stamp_ns}


def run_ends(episode: np.ndarray, step: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """
    Return for each row where the unbroken run of steps that it lies in ends, int64, shape (N,).

    :param episode: number of the episode, shape (N,).
    :param step: number of the step, shape (N,).
    :param ended: whether the row ended its episode, shape (N,).
    :return: index of the first row behind the run.
    """
    count = len(step)
    if not count:
        return np.zeros(0, np.int64)
    broken = (episode[1:] != episode[:-1]) | (step[1:] != step[:-1] + 1) | ended[:-1]
    ends = np.append(np.flatnonzero(broken) + 1, count)
    return ends[np.searchsorted(ends, np.arange(count), side='right')]
