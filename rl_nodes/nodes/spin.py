# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A lean loop for one node: subscriptions and timers by hand, everything else by the stock executor.

rclpy's executor collects every entity and builds a new wait set for each single callback, which
costs more than our callbacks do. Here the wait set is kept, and messages and timers are taken
directly. Services, parameters and QoS events go through the stock executor, whenever one of them
is ready and at least twice a second.
"""

from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rl_nodes.core.timing import NS, steady_ns

STOCK_PERIOD_NS = NS // 2


class NodeSpinner:
    """
    Waits for one node's work and does it, in this thread.

    Entities may be created and destroyed before the first call, and by service callbacks (life
    cycle transitions); not by subscription and timer callbacks.

    :param node: its callbacks must not raise, see ``ManagedNode``.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._stock_at = 0
        self._collect()

    def once(self, timeout_s: float) -> None:
        """Wait for work, at most ``timeout_s``, and do all that is ready."""
        wait_set = self._wait_set
        wait_set.clear_entities()
        for subscription in self._subscriptions:
            wait_set.add_subscription(subscription.handle)
        for timer in self._timers:
            wait_set.add_timer(timer.handle)
        for service in self._services:
            wait_set.add_service(service.handle)
        for client in self._clients:
            wait_set.add_client(client.handle)
        for guard in self._guards:
            wait_set.add_guard_condition(guard.handle)
        wait_set.wait(int(timeout_s * NS))
        for timer in self._timers:
            if timer.handle.is_timer_ready():
                timer.handle.call_timer()
                timer.callback()
        ready = wait_set.get_ready_entities('subscription')
        if ready:
            for subscription in self._subscriptions:
                if subscription.handle.pointer in ready:
                    taken = subscription.handle.take_message(subscription.msg_type,
                                                             subscription.raw)
                    if taken is not None:
                        subscription.callback(taken[0])
        now = steady_ns()
        if now - self._stock_at > STOCK_PERIOD_NS or any(
                wait_set.get_ready_entities(kind)
                for kind in ('service', 'client', 'guard_condition')):
            self._stock_at = now
            self._executor.spin_once(timeout_sec=0)
            self._collect()

    def shutdown(self) -> None:
        """Let go of the node."""
        self._executor.shutdown()

    def _collect(self) -> None:
        """Look at which entities the node has now."""
        node = self._node
        self._subscriptions, self._timers = list(node.subscriptions), list(node.timers)
        self._services, self._clients = list(node.services), list(node.clients)
        self._guards = [*node.guards, self._executor._guard]
        with node.context.handle:
            self._wait_set = _rclpy.WaitSet(
                len(self._subscriptions), len(self._guards), len(self._timers),
                len(self._clients), len(self._services), 0, node.context.handle)
