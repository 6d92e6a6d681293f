# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Hearing topics away from the rest of a node.

A thread, a node and a participant in the middleware of its own, so that states and commands do not
wait behind megabytes or behind whatever else is heard. Messages are taken serialized, by hand.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
import threading
import time
import traceback
from typing import Any

from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rl_nodes.core.timing import NS
from rl_nodes.nodes.lifecycle import ManagedNode

WAKE_S = 0.05
CLOSE_S = 2.0


class Listening(ABC):
    """
    The base of what hears topics in a thread; :meth:`start` once everything is there.

    :param node: for whom; what fails in the thread is its fault.
    :param name: of the thread, and what the names of node and participant end in.
    """

    def __init__(self, node: ManagedNode, name: str) -> None:
        self._fault = node.fault
        self._context = Context()
        self._context.init(args=[], initialize_logging=False)
        self._node = Node(f'{node.get_name()}_{name}', namespace=node.get_namespace(),
                          context=self._context, use_global_arguments=False, enable_rosout=False,
                          start_parameter_services=False)
        self._wait_set: Any = None
        self._places, self._ended = 0, False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to hear."""
        self._thread.start()

    def close(self) -> None:
        """Take what has come, end the thread and let go of the topics, once."""
        if self._ended:
            return
        self._ended = True
        self._thread.join(CLOSE_S)
        self._node.destroy_node()
        self._context.try_shutdown()

    # --- in the thread --------------------------------------------------------------------------

    @abstractmethod
    def subscriptions(self) -> Collection[Subscription]:
        """Return what is heard, after the changes that are due; asked before each wait."""

    @abstractmethod
    def take(self) -> None:
        """Take what has come."""

    def hear(self, kind: type, topic: str, profile: QoSProfile) -> Subscription:
        """Return a subscription whose messages are taken by hand."""
        return self._node.create_subscription(kind, topic, _never, profile, raw=True)

    def _run(self) -> None:
        ended = False
        try:
            while not ended:  # once more after the end: what has come until then is taken
                ended = self._ended
                self._wait(self.subscriptions())
                self.take()
        except Exception:
            self._fault(traceback.format_exc())

    def _wait(self, heard: Collection[Subscription]) -> None:
        if not heard:
            time.sleep(WAKE_S)
            return
        if self._places != len(heard):
            self._places = len(heard)
            with self._context.handle:
                self._wait_set = _rclpy.WaitSet(self._places, 0, 0, 0, 0, 0, self._context.handle)
        self._wait_set.clear_entities()
        for subscription in heard:
            self._wait_set.add_subscription(subscription.handle)
        self._wait_set.wait(int(WAKE_S * NS))


def _never(data: bytes) -> None:
    """Messages are taken by hand."""
