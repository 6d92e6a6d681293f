# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether messages come as they should: rate, jitter, what is missing, age of their stamps."""

from collections import deque
from collections.abc import Iterable
from typing import Literal

import numpy as np
from rl_nodes.core.timing import NS

WINDOW = 256            # newest intervals that are looked at
LEARNED = 20            # intervals after which a topic's own rate is what is expected of it,
REGULAR = 0.2           # where its jitter is below this part of a period
SLOW = 0.7              # of the expected rate
STALLED_PERIODS = 5     # without a message, after which a topic is taken for stalled,
STALLED_LEAST_S = 0.5   # but not before this time
MOST_SENDERS = 16
GONE_NS = 10 * NS       # after which a publisher that is silent is forgotten

Condition = Literal['OK', 'SLOW', 'STALLED']


class Senders:
    """
    Tells whether several publishers send on a topic, by the numbers each gives its messages.

    The graph does not tell: one that was killed is listed for 20 s more, and one that is listed
    may be silent. But the numbers of one publisher follow each other, so where some go on after
    others have come between, both are there, and where many are lost on the way, they go back
    and forth. One that was started again goes back once.

    :ivar numbered: False where the middleware gives no numbers.
    :ivar back_ns: when numbers went back last [ns].
    """

    def __init__(self) -> None:
        self.back_ns = -2 * NS
        self._rows: deque[tuple[int, int]] = deque(maxlen=MOST_SENDERS)  # number and time [ns]
        self.numbered = True

    def came(self, now_ns: int, number: int | None) -> bool:
        """
        Take note of a message; return whether it shows that another publisher sends, too.

        :param now_ns: on the steady clock [ns].
        """
        if number is None:
            self.numbered = False
            return False
        rows = self._rows
        while rows and now_ns - rows[0][1] > GONE_NS:
            rows.popleft()
        newest = rows[-1][0] if rows else number - 1
        if rows and newest == number - 1:
            rows[-1] = number, now_ns
            return False
        goes_on = next((row for row in rows if row[0] == number - 1), None)
        if goes_on is not None:
            rows.remove(goes_on)
        rows.append((number, now_ns))
        before_ns = self.back_ns
        if number <= newest:
            self.back_ns = now_ns
        return goes_on is not None or (number <= newest and now_ns - before_ns < NS)


class TopicWatch:
    """
    Watches one topic; all times are of the steady clock of who calls.

    :param expected_hz: what is promised; 0 where nothing is: then it is the fastest regular rate
        that the topic has had, and a topic that comes irregularly may be silent.
    :ivar count: messages that came.
    :ivar lost: messages missing by their number.
    """

    def __init__(self, expected_hz: float = 0.0) -> None:
        self._expected_hz = expected_hz
        self._learns = not expected_hz
        self._intervals = np.zeros(WINDOW)
        self._newest_ns: int | None = None
        self._sequence: int | None = None
        self._senders, self._crowded_ns = Senders(), -2 * NS
        self._stamp_age_ns: int | None = None
        self.count, self.lost = 0, 0

    def came(self, now_ns: int, sequence: int | None = None,
             stamp_age_ns: int | None = None) -> None:
        """
        Take note of a message.

        :param sequence: its number, as its publisher counts; None where that is not known.
        :param stamp_age_ns: time since the stamp in its header [ns]; None where it has none.
        """
        if self._newest_ns is not None:
            self._intervals[(self.count - 1) % WINDOW] = now_ns - self._newest_ns
        self._newest_ns = now_ns
        self.count += 1
        self._stamp_age_ns = stamp_age_ns
        if sequence is not None:
            before = sequence - 1 if self._sequence is None else self._sequence
            if self._senders.came(now_ns, sequence):
                self._crowded_ns = now_ns
            elif now_ns - self._senders.back_ns > NS:
                self.lost += max(0, sequence - before - 1)
            self._sequence = sequence
        if self._learns and self.count > LEARNED and not self.count % LEARNED and (
                self.jitter_s() * self.rate_hz() < REGULAR):
            self._expected_hz = max(self._expected_hz, self.rate_hz())

    @property
    def crowded(self) -> bool:
        """Return whether several publishers have sent within a second."""
        return self._newest_ns is not None and self._newest_ns - self._crowded_ns < NS

    @property
    def stamp_age_s(self) -> float | None:
        """Return how old the newest message was by its own stamp when it came [s]."""
        return None if self._stamp_age_ns is None else self._stamp_age_ns / NS

    def rate_hz(self) -> float:
        """Return messages per second over the newest intervals, by their median."""
        found = self._found()
        return float(NS / np.median(found)) if len(found) and np.median(found) > 0 else 0.0

    def jitter_s(self) -> float:
        """Return the median deviation of the newest intervals from their median [s]."""
        found = self._found()
        return float(np.median(np.abs(found - np.median(found))) / NS) if len(found) else 0.0

    def condition(self, now_ns: int) -> Condition:
        """Return what becomes of the topic at a time [ns]."""
        if not self._expected_hz:
            return 'OK'
        silent_s = np.inf if self._newest_ns is None else (now_ns - self._newest_ns) / NS
        if silent_s > max(STALLED_LEAST_S, STALLED_PERIODS / self._expected_hz):
            return 'STALLED'
        return 'SLOW' if self.rate_hz() < SLOW * self._expected_hz else 'OK'

    def summary(self, now_ns: int) -> str:
        """Return it for a status topic."""
        age = '' if self.stamp_age_s is None else f', stamps {self.stamp_age_s * 1e3:.1f} ms old'
        return (f'{self.condition(now_ns)}, {self.rate_hz():.1f} Hz of {self._expected_hz:.1f}, '
                f'jitter {self.jitter_s() * 1e3:.2f} ms, {self.count} came, {self.lost} '
                f'lost{age}')

    def _found(self) -> np.ndarray:
        return self._intervals[:min(self.count - 1, WINDOW)] if self.count > 1 else \
            self._intervals[:0]


def stamp_skew_s(watches: Iterable[TopicWatch]) -> float:
    """Return by how much the stamps of the newest messages differ in age, over all topics [s]."""
    ages = [age for watch in watches if (age := watch.stamp_age_s) is not None]
    return max(ages) - min(ages) if ages else 0.0
