# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""When a training run ends."""

from typing import Literal

import msgspec
from rl_nodes.training.evaluation import Evaluation


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    When training has reached its goal.

    :param metric: of an evaluation.
    :param at_least: value to reach.
    """

    metric: Literal['success_rate', 'return']
    at_least: float

    def reached(self, evaluation: Evaluation) -> bool:
        """Return True where the evaluation meets the target."""
        value = evaluation.summary().get(self.metric)
        return value is not None and value >= self.at_least

    def __str__(self) -> str:
        return f'{self.metric} >= {self.at_least:g}'


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    When training stops at the latest.

    :param steps: control steps in all; None for no limit.
    :param time_s: wall time in all, resumed parts included [s]; None for no limit.
    :param target: stop when an evaluation has reached it and a fresh one has confirmed it.
    """

    steps: int | None = None
    time_s: float | None = None
    target: Target | None = None
