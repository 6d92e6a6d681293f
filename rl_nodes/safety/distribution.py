# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How far what is observed is from what was observed in episodes that went well.

What is scored is an observation together with the one a period before, x, so that a change that
does not go with the state counts as well as the state. Its distance from episodes that went well
(P. C. Mahalanobis 1936; K. Lee et al. 2018, arXiv:1807.03888, find with it what a network was not
trained on) is averaged over some periods (S. W. Roberts 1959; C. A. Lowry et al. 1992,
Technometrics 34):

    z = (x - mean) / deviation,   d = |W z|,   W C W^T = 1                                      (1)
    C = (1 - s) R + s 1,   R the correlations of z                                              (2)
    score_t^2 = (1 - w) score_{t-1}^2 + w d_t^2,   0 at the first state of an episode           (3)

with w = ``WEIGHT`` and s, how far C is shrunk towards independent elements, by O. Ledoit and M.
Wolf 2004 (J. of Multivariate Analysis 88), lemma 3.2 to 3.4, not below ``LEAST_SHRINKAGE``: an
element that is a sum of others must not make C singular.
"""

import math

from msgspec import Struct
import numpy as np

WEIGHT = 0.1
LEAST_SHRINKAGE = 1e-3
LEAST_DEVIATION = 1e-3  # [unit of the element], of one that hardly varied

Numbers = tuple[float, ...]


class Distribution(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Pairs x of observations of episodes that went well, P = 2 O elements, eq. (1).

    :param mean: [unit of the element], P numbers.
    :param deviation: [unit of the element], P numbers above 0.
    :param whitening: W, P rows of P numbers.
    """

    mean: Numbers
    deviation: Numbers
    whitening: tuple[Numbers, ...]


def pairs(observations: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """
    Return each observation with the one a period before, newest first, shape (M, 2 O), float64.

    :param observations: of one episode, in order, shape (N, O).
    :param steps: period that each belongs to, shape (N,).
    """
    next_to = np.flatnonzero(np.diff(steps) == 1)
    return np.concatenate([observations[next_to + 1], observations[next_to]], axis=1,
                          dtype=np.float64)


def fit(rows: np.ndarray) -> Distribution:
    """
    Return the distribution of pairs, eq. (2).

    :param rows: shape (N, P), finite, N above 1.
    """
    mean = rows.mean(axis=0)
    deviation = np.maximum(rows.std(axis=0), LEAST_DEVIATION)
    z = (rows - mean) / deviation
    count, size = z.shape
    correlation = z.T @ z / count
    middle = np.trace(correlation) / size
    spread = np.sum((correlation - middle * np.eye(size)) ** 2) / size
    error = (np.sum(np.sum(z ** 2, axis=1) ** 2) / count
             - np.sum(correlation ** 2)) / size / count
    shrinkage = min(1.0, max(LEAST_SHRINKAGE, error / spread if spread > 0.0 else 1.0))
    shrunk = (1.0 - shrinkage) * correlation + shrinkage * np.eye(size)
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk))
    return Distribution(tuple(mean.tolist()), tuple(deviation.tolist()),
                        tuple(tuple(row) for row in whitening.tolist()))


class Score:
    """
    Eq. (1) and (3), one state after the other.

    :param distribution: of pairs.
    :param period_ns: of control [ns].
    :ivar value: the newest score; NaN where an observation was not finite.
    """

    def __init__(self, distribution: Distribution, period_ns: int) -> None:
        self._mean = np.array(distribution.mean)
        self._scale = 1.0 / np.array(distribution.deviation)
        self._whitening = np.array(distribution.whitening)
        self._gap_ns = period_ns + period_ns // 2
        self._pair = np.zeros(len(self._mean))
        self._size = len(self._mean) // 2
        self._at: tuple[int, str] | None = None  # (stamp [ns], episode) of the newest observation
        self._square, self.value = 0.0, 0.0

    def update(self, stamp_ns: int, episode: str, observation: np.ndarray) -> float:
        """
        Return the score with one more state; one that comes after a gap changes nothing yet.

        :param stamp_ns: of the state [ns].
        :param episode: id of its episode.
        :param observation: shape (O,).
        """
        pair, size, before = self._pair, self._size, self._at
        if before is None or before[1] != episode:
            self._square = self.value = 0.0
        elif stamp_ns == before[0]:
            return self.value
        pair[size:] = pair[:size]
        pair[:size] = observation
        self._at = stamp_ns, episode
        if before is not None and before[1] == episode \
                and 0 < stamp_ns - before[0] <= self._gap_ns:
            square = self._distance_square()
            finite = math.isfinite(square)
            self._square = (1.0 - WEIGHT) * self._square + WEIGHT * square if finite else 0.0
            self.value = math.sqrt(self._square) if finite else math.nan
        return self.value

    def furthest(self) -> tuple[int, float]:
        """Return (element of the observation, deviations off) that stands out most now."""
        z = (self._pair - self._mean) * self._scale
        worst = int(np.argmax(np.abs(z)))
        return worst % self._size, float(z[worst])

    def _distance_square(self) -> float:
        z = (self._pair - self._mean) * self._scale
        if not math.isfinite(z @ z):
            return math.nan
        white = self._whitening @ z
        return float(white @ white)


def greatest(distribution: Distribution, observations: np.ndarray, steps: np.ndarray) -> float:
    """Return the greatest score of an episode; parameters as of :func:`fit`, :func:`pairs`."""
    score = Score(distribution, 1)
    return max(score.update(step, '', row) for step, row in zip(steps.tolist(), observations))
