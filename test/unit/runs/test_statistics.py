# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Interquartile means by hand, and intervals against what is known of them."""

import numpy as np
import pytest
from rl_nodes.runs.statistics import confidence_interval, interquartile_mean


@pytest.mark.parametrize('values, mean', [
    ([7], 7), ([1, 3], 2), ([0, 1, 5], 2),       # nothing is left out of fewer than four
    ([100, 1, 3, -50], 2),                       # (1 + 3) / 2
    ([9, 1, 2, 3, 4, 5, 6, 1000], 4.5)])         # 1 2 | 3 4 5 6 | 9 1000
def test_by_hand(values, mean):
    assert interquartile_mean(values) == mean


def test_along_an_axis():
    values = np.array([[1.0, 10.0], [3.0, 30.0], [100.0, -5.0], [-50.0, 20.0]])
    np.testing.assert_array_equal(interquartile_mean(values, axis=0), [2.0, 15.0])


def test_the_interval_covers_the_middle_of_a_known_distribution():
    """Of 200 samples of a normal distribution, about 95 % of the intervals hold its middle."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = confidence_interval(random.normal(5.0, 1.0, 30))
        held += low <= 5.0 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_the_interval_is_repeatable_and_of_equal_runs_a_point():
    values = np.random.default_rng(1).random(10)
    assert confidence_interval(values) == confidence_interval(values)
    assert confidence_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
