# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A timer that calls back once."""

from collections.abc import Callable

from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes.lifecycle import ManagedNode

PARKED_S = 3600.0  # period of a timer that nobody waits for


class Alarm:
    """
    A timer that calls back once at a steady time, and may be set again.

    Build it while the node configures: entities must not be made by callbacks.

    :param node: whose executor calls back, while the node is active.
    :param callback: called at or after the time set.
    """

    def __init__(self, node: ManagedNode, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._timer = node.every(PARKED_S, self._ring)
        self._timer.cancel()

    def set(self, at_ns: int) -> None:
        """Call back at a steady time [ns] instead of any time set before."""
        self._timer.timer_period_ns = max(at_ns - steady_ns(), 1)
        self._timer.reset()

    def cancel(self) -> None:
        """Do not call back."""
        self._timer.cancel()

    def _ring(self) -> None:
        self._timer.cancel()
        self._callback()
