# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
When values have left what returns can be: learning has diverged, though all is finite still.

Where every reward is at most r in size, no discounted return is greater than r / (1 - gamma), so
no true value is (Sutton and Barto 2018, section 3.3; that learned ones grow without bound is what
their section 11.3 calls the deadly triad).
"""

import torch

FACTOR = 100.0  # learned values overshoot for a while, and recover
LEAST_PAY = 1.0  # of a step, before any reward has come: networks begin with values of this size


class PossibleValues:
    """
    Compares learned values with the greatest return that the rewards seen so far allow.

    :param discount: gamma, per control step.
    """

    def __init__(self, discount: float) -> None:
        self._horizon = 1.0 / (1.0 - discount)
        self._pay, self._first = LEAST_PAY, -1.0

    def complaint(self, value: float, reward: torch.Tensor, bonus: float = 0.0) -> str:
        """
        Return why a value cannot be true by far; empty where it may.

        The very first value counts as possible: it is no more than how the networks began.

        :param value: mean of what the critics say of stored actions.
        :param reward: of the rows that they learned from, shape (B,).
        :param bonus: greatest further pay of a step, as for entropy.
        """
        if self._first < 0.0:
            self._first = abs(value)
        self._pay = max(self._pay, reward.abs().max().item() + bonus)
        greatest = self._pay * self._horizon
        if abs(value) <= FACTOR * max(greatest, self._first):
            return ''
        return f'values of {value:g} on average, where no return is beyond ±{greatest:g}'
