# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Processes that learn together: each collects, and computes gradients of, a share of every batch.

All hold the same weights and see the same average gradient, so each step is that of one process
with the joined batch. Messages go by gloo, started by ``torchrun``.
"""

import os

import torch
from torch import distributed


class Partners:
    """
    This process among the others.

    :ivar rank: of this process; the first one, 0, decides, evaluates and writes.
    :ivar count: processes.
    """

    def __init__(self) -> None:
        """Meet the others, as the environment variables of ``torchrun`` say."""
        distributed.init_process_group('gloo')
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    @classmethod
    def of_environment(cls) -> 'Partners | None':
        """Return the partners that ``torchrun`` has started; None where it has not."""
        return cls() if int(os.environ.get('WORLD_SIZE', '1')) > 1 else None

    def average(self, values: torch.Tensor) -> None:
        """Replace values by their mean over all processes, in place."""
        distributed.all_reduce(values)
        values.div_(self.count)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, as many of each, by rank: shape (count · n, ...)."""
        found = [torch.empty_like(rows) for _ in range(self.count)]
        distributed.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def first_says(self, yes: bool) -> bool:
        """Return what the first process gave."""
        told = torch.tensor(yes)
        distributed.broadcast(told, 0)
        return bool(told)

    def close(self) -> None:
        """Leave the others."""
        distributed.destroy_process_group()
