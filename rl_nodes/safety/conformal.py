# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A threshold that stays below a stated rate of false alarms, whatever the scores are like.

Split conformal prediction (V. Vovk, A. Gammerman and G. Shafer 2005; A. Angelopoulos and S. Bates
2021, arXiv:2107.07511, section 1). M_1 ... M_n are the greatest scores of n episodes that went
well and that nothing else was fitted to, M the one of a further episode like them (exchangeable):

    k = ceil((n + 1) (1 - a)),   threshold = the k-th smallest M_i:  P(M > threshold) <= a      (1)

over calibration and further episode together. It needs k <= n, that is n >= 1 / a - 1. Steps of
one episode are not exchangeable, hence whole episodes are counted. Of one calibration the rate of
false alarms is a random number with the distribution Beta(n + 1 - k, k) (V. Vovk 2012,
arXiv:1209.2673, proposition 2a), which :func:`likely_rate` is about.
"""

import math

import numpy as np

_ROUNDING = 1e-9  # (n + 1) (1 - a) of decimals like 0.05 is a whole number but for this
_HALVINGS = 50


def least_episodes(rate: float) -> int:
    """Return how many episodes eq. (1) needs at least for a rate of false alarms per episode."""
    return math.ceil(1.0 / rate - 1.0 - _ROUNDING)


def rank(episodes: int, rate: float) -> int:
    """Return k of eq. (1), from 1; above ``episodes`` where these are too few."""
    return max(1, math.ceil((episodes + 1) * (1.0 - rate) - _ROUNDING))


def threshold(maxima: np.ndarray, rate: float) -> float:
    """
    Return the threshold of eq. (1); an alarm is whatever is not at or below it.

    :param maxima: greatest score of each episode, shape (n,), finite.
    :param rate: of false alarms per episode, between 0 and 1.
    :raises ValueError: too few episodes, a score that is not finite, or a rate that is none.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f'rate of false alarms {rate}: expected a number between 0 and 1')
    if len(maxima) < least_episodes(rate):
        raise ValueError(f'{len(maxima)} episodes to calibrate with: at least '
                         f'{least_episodes(rate)} are needed for a rate of false alarms of {rate}')
    if not np.isfinite(maxima).all():
        raise ValueError('the greatest score of an episode is not finite')
    return float(np.sort(maxima)[rank(len(maxima), rate) - 1])


def likely_rate(episodes: int, rate: float, share: float = 0.9) -> float:
    """
    Return the rate of false alarms that a share of all calibrations stay below.

    P(Beta(n + 1 - k, k) <= x) = P(Binomial(n, x) >= n + 1 - k), solved for x by halving.
    """
    least, low, high = episodes + 1 - rank(episodes, rate), 0.0, 1.0
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        below = sum(math.comb(episodes, i) * x ** i * (1.0 - x) ** (episodes - i)
                    for i in range(least))
        low, high = (x, high) if 1.0 - below < share else (low, x)
    return high
