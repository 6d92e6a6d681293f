# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the bridge says about its robot: states and goals, and when they went out."""

from collections.abc import Callable

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.core.variation import Variation
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.bridge.privileged import PrivilegedTopic
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import StatePublisher
from sensor_msgs.msg import JointState

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
KEPT_STATES = 256  # newest states whose commands are timed; a command answering an older is void


class Outlet:
    """
    Publishes goals and states, and times the commands that answer them.

    :param node: the bridge, while it configures.
    :ivar state: the newest state published; None before the first.
    :ivar published_at: steady time when it went out [ns].
    :ivar latency: from a state to the command that answers it.
    :ivar transmit: hands a state to the middleware.
    :ivar privileged: what goes out before each state; None where the task has no such signals.
    :ivar send: takes a state on its way out; a channel may be put here.
    """

    def __init__(self, node: TaskNode) -> None:
        self.transmit = StatePublisher(node, node.task).publish
        self._goal_frame = node.task.goal_frame
        self._goals = node.publish_on(PoseStamped, 'goal', qos.EPISODE)
        self._variations = (node.publish_on(JointState, 'randomisation', qos.EPISODE)
                            if node.task.variation_names else None)
        self._sampled_at: dict[int, int] = {}  # steady time of the newest states, by stamp
        self.state: RobotState | None = None
        self.published_at = 0
        self.latency = LatencyWindow()
        self.send: Callable[[RobotState], None] = self.transmit
        self.privileged = PrivilegedTopic(node) if node.task.contract.privileged else None

    def goal(self, stamp_ns: int, position: np.ndarray) -> None:
        """Publish the goal [m] of the state that comes next, stamped like it."""
        self._goals.publish(conversions.goal_to_msg(Goal(stamp_ns, position, UPRIGHT),
                                                    self._goal_frame))

    def variation(self, stamp_ns: int, episode: str, variation: Variation | None) -> None:
        """Publish what is different in the episode that comes next, stamped like the goal."""
        if self._variations is not None and variation is not None:
            self._variations.publish(
                conversions.variation_to_msg(stamp_ns, episode, variation.values))

    def publish(self, state: RobotState) -> None:
        """Publish a state, or publish it again."""
        if self.privileged is not None:
            self.privileged.publish()
        self.state = state
        self.published_at = self._sampled_at[state.stamp_ns] = steady_ns()
        if len(self._sampled_at) > KEPT_STATES:
            del self._sampled_at[next(iter(self._sampled_at))]
        self.send(state)

    def answered(self, stamp_ns: int) -> None:
        """Time a command by the stamp of the state that caused it."""
        sampled_at = self._sampled_at.get(stamp_ns)
        if sampled_at is not None:
            self.latency.add((steady_ns() - sampled_at) / NS)
