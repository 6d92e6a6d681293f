# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether a policy that has just taken over does worse than the one before it: pure decisions.

What counts is what the safety monitor had to do about the commands, and whether the policy gave
finite answers at all. Stops and answers that are not finite are known at once. Commands that were
limited or held are known with the monitor's next report, so they count from the first report after
the swap on.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

# Checks of the safety monitor that say nothing about the policy.
BLAMELESS = frozenset({'operator', 'estop', 'state_silence', 'state', 'inactive', 'fault', 'boot',
                       'intruder', 'sensing'})
_SAMPLES = 20  # tallies kept of as many commands as a probation has


class Tally(NamedTuple):
    """
    What has come of one robot's commands since the start.

    :param judged: commands that the safety monitor judged while motion was allowed.
    :param limited: of these, how many it limited or held for what they were.
    :param stops: how often it stopped the robot for what they were.
    :param not_finite: states for which the policy failed or gave no finite answer.
    """

    judged: int = 0
    limited: int = 0
    stops: int = 0
    not_finite: int = 0

    @classmethod
    def of(cls, report: Mapping[str, Any], not_finite: int) -> 'Tally':
        """
        Return the tally in the values of a ``safety/state``.

        :param report: counts by ``<level>`` and ``<level>/<check>``; others are passed over.
        :param not_finite: as the policy server knows it.
        """
        blamed = {'clamp': 0, 'hold': 0, 'stop': 0}
        for key, value in report.items():
            level, _, check = key.partition('/')
            if level in blamed and check and check not in BLAMELESS:
                blamed[level] += int(value)
        judged = sum(int(report.get(level, 0)) for level in ('pass', 'clamp', 'hold'))
        return cls(judged, blamed['clamp'] + blamed['hold'], blamed['stop'], not_finite)

    def since(self, earlier: 'Tally') -> 'Tally':
        """Return what has come between two tallies."""
        return Tally(*(now - then for now, then in zip(self, earlier)))


class Probation:
    """
    Compares what comes of a policy's commands with what came of its predecessor's.

    :param states: commands over which a new policy is watched, as its predecessor was; 0 for none.
    :param margin: share of them by which those that are limited or held may rise, 0 to 1.
    """

    def __init__(self, states: int, margin: float) -> None:
        self._states, self._margin = states, margin
        self._recent: deque[Tally] = deque([Tally()])
        self._before = Tally()
        self._swapped: Tally | None = None  # at the swap; None where nobody is watched
        self._begun: Tally | None = None    # of the first report after it

    @property
    def running(self) -> bool:
        """Return whether a policy is watched."""
        return self._swapped is not None

    def begin(self, now: Tally) -> None:
        """
        A policy takes over.

        One that follows while another is watched, or before enough has been seen of its
        predecessor, is measured by the same standard as the one before.
        """
        if not self._states:
            return
        seen = now.since(self._recent[0])
        if self._swapped is None and (seen.judged >= self._states // 2 or not self._before.judged):
            self._before = seen
        self._swapped, self._begun = now, None

    def end(self, now: Tally) -> None:
        """Watch no longer; what has been seen is no standard for others."""
        self._recent = deque([now])
        self._swapped = self._begun = None

    def judge(self, now: Tally) -> str:
        """
        Take the newest tally; return why the policy must go, or ``''``.

        It is watched no longer once as many commands as were asked for have been judged.
        """
        if self._swapped is None:
            self._remember(now)
            return ''
        since = now.since(self._swapped)
        if since.not_finite > self._before.not_finite:
            return f'no finite answer to {since.not_finite} states'
        if since.stops > self._before.stops:
            return 'the safety monitor stopped the robot for its commands'
        if self._begun is None:
            self._begun = now if since.judged else None
            return ''
        seen, before = now.since(self._begun), self._before
        usual = before.limited / before.judged if before.judged else 0.0
        if seen.limited - usual * seen.judged > self._margin * self._states:
            return (f'the safety monitor limited or held {seen.limited} of {seen.judged} commands,'
                    f' of its predecessor {before.limited} of {before.judged}')
        if seen.judged >= self._states:
            self._recent = deque([self._begun])
            self._swapped = self._begun = None
            self._remember(now)
        return ''

    def _remember(self, now: Tally) -> None:
        """Keep tallies of about as many commands as a probation has."""
        recent = self._recent
        if now.judged - recent[-1].judged >= max(1, self._states // _SAMPLES):
            recent.append(now)
        while len(recent) > 1 and now.judged - recent[1].judged >= self._states:
            recent.popleft()
