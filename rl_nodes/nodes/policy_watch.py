# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Watches what the safety monitor makes of a policy that has just taken over."""

from collections.abc import Callable, Mapping
from functools import partial
import threading
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from rl_nodes.core.fleet import topic_in
from rl_nodes.inference.probation import Probation, Tally
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import ManagedNode

LOOK_S = 0.02  # soon enough for the old policy to be back before the robot is stopped for silence


class Client(Protocol):
    """What counts the states of a robot that a policy had no finite answer to."""

    def details(self) -> dict[str, Any]:
        """Return counts by name, among them ``dropped_policy`` unless it is zero."""
        ...


class PolicyWatch:
    """
    The probation of a policy on every robot that it serves.

    :param node: subscribes to ``safety/state`` and looks at it while there is reason to.
    :param clients: of the robots, by namespace.
    :param states: commands of each robot that a policy is watched over; 0 for none.
    :param margin: see :class:`rl_nodes.inference.probation.Probation`.
    :param lock: held while a policy is exchanged, and while ``withdraw`` or ``prove`` is called.
    :param withdraw: gets why the policy in force must go.
    :param prove: called when the policy in force has proven itself on one of the robots.
    """

    def __init__(self, node: ManagedNode, clients: Mapping[str, Client], states: int,
                 margin: float, lock: threading.RLock, withdraw: Callable[[str], Any],
                 prove: Callable[[], None]) -> None:
        self._clients = clients
        self._lock, self._withdraw, self._prove = lock, withdraw, prove
        self._probations = {name: Probation(states, margin) for name in clients if states}
        self._news: dict[str, bytes] = {}  # serialized, as most of it is never looked at
        self._reports: dict[str, dict[str, str]] = {name: {} for name in clients}
        for name in self._probations:
            node.subscribe(DiagnosticArray, topic_in(name, 'safety/state'),
                           partial(self._news.__setitem__, name), qos.LATCHED, raw=True)
        if self._probations:
            node.every(LOOK_S, self._look)

    @property
    def running(self) -> bool:
        """Return whether a policy is watched."""
        return any(probation.running for probation in self._probations.values())

    def begin(self) -> bool:
        """A policy has just taken over from another; return whether it is watched."""
        for name, probation in self._probations.items():
            probation.begin(self._tally(name))
        return self.running

    def end(self) -> None:
        """Watch no longer: another policy is in force again."""
        for name, probation in self._probations.items():
            probation.end(self._tally(name))

    def _tally(self, name: str) -> Tally:
        data = self._news.pop(name, None)
        if data is not None:
            self._reports[name] = conversions.status_values(
                deserialize_message(data, DiagnosticArray))
        return Tally.of(self._reports[name],
                        int(self._clients[name].details().get('dropped_policy', 0)))

    def _look(self) -> None:
        if not (self._news or self.running):
            return
        with self._lock:
            for name, probation in self._probations.items():
                watched = probation.running
                why = probation.judge(self._tally(name))
                if why:
                    self._withdraw(f'{name}: {why}' if name else why)
                    return
                if watched and not probation.running:
                    self._prove()
