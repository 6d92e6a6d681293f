# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Processes that learn together: each collects, and computes gradients of, a share of every batch.

All hold the same weights and see the same average gradient, so each step is that of one process
with the joined batch. Messages go by gloo, started by ``torchrun``.
"""

from collections.abc import Iterator
import contextlib
import os

from rl_nodes.core.errors import PartnerError
import torch
from torch import distributed


class Partners:
    """
    This process among the others.

    :ivar rank: of this process; the first one, 0, decides, evaluates and exports.
    :ivar count: processes.
    """

    def __init__(self) -> None:
        """
        Meet the others, as the environment variables of ``torchrun`` say.

        :raises PartnerError: they do not come; every other method, too, where one has gone.
        """
        self.rank = int(os.environ.get('RANK', '0'))
        with self._together():
            distributed.init_process_group('gloo')
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    @classmethod
    def of_environment(cls) -> 'Partners | None':
        """Return the partners that ``torchrun`` has started; None where it has not."""
        return cls() if int(os.environ.get('WORLD_SIZE', '1')) > 1 else None

    def average(self, values: torch.Tensor) -> None:
        """Replace values by their mean over all processes, in place."""
        with self._together():
            distributed.all_reduce(values)
        values.div_(self.count)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, as many of each, by rank: shape (count · n, ...)."""
        found = [torch.empty_like(rows) for _ in range(self.count)]
        with self._together():
            distributed.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def first_says(self, number: int) -> int:
        """Return the whole number that the first process gave."""
        said = torch.tensor(number, dtype=torch.int64)  # of whatever type the first one's is
        with self._together():
            distributed.broadcast(said, 0)
        return int(said)

    def first_tells(self, text: str) -> str:
        """Return the text that the first process gave."""
        given = text.encode()
        told = torch.zeros(self.first_says(len(given)), dtype=torch.uint8)
        if not self.rank:
            told.copy_(torch.tensor(list(given)))
        with self._together():
            distributed.broadcast(told, 0)
        return bytes(told.tolist()).decode()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Say what it means where gloo misses a process."""
        try:
            yield
        except RuntimeError as error:
            raise PartnerError(
                f'process {self.rank} of those that learn together lost another one: {error}. '
                'That one says why; resume:=true goes on from the last checkpoint') from error

    def close(self) -> None:
        """Leave the others."""
        distributed.destroy_process_group()
