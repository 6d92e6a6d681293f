# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A lean loop for one node: messages, timers and services by hand, the rest by the stock executor.

rclpy's executor collects every entity and builds a new wait set for each single callback, which
costs more than our callbacks do. Here the wait set is kept, and messages and timers are taken
directly, as many as there are. A node has five times as many services as subscriptions, and each
makes a wait set slower, so a thread waits for them and wakes this loop, which answers before it
looks at messages: a stop by hand is not to wait. Answers to clients and QoS events go through the
stock executor, in this thread, and also twice a second. The guard conditions of the node are
waited for here: who waits for one takes it.
"""

from collections.abc import Callable
import threading
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.subscription import Subscription
from rl_nodes.core.timing import NS, steady_ns

STOCK_PERIOD_NS = NS // 2
MESSAGE_ONLY = Subscription.CallbackType.MessageOnly
BURST = 10  # messages of one topic that are taken before timers have their turn again


class NodeSpinner:
    """
    Waits for one node's work and does it, in this thread.

    Entities may be created and destroyed before the first call, by service callbacks (life
    cycle transitions) and after :meth:`shutdown`; not by subscription and timer callbacks.

    :param node: its callbacks must not raise, see ``ManagedNode``.
    :param settle: called when all that had come has been taken; must not raise either.
    :param asked: told when a request was sent, by the clock of its sender [ns], before the service
        answers it, and None afterwards.
    """

    def __init__(self, node: Node, settle: Callable[[], None] = lambda: None,
                 asked: Callable[[int | None], None] = lambda sent_ns: None) -> None:
        self._node, self._settle, self._asked = node, settle, asked
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._stock_at = 0
        with node.context.handle:
            self._wake = _rclpy.GuardCondition(node.context.handle)
        self._watch = _Watch(node, self._executor._guard, self._wake)
        self._collect()

    def once(self, timeout_s: float) -> bool:
        """Wait for work, at most ``timeout_s``, do all that is ready; return whether it came."""
        wait_set = self._wait_set
        wait_set.clear_entities()
        for subscription in self._subscriptions:
            wait_set.add_subscription(subscription.handle)
        for timer in self._timers:
            wait_set.add_timer(timer.handle)
        for guard in (self._wake, *(guard.handle for guard in self._guards)):
            wait_set.add_guard_condition(guard)
        wait_set.wait(int(timeout_s * NS))
        if self._watch.called and self._answer():
            self._collect()
        if self._guards:
            ready = wait_set.get_ready_entities('guard_condition')
            for guard in self._guards:
                if guard.handle.pointer in ready:
                    guard.callback()
        for timer in self._timers:
            if timer.handle.is_timer_ready():
                timer.handle.call_timer()
                timer.callback()
        came = False
        for _ in range(BURST):
            if not self._take():
                break
            came = True
        self._settle()
        if self._watch.called or steady_ns() - self._stock_at > STOCK_PERIOD_NS:
            self._watch.rest()
            self._executor.spin_once(timeout_sec=0)
            self._settle()  # it may have taken a message
            self._stock_at = steady_ns()
            self._collect()
        return came

    def _answer(self) -> bool:
        """
        Answer one request; return whether there was any.

        No more of them, as it may have been a transition that destroys services. The node's own
        services, which were made last, go before those that come with every node.
        """
        self._watch.rest()
        for service in reversed(list(self._node.services)):
            request, header = service.handle.service_take_request(service.srv_type.Request)
            if header is not None:
                self._asked(header.source_timestamp)
                service.send_response(
                    service.callback(request, service.srv_type.Response()), header)
                self._asked(None)
                return True
        return False

    def _take(self) -> bool:
        """Take a message from every subscription that has one; return whether any had."""
        found = False
        for subscription in self._subscriptions:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is not None:
                found = True
                if subscription._callback_type is MESSAGE_ONLY:
                    subscription.callback(taken[0])
                else:
                    subscription.callback(*taken)
        return found

    def shutdown(self) -> None:
        """Let go of the node."""
        self._watch.end()
        self._executor.shutdown()

    def _collect(self) -> None:
        """Look at which entities the node has now; the watch rests."""
        node = self._node
        self._subscriptions, self._timers = list(node.subscriptions), list(node.timers)
        self._guards = list(node.guards)
        with node.context.handle:
            self._wait_set = _rclpy.WaitSet(
                len(self._subscriptions), 1 + len(self._guards), len(self._timers), 0, 0, 0,
                node.context.handle)
        self._watch.go_on()


class _Watch:
    """
    A thread that waits for the services and clients of a node, and for the executor's guard.

    It only waits. After something has become ready it rests until :meth:`go_on`.

    :param node: whose entities may change only while it rests.
    :param guard: of the stock executor.
    :param wake: triggered when something is ready.
    """

    def __init__(self, node: Node, guard: Any, wake: Any) -> None:
        self._node, self._guard, self._wake = node, guard, wake
        with node.context.handle:
            self._stop = _rclpy.GuardCondition(node.context.handle)
        self._go, self._rests = threading.Event(), threading.Event()
        self._ending = False
        self.called = False
        self._rests.set()
        self._thread = threading.Thread(target=self._run, name='services', daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Look at which entities the node has now and wait for them."""
        self.called = False
        self._rests.clear()
        self._go.set()

    def rest(self) -> None:
        """Stop waiting; the entities may change afterwards."""
        if not self._rests.is_set():
            self._stop.trigger_guard_condition()
            self._rests.wait()

    def end(self) -> None:
        """End the thread."""
        self.rest()
        self._ending = True
        self._go.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._go.wait()
            self._go.clear()
            if self._ending:
                return
            self._wait()
            self.called = True
            self._rests.set()
            self._wake.trigger_guard_condition()

    def _wait(self) -> None:
        node = self._node
        services, clients = list(node.services), list(node.clients)
        with node.context.handle:
            wait_set = _rclpy.WaitSet(0, 2, 0, len(clients), len(services), 0,
                                      node.context.handle)
        wait_set.clear_entities()
        for service in services:
            wait_set.add_service(service.handle)
        for client in clients:
            wait_set.add_client(client.handle)
        for guard in (self._guard.handle, self._stop):
            wait_set.add_guard_condition(guard)
        wait_set.wait(-1)
