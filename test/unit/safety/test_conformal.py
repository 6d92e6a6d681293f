# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds: the rank, how many episodes it takes, and that the rate is what is promised."""

import numpy as np
import pytest
from rl_nodes.safety.conformal import least_episodes, likely_rate, rank, threshold


@pytest.mark.parametrize(('rate', 'least'), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99),
                                             (0.025, 39), (0.005, 199), (0.3, 3)])
def test_it_takes_as_many_episodes_as_the_rank_needs(rate: float, least: int) -> None:
    assert least_episodes(rate) == least
    assert rank(least, rate) == least
    assert rank(least - 1, rate) > least - 1
    maxima = np.arange(least, dtype=float)
    assert threshold(maxima, rate) == least - 1
    with pytest.raises(ValueError, match=f'at least {least} are needed'):
        threshold(maxima[1:], rate)


def test_the_rank_counts_the_episode_that_is_to_come() -> None:
    shuffled = np.random.default_rng(0).permutation(100).astype(float)
    assert threshold(shuffled, 0.05) == 95.0, '96th of 100: ceil(101 * 0.95)'
    assert threshold(shuffled, 0.999999 - 1e-9) == 0.0


@pytest.mark.parametrize('rate', [0.0, 1.0, -0.1, float('nan')])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match='between 0 and 1'):
        threshold(np.zeros(1000), rate)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match='not finite'):
        threshold(np.array([1.0] * 30 + [bad]), 0.05)


@pytest.mark.parametrize(('episodes', 'rate'), [(19, 0.05), (50, 0.05), (60, 0.1), (150, 0.01)])
def test_the_promised_rate_of_false_alarms_is_kept(episodes: int, rate: float) -> None:
    """20,000 calibrations, each with another episode to come, of a distribution with fat tails."""
    rng, repeats = np.random.default_rng(1), 20_000
    scores = rng.standard_t(2, (repeats, episodes + 1))
    k = rank(episodes, rate)
    thresholds = np.sort(scores[:, :-1], axis=1)[:, k - 1]
    assert thresholds[0] == threshold(scores[0, :-1], rate)
    alarms = (scores[:, -1] > thresholds).mean()
    exact = 1 - k / (episodes + 1)
    deviation = np.sqrt(exact * (1 - exact) / repeats)
    assert exact <= rate + 1e-12
    assert abs(alarms - exact) < 4 * deviation


def test_what_is_said_of_most_calibrations_is_so() -> None:
    """Scores are uniform: the rate of a threshold is 1 - threshold."""
    rng, repeats = np.random.default_rng(2), 5_000
    rates = 1 - np.sort(rng.random((repeats, 50)), axis=1)[:, rank(50, 0.05) - 1]
    below = (rates <= likely_rate(50, 0.05, 0.9)).mean()
    assert abs(below - 0.9) < 4 * np.sqrt(0.09 / repeats)
    assert likely_rate(50, 0.05) > 0.05 > likely_rate(50, 0.05, 0.1)


def test_the_likely_rate_of_fifty_episodes_by_hand() -> None:
    assert rank(50, 0.05) == 49  # so two of fifty or more lie above
    x = likely_rate(50, 0.05)
    assert 1.0 - (1.0 - x) ** 50 - 50 * x * (1.0 - x) ** 49 == pytest.approx(0.9)
