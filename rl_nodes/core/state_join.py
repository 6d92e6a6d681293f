# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Joint states and the other parts of one state, in whatever order they arrive."""

from dataclasses import replace
from typing import Any

from rl_nodes.core.types import RobotState


class StateJoin:
    """
    Join the parts of states by stamp; a state is complete when it has all that was promised.

    Parts stay known after they were joined, so a state published again is complete at once.

    :param parts: names of what a state has beside its joints: fields of :class:`RobotState`.
    :param size: how many of each are kept; the oldest are dropped beyond.
    """

    def __init__(self, parts: tuple[str, ...], size: int = 64) -> None:
        self._size = size
        self._states: dict[int, RobotState] = {}
        self._parts: dict[str, dict[int, Any]] = {part: {} for part in parts}

    def add_state(self, state: RobotState) -> RobotState | None:
        """Return the complete state, or None while a part of it is on its way."""
        if not self._parts:
            return state
        _keep(self._states, state.stamp_ns, state, self._size)
        return self._complete(state.stamp_ns)

    def add(self, part: str, stamp_ns: int, value: Any) -> RobotState | None:
        """Return the state that this part completes, or None where none waits for it alone."""
        _keep(self._parts[part], stamp_ns, value, self._size)
        return self._complete(stamp_ns)

    def _complete(self, stamp_ns: int) -> RobotState | None:
        if stamp_ns not in self._states:
            return None
        found: dict[str, Any] = {
            part: known.get(stamp_ns) for part, known in self._parts.items()}
        if any(value is None for value in found.values()):
            return None
        return replace(self._states.pop(stamp_ns), **found)


def _keep(known: dict[int, Any], stamp_ns: int, value: Any, size: int) -> None:
    known[stamp_ns] = value
    if len(known) > size:
        del known[min(known)]
