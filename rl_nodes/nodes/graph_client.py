# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A running graph as seen by one program that acts in it instead of a policy server.

What ``envs/ros_env.py`` is made of: everything of ROS is here, everything of Gymnasium there. It
has a context and a node of its own and no thread: messages are taken while something is awaited.

Subscribes:
  joint_states, reward (sensor_msgs/JointState, STREAM); odom (nav_msgs/Odometry), objects
  (geometry_msgs/PoseArray), scan (sensor_msgs/LaserScan), imu (sensor_msgs/Imu), wrench
  (geometry_msgs/WrenchStamped), all STREAM, where robot and task have them;
  goal (geometry_msgs/PoseStamped, EPISODE);
  randomisation (sensor_msgs/JointState, EPISODE) where the task varies its episodes;
  joint_command (sensor_msgs/JointState, EXECUTED); privileged (sensor_msgs/JointState, STREAM);
  safety/state (diagnostic_msgs/DiagnosticArray, LATCHED).
Publishes: policy/joint_command (sensor_msgs/JointState, STREAM), frame_id ``gym@0``.
Calls: robot_bridge/reset, safety_monitor/clear_stop; sets the parameters seed and difficulty of
robot_bridge.
"""

from collections.abc import Callable
from functools import partial
import os
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.errors import GraphError, SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.locks import RunLock
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.graph_watch import UNNAMED
from rl_nodes.nodes.spin import NodeSpinner
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

SOURCE = 'gym@0'
KEPT = 4096  # messages of each kind; a program that looks away longer than this loses the oldest
WAKE_S = 0.05


class GraphClient:
    """
    The messages of a graph, found by stamp, and the calls that an environment needs.

    :param task: the task that the graph is expected to run.
    :param namespace: of the graph.
    :param description: shown to whoever is refused because of this client.
    :raises GraphError: another client is in this domain and namespace, or ROS is set up wrongly.
    :ivar states: states that have come, by stamp.
    :ivar rewards: outcomes by stamp and episode id.
    :ivar privileged: what only critics see, shape (P,), by stamp; only of simulated robots.
    :ivar executed: commands that the safety monitor has let through, by stamp.
    :ivar variations: what is different in a simulated robot's episodes, by episode id.
    :ivar safety: the newest values on ``safety/state``; empty before the first.
    """

    def __init__(self, task: Task, namespace: str, description: str) -> None:
        self._task = task
        self._mode = task.robot.config.control_mode
        self.domain_id = ros_environment.prepare(os.environ)
        self.namespace = '/' + namespace.strip('/')
        self._reader = StateReader(task)
        self._answer: JointState | None = None
        self._answered_ns = -1
        self._holding = False
        self._awaited: int | None = None
        self._came = 0
        self.safety: dict[str, str] = {}
        self.forget()
        self._lock = RunLock('gym client', self.domain_id, namespace, description).acquire()
        self._context: Context | None = None
        try:
            self._context = Context()
            self._context.init(args=[], domain_id=self.domain_id)
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        node = self._node = Node(
            'gym_client', context=self._context, namespace=self.namespace,
            use_global_arguments=False, start_parameter_services=False)
        self._commands = node.create_publisher(JointState, 'policy/joint_command', qos.STREAM)
        for kind, topic, callback, profile in (
                (PoseStamped, 'goal', self._on_goal, qos.EPISODE),
                (JointState, 'joint_command', self._on_executed, qos.EXECUTED),
                *((kind, topic, partial(self._on_state, topic), qos.STREAM)
                  for topic, kind in self._reader.topics.items()),
                (JointState, 'reward', self._on_reward, qos.STREAM),
                (DiagnosticArray, 'safety/state', self._on_safety, qos.LATCHED)):
            node.create_subscription(kind, topic, callback, profile)
        if self._task.contract.privileged is not None:
            node.create_subscription(JointState, 'privileged', self._on_privileged, qos.STREAM)
        if self._task.variation_names:
            node.create_subscription(JointState, 'randomisation', self._on_variation, qos.EPISODE)
        self._reset = node.create_client(Trigger, 'robot_bridge/reset')
        self._clear = node.create_client(Trigger, 'safety_monitor/clear_stop')
        self._get = node.create_client(GetParameters, 'robot_bridge/get_parameters')
        self._set = node.create_client(SetParameters, 'robot_bridge/set_parameters')
        self._spinner = NodeSpinner(node)

    def close(self) -> None:
        """Let go of everything; may be called again."""
        context, self._context = self._context, None
        if context is not None:
            if hasattr(self, '_spinner'):
                self._spinner.shutdown()
            if hasattr(self, '_node'):
                self._node.destroy_node()
            context.try_shutdown()
        self._lock.release()

    # --- what arrives -------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop all messages, as before a new episode."""
        self.states: dict[int, RobotState] = {}
        self.rewards: dict[tuple[int, str], Outcome] = {}
        self.executed: dict[int, JointCommand] = {}
        self.privileged: dict[int, np.ndarray] = {}
        self.variations: dict[str, dict[str, float]] = {}
        self._goals = GoalBook()

    def forget_before(self, stamp_ns: int) -> None:
        """Drop what belongs to states older than ``stamp_ns``."""
        self.states = {k: v for k, v in self.states.items() if k >= stamp_ns}
        self.executed = {k: v for k, v in self.executed.items() if k >= stamp_ns}
        self.privileged = {k: v for k, v in self.privileged.items() if k >= stamp_ns}
        self.rewards = {k: v for k, v in self.rewards.items() if k[0] >= stamp_ns}

    def goal_of(self, state: RobotState) -> Goal | None:
        """Return the goal of a state, None where it has not come yet."""
        return self._goals.of(state)

    @property
    def newest(self) -> RobotState | None:
        """Return the state that came last."""
        return next(reversed(self.states.values()), None)

    @property
    def stopped(self) -> str:
        """Return why the safety monitor has stopped the robot, or ``''``."""
        if self.safety.get('mode') != 'STOPPED':
            return ''
        return f'{self.safety.get("check")}: {self.safety.get("reason")}'

    def _on_state(self, topic: str, msg: Any) -> None:
        self._came += 1
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
            return
        if state is None:  # a part of it is on its way
            return
        _keep(self.states, state.stamp_ns, state)
        if self._holding and episode_number(state) != self._awaited:
            self.answer(state, self._task.hold_command(state))
        elif self._answer is not None and state.stamp_ns == self._answered_ns:
            self._commands.publish(self._answer)  # asked again: the same answer

    def _on_goal(self, msg: PoseStamped) -> None:
        self._came += 1
        try:
            self._goals.add(conversions.msg_to_goal(msg, self._task.goal_frame))
        except SpecError as error:
            self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def _on_variation(self, msg: JointState) -> None:
        self._came += 1
        try:
            _, episode, values = conversions.msg_to_variation(msg)
        except SpecError as error:
            self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
            return
        _keep(self.variations, episode, values)

    def _on_privileged(self, msg: JointState) -> None:
        self._came += 1
        try:
            stamp, values = conversions.msg_to_privileged(
                msg, self._task.contract.privileged.elements)
        except SpecError as error:
            self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
            return
        _keep(self.privileged, stamp, values.astype(np.float32))

    def _on_executed(self, msg: JointState) -> None:
        self._came += 1
        command = conversions.msg_to_command(msg, self._mode)[1]
        _keep(self.executed, command.stamp_ns, command)

    def _on_reward(self, msg: JointState) -> None:
        self._came += 1
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
            return
        _keep(self.rewards, (stamp, episode), outcome)

    def _on_safety(self, msg: DiagnosticArray) -> None:
        self._came += 1
        self.safety = conversions.status_values(msg)

    # --- acting and waiting -------------------------------------------------------------------

    def answer(self, state: RobotState, command: Any) -> None:
        """Publish the wanted command, shape (A,), for a state."""
        self._answered_ns = state.stamp_ns
        self._answer = conversions.command_to_msg(
            JointCommand(state.stamp_ns, SOURCE, command), self._task.robot.command_names,
            self._mode)
        self._commands.publish(self._answer)

    def hold(self, holding: bool, awaited: int | None = None) -> None:
        """
        Answer, or no longer answer, every state that comes with "stay where you are".

        :param awaited: number of an episode whose states are left to the caller.
        """
        self._holding, self._awaited, self._answer = holding, awaited, None

    def drain(self) -> None:
        """Take everything that has arrived already."""
        came = -1
        while came != self._came:
            came = self._came
            self._spinner.once(0.0)

    def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Take messages until a condition holds; return whether it does."""
        deadline = steady_ns() + round(timeout_s * NS)
        while not condition():
            left_s = (deadline - steady_ns()) / NS
            if left_s <= 0:
                return False
            self._spinner.once(min(left_s, WAKE_S))
        return True

    def _call(self, client: Client, request: Any, timeout_s: float) -> Any:
        """Return a service's answer; GraphError names what did not answer."""
        name = client.srv_name
        begun = steady_ns()
        if not self.until(client.service_is_ready, timeout_s):
            raise GraphError(f'no service {name} in ROS domain {self.domain_id} for '
                             f'{timeout_s:g} s: is the graph running? Start it with '
                             f'"rl_nodes launch gym" and the same robot, task and namespace')
        future = client.call_async(request)
        left_s = max(timeout_s - (steady_ns() - begun) / NS, 0.0)
        if not self.until(future.done, left_s):
            client.remove_pending_request(future)
            raise GraphError(f'{name} did not answer for {timeout_s:g} s: has its node died?')
        return future.result()

    def bridge_parameters(self, names: tuple[str, ...], timeout_s: float) -> dict[str, str]:
        """Return text parameters of the robot bridge."""
        values = self._call(self._get, GetParameters.Request(names=names), timeout_s).values
        return {name: value.string_value for name, value in zip(names, values)}

    def seed(self, seed: int, timeout_s: float) -> None:
        """Set the seed from which the next reset starts; GraphError where it is refused."""
        if not -2**63 <= seed < 2**63:
            raise GraphError(f'seed {seed} does not fit into 64 bits')
        self._set_parameter('seed', ParameterValue(
            type=ParameterType.PARAMETER_INTEGER, integer_value=seed), timeout_s)

    def difficulty(self, value: float, timeout_s: float) -> None:
        """Set the difficulty of the next episodes; GraphError where it is refused."""
        self._set_parameter('difficulty', ParameterValue(
            type=ParameterType.PARAMETER_DOUBLE, double_value=value), timeout_s)

    def _set_parameter(self, name: str, value: ParameterValue, timeout_s: float) -> None:
        result = self._call(self._set, SetParameters.Request(
            parameters=[Parameter(name=name, value=value)]), timeout_s).results[0]
        if not result.successful:
            given = value.integer_value if name == 'seed' else value.double_value
            raise GraphError(f'robot_bridge refuses {name} {given}: {result.reason}')

    def reset(self, timeout_s: float) -> int:
        """Begin another episode; return its number."""
        answer = self._call(self._reset, Trigger.Request(), timeout_s)
        if not answer.success:
            raise GraphError(f'robot_bridge/reset was refused: {answer.message}')
        try:
            return conversions.episode_of_answer(answer.message)
        except SpecError as error:
            raise GraphError(str(error)) from None

    def clear_stop(self, timeout_s: float) -> str:
        """Ask the safety monitor to allow motion; return why it refuses, or ``''``."""
        answer = self._call(self._clear, Trigger.Request(), timeout_s)
        return '' if answer.success else answer.message

    def require_matched(self, timeout_s: float) -> None:
        """Wait until the control nodes are connected; GraphError names the one that is not."""
        for what, there in (
                ('safety_monitor: nobody listens to policy/joint_command',
                 self._commands.get_subscription_count),
                ('safety_monitor: nothing on safety/state', lambda: len(self.safety)),
                ('robot_bridge: nobody publishes joint_states',
                 lambda: self._node.count_publishers('joint_states')),
                ('reward_computer: nobody publishes reward',
                 lambda: self._node.count_publishers('reward'))):
            if not self.until(there, timeout_s):
                raise GraphError(f'{what} within {timeout_s:g} s (ROS domain {self.domain_id}, '
                                 f'namespace {self.namespace!r}); is that node running?')

    def require_alone(self) -> None:
        """Require that nobody else commands; discovery takes seconds, so ask at each reset."""
        others = [info.node_name for info in
                  self._node.get_publishers_info_by_topic('policy/joint_command')
                  if info.node_name != self._node.get_name()]
        if others:
            names = ', '.join(others).replace(UNNAMED, 'a node unknown by name')
            raise GraphError(f'{names} also publishes policy/joint_command; only one may act. '
                             'Start the graph with "rl_nodes launch gym", which has no policy '
                             'server')


def episode_number(state: RobotState) -> int:
    """Return the number of a state's episode."""
    return EpisodeId.parse(state.episode).number


def _keep(found: dict[Any, Any], key: Any, value: Any) -> None:
    found[key] = value
    if len(found) > KEPT:
        del found[next(iter(found))]
