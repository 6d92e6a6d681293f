# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Draws rows of a ring in proportion to their priorities, by a tree of sums.

Citation: Schaul, Quan, Antonoglou and Silver 2016, "Prioritized experience replay",
arXiv:1511.05952, section 3.3 and appendix B.2.1.

    P(i) = p_i^alpha / sum_j p_j^alpha,   w_i = (N P(i))^-beta / max_j w_j                   (1)

The unit interval of the sums is cut into B equal parts and one row is drawn from each. The largest
weight is that within the batch, as the authors take it, so that updates are only scaled down;
whoever draws divides by it.
"""

from typing import Any

import numpy as np
import torch


class Priorities:
    """p^alpha of every row of a ring; rows never set are never drawn."""

    def __init__(self, capacity: int, alpha: float, floor: float = 1e-6) -> None:
        """
        Set every priority to zero.

        :param capacity: rows of the ring.
        :param alpha: 0 draws uniformly, 1 in proportion to the priority.
        :param floor: added to every priority, so that each row may be drawn again.
        """
        self._alpha, self._floor = alpha, floor
        self._leaves = 1 << max(1, (capacity - 1).bit_length())
        self._depth = self._leaves.bit_length() - 1
        self._sums = np.zeros(2 * self._leaves)  # node k has the children 2 k and 2 k + 1
        self._capacity = capacity
        self._greatest = 1.0

    def add(self, rows: np.ndarray) -> None:
        """Give new rows the greatest priority seen so far, so that each is soon drawn once."""
        self._write(rows, self._greatest)

    def set(self, rows: np.ndarray, priority: np.ndarray) -> None:
        """
        Set p.

        :param rows: int64, shape (B,).
        :param priority: finite and not negative, shape (B,).
        """
        powered = (priority + self._floor) ** self._alpha
        self._greatest = max(self._greatest, float(powered.max()))
        self._write(rows, powered)

    def _write(self, rows: np.ndarray, powered: np.ndarray | float) -> None:
        nodes = rows + self._leaves
        self._sums[nodes] = powered
        for _ in range(self._depth):
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def sample(self, batch_size: int, stored: int, beta: float,
               generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return rows, int64, and (N P)^-beta of eq. (1), float64, both of shape (B,).

        :param batch_size: B.
        :param stored: N, rows that hold something.
        :param beta: 0 corrects nothing, 1 all of what the priorities distort.
        """
        total = self._sums[1]
        draws = torch.rand(batch_size, generator=generator, dtype=torch.float64).numpy()
        wanted = (np.arange(batch_size) + draws) * (total / batch_size)
        nodes = np.ones(batch_size, np.int64)
        for _ in range(self._depth):
            nodes *= 2
            left = self._sums[nodes]
            right = (wanted >= left) & (self._sums[nodes + 1] > 0.0)
            wanted -= np.where(right, left, 0.0)
            nodes += right
        weights = (stored * self._sums[nodes] / total) ** -beta
        return torch.from_numpy(nodes - self._leaves), torch.from_numpy(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the priorities."""
        rows = slice(self._leaves, self._leaves + self._capacity)
        return {'powered': self._sums[rows].copy(), 'greatest': self._greatest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._greatest = float(state['greatest'])
        self._write(np.arange(self._capacity), np.asarray(state['powered']))
