# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Steps put together to longer ones, episode by episode, in whatever batches they come.

Citation: Sutton 1988, "Learning to predict by the methods of temporal differences"; with deep
Q-learning: Hessel et al. 2018, arXiv:1710.02298, section "Multi-step learning".

    R_t = sum_{k < m} gamma^k r_{t+k},   the value of o_{t+m} counts gamma^m,                (1)

with m = n, or fewer at an episode's end: both a termination (after which nothing counts) and a cut
(after which the true last observation still has a value) close every row that is open.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from rl_nodes.core.types import TransitionBatch

MAX_OPEN = 10_000  # unfinished episodes remembered; more means that ends got lost on the way


@dataclass(frozen=True, eq=False)
class NStepBatch:
    """N rows of up to n steps each; ``next_observation`` is what follows the last of them."""

    observation: np.ndarray        # (N, O) float32
    action: np.ndarray             # (N, A) float32, of the first step
    reward: np.ndarray             # (N,) float32, R of eq. (1)
    next_observation: np.ndarray   # (N, O) float32
    terminated: np.ndarray         # (N,) bool
    truncated: np.ndarray          # (N,) bool
    discount: np.ndarray           # (N,) float32, gamma^m of eq. (1)

    def __len__(self) -> int:
        return len(self.reward)


@dataclass
class _Open:
    """The steps of one episode whose rows are not complete; the last one led to ``following``."""

    step: int
    following: np.ndarray
    steps: deque[tuple[np.ndarray, np.ndarray, float]]  # observation, action, reward


class NStepReturns:
    """Makes rows of up to n steps from single ones."""

    def __init__(self, n: int, discount: float) -> None:
        """
        Remember nothing yet.

        :param n: greatest number of steps in a row, at least 1.
        :param discount: gamma, per step.
        """
        self._n, self._discount = n, discount
        self._open: dict[int, _Open] = {}

    def add(self, batch: TransitionBatch) -> NStepBatch:
        """
        Return the rows that are complete now, those of one episode in order.

        :param batch: finite; a step that does not follow the one before it in its episode closes
            what is open there with the observation that was seen last.
        """
        if self._n == 1:
            return NStepBatch(batch.observation, batch.action, batch.reward,
                              batch.next_observation, batch.terminated, batch.truncated,
                              np.full(len(batch), self._discount, np.float32))
        rows: list[tuple[Any, ...]] = []
        for i, (episode, step) in enumerate(zip(batch.episode.tolist(), batch.step.tolist())):
            entry = self._open.pop(episode, None)
            if entry is not None and entry.step + 1 != step:
                self._close(entry, False, True, rows)
                entry = None
            entry = _Open(step, batch.next_observation[i], deque()) if entry is None else entry
            entry.step, entry.following = step, batch.next_observation[i]
            entry.steps.append((batch.observation[i], batch.action[i], float(batch.reward[i])))
            if batch.terminated[i] or batch.truncated[i]:
                self._close(entry, batch.terminated[i], batch.truncated[i], rows)
                continue
            if len(entry.steps) == self._n:
                rows.append(self._row(entry, False, False))
            self._open[episode] = entry
        while len(self._open) > MAX_OPEN:
            self._open.pop(next(iter(self._open)))
        return _stacked(rows, batch)

    def _close(self, entry: _Open, terminated: bool, truncated: bool,
               rows: list[tuple[Any, ...]]) -> None:
        while entry.steps:
            rows.append(self._row(entry, terminated, truncated))

    def _row(self, entry: _Open, terminated: bool, truncated: bool) -> tuple[Any, ...]:
        """Return the row that begins with the oldest open step, eq. (1), and close that step."""
        total, weight = 0.0, 1.0
        for _, _, reward in entry.steps:
            total, weight = total + weight * reward, weight * self._discount
        observation, action, _ = entry.steps.popleft()
        return observation, action, total, entry.following, terminated, truncated, weight

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the open steps."""
        entries = list(self._open.values())
        steps = [step for entry in entries for step in entry.steps]
        return {'episode': np.array(list(self._open), np.int64),
                'step': np.array([entry.step for entry in entries], np.int64),
                'open': np.array([len(entry.steps) for entry in entries], np.int64),
                'following': np.array([entry.following for entry in entries], np.float32),
                'observation': np.array([step[0] for step in steps], np.float32),
                'action': np.array([step[1] for step in steps], np.float32),
                'reward': np.array([step[2] for step in steps], np.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        found = {name: np.asarray(column) for name, column in state.items()}
        steps = iter(list(zip(found['observation'], found['action'], found['reward'].tolist())))
        self._open = {
            episode: _Open(step, following, deque(next(steps) for _ in range(count)))
            for episode, step, count, following in zip(
                found['episode'].tolist(), found['step'].tolist(), found['open'].tolist(),
                found['following'])}


def _stacked(rows: list[tuple[Any, ...]], like: TransitionBatch) -> NStepBatch:
    columns = list(zip(*rows)) if rows else [()] * 7
    vectors = [np.array(columns[i], np.float32).reshape(len(rows), width) for i, width in (
        (0, like.observation.shape[1]), (1, like.action.shape[1]), (3, like.observation.shape[1]))]
    return NStepBatch(vectors[0], vectors[1], np.array(columns[2], np.float32), vectors[2],
                      np.array(columns[4], np.bool_), np.array(columns[5], np.bool_),
                      np.array(columns[6], np.float32))
