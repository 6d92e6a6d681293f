# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Reward terms: pure functions of SI quantities; each says its unit and range."""

import math

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two points, shape (3,) each [m], in [0, inf)."""
    dx, dy, dz = (a - b).tolist()
    return math.sqrt(dx * dx + dy * dy + dz * dz)


def closeness(gap: float, width: float) -> float:
    """
    Return how close a gap is to zero: 1 at zero, 0.5 at ``width``, towards 0 far away.

    :param gap: [any unit], not negative.
    :param width: in the unit of the gap, positive.
    """
    return 1.0 / (1.0 + (gap / width) ** 2)


def action_size(action: np.ndarray) -> float:
    """Return the mean square of an action in [-1, 1]; in [0, 1]."""
    return float(np.dot(action, action)) / len(action)


def deviation(value: float, limit: float) -> float:
    """Return (value / limit)², 0 at the centre and 1 at the limit; in [0, inf)."""
    return (value / limit) ** 2


def alive(terminated: bool) -> float:
    """Return 1 for every step that does not end in failure, else 0."""
    return 0.0 if terminated else 1.0
