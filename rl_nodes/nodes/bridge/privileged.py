# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What only a critic or a teacher sees of a simulated robot, while training."""

import numpy as np
from rl_nodes.backends.base import Measurement
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import TaskNode
from sensor_msgs.msg import JointState

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


class PrivilegedTopic:
    """
    Publishes the task's privileged signals of each state, before the state itself.

    :param node: the bridge, while it configures; its task lists privileged signals.
    """

    def __init__(self, node: TaskNode) -> None:
        self._task = node.task
        self._names = node.task.contract.privileged.elements
        self._topic = node.publish_on(JointState, 'privileged', qos.STREAM)
        self._message: JointState | None = None

    def begin(self, stamp_ns: int, start: Start) -> None:
        """Take note of how an episode starts whose first state comes next."""
        self._goal, self._variation = Goal(stamp_ns, start.goal, UPRIGHT), start.variation

    def sample(self, stamp_ns: int, episode: str, truth: Measurement) -> None:
        """Take note of how the robot really is."""
        values = self._task.privileged(RobotState(stamp_ns, episode, *truth), self._goal,
                                       self._variation)
        self._message = conversions.privileged_to_msg(stamp_ns, episode, self._names, values)

    def publish(self) -> None:
        """Publish the newest sample, or publish it again."""
        if self._message is not None:
            self._topic.publish(self._message)
