# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Rollouts cut into sequences where episodes end, so that a memory can be run over each of them.

Legend: T steps, N environments, S sequences, K of them chosen, L steps of the longest of those.
"""

from collections.abc import Iterator

import numpy as np
import torch


class Sequences:
    """
    Where each sequence of a rollout begins and how long it is.

    :ivar environment: whose it is, int64, (S,).
    :ivar start: its first step in the rollout, int64, (S,); what it begins with is remembered from
        before the rollout where that is 0, and nothing otherwise.
    :ivar length: steps, int64, (S,).
    """

    def __init__(self, ended: np.ndarray) -> None:
        """
        Find the sequences.

        :param ended: where an episode ended, (T, N) bool.
        """
        last = ended.copy()
        last[-1] = True
        self.environment, stop = np.nonzero(last.T)  # one environment after the other
        follows = self.environment[1:] == self.environment[:-1]
        self.start = np.concatenate([[0], np.where(follows, stop[:-1] + 1, 0)])
        self.length = stop + 1 - self.start
        self._count = ended.shape[1]

    def __len__(self) -> int:
        return len(self.length)

    def minibatches(self, rows: int, generator: torch.Generator) -> Iterator[np.ndarray]:
        """Yield all sequences once, in random order, about so many rows of them together."""
        order = torch.randperm(len(self), generator=generator).numpy()
        before = np.cumsum(self.length[order]) - self.length[order]
        yield from np.split(order, np.flatnonzero(np.diff(before // rows)) + 1)

    def padded(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return where the steps of some sequences lie, padded to the same length.

        :param chosen: their numbers, (K,).
        :return: row t N + i of step t of environment i, int64, (L, K), any row of the sequence
            where it is over; and where it is not, bool, (L, K).
        """
        step = np.arange(self.length[chosen].max())[:, np.newaxis]
        there = step < self.length[chosen]
        row = (self.start[chosen] + np.where(there, step, 0)) * self._count
        return torch.from_numpy(row + self.environment[chosen]), torch.from_numpy(there)
