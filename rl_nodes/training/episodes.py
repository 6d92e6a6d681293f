# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Returns and successes of training episodes, from transitions in whatever batches they come."""

from collections import deque
from typing import Any

import numpy as np
from rl_nodes.core.types import TransitionBatch

WINDOW = 50         # episodes that the running figures cover
MAX_OPEN = 10_000   # unfinished episodes remembered; more means that ends got lost on the way


class OpenEpisodes:
    """Episodes that have begun and not ended, by what has come of them."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, int, float]] = {}

    def add(self, batch: TransitionBatch) -> list[tuple[float, int, bool, float | None]]:
        """
        Return (undiscounted return, length, success, cost) of episodes that a batch has ended.

        A reward or cost that is not finite counts as zero; a cost that nobody asks for is None.
        """
        found = []
        ended = batch.terminated | batch.truncated
        rewards = _finite(batch.reward)
        costs = None if batch.cost is None else _finite(batch.cost)
        for row, (episode, end, reward) in enumerate(zip(
                batch.episode.tolist(), ended.tolist(), rewards)):
            total, length, cost = self._open.pop(episode, (0.0, 0, 0.0))
            total, length = total + reward, length + 1
            if costs is not None:
                cost += costs[row]
            if end:
                found.append((total, length, bool(batch.success[row]),
                              None if costs is None else cost))
            else:
                self._open[episode] = (total, length, cost)
        while len(self._open) > MAX_OPEN:
            self._open.pop(next(iter(self._open)))
        return found

    def forget(self) -> None:
        """Drop what has come of episodes that will not go on."""
        self._open.clear()


class EpisodeStatistics:
    """Running figures over the last finished training episodes."""

    def __init__(self) -> None:
        self.finished, self.succeeded = 0, 0
        self.steps, self.cost = 0, 0.0  # of all finished episodes
        self._open = OpenEpisodes()
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)
        self._successes: deque[bool] = deque(maxlen=WINDOW)
        self._costs: deque[float] = deque(maxlen=WINDOW)

    def add(self, batch: TransitionBatch) -> None:
        """Count the transitions of a batch."""
        for episode in self._open.add(batch):
            self.add_finished(*episode)

    def add_finished(self, total: float, length: int, success: bool,
                     cost: float | None = None) -> None:
        """
        Count one episode.

        :param total: its undiscounted return.
        :param length: in control steps.
        :param cost: of all its steps; None where nobody asks.
        """
        self.finished += 1
        self.succeeded += success
        self.steps += length
        if cost is not None:
            self.cost += cost
            self._costs.append(cost)
        self._returns.append(total)
        self._lengths.append(length)
        self._successes.append(success)

    def forget_unfinished(self) -> None:
        """Drop what has come of episodes that will not go on."""
        self._open.forget()

    @property
    def mean_return(self) -> float | None:
        """Return the mean undiscounted return of the window; None before the first end."""
        return float(np.mean(self._returns)) if self._returns else None

    @property
    def success_rate(self) -> float | None:
        """Return the part of successful episodes in the window; None before the first end."""
        return float(np.mean(self._successes)) if self._successes else None

    def metrics(self) -> dict[str, float]:
        """Return what is logged."""
        if not self._returns:
            return {'episodes': 0.0}
        return {'episodes': float(self.finished), 'return': float(np.mean(self._returns)),
                'length': float(np.mean(self._lengths)),
                'success_rate': float(np.mean(self._successes)),
                **({'cost': float(np.mean(self._costs))} if self._costs else {})}

    def state_dict(self) -> dict[str, Any]:
        """Return the finished episodes' figures; unfinished ones do not survive a restart."""
        return {'finished': self.finished, 'succeeded': self.succeeded,
                'steps': self.steps, 'cost': self.cost,
                'returns': list(self._returns), 'lengths': list(self._lengths),
                'successes': list(self._successes), 'costs': list(self._costs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.finished, self.succeeded = int(state['finished']), int(state['succeeded'])
        self.steps, self.cost = int(state['steps']), float(state['cost'])
        self._returns.extend(float(value) for value in state['returns'])
        self._lengths.extend(int(value) for value in state['lengths'])
        self._successes.extend(bool(value) for value in state['successes'])
        self._costs.extend(float(value) for value in state['costs'])


def _finite(values: np.ndarray) -> list[float]:
    return np.where(np.isfinite(values), values, 0.0).tolist()
