# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The topics that a robot's state is spread over, and the complete states that come of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseArray, WrenchStamped
from nav_msgs.msg import Odometry
from rl_nodes.core.state_join import StateJoin
from rl_nodes.core.types import RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import Imu, JointState, LaserScan

JOINTS = 'joint_states'


class _Part(NamedTuple):
    """
    One part of a state beside its joints.

    :param topic: where it is published, stamped like its ``joint_states``.
    :param kind: type of its messages.
    :param to_msg: message of (stamp [ns], value).
    :param from_msg: (stamp [ns], value) of a message; raises SpecError.
    """

    topic: str
    kind: type
    to_msg: Callable[[int, Any], Any]
    from_msg: Callable[[Any], tuple[int, Any]]


def _parts(task: Task) -> dict[str, _Part]:
    """Return what the states of a robot doing a task have beside joints, by field name."""
    config, count = task.robot.config, len(task.objects)
    sensor = config.range_sensor
    frame = conversions.ODOM if config.floating_base else conversions.BASE_LINK

    def behind() -> str:
        """Return the link behind the joint that the force-torque sensor sits in."""
        return task.robot.urdf.joints[config.force_torque.joint].child
    known = {
        'base': _Part('odom', Odometry, conversions.base_to_odom, conversions.odom_to_base),
        'objects': _Part('objects', PoseArray,
                         lambda stamp, poses: conversions.objects_to_msg(stamp, poses, frame),
                         lambda msg: conversions.msg_to_objects(msg, count, frame)),
        'ranges': _Part('scan', LaserScan,
                        lambda stamp, ranges: conversions.ranges_to_scan(stamp, ranges, sensor),
                        lambda msg: conversions.scan_to_ranges(msg, sensor)),
        'imu': _Part('imu', Imu,
                     lambda stamp, imu: conversions.imu_to_msg(stamp, imu, config.imu.link),
                     lambda msg: conversions.msg_to_imu(msg, config.imu.link)),
        'wrench': _Part('wrench', WrenchStamped,
                        lambda stamp, wrench: conversions.wrench_to_msg(stamp, wrench, behind()),
                        lambda msg: conversions.msg_to_wrench(msg, behind()))}
    return {name: known[name] for name in task.state_parts}


class StateReader:
    """
    Complete states from the messages of all topics that they are spread over.

    :param task: whose robot publishes them.
    :ivar topics: message type by topic, ``joint_states`` among them.
    """

    def __init__(self, task: Task) -> None:
        self._names = task.robot.joint_names
        self._parts = {part.topic: (field, part) for field, part in _parts(task).items()}
        self._join = StateJoin(task.state_parts)
        self.topics: dict[str, type] = {
            JOINTS: JointState, **{topic: part.kind for topic, (_, part) in self._parts.items()}}

    def read(self, topic: str, msg: Any) -> RobotState | None:
        """
        Return the state that a message completes, or None while others are on their way.

        :raises SpecError: the message is not what its topic promises.
        """
        if topic == JOINTS:
            return self._join.add_state(conversions.msg_to_state(msg, self._names))
        field, part = self._parts[topic]
        return self._join.add(field, *part.from_msg(msg))


class StatePublisher:
    """
    Publishes states, each part before its ``joint_states``.

    :param node: that publishes, from its configuration to its cleanup.
    :param task: whose robot it is.
    """

    def __init__(self, node: ManagedNode, task: Task) -> None:
        self._names = task.robot.joint_names
        self._parts = [(field, part.to_msg, node.publish_on(part.kind, part.topic, qos.STREAM))
                       for field, part in _parts(task).items()]
        self._joints = node.publish_on(JointState, JOINTS, qos.STREAM)

    def publish(self, state: RobotState) -> None:
        """Publish one state; a part that was not measured is left out."""
        for field, to_msg, publisher in self._parts:
            value = getattr(state, field)
            if value is not None:
                publisher.publish(to_msg(state.stamp_ns, value))
        self._joints.publish(conversions.state_to_msg(state, self._names))
