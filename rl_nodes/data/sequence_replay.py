# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Ring storage that knows which transition follows which, for learners with a memory.

Citation: Kapturowski, Ostrovski, Dabney, Quan and Munos 2019, "Recurrent Experience Replay in
Distributed Reinforcement Learning" (R2D2), ICLR, section 3 (burn-in). Legend: L steps of a window,
K steps of burn-in before it, S windows, C capacity.

Rows of one episode that came in order are linked, whatever came in between: other environments,
other robots. A window is a row drawn uniformly and those that follow it; it is over where its
episode is, or where a row is missing, and then padded.
"""

from typing import Any, NamedTuple

import numpy as np
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.n_step import NStepBatch
from rl_nodes.data.replay_buffer import ReplayBuffer, ReplaySample
import torch

MAX_OPEN = 10_000  # unfinished episodes remembered; more means that ends got lost on the way


class Windows(NamedTuple):
    """
    S windows, step by step.

    :param before: observations of the burn-in, (K, S, O); anything where there is none.
    :param known: where the burn-in has a step, bool, (K, S); an episode's first step has none.
    :param sample: rows t S + s, step t of window s; any row of the window where it is over.
    :param there: where it is not, bool, (L, S).
    """

    before: torch.Tensor
    known: torch.Tensor
    sample: ReplaySample
    there: torch.Tensor


class SequenceReplay(ReplayBuffer):
    """Preallocated ring of the newest C transitions, linked within episodes."""

    def __init__(self, capacity: int, observation_size: int, action_size: int,
                 privileged_size: int = 0, costs: bool = False) -> None:
        """Allocate the ring; see the base class."""
        super().__init__(capacity, observation_size, action_size, privileged_size, costs=costs)
        self._before, self._after = np.full((2, capacity), -1, np.int64)
        self._open: dict[int, tuple[int, int, int]] = {}  # episode: step, row, number of newest
        self._number = 0

    def _place(self, batch: TransitionBatch | NStepBatch, finite: np.ndarray, keep: int) -> None:
        if not isinstance(batch, TransitionBatch):
            raise TrainingError('sequences are made of single transitions')
        ended = batch.terminated | batch.truncated
        kept = np.flatnonzero(finite)
        for place, i in enumerate(kept[len(kept) - keep:].tolist()):
            row = (self.position + place) % self.capacity
            self._forget(row)
            self._number += 1
            episode, step = int(batch.episode[i]), int(batch.step[i])
            last = self._open.pop(episode, None)
            if last is not None and last[0] + 1 == step \
                    and self._number - last[2] < self.capacity:
                self._before[row], self._after[last[1]] = last[1], row
            if not ended[i]:
                self._open[episode] = step, row, self._number
        while len(self._open) > MAX_OPEN:
            self._open.pop(next(iter(self._open)))

    def _forget(self, row: int) -> None:
        """Cut the links of a row that is about to be replaced."""
        before, after = self._before[row], self._after[row]
        if before >= 0:
            self._after[before] = -1
        if after >= 0:
            self._before[after] = -1
        self._before[row] = self._after[row] = -1

    def windows(self, count: int, burn_in: int, length: int,
                generator: torch.Generator) -> Windows:
        """
        Draw windows by their first steps, uniformly and with replacement.

        :param count: S.
        :param burn_in: K.
        :param length: L.
        :param generator: source of the draw.
        :raises TrainingError: nothing is stored yet.
        """
        if len(self) == 0:
            raise TrainingError('replay buffer: asked for windows, but no transition has been '
                                'stored; collect experience first')
        first = torch.randint(len(self), (count,), generator=generator).numpy()
        before, known = (torch.from_numpy(part[::-1].copy())
                         for part in _walk(self._before, first, burn_in))
        rows, there = _walk(self._after, first, length - 1)
        rows = np.concatenate([first[np.newaxis], rows])
        there = np.concatenate([np.ones((1, count), bool), there])
        return Windows(self._tensors['observation'][before], known,
                       self.gather(torch.from_numpy(rows.reshape(-1))), torch.from_numpy(there))

    def state_dict(self) -> dict[str, Any]:
        """Return what the base class does, and the links."""
        newest = [(episode, *last) for episode, last in self._open.items()]
        return super().state_dict() | {
            'before': self._before[:len(self)], 'after': self._after[:len(self)],
            'open': np.array(newest, np.int64).reshape(-1, 4), 'number': self._number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; see the base class."""
        super().load_state_dict(state)
        for links, name in ((self._before, 'before'), (self._after, 'after')):
            links[:] = -1
            links[:len(self)] = state[name]
        self._open = {episode: (step, row, number) for episode, step, row, number in
                      np.asarray(state['open']).tolist()}
        self._number = int(state['number'])


def _walk(links: np.ndarray, row: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows along links, (steps, S), and where the way went on, bool."""
    rows, there = np.empty((steps, len(row)), np.int64), np.empty((steps, len(row)), bool)
    on = np.ones(len(row), bool)
    for t in range(steps):
        on = on & (links[row] >= 0)
        row = np.where(on, links[row], row)
        rows[t], there[t] = row, on
    return rows, there
