# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which goal belongs to a state, in whatever order the two arrive."""

from collections import deque

from rl_nodes.core.types import EpisodeId, Goal, RobotState


class GoalBook:
    """
    The newest few goals, sorted by stamp.

    :param size: how many are kept.
    """

    def __init__(self, size: int = 16) -> None:
        self._goals: deque[Goal] = deque(maxlen=size)

    def add(self, goal: Goal) -> None:
        """Take a goal; the same one twice counts once."""
        if all(known.stamp_ns != goal.stamp_ns for known in self._goals):
            self._goals.append(goal)
            if len(self._goals) > 1 and self._goals[-2].stamp_ns > goal.stamp_ns:
                ordered = sorted(self._goals, key=lambda known: known.stamp_ns)
                self._goals.clear()
                self._goals.extend(ordered)

    def of(self, state: RobotState) -> Goal | None:
        """Return the newest goal stamped within the state's episode up to the state, or None."""
        start_ns = EpisodeId.parse(state.episode).start_ns
        for goal in reversed(self._goals):
            if goal.stamp_ns <= state.stamp_ns:
                return goal if goal.stamp_ns >= start_ns else None
        return None
