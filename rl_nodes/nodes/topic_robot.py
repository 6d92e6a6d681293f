# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A robot behind ros2_control, reached by topics; the only robot that speaks ROS.

It has a node of its own, never in an executor while the robot runs: reading takes what has
arrived and waits for nothing. Settings: section ``ros2_control`` of the robot's YAML file.

Subscribes: the broadcaster's joint states (sensor_msgs/JointState); the controllers' URDF
(std_msgs/String, latched), once.
Publishes: ``<controller>/commands`` (std_msgs/Float64MultiArray) or
``<controller>/joint_trajectory`` (trajectory_msgs/JointTrajectory, one point, one period ahead).
Calls: ``<controller>/get_parameters`` (rcl_interfaces/GetParameters), while connecting.
"""

from array import array
from collections import deque
from collections.abc import Callable
import time
from typing import Any

import numpy as np
from rcl_interfaces.srv import GetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rl_nodes.backends.base import Measurement
from rl_nodes.backends.hardware.ros2_control import JointMapping, ros2_control_config
from rl_nodes.core.errors import BackendError, ConfigError, ReadMissedError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS
from rl_nodes.core.urdf import parse_urdf, Urdf
from rl_nodes.nodes import qos
from rl_nodes.nodes.conversions import stamp_to_ns
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

STATES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
SAMPLES = 11       # states that the rate is measured on
FRESH = 1.5        # periods; an older state is not given out as new
RATE_MARGIN = 0.9  # of the control rate, which the states must have
RECONNECT_S = 2.0  # the checks of a robot that is back take no longer
TOLERANCE = 1e-6   # of limits that went through degrees and text


class TopicRobot:
    """
    See the module's text.

    :param parent: gives namespace, context and name.
    :param model: the robot.
    :raises ConfigError: the section does not fit the robot, or the topics are our own.
    """

    def __init__(self, parent: Node, model: RobotModel) -> None:
        self._model = model
        self._config = ros2_control_config(model)
        self._map = JointMapping(model, self._config)
        self._period_s = 1.0 / model.config.rate_hz
        self._lower, self._upper = model.limits('lower'), model.limits('upper')
        self._order = np.arange(len(model.commanded))  # theirs[k] = ours[order[k]]
        self._newest: tuple[float, Measurement] | None = None
        self._held: np.ndarray | None = None
        self._stamps: deque[int] = deque(maxlen=SAMPLES)
        self._bad, self._states_bad, self._stamp_age_s = '', 0, 0.0
        self._connecting = False
        self._description: str | None = None
        self._node = rclpy.create_node(
            f'{parent.get_name()}_ros2_control', context=parent.context,
            namespace=parent.get_namespace(), use_global_arguments=False,
            start_parameter_services=False)
        topic = self._node.resolve_topic_name(self._config.state_topic)
        if topic == parent.resolve_topic_name('joint_states'):
            self.close()
            raise ConfigError(
                f'robot {model.name}: ros2_control.state_topic is {topic}, which is where this '
                'bridge publishes. Launch with namespace:=..., or set use_local_topics: true of '
                'the joint_state_broadcaster and state_topic to '
                '/joint_state_broadcaster/joint_states')
        self._states = self._node.create_subscription(JointState, topic, self._on_state, STATES)
        kind = (Float64MultiArray if self._config.controller == 'forward_command_controller'
                else JointTrajectory)
        self._commands = self._node.create_publisher(kind, self._config.command_topic, qos.COMMAND)
        self._client = self._node.create_client(
            GetParameters, f'{self._config.controller_name}/get_parameters')
        if self._config.description_topic:
            self._node.create_subscription(String, self._config.description_topic,
                                           self._on_description, qos.LATCHED)

    # --- connection -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Find states and controller and compare them with the robot; see :class:`Robot`."""
        self._check(self._config.connect_timeout_s)

    def reconnect(self) -> None:
        """Check everything again, once there are states; at most two seconds."""
        self._poll()
        silence_s = self._silence_s()
        if not silence_s <= self._config.state_timeout_s:
            raise BackendError(self._silent_text(silence_s))
        self._check(RECONNECT_S)

    def close(self) -> None:
        """Destroy the node; the controller keeps the last position. May be called twice."""
        node, self._node = self._node, None
        if node is not None:
            node.destroy_node()

    def _check(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)

        def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
            while not condition():
                if time.monotonic() > deadline:
                    raise BackendError(f'within {timeout_s:.0f} s: {what()}')
                executor.spin_once(timeout_sec=0.02)
        try:
            self._newest, self._held, self._bad = None, None, ''
            self._stamps.clear()
            self._connecting = True
            until(lambda: len(self._stamps) == SAMPLES, self._no_states)
            self._check_states()
            self._order = self._ask_controller(until)
            if self._config.description_topic:
                until(lambda: self._description is not None, lambda: (
                    f'no URDF on {self._topic(self._config.description_topic)}. Is the '
                    'robot_state_publisher running? description_topic: "" leaves it out'))
                self._check_limits()
            until(lambda: self._commands.get_subscription_count() > 0, lambda: (
                f'nobody subscribes to {self._topic(self._config.command_topic)}. Is '
                f'{self._config.controller_name} a {self._config.controller}, and active? '
                '(ros2 control list_controllers)'))
        finally:
            self._connecting = False
            executor.remove_node(self._node)
            executor.shutdown()

    def _no_states(self) -> str:
        topic = self._topic(self._config.state_topic)
        if self._bad:
            return f'no usable joint states on {topic}: {self._bad}'
        if self._stamps:
            return f'only {len(self._stamps)} joint states on {topic}'
        return (f'no joint states on {topic}. Is the joint_state_broadcaster active (ros2 control '
                'list_controllers), is state_topic right (ros2 topic list), and ROS_DOMAIN_ID?')

    def _check_states(self) -> None:
        """Compare rate, clock and positions with the robot."""
        topic = self._topic(self._config.state_topic)
        period_s = float(np.median(np.diff(self._stamps))) / NS
        least = RATE_MARGIN * self._model.config.rate_hz
        if not 0 < period_s <= 1 / least:
            rate = f'{1 / period_s:.1f} Hz' if period_s > 0 else 'no rate at all'
            raise BackendError(
                f'{topic} comes with {rate} by its stamps; robot {self._model.name} is controlled '
                f'at {self._model.config.rate_hz:.1f} Hz and needs {least:.1f} Hz at least. Raise '
                'update_rate of the controller manager, or lower rate_hz and train again')
        if abs(self._stamp_age_s) > self._config.state_timeout_s:
            raise BackendError(f'{topic} is stamped {self._stamp_age_s:.3f} s in the past; at '
                               f'most {self._config.state_timeout_s} s either way are accepted. '
                               'Do both machines have the same time (chrony)? Is use_sim_time '
                               'off?')
        position = self._newest[1].position[self._model.commanded]
        outside = [f'{name} is at {value:.3f}, outside [{low}, {high}]' for name, value, low, high
                   in zip(self._model.command_names, position, self._lower, self._upper)
                   if not low <= value <= high]
        if outside:
            raise BackendError(f'{topic}: {"; ".join(outside)}. Move it inside, or correct sign, '
                               'offset or units in ros2_control.joints')

    def _ask_controller(self, until: Callable[..., None]) -> np.ndarray:
        """Return the order in which the controller takes the joints; it must have just ours."""
        name = self._topic(self._config.controller_name)
        trajectory = self._config.controller == 'joint_trajectory_controller'
        interface = 'command_interfaces' if trajectory else 'interface_name'
        until(self._client.service_is_ready, lambda: (
            f'no controller {name} (its service get_parameters is missing). Is controller_name '
            'right, is it loaded? (ros2 control list_controllers)'))
        future = self._client.call_async(GetParameters.Request(names=['joints', interface]))
        until(future.done, lambda: f'no answer from {name}/get_parameters')
        joints, kind = future.result().values
        theirs = tuple(joints.string_array_value)
        if sorted(theirs) != sorted(self._map.commanded):
            missing = [joint for joint in self._map.commanded if joint not in theirs]
            extra = [joint for joint in theirs if joint not in self._map.commanded]
            raise BackendError(
                f'{name} does not move the joints of robot {self._model.name}:\n'
                f'  only the robot has: {", ".join(missing) or "none"}\n'
                f'  only the controller has: {", ".join(extra) or "none"}\n'
                'Correct ros2_control.joints, or joints of the controller')
        moves = list(kind.string_array_value) if trajectory else [kind.string_value]
        if moves != ['position']:
            raise BackendError(f'{name} commands {", ".join(moves) or "nothing"} ({interface}); '
                               'expected position')
        return np.array([self._map.commanded.index(joint) for joint in theirs])

    def _check_limits(self) -> None:
        """Refuse limits of ours that are wider than those the controllers run with."""
        urdf = _parse(self._description, self._topic(self._config.description_topic))
        wrong = []
        for i in self._model.commanded:
            ours, name = self._model.joints[i], self._map.names[i]
            if name not in urdf.joints:
                wrong.append(f'{ours.name}: there is no joint {name}')
                continue
            other = urdf.joints[name]
            lower, upper, speed = self._map.limits(i, other.lower, other.upper, other.velocity)
            for field, mine, limit, sign in (
                    ('lower', ours.lower, lower, -1), ('upper', ours.upper, upper, 1),
                    ('velocity', ours.velocity, speed, 1)):
                mine = sign * np.inf if mine is None else mine
                if not sign * mine <= sign * limit + TOLERANCE:
                    wrong.append(f'{ours.name}: {field} is {mine:.4f} here, {limit:.4f} there')
        if wrong:
            raise BackendError(f'limits of robot {self._model.name} go beyond those on '
                               f'{self._topic(self._config.description_topic)} (in our units):\n  '
                               + '\n  '.join(wrong) + '\nTighten them in its YAML file and train '
                               'again, or correct ros2_control.joints')

    # --- the control period ---------------------------------------------------------------------

    def read(self) -> Measurement:
        """Return the newest state that has arrived; waits for nothing."""
        self._poll()
        silence_s = self._silence_s()
        if not silence_s <= self._config.state_timeout_s:
            raise BackendError(self._silent_text(silence_s))
        if silence_s > FRESH * self._period_s:
            raise ReadMissedError(f'{self._topic(self._config.state_topic)}: no joint state for '
                                  f'{silence_s * 1e3:.0f} ms', self._model.joint_names)
        return self._newest[1]

    def write(self, command: np.ndarray) -> np.ndarray:
        """
        Send positions, cut to the robot's limits, and return them in our units.

        :param command: [rad or m], shape (A,).
        :raises BackendError: wrong shape or not finite; nothing is sent.
        """
        if command.shape != self._lower.shape or not np.isfinite(command).all():
            raise BackendError(f'command {command.tolist()} is not {len(self._lower)} finite '
                               'values; nothing was sent')
        self._held = None
        return self._send(np.clip(command, self._lower, self._upper))

    def hold(self) -> None:
        """Command the place where the robot is, taken once: again each period it would sink."""
        if self._held is None:
            self._poll()
            if self._newest is None or not self._silence_s() <= self._config.state_timeout_s:
                return  # the controller keeps the last position, within one step of the robot
            position = self._newest[1].position[self._model.commanded]
            self._held = np.clip(position, self._lower, self._upper)
        self._send(self._held)

    def watch(self, now_s: float) -> bool:
        """Return False: rest is the business of the robot's own controllers."""
        return False

    def torque_on(self) -> None:
        """Do nothing, as nothing was let go."""

    def diagnostics(self) -> dict[str, Any]:
        """Return what connects us and how fresh it is."""
        silence_s = self._silence_s()
        return {'controller': self._topic(self._config.controller_name),
                'controller_listens': self._commands.get_subscription_count() > 0,
                'state_age_s': round(silence_s, 3) if np.isfinite(silence_s) else '',
                'states_refused': self._states_bad, 'last_refusal': self._bad}

    def _send(self, command: np.ndarray) -> np.ndarray:
        theirs = self._map.command(command)[self._order]
        if self._config.controller == 'forward_command_controller':
            self._commands.publish(Float64MultiArray(data=array('d', theirs)))
            return command
        point = JointTrajectoryPoint(positions=array('d', theirs))
        point.time_from_start.nanosec = round(self._period_s * NS)
        self._commands.publish(JointTrajectory(
            joint_names=[self._map.commanded[k] for k in self._order], points=[point]))
        return command

    # --- what arrives ---------------------------------------------------------------------------

    def _poll(self) -> None:
        """Take all states that have arrived."""
        while (taken := self._states.handle.take_message(JointState, False)) is not None:
            self._on_state(taken[0])

    def _on_state(self, msg: JointState) -> None:
        """Keep a state that is complete, finite and fresh."""
        stamp = stamp_to_ns(msg.header.stamp)
        self._stamp_age_s = (self._node.get_clock().now().nanoseconds - stamp) / NS
        measured, self._bad = self._convert(msg)
        if measured is None:
            self._states_bad += 1
            return
        if self._connecting:
            self._stamps.append(stamp)
        elif abs(self._stamp_age_s) > self._config.state_timeout_s:
            self._states_bad += 1
            self._bad = f'a state is {self._stamp_age_s:.3f} s old by its stamp'
            return
        self._newest = (time.monotonic(), measured)

    def _convert(self, msg: JointState) -> tuple[Measurement | None, str]:
        """Return (our measurement, '') or (None, what is wrong)."""
        found = {name: i for i, name in enumerate(msg.name)}
        missing = [name for name in self._map.names if name not in found]
        if missing or len(found) != len(msg.name):
            return None, (f'it lacks {", ".join(missing)}; it has {", ".join(msg.name) or "none"}'
                          if missing else f'it names a joint twice: {", ".join(msg.name)}')
        order = [found[name] for name in self._map.names]
        values = []
        for field in ('position', 'velocity'):
            given = np.array(getattr(msg, field), np.float64)
            if len(given) != len(msg.name) or not np.isfinite(given[order]).all():
                return None, (f'{field} is {given.tolist()}; expected {len(msg.name)} values, '
                              f'finite for our joints. Is {field} a state interface of each?')
            values.append(given[order])
        effort = np.array(msg.effort, np.float64)
        measured = len(effort) == len(msg.name) and np.isfinite(effort[order]).all()
        return Measurement(self._map.position(values[0]), self._map.velocity(values[1]),
                           self._map.effort(effort[order]) if measured else np.empty(0)), ''

    def _on_description(self, msg: String) -> None:
        self._description = msg.data

    def _silence_s(self) -> float:
        return float('inf') if self._newest is None else time.monotonic() - self._newest[0]

    def _silent_text(self, silence_s: float) -> str:
        long = f'for {silence_s:.2f} s' if np.isfinite(silence_s) else 'at all'
        return (f'no usable joint state on {self._topic(self._config.state_topic)} {long}'
                + (f' ({self._bad})' if self._bad else '')
                + '. Is the controller manager running?')

    def _topic(self, name: str) -> str:
        return self._node.resolve_topic_name(name)


def _parse(text: str, source: str) -> Urdf:
    try:
        return parse_urdf(text, source)
    except ConfigError as error:
        raise BackendError(str(error)) from None
