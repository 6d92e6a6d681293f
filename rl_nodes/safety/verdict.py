# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a check says of a command."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Level(IntEnum):
    """From harmless to grave; the gravest of all checks wins."""

    PASS = 0
    CLAMP = 1
    HOLD = 2
    STOP = 3


@dataclass(frozen=True, eq=False)
class Verdict:
    """
    One judgement.

    :param level: how grave.
    :param check: name of the check that decided.
    :param reason: one sentence with the numbers, empty for PASS.
    :param requested: the command as it came, shape (A,) where it had that shape.
    :param allowed: what of it may reach the robot, shape (A,), finite; None for HOLD and STOP.
    :param instead: what the robot gets in its place, shape (A,), finite; None for nothing.
    :param by: who made that: ``hold``, or a fallback; empty without.
    """

    level: Level
    check: str
    reason: str
    requested: np.ndarray
    allowed: np.ndarray | None
    instead: np.ndarray | None = None
    by: str = ''
