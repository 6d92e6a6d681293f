# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Joint states and the floating base of one instant, in whatever order the two arrive."""

from dataclasses import replace

from rl_nodes.core.types import BaseState, RobotState


class StateJoin:
    """
    Join ``joint_states`` and ``odom`` by stamp.

    A base stays known after it was joined, so a state published again is complete at once.

    :param size: how many of each are kept; the oldest are dropped beyond.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._states: dict[int, RobotState] = {}
        self._bases: dict[int, BaseState] = {}

    def add_state(self, state: RobotState) -> RobotState | None:
        """Return the complete state, or None while its base is on its way."""
        base = self._bases.get(state.stamp_ns)
        if base is not None:
            return replace(state, base=base)
        self._states[state.stamp_ns] = state
        if len(self._states) > self._size:
            del self._states[min(self._states)]
        return None

    def add_base(self, stamp_ns: int, base: BaseState) -> RobotState | None:
        """Return the state that this base completes, or None where none waits for it."""
        self._bases[stamp_ns] = base
        if len(self._bases) > self._size:
            del self._bases[min(self._bases)]
        state = self._states.pop(stamp_ns, None)
        return None if state is None else replace(state, base=base)
