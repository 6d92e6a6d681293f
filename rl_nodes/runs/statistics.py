# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How well a method does over seeds, and how sure that is.

R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021,
arXiv:2108.13264: the interquartile mean with bootstrap confidence intervals, since the mean of a
few runs follows outliers and the median throws most of them away.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


def interquartile_mean(values: Sequence[float] | np.ndarray, axis: int = -1) -> np.ndarray:
    """
    Return the mean of the middle half: a quarter of the values is left out at each end.

    Of four values two count, of three all do, as with ``scipy.stats.trim_mean(values, 0.25)``.

    :param values: at least one along ``axis``.
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, np.float64), axis, -1), axis=-1)
    count = ordered.shape[-1]
    cut = count // 4
    return np.mean(ordered[..., cut:count - cut], axis=-1)


def confidence_interval(values: Sequence[float] | np.ndarray, seed: int = 0
                        ) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the ends of the 95 % percentile bootstrap interval of the interquartile mean.

    :param values: of the runs along the first axis, shape (N, ...); runs are drawn anew as wholes.
    :param seed: of the resampling, so that the same runs give the same interval.
    """
    runs = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(len(runs), size=(RESAMPLES, len(runs)))
    means = interquartile_mean(runs[drawn], axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high
