# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is kept of an intervention: the seconds before and after, as a flight recorder does.

An *intervention* begins with a decision of one level and check. The same again within ``AFTER_S``
is the same intervention, so that a constant clamp is one; a STOP, which is latched, always is a
new one. Each begins an *incident*, the span from ``BEFORE_S`` before it to ``AFTER_S`` after it,
or falls into the one that is under way, which then lasts longer. All is a pure function of what
is told and of injected time; memory, incidents and their length are bounded.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from rl_nodes.core.timing import NS
from rl_nodes.safety.supervisor import LIFECYCLE
from rl_nodes.safety.verdict import Level

BEFORE_S = AFTER_S = 2.0
LONGEST_S = 20.0        # of an incident, after its beginning
MOST_SEEN = 20_000      # messages that are remembered: ten topics at 1 kHz
MOST_BYTES = 1 << 16    # of one of them; nothing that robots say of their joints is longer
MOST_INCIDENTS = 100    # by level; what comes after them is counted only
# What does not intervene: refusals of a robot that is stopped, its fallback, the node's own life.
ASIDE = LIFECYCLE | {'latched', 'fallback'}


# A message: its topic, when it came or went on the steady clock [ns], its bytes.
Seen = tuple[str, int, bytes]


class Sink(Protocol):
    """Where incidents go; nothing here waits or raises."""

    def begin(self, seen: Sequence[Seen]) -> None:
        """Begin an incident with what was seen before."""

    def write(self, seen: Seen) -> None:
        """Add what is seen during the incident."""

    def end(self, counts: dict[str, int]) -> None:
        """End it; ``counts`` are those of :class:`Interventions`."""


class Interventions:
    """
    Tells interventions apart.

    :ivar counts: interventions by ``<level>/<check>``.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self.counts: Counter[str] = Counter()

    def begins(self, level: Level, check: str, steady_ns: int) -> bool:
        """
        Take a decision; return whether an intervention begins with it.

        :param steady_ns: when it was taken [ns].
        """
        if level == Level.PASS or check in ASIDE:
            return False
        name = decision_name(level, check)
        last, self._last[name] = self._last.get(name), steady_ns
        if level < Level.STOP and last is not None and steady_ns - last <= AFTER_S * NS:
            return False
        self.counts[name] += 1
        return True


class BlackBox:
    """
    Remembers the last seconds and gives incidents to a sink.

    :param sink: gets them.
    :ivar incidents: begun so far.
    :ivar left_out: interventions for which the incidents of their level were used up.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._seen: deque[Seen] = deque(maxlen=MOST_SEEN)
        self._interventions = Interventions()
        self._used: Counter[Level] = Counter()
        self._began: int | None = None      # steady time of the incident under way
        self._until = 0
        self.incidents, self.left_out = 0, 0

    def see(self, topic: str, steady_ns: int, data: bytes) -> None:
        """Take a message that came or went."""
        if len(data) > MOST_BYTES:
            return
        seen = topic, steady_ns, data
        if self._began is not None:
            self._sink.write(seen)
        remembered = self._seen
        remembered.append(seen)
        oldest = steady_ns - BEFORE_S * NS
        while remembered[0][1] < oldest:
            remembered.popleft()

    def decide(self, level: Level, check: str, steady_ns: int) -> None:
        """Take a decision, whose message has been seen already."""
        if not self._interventions.begins(level, check, steady_ns):
            return
        if self._began is not None:
            self._until = min(steady_ns + round(AFTER_S * NS),
                              self._began + round(LONGEST_S * NS))
        elif self._used[level] < MOST_INCIDENTS:
            self._used[level] += 1
            self.incidents += 1
            self._began, self._until = steady_ns, steady_ns + round(AFTER_S * NS)
            self._sink.begin(list(self._seen))
        else:
            self.left_out += 1

    def tick(self, steady_ns: int) -> None:
        """End the incident under way when its time is over."""
        if self._began is not None and steady_ns > self._until:
            self.close()

    def close(self) -> None:
        """End the incident under way, if there is one."""
        if self._began is not None:
            self._began = None
            self._sink.end({**self._interventions.counts, 'left_out': self.left_out})


def decision_name(level: Level, check: str) -> str:
    """Return ``<level>/<check>``, as a decision is called in messages and counts."""
    return f'{level.name.lower()}/{check}'
