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


def upright(angle: float) -> float:
    """Return how upright something tilted by ``angle`` [rad] is: 1 upright, 0 upside down."""
    return 0.5 * (1.0 + math.cos(angle))


def tracking(error: np.ndarray, width: float) -> float:
    """
    Return exp(-|error|² / width²): 1 without an error, 0.37 at ``width``; in (0, 1].

    :param error: [any unit], any shape.
    :param width: in the unit of the error, positive.
    """
    return math.exp(-float(np.dot(error, error)) / width ** 2)


def power(effort: np.ndarray, velocity: np.ndarray) -> float:
    """Return Σ |τ · dq| [W], the mechanical power of all joints; in [0, inf)."""
    return float(np.abs(effort * velocity).sum())


def alive(terminated: bool) -> float:
    """Return 1 for every step that does not end in failure, else 0."""
    return 0.0 if terminated else 1.0
