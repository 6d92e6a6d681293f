# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The safety monitor's process with a bridge and a policy that have faults of time and of QoS."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from emulators.lossy_network import COMPILER, LossyNetwork
from harness import Observer, observer
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rl_nodes.core.robot import load_robot
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.nodes import conversions, qos
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from test_graph_faults import clear, until_mode

ARM = load_robot('arm')
PERIOD_S = 1 / ARM.config.rate_hz


@contextmanager
def monitor(log: Path, *parameters: str) -> Iterator[None]:
    """Run a safety monitor for the duration of a block."""
    with log.open('wb') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', 'rl_nodes.nodes.safety_monitor', '--ros-args',
             *(word for given in parameters for word in ('-p', given))],
            stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


class Rest:
    """The rest of the graph: states and commands at the control rate, and a clock of its own."""

    def __init__(self, seen: Observer, commands: QoSProfile = qos.STREAM) -> None:
        self.seen, self.now_ns, self.live = seen, time.time_ns(), True
        make = seen.node.create_publisher
        self._clock = make(Clock, '/clock', qos.CLOCK)
        self._states = make(JointState, 'joint_states', qos.STREAM)
        self._commands = make(JointState, 'policy/joint_command', commands)
        seen.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
        seen.listen(JointState, 'joint_command', qos.STREAM)
        seen.node.create_timer(PERIOD_S, self._tick)

    def _tick(self) -> None:
        if not self.live:
            return
        self.now_ns += round(PERIOD_S * NS)
        self._clock.publish(Clock(clock=conversions.ns_to_stamp(self.now_ns)))
        self._states.publish(conversions.state_to_msg(
            RobotState(self.now_ns, '1@0', ARM.home, np.zeros(6), np.zeros(6)), ARM.joint_names))
        self._commands.publish(conversions.command_to_msg(
            JointCommand(self.now_ns, 'p@1', ARM.home), ARM.command_names, 'position'))

    def move(self) -> None:
        """Clear the stop, again where this process was late itself, until commands pass."""
        heard = self.seen.heard['joint_command']
        self.seen.until(lambda: bool(self.seen.values('safety/state')), 'the monitor')
        self._count = len(heard)

        def moves() -> bool:
            if self.seen.values('safety/state')['mode'] == 'STOPPED':
                clear(self.seen)
                self._count = len(heard)
            return len(heard) > self._count + 5
        self.seen.until(moves, 'commands')


def test_a_simulated_clock_that_stands_still_or_jumps_stops_the_robot(tmp_path: Path) -> None:
    """D1, D2: the watchdog's time goes on; after a jump a person allows motion again."""
    with observer() as seen, monitor(tmp_path / 'log', 'use_sim_time:=true'):
        rest = Rest(seen)
        rest.move()
        rest.live = False
        at = time.monotonic()
        until_mode(seen, 'STOPPED', 5.0)
        assert time.monotonic() - at < 0.5
        assert 'silence' in seen.values('safety/state')['check']
        rest.live = True
        rest.move()
        rest.now_ns -= 50 * NS
        until_mode(seen, 'STOPPED', 5.0)
        assert seen.values('safety/state')['check'] == 'command_silence'
        assert int(seen.values('safety/state')['hold/order']) > 0
        rest.move()
        rest.live = False
        count = len(seen.heard['joint_command'])
        until_mode(seen, 'STOPPED', 5.0)
        check = seen.values('safety/state')['check']
        assert 'silence' in check
        assert all(msg.header.frame_id == f'monitor | stop/{check}'
                   for _, msg in seen.heard['joint_command'][count:][-1:])


def test_two_clocks_or_two_policies_stop_the_robot_by_name(tmp_path: Path) -> None:
    """D3, C6, C7: nothing is cleared while they are there."""
    with observer() as seen, monitor(tmp_path / 'log', 'use_sim_time:=true'):
        rest = Rest(seen)
        other = Node('other', context=seen.node.context)

        def refused(why: str) -> bool:
            return why in seen.call('safety_monitor/clear_stop').message
        for kind, topic, why in (
                (Clock, '/clock', '/clock is published by /other, /test_observer'),
                (JointState, 'joint_command', 'joint_command is published by /other beside'),
                (JointState, 'policy/joint_command', 'has two publishers: /other, /test')):
            rest.move()
            publisher = other.create_publisher(kind, topic, qos.STREAM)

            def intruded() -> bool:
                if topic == 'policy/joint_command':
                    publisher.publish(conversions.command_to_msg(JointCommand(
                        rest.now_ns, 'p@1', ARM.home), ARM.command_names, 'position'))
                return seen.values('safety/state')['mode'] == 'STOPPED' and refused(why)
            seen.until(intruded, why, 10.0)
            other.destroy_publisher(publisher)
        rest.move()
        other.destroy_node()


def test_commands_of_another_reliability_are_named_and_nothing_moves(tmp_path: Path) -> None:
    """E1: a best-effort publisher cannot serve a reliable subscription."""
    with observer() as seen, monitor(tmp_path / 'log'):
        Rest(seen, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        seen.until(lambda: bool(seen.values('safety/state')), 'the monitor')
        seen.until(lambda: 'incompatible QoS' in (tmp_path / 'log').read_text(), 'a warning', 5.0)
        said = (tmp_path / 'log').read_text()
        assert 'policy/joint_command' in said and 'RELIABILITY' in said
        answer = seen.call('safety_monitor/clear_stop')
        assert not answer.success
        assert 'no command has been judged' in answer.message
        assert not seen.heard['joint_command']


CALLER = """
import rclpy
from rclpy.node import Node
from std_srvs.srv import Trigger
rclpy.init()
node = Node('far_away')
client = node.create_client(Trigger, 'safety_monitor/clear_stop')
client.wait_for_service(30)
print('ready', flush=True)
input()
future = client.call_async(Trigger.Request())
print('asked', flush=True)
rclpy.spin_until_future_complete(node, future, timeout_sec=30)
print(future.result().message, flush=True)
"""


@pytest.mark.skipif(COMPILER is None, reason='without a C compiler (apt install gcc) there is no '
                    'library that loses datagrams')
def test_a_clearance_that_was_sent_before_the_stop_does_not_clear_it(tmp_path: Path) -> None:
    """Its datagrams are lost at first, as on bad radio; the middleware sends them again later."""
    network, told = LossyNetwork(tmp_path), tmp_path / 'told'
    with observer() as seen, monitor(tmp_path / 'log', 'use_sim_time:=true'), \
            told.open('w') as file, subprocess.Popen(
                [sys.executable, '-c', CALLER], text=True, bufsize=1, stdin=subprocess.PIPE,
                stdout=file, env=os.environ | network.environ
                | {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}) as caller:
        try:
            rest = Rest(seen)
            seen.until(lambda: 'ready' in told.read_text(), 'a caller')
            rest.move()
            network.set(100, 0)
            caller.stdin.write('\n')
            seen.until(lambda: 'asked' in told.read_text(), 'its request')
            assert seen.call('safety_monitor/stop').success
            network.set(0, 0)
            seen.until(lambda: told.read_text().count('\n') == 3, 'an answer')
        finally:
            caller.kill()
        assert 'before the robot stopped' in told.read_text()
        assert seen.values('safety/state')['mode'] == 'STOPPED'
        rest.move()
