# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Steady time: periods, deadlines and latency percentiles. Never used for message stamps."""

import time

import numpy as np

NS = 1_000_000_000


def steady_ns() -> int:
    """Return CLOCK_MONOTONIC [ns]; the same clock in every process of one machine."""
    return time.monotonic_ns()


def elapsed_ns() -> int:
    """
    Return CLOCK_BOOTTIME [ns]: as :func:`steady_ns`, but it goes on while the machine sleeps.

    For silence: a laptop whose lid was closed must not move a robot on as if nothing had been.
    """
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def period_ns(rate_hz: float) -> int:
    """Return the period of a rate [ns], rounded to a whole nanosecond."""
    return round(NS / rate_hz)


class LatencyWindow:
    """
    The newest latencies and their percentiles, without allocation while recording.

    :param size: how many are kept; percentiles are exact over them.
    """

    def __init__(self, size: int = 4096) -> None:
        self._values = np.zeros(size)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Record one latency [s]."""
        self._values[self.count % len(self._values)] = seconds
        self.count += 1

    def values(self) -> np.ndarray:
        """Return the newest latencies [s], in no particular order."""
        return self._values[:min(self.count, len(self._values))]

    def summary(self) -> dict[str, float]:
        """Return p50, p99, p99.9 and max [ms] and the count; see :func:`summary_ms`."""
        return summary_ms(self.values(), self.count)


def summary_ms(values: np.ndarray, count: int) -> dict[str, float]:
    """
    Return p50, p99, p99.9 and max [ms] and the count; only ``count`` while there is nothing.

    :param values: latencies [s].
    :param count: how many there have been in all.
    """
    if not len(values):
        return {'count': count}
    p50, p99, p999 = np.percentile(values, [50, 99, 99.9]) * 1e3
    return {'count': count, 'p50_ms': round(float(p50), 3), 'p99_ms': round(float(p99), 3),
            'p99.9_ms': round(float(p999), 3), 'max_ms': round(float(values.max() * 1e3), 3)}


class Pacer:
    """
    Absolute deadlines on the steady clock, for something that must not go faster than a rate.

    Lateness is made up for by at most one period, so a pause is never followed by a burst.

    :param period_ns: least time between two steps on average [ns].
    :ivar deadline_ns: steady time before which the next step must not happen [ns].
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self.deadline_ns = 0

    def passed(self, now_ns: int) -> None:
        """Take note of a step at steady time ``now_ns``, which sets the next deadline."""
        self.deadline_ns = max(self.deadline_ns + self._period_ns, now_ns)
