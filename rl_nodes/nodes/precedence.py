# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The real-time priority of a node's process: asked for, granted or refused, shown."""

from typing import Any

from rl_nodes.core.scheduling import priority_in_force, run_first
from rl_nodes.nodes.lifecycle import ManagedNode


class Precedence:
    """
    Lets a node's process go before others, where that is asked for and granted.

    :param node: its process; what is refused is logged.
    :param priority: of SCHED_FIFO, 1 to 99; 0 leaves everything as it is.
    """

    def __init__(self, node: ManagedNode, priority: int) -> None:
        self._refused = run_first(priority) if priority else ''
        if self._refused:
            node.get_logger().warning(f'goes on without priority {priority}: {self._refused}; '
                                      '"rl_nodes doctor" says what allows it')

    def details(self) -> dict[str, Any]:
        """Return the priority in force and what was refused, for diagnostics."""
        return {'priority': priority_in_force(), 'options_refused': self._refused}
