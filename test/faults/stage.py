# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A deployment whose processes can be killed, frozen and started again one by one.

The processes are those of ``rl_nodes launch deploy``, only that nobody ends the graph when one of
them dies. What reaches the robot is heard in this process, which does nothing else while it waits:
messages are taken from a kept wait set and stamped on CLOCK_MONOTONIC, the same in all processes
of a machine. A reaction counts from before a signal or message is sent until the robot's topic has
been read, so the delays of scheduling and of the middleware are in it, on both sides.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
import os
from pathlib import Path
import random
import signal
import threading
import time
from typing import Any, NamedTuple

from actors import (
    COMMAND_TIMEOUT_S,
    controller_manager,
    deployment,
    ESTOP_TIMEOUT_S,
    RATE_HZ,
    WATCHDOG_S,
)
from clearances import Clearances
from diagnostic_msgs.msg import DiagnosticArray
from emulators.lossy_network import LossyNetwork
import numpy as np
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rl_nodes.core.origin import MONITOR, split_label
from rl_nodes.core.scheduling import run_as_usual, run_first
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.graph import FIRST
from rl_nodes.nodes import conversions, joint_state, qos
from rl_nodes.safety.supervisor import PRESS_S
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, UInt8MultiArray
from std_srvs.srv import Trigger

from benchmarks._bare_graph import Waiter

START_S = 60.0  # until a graph moves: imports of six processes on two busy cores
STATES, WANTED, ALLOWED = 'joint_states', 'policy/joint_command', 'joint_command'
SAFETY, ROBOT, POLICY, TELEOP = ('safety/state', 'robot/status', 'policy/status',
                                  'teleop/status')
PAST_MONITOR = 'past-the-monitor'  # source of what an intruder tells the robot
STAND_IN = 'stand-in@1'            # of what the stage itself wants
CONTROLLER = '/forward_position_controller/commands'
KEPT = 400      # messages of each topic that are remembered
RECENT = 100    # states, the newest that a command may have been judged by
EPS = 1e-6
PHASE_S = (0.01, 0.03)  # of normal motion before a fault: it comes at any phase of a period
LISTENER_FIRST = max(FIRST.values()) + 1  # added to the priority of the deployment
STALL = 0.8     # of the watchdog: the listener is late too


class Heard(NamedTuple):
    """
    A state or command.

    :param at: when it was read, on the steady clock [ns].
    :param view: the message.
    :param sent: when it was published, on the wall clock [ns].
    """

    at: int
    view: joint_state.JointStateView
    sent: int

    @property
    def source(self) -> str:
        return split_label(self.view.header.frame_id)[0]

    @property
    def stamp_ns(self) -> int:
        return conversions.stamp_to_ns(self.view.header.stamp)

    @property
    def stops(self) -> bool:
        return self.source.partition('/')[0] == MONITOR


class Shown(NamedTuple):
    """What the monitor said of itself; ``at`` as in :class:`Heard`."""

    at: int
    mode: str
    check: str


class Button:
    """An emergency stop: says some times a second whether it is pressed, in a thread."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(Bool, 'safety_monitor/estop', qos.STREAM)
        self._pressed, self._ending = False, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def say(self, pressed: bool) -> None:
        self._pressed = pressed
        self._publisher.publish(Bool(data=pressed))

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(ESTOP_TIMEOUT_S / 5):
            self.say(self._pressed)


class Stage:
    """
    A running deployment; use as a context manager.

    :param folder: for its files; empty.
    :param backend: one of ``actors.SETUPS``.
    :param seed: of the moments at which faults come.
    :param priority: as the launch argument; emulator and listener then go before all others.
    :ivar network: of the setup ``lossy_network``.
    :ivar words: what nodes say of themselves, by topic.
    :ivar nominal: commands of the policy that reached the robot while nothing was wrong.
    :ivar false_stops: stops meanwhile, without a reason.
    :ivar stalls: stops because a process of the graph got no time for as long as the watchdog.
    :ivar restarts: commands that reached a stopped robot before anybody had cleared the stop.
    :ivar ready_at: when the robot last began to move as it should, on the steady clock [ns].
    :ivar answer: gets each state where the stage itself stands in for the policy.
    :ivar unsafe: violations among all commands that reached the robot, by name.
    """

    def __init__(self, folder: Path, backend: str = 'pybullet', seed: int = 0,
                 priority: int = 0) -> None:
        self.random, self.folder, self._priority = random.Random(seed), folder, priority
        self.task, self.bundle, self.actors = deployment(folder, backend, priority=priority)
        self._emulator = (controller_manager.ControllerManagerProcess('--rate', '200')
                          if backend == 'ros2_control' else None)
        self.network = LossyNetwork(folder) if backend == 'lossy_network' else None
        if self.network is not None:
            for actor in self.actors.values():
                actor.environ |= self.network.environ
        self.nominal = self.false_stops = self.stalls = self.restarts = 0
        self.unsafe: Counter[str] = Counter()
        self.heard: dict[str, deque[Heard]] = {
            topic: deque(maxlen=KEPT) for topic in (STATES, WANTED, ALLOWED)}
        self.shown: deque[Shown] = deque([Shown(0, '', '')], maxlen=KEPT)
        self.values: dict[str, dict[str, str]] = {ROBOT: {}, POLICY: {}, TELEOP: {}}
        self.words = dict.fromkeys((SAFETY, *self.values), '')
        self.still_since, self._goal = 0, ()
        self._calm, self._clearances = False, Clearances()
        self.ready_at = 0
        self.answer: Callable[[Heard], None] | None = None
        self._unjudged: list[Heard] = []
        model = self.task.robot
        margin = model.config.safety.position_margin
        self._low, self._high = model.limits('lower') + margin, model.limits('upper') - margin
        self._step = model.limits('velocity') / RATE_HZ

    def __enter__(self) -> 'Stage':
        if self._priority and (why := run_first(self._priority + LISTENER_FIRST)):
            raise RuntimeError(f'priority {self._priority} of the campaign: {why}')
        if self._emulator is not None:
            self._emulator.start()
        self._context = Context()
        self._context.init(domain_id=int(os.environ['ROS_DOMAIN_ID']))
        self.node = Node('listener', context=self._context)
        self._operator = Node('operator', context=self._context)
        self._intruder = Node('intruder', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._operator)
        self._clients: dict[str, Client] = {}
        self._waiter = Waiter(self.node)
        for topic in self.heard:
            self._waiter.add(topic, JointState, qos.STREAM)
        for topic in (SAFETY, *self.values):
            self._waiter.add(topic, DiagnosticArray, qos.EPISODE)
        if self._emulator is not None:
            self._waiter.add(CONTROLLER, Float64MultiArray, qos.STREAM, raw=False)
        self.publishers = {
            topic: self.node.create_publisher(JointState, topic, profile) for topic, profile in (
                (STATES, qos.STREAM), (WANTED, qos.STREAM))}
        self.updates = self.node.create_publisher(UInt8MultiArray, 'policy/update', qos.LATCHED)
        self.button = Button(self._operator)
        for service in ('stop', 'clear_stop'):  # a first request right after discovery is late
            self.client(Trigger, f'safety_monitor/{service}')
        for actor in self.actors.values():
            actor.start()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors.values():
            actor.end()
        if self._emulator is not None:
            self._emulator.__exit__()
        self.button.close()
        self._executor.shutdown()
        self._operator.destroy_node()
        self._intruder.destroy_node()
        self.node.destroy_node()
        self._context.try_shutdown()
        run_as_usual()

    # --- hearing --------------------------------------------------------------------------------

    def pump(self, timeout_s: float = 0.02) -> None:
        """Take what comes, waiting for it at most so long."""
        batch: list[tuple[int, int, str, Any]] = []
        while found := self._waiter.wait(0.0 if batch else timeout_s):
            at = steady_ns()
            batch += [(at, self._waiter.sent[topic], topic, data)
                      for topic, data in found.items()]
        for at, sent, topic, data in batch:
            if topic in self.heard:
                heard = Heard(at, joint_state.decode(data), sent)
                if heard.source == PAST_MONITOR:
                    continue
                self.heard[topic].append(heard)
                if topic == ALLOWED:
                    self._on_allowed(heard)
                elif topic == STATES and self.answer is not None:
                    self.answer(heard)
            elif topic == CONTROLLER:
                if tuple(data.data) != self._goal:
                    self.still_since, self._goal = at, tuple(data.data)
            else:
                status = deserialize_message(data, DiagnosticArray)
                values = conversions.status_values(status)
                self.words[topic] = status.status[0].message
                if topic == SAFETY:
                    self._on_safety(Shown(at, values['mode'], values['check']), sent)
                else:
                    self.values[topic] = values
        self._unjudged = [heard for heard in self._unjudged if not self._judged(heard)]

    def _on_safety(self, shown: Shown, sent: int) -> None:
        self.shown.append(shown)
        if shown.check == 'boot':
            self._clearances.stopped(sent)
        if shown.mode == 'STOPPED' and self._calm:
            self._calm, late = False, self.stalled(shown.at - NS)
            self.stalls += late
            self.false_stops += not late

    def _on_allowed(self, heard: Heard) -> None:
        """Take note of what reaches the robot."""
        if heard.stops:
            self._clearances.stopped(heard.sent)
        elif self._clearances.allow(heard.sent):
            self.nominal += self._calm
        else:
            self.restarts += 1
        self._unjudged.append(heard)

    def _judged(self, heard: Heard) -> bool:
        """Judge a command by the states that the monitor may have had; False without one yet."""
        value = np.array(heard.view.position)
        if value.shape != self._step.shape or not np.isfinite(value).all():
            self.unsafe['not finite'] += 1
            return True
        # The newest that it had was not older than the command.
        states = [state for state in list(self.heard[STATES])[-RECENT:]
                  if state.stamp_ns >= heard.stamp_ns]
        positions = [np.array([by_name.get(name, np.nan) for name in heard.view.name])
                     for by_name in (dict(zip(state.view.name, state.view.position))
                                     for state in states)]
        if positions and not any((np.abs(value - q) <= self._step + EPS).all()
                                 for q in positions):
            self.unsafe['speed'] += 1
        if positions and not any(((value >= np.minimum(self._low, q) - EPS)
                                  & (value <= np.maximum(self._high, q) + EPS)).all()
                                 for q in positions):
            self.unsafe['position'] += 1
        return bool(positions)

    def since(self, topic: str, at: int) -> list[Heard]:
        """Return what came on a topic after a moment [ns], the newest first."""
        return list(takewhile(lambda heard: heard.at > at, reversed(self.heard[topic])))

    def stalled(self, since: int) -> bool:
        """Return whether bridge, policy or monitor were late by the watchdog after ``since``."""
        for topic, heard in self.heard.items():
            times = [one.at for one in heard if one.at > since]
            if topic != ALLOWED:  # where silence may also be what a stop is
                times.append(steady_ns())
            if np.diff(times).max(initial=0) > STALL * WATCHDOG_S * NS:
                return True
        return False

    def shown_since(self, at: int) -> list[Shown]:
        """Return what the monitor showed after a moment [ns], the newest first."""
        return list(takewhile(lambda shown: shown.at > at, reversed(self.shown)))

    @property
    def mode(self) -> str:
        return self.shown[-1].mode

    # --- waiting and acting ---------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], timeout_s: float = 5.0) -> bool:
        """Hear until a condition holds; return whether it does in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.pump()
        return True

    def live(self, seconds: float) -> None:
        """Hear what comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.pump(left)

    def client(self, kind: type, service: str) -> Client:
        """Return the client of a service."""
        if service not in self._clients:
            self._clients[service] = self._operator.create_client(kind, service)
        return self._clients[service]

    def call(self, service: str, kind: type = Trigger, request: Any = None,
             timeout_s: float = 1.0) -> Any:
        """Call a service; None where no answer comes in time."""
        client = self.client(kind, service)
        if not self.until(lambda: self._served() or client.service_is_ready(), timeout_s):
            return None
        future = client.call_async(request or kind.Request())
        self.until(lambda: self._served() or future.done(), timeout_s)
        if not future.done():
            client.remove_pending_request(future)
            return None
        return future.result()

    def _served(self) -> bool:
        self._executor.spin_once(timeout_sec=0)
        return False

    def ready(self, timeout_s: float = START_S) -> None:
        """Start what is dead, clear the stop, and live on until the robot moves as it should."""
        for actor in self.actors.values():
            if not actor.alive:
                actor.start()
        deadline = time.monotonic() + timeout_s
        answer = None
        while not self._moving():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f'the robot does not move after {timeout_s} s: {self.shown[-1]}, {answer}, '
                    f'{self.values[ROBOT]}\n' + '\n'.join(
                        actor.said[-2000:] for actor in self.actors.values()))
            if self.mode == 'STOPPED':  # a monitor that is there again says so
                self._clearances.asked(time.time_ns())
                answer = self.call('safety_monitor/clear_stop')
                if answer is not None:
                    self._clearances.answered(answer.success, time.time_ns())
                    self.until(lambda: self.mode != 'STOPPED', PRESS_S if answer.success else 0.0)
            self.live(0.02)
        self._calm, self.ready_at = True, steady_ns()
        self.live(self.random.uniform(*PHASE_S))
        if not self._calm:
            self.ready(deadline - time.monotonic())

    def _moving(self) -> bool:
        """Return whether the last five commands are the policy's and the monitor content."""
        last = list(self.heard[ALLOWED])[-5:]
        return (self.mode not in ('', 'STOPPED') and len(last) == 5
                and not any(heard.stops for heard in last)
                and steady_ns() - last[0].at < 0.5 * NS)

    def disturb(self) -> int:
        """Say that a fault comes now; return the moment [ns]."""
        self._calm = False
        return steady_ns()

    @contextmanager
    def frozen(self, name: str) -> Iterator[int]:
        """Freeze a process for the duration of a block; yield the moment [ns]."""
        at = self.disturb()
        self.actors[name].signal(signal.SIGSTOP)
        try:
            yield at
        finally:
            self.actors[name].signal(signal.SIGCONT)

    @contextmanager
    def intruder(self, topic: str) -> Iterator[Publisher]:
        """Publish on a topic beside whom it belongs to, for the duration of a block."""
        publisher = self._intruder.create_publisher(JointState, topic, qos.STREAM)
        try:
            yield publisher
        finally:
            self._intruder.destroy_publisher(publisher)

    def halt_ms(self, at: int, timeout_s: float = 2.0) -> float | None:
        """Return how long after ``at`` [ns] the robot was told to stop; None if it was not."""
        halts: list[Heard] = []

        def halted() -> bool:
            halts[:] = [heard for heard in self.since(ALLOWED, at) if heard.stops]
            return bool(halts)
        if not self.until(halted, timeout_s):
            return None
        self.until(lambda: self.mode == 'STOPPED')  # it shows what it does just after
        return (halts[-1].at - at) / 1e6

    def stand_ms(self, at: int, timeout_s: float = 2.0) -> float | None:
        """Return how long after ``at`` [ns] the controllers' goal last changed; None: it does."""
        quiet_ns = round(1.5 * COMMAND_TIMEOUT_S * NS)
        if not self.until(lambda: steady_ns() - max(self.still_since, at) > quiet_ns, timeout_s):
            return None
        return max(self.still_since - at, 0) / 1e6

    def verdict(self, at: int) -> str:
        """Return what became of a fault at ``at`` [ns], in a few words."""
        if self.mode == 'STOPPED':
            return f'stop: {self.shown[-1].check}'
        refused = [shown.check for shown in self.shown_since(at) if shown.mode == 'HOLD']
        if refused:
            return f'refused: {refused[-1]}'
        if any(heard.source.startswith('rogue') for heard in self.since(ALLOWED, at)):
            return 'limited'
        return 'goes on' if self.since(ALLOWED, at) else 'silence'
