# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A process with the topics of ros2_control, moved by PyBullet in real time, with faults on demand.

It shares no mapping with the driver under test: its joints have other names (``hw_<name>``), its
states another order than its commands, one joint turns the other way and one is shifted. Commands
on standard input, one a line: ``latency 0.02`` [s], ``loss 0.1`` (share of the states), ``stop``
and ``go`` (neither states nor obedience), ``end``; the end of standard input ends it too.

    python test/emulators/controller_manager.py --robot arm
"""

import argparse
from array import array
import contextlib
import heapq
import itertools
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from xml.sax.saxutils import quoteattr

import msgspec
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rl_nodes.backends.pybullet_robot import PybulletRobot
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import Start
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

BACKWARDS, SHIFTED, SHIFT = 1, 2, 0.25  # joints by index; [rad]


def to_theirs(position: np.ndarray) -> np.ndarray:
    """Return positions as this robot's controllers have them."""
    theirs = np.array(position, float)
    theirs[BACKWARDS] = -theirs[BACKWARDS]
    theirs[SHIFTED] += SHIFT
    return theirs


def to_ours(theirs: np.ndarray) -> np.ndarray:
    """Undo :func:`to_theirs`."""
    position = np.array(theirs, float)
    position[SHIFTED] -= SHIFT
    position[BACKWARDS] = -position[BACKWARDS]
    return position


SECTION = """
  joints:
    shoulder_pan: {name: hw_shoulder_pan}
    shoulder_lift: {name: hw_shoulder_lift, sign: -1}
    elbow: {name: hw_elbow, offset: 0.25}
    wrist_pitch: {name: hw_wrist_pitch}
    wrist_yaw: {name: hw_wrist_yaw}
    wrist_roll: {name: hw_wrist_roll}
"""


class ControllerManager:
    """
    Broadcaster, controller and robot.

    :param options: as from :func:`main`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        model = load_robot(options.robot)
        self.rate = options.rate
        self.home = model.home
        model.config = msgspec.structs.replace(model.config, rate_hz=self.rate)
        self.robot = PybulletRobot(model)
        self.robot.reset(Start(model.home, np.zeros(3)))
        self.names = [f'hw_{name}' for name in model.joint_names]
        count = len(self.names)
        self.state_order = list(range(count))[::-1]
        self.command_order = [(k + 2) % count for k in range(count)]
        self.latency, self.loss, self.stopped = 0.0, 0.0, False
        self.random = random.Random(1)
        self.pending: list[tuple[float, int, JointState]] = []
        self.number = itertools.count()
        self.broadcaster = Node('joint_state_broadcaster')
        self.controller = Node(options.name)
        joints = [self.names[k] for k in self.command_order]
        self.controller.declare_parameter('joints', joints[:-1] if options.lacking else joints)
        trajectory = options.kind == 'joint_trajectory_controller'
        if trajectory:
            self.controller.declare_parameter('command_interfaces', ['position'])
            self.controller.create_subscription(JointTrajectory, '~/joint_trajectory',
                                                self.on_trajectory, 10)
        else:
            self.controller.declare_parameter('interface_name', 'position')
            self.controller.create_subscription(Float64MultiArray, '~/commands',
                                                self.on_commands, 10)
        self.states = self.broadcaster.create_publisher(JointState, '~/joint_states', 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.description = self.broadcaster.create_publisher(String, '/robot_description', latched)
        self.description.publish(String(data=self.urdf(model, options.tight)))

    def urdf(self, model, tight: float) -> str:
        """Return a URDF of the limits only."""
        lines = ['<robot name="hw"><link name="base"/>']
        for name, joint in zip(self.names, model.joints):
            i = self.names.index(name)
            ends = []
            for limit in (joint.lower, joint.upper):
                position = model.home.copy()
                position[i] = limit
                ends.append(to_theirs(position)[i])
            lines.append(
                f'<link name="{name}_link"/><joint name={quoteattr(name)} type="revolute">'
                f'<parent link="base"/><child link="{name}_link"/><limit lower="{min(ends)}" '
                f'upper="{max(ends) - tight}" velocity="{joint.velocity}" effort="1"/></joint>')
        return ''.join([*lines, '</robot>'])

    def on_commands(self, msg: Float64MultiArray) -> None:
        """Obey as a forward_command_controller does: no check but of the length."""
        if len(msg.data) == len(self.names) and not self.stopped:
            theirs = np.zeros(len(self.names))
            theirs[self.command_order] = msg.data
            self.robot.write(to_ours(theirs))

    def on_trajectory(self, msg: JointTrajectory) -> None:
        """Obey as a joint_trajectory_controller does: by names, all of them."""
        if sorted(msg.joint_names) == sorted(self.names) and not self.stopped:
            values = dict(zip(msg.joint_names, msg.points[-1].positions))
            self.robot.write(to_ours(np.array([values[name] for name in self.names])))

    def step(self) -> None:
        """Live through one period."""
        self.robot.step()
        measured = self.robot.read()
        order = self.state_order
        position = to_theirs(measured.position)[order]
        velocity = np.array(measured.velocity)
        velocity[BACKWARDS] = -velocity[BACKWARDS]
        msg = JointState(name=[self.names[k] for k in order], position=array('d', position),
                         velocity=array('d', velocity[order]), effort=array('d', measured.effort))
        msg.header.stamp = self.broadcaster.get_clock().now().to_msg()
        if not self.stopped and self.random.random() >= self.loss:
            heapq.heappush(self.pending, (time.monotonic() + self.latency, next(self.number), msg))
        while self.pending and self.pending[0][0] <= time.monotonic():
            self.states.publish(heapq.heappop(self.pending)[2])

    def obey(self, line: str) -> bool:
        """Carry out a line; return False at the end."""
        word, _, value = line.strip().partition(' ')
        if word in ('latency', 'loss'):
            setattr(self, word, float(value))
        elif word in ('stop', 'go'):
            self.stopped = word == 'stop'
            self.pending.clear()
        return word != 'end'


def serve(options: argparse.Namespace) -> None:
    """Run until standard input ends."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put('end')
    threading.Thread(target=listen, daemon=True).start()
    rclpy.init()
    manager = ControllerManager(options)
    executor = SingleThreadedExecutor()
    executor.add_node(manager.broadcaster)
    executor.add_node(manager.controller)
    sys.stdout.write('ready\n')
    sys.stdout.flush()
    due = time.monotonic()
    going = True
    with contextlib.suppress(ExternalShutdownException):
        while going:
            while (left := due - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left)
            due = max(due + 1 / manager.rate, time.monotonic() - 0.1)
            manager.step()
            while not lines.empty():
                going = going and manager.obey(lines.get())
    rclpy.try_shutdown()


class ControllerManagerProcess:
    """The emulator as a process of a test; use as a context manager."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> 'ControllerManagerProcess':
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.say('end')
            self._process.wait(10)
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is there."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._arguments], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=os.environ.copy())
        if self._process.stdout.readline() != 'ready\n':
            raise RuntimeError('the emulated controller manager did not start')

    def say(self, line: str) -> None:
        """Give it a command."""
        self._process.stdin.write(f'{line}\n')
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it as a power failure does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--robot', default='arm')
    parser.add_argument('--kind', default='forward_command_controller',
                        choices=['forward_command_controller', 'joint_trajectory_controller'])
    parser.add_argument('--name', default='forward_position_controller')
    parser.add_argument('--rate', type=float, default=100.0, help='of states [Hz]')
    parser.add_argument('--lacking', action='store_true', help='the controller lacks a joint')
    parser.add_argument('--tight', type=float, default=0.0, help='upper limits are lower [rad]')
    serve(parser.parse_args())


if __name__ == '__main__':
    main()
