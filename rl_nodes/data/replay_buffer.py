# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Ring storage of transitions for off-policy learners.

Legend: N rows of a batch, C capacity, O observation, A action, P privileged. ``terminated`` and
``truncated`` are stored apart, because only a terminated step has no future value.
"""

from dataclasses import dataclass, replace
import math
from typing import Any

import numpy as np
from rl_nodes.core.errors import CheckpointError, SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.n_step import NStepBatch
import torch

_SCALARS = ('reward', 'terminated', 'truncated', 'discount', 'cost')


@dataclass(frozen=True, eq=False)
class ReplaySample:
    """B transitions drawn uniformly; the tensors are reused by the next draw of the same size."""

    observation: torch.Tensor       # (B, O) float32
    action: torch.Tensor            # (B, A) float32
    reward: torch.Tensor            # (B,) float32
    next_observation: torch.Tensor  # (B, O) float32
    terminated: torch.Tensor        # (B,) float32, 1 where the step ended the task
    truncated: torch.Tensor         # (B,) float32, 1 where a limit outside the task ended it
    privileged: torch.Tensor | None = None       # (B, P) float32; None where it is not stored
    next_privileged: torch.Tensor | None = None  # (B, P) float32
    discount: torch.Tensor | None = None         # (B,) float32, of what follows
    cost: torch.Tensor | None = None             # (B,) float32, what a constraint limits

    def outcome_on(self, device: torch.device) -> 'ReplaySample':
        """Return the sample with all but what was observed on another device, or itself."""
        if self.reward.device == device:
            return self
        return replace(self, **{
            name: column.to(device) for name, column in vars(self).items()
            if column is not None and not name.endswith(('observation', 'privileged'))})

    @classmethod
    def concatenate(cls, first: 'ReplaySample', second: 'ReplaySample') -> 'ReplaySample':
        """Return the rows of two samples that have the same columns, as copies."""
        return cls(**{name: torch.cat((column, getattr(second, name)))
                      for name, column in vars(first).items() if column is not None})


class ReplayBuffer:
    """Preallocated ring of the newest C transitions; refuses what would poison learning."""

    def __init__(self, capacity: int, observation_size: int, action_size: int,
                 privileged_size: int = 0, discounted: bool = False,
                 costs: bool = False) -> None:
        """
        Allocate the ring (memory is touched only as it fills).

        :param capacity: C, transitions kept.
        :param observation_size: O.
        :param action_size: A.
        :param privileged_size: P; 0 stores none.
        :param discounted: store how much of what follows a row counts, see ``n_step.py``.
        :param costs: store what each step has cost.
        :raises TrainingError: the capacity is not positive or does not fit into memory.
        """
        if capacity < 1:
            raise TrainingError(f'replay buffer: capacity {capacity}; expected at least 1')
        self.capacity = capacity
        self._sizes = {'observation': observation_size, 'action': action_size, 'reward': 1,
                       'next_observation': observation_size, 'terminated': 1, 'truncated': 1}
        if privileged_size:
            self._sizes |= {'privileged': privileged_size, 'next_privileged': privileged_size}
        if discounted:
            self._sizes['discount'] = 1
        if costs:
            self._sizes['cost'] = 1
        try:
            scalars = [name for name in self._sizes if name in _SCALARS]
            self._scalars = torch.from_numpy(np.zeros((len(scalars), capacity), np.float32))
            self._columns = {
                name: self._scalars[scalars.index(name)].numpy()[:, np.newaxis]
                if name in scalars else np.zeros((capacity, size), np.float32)
                for name, size in self._sizes.items()}
        except MemoryError:
            row_bytes = 4 * sum(self._sizes.values())
            raise TrainingError(
                f'replay buffer: {capacity} rows of {row_bytes} bytes do not fit into memory; '
                'lower learner.buffer_size') from None
        self._tensors = {name: torch.from_numpy(column)
                         for name, column in self._columns.items() if name not in scalars}
        self._next = 0
        self._size = 0
        self.added = 0
        self.refused = 0
        self._drawn: dict[int, ReplaySample] = {}
        self._targets: dict[int, tuple[dict[str, torch.Tensor], torch.Tensor]] = {}

    def __len__(self) -> int:
        return self._size

    @property
    def position(self) -> int:
        """Return where in the ring the next row goes."""
        return self._next

    def add(self, batch: TransitionBatch | NStepBatch) -> int:
        """
        Append the finite rows of a batch; count the others in ``refused``.

        :param batch: N transitions; N = 0 changes nothing, of more than C the newest C stay.
        :return: rows stored.
        :raises SpecError: a column has the wrong width; nothing is stored then.
        """
        rows = {name: self._column(name, getattr(batch, name), len(batch))
                for name in self._sizes}
        finite = finite_rows(*rows.values())
        accepted = int(np.count_nonzero(finite))
        if accepted < len(batch):
            self.refused += len(batch) - accepted
            rows = {name: column[finite] for name, column in rows.items()}
        keep = min(accepted, self.capacity)
        first = min(keep, self.capacity - self._next)
        self._place(batch, finite, keep)
        for name, column in rows.items():
            start = accepted - keep
            self._columns[name][self._next:self._next + first] = column[start:start + first]
            if first < keep:
                self._columns[name][:keep - first] = column[start + first:]
        self._next = (self._next + keep) % self.capacity
        self._size = min(self._size + keep, self.capacity)
        self.added += accepted
        return accepted

    def _place(self, batch: TransitionBatch | NStepBatch, finite: np.ndarray, keep: int) -> None:
        """Take note that the last ``keep`` finite rows of a batch go to ``position`` and on."""

    def _column(self, name: str, values: np.ndarray | None, rows: int) -> np.ndarray:
        size = self._sizes[name]
        if values is None:
            raise SpecError(f'replay buffer: column {name!r} is missing, expected {size} values '
                            'a row; the data is from another task')
        shape = (rows,) if name in _SCALARS else (rows, size)
        if values.shape != shape:
            raise SpecError(f'replay buffer: column {name!r} has shape {list(values.shape)}, '
                            f'expected {list(shape)}; the data is from another robot or task')
        return values.reshape(rows, size)

    def sample(self, batch_size: int, generator: torch.Generator) -> ReplaySample:
        """
        Draw transitions uniformly, with replacement.

        :param batch_size: B.
        :param generator: source of the draw.
        :raises TrainingError: nothing is stored yet.
        """
        if self._size == 0:
            raise TrainingError('replay buffer: asked for a sample, but no transition has been '
                                'stored; collect experience first')
        return self.gather(torch.randint(self._size, (batch_size,), generator=generator))

    def gather(self, rows: torch.Tensor) -> ReplaySample:
        """
        Return chosen transitions.

        :param rows: where they lie in the ring, int64, shape (B,).
        """
        batch_size = len(rows)
        if batch_size not in self._drawn:
            self._allocate(batch_size)
        wide, scalars = self._targets[batch_size]
        torch.index_select(self._scalars, 1, rows, out=scalars)
        for name, target in wide.items():
            torch.index_select(self._tensors[name], 0, rows, out=target)
        return self._drawn[batch_size]

    def newest(self, count: int) -> np.ndarray:
        """Return copies of the newest observations, shape (min(count, stored), O)."""
        rows = (self._next - 1 - np.arange(min(count, self._size))) % self.capacity
        return self._columns['observation'][rows]

    def _allocate(self, batch_size: int) -> None:
        with torch.inference_mode(False):  # or these could be written to in that mode only
            scalars = torch.zeros(len(self._scalars), batch_size)
            wide = {name: torch.zeros(batch_size, self._sizes[name]) for name in self._tensors}
        self._targets[batch_size] = wide, scalars
        names = [name for name in self._sizes if name in _SCALARS]
        self._drawn[batch_size] = ReplaySample(**wide, **dict(zip(names, scalars, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part as numpy arrays (views, not copies) and the counters."""
        state: dict[str, Any] = {name: column[:self._size]
                                 for name, column in self._columns.items()}
        return state | {'capacity': self.capacity, 'next': self._next, 'added': self.added,
                        'refused': self.refused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Take over what :meth:`state_dict` returned.

        :raises CheckpointError: another capacity or other columns.
        """
        sizes = {name: np.asarray(state[name]).shape[1] for name in self._sizes if name in state}
        if state.get('capacity') != self.capacity or sizes != self._sizes:
            raise CheckpointError(
                f'replay buffer: the checkpoint has capacity {state.get("capacity")} and columns '
                f'{sizes}, this run has {self.capacity} and {self._sizes}')
        self._size = len(state['reward'])
        for name, column in self._columns.items():
            column[:self._size] = state[name]
        self._next = int(state['next'])
        self.added = int(state['added'])
        self.refused = int(state['refused'])


def finite_rows(*columns: np.ndarray) -> np.ndarray:
    """Return where no column of N rows has a value that is not finite, bool, (N,)."""
    finite = np.ones(len(columns[0]), bool)
    for column in columns:
        # Nearly all are finite, and then so is the sum of their squares, which is quicker to see.
        if column.dtype.kind == 'f' and not math.isfinite(np.vdot(column, column)):
            finite &= np.isfinite(column.reshape(len(column), -1)).all(1)
    return finite
