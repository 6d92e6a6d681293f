# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One robot that the policy server serves: what it asks and what it is answered."""

from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import StateReader
from sensor_msgs.msg import JointState


class PolicyClient:
    """
    Answers each state of one robot with the command that the policy in force wants.

    :param node: makes the entities; its task is done by the robot.
    :param namespace: of the robot, relative to the node's.
    :param rng: of the exploration noise; None where the policy acts without.
    :ivar dropped: how many messages were.
    """

    def __init__(self, node: TaskNode, namespace: str, rng: np.random.Generator | None) -> None:
        self._node = node
        self._task, self._model = node.task, node.task.robot
        self._policy: PolicyRuntime | None = None
        self._rng = rng
        self._windows = {'inference': LatencyWindow(), 'total': LatencyWindow()}
        self._goals = GoalBook()
        self._observer = node.task.observer()
        self._waiting: RobotState | None = None
        self._answer: tuple[int, JointState] | None = None
        self.dropped = 0
        self._commands = node.publish_on(
            JointState, topic_in(namespace, 'policy/joint_command'), qos.STREAM)
        node.subscribe(PoseStamped, topic_in(namespace, 'goal'), self._on_goal, qos.EPISODE)
        self._reader = StateReader(node.task)
        for topic, kind in self._reader.topics.items():
            node.subscribe(kind, topic_in(namespace, topic), partial(self._on_state, topic),
                           qos.SENSOR)

    def use(self, policy: PolicyRuntime) -> None:
        """Let a verified policy take over between two states; from any thread."""
        self._policy = policy

    def start(self) -> None:
        """Nothing to begin: the node's executor brings the states."""

    def stop(self) -> None:
        """Nothing to end: the node's executor brings no more states."""

    def close(self) -> None:
        """Nothing to let go of: the node destroys its topics."""

    def latencies(self, kind: str) -> np.ndarray:
        """Return the newest durations [s]; kind: ``inference`` or ``total``."""
        return self._windows[kind].values()

    def details(self) -> dict[str, Any]:
        """Return how many states were answered."""
        return {'answered': self._windows['total'].count}

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg, self._task.goal_frame))
        except SpecError as error:
            self._refuse(error)
            return
        if self._waiting is not None:
            self._tick(self._waiting, steady_ns())

    def _on_state(self, topic: str, msg: Any) -> None:
        arrived = steady_ns()
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._refuse(error)
            return
        if state is None:  # a part of it is on its way
            return
        if self._answer is not None and self._answer[0] == state.stamp_ns:
            self._commands.publish(self._answer[1])  # asked again: the same answer, same noise
        else:
            self._tick(state, arrived)

    def _tick(self, state: RobotState, arrived_ns: int) -> None:
        """Answer a complete state: observe, infer, command."""
        policy = self._policy  # a newer one takes over here, between two states
        self._waiting = None
        goal = self._goals.of(state)
        if goal is None:  # the goal of a new episode is still on its way
            self._waiting = state
            return
        try:
            observation = self._observer.observe(state, goal)
            if policy is None:
                return
            begun = steady_ns()
            action = (policy.act(observation) if self._rng is None
                      else policy.sample(observation, self._rng))
            self._windows['inference'].add((steady_ns() - begun) / NS)
        except SpecError as error:
            self._refuse(error)
            return
        command = JointCommand(state.stamp_ns, policy.bundle.label,
                               self._task.command(state, action))
        self._observer.acted(state, command.value)
        msg = conversions.command_to_msg(command, self._model.command_names,
                                         self._model.config.control_mode)
        self._commands.publish(msg)
        self._answer = (state.stamp_ns, msg)
        self._windows['total'].add((steady_ns() - arrived_ns) / NS)

    def _refuse(self, error: SpecError) -> None:
        self.dropped += 1
        self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
