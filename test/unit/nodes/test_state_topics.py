# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Objects and ranges survive the wire bit for bit and join their states; others are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rl_nodes.core.errors import SpecError
from rl_nodes.core.inertial import ForceTorqueConfig, ImuConfig
from rl_nodes.core.robot import RangeSensorConfig
from rl_nodes.core.types import RobotState
from rl_nodes.nodes import conversions
from rl_nodes.nodes.state_topics import StatePublisher, StateReader
from rl_nodes.nodes.transition_feed import TransitionFeed
from rl_nodes.tasks import load_task

SENSOR = RangeSensorConfig('lidar', 5, 2.0, 0.1, 4.0)
STAMP = 12_345_678_901


def poses() -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(3, 7))
    found[:, 3:] /= np.linalg.norm(found[:, 3:], axis=1, keepdims=True)
    return found


def ranges() -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 4.0, 5).astype(np.float32).astype(np.float64)


def imu() -> np.ndarray:
    return np.array([0.5, -0.5, 0.5, 0.5, 0.1, -0.2, 0.3, 0.7, -9.1, 3.3])


def wrench() -> np.ndarray:
    return np.random.default_rng(2).normal(size=6)


def task(floating: bool = False) -> SimpleNamespace:
    config = SimpleNamespace(
        floating_base=floating, range_sensor=SENSOR, imu=ImuConfig('tool'),
        force_torque=ForceTorqueConfig('wrist'))
    urdf = SimpleNamespace(joints={'wrist': SimpleNamespace(child='hand')})
    return SimpleNamespace(robot=SimpleNamespace(joint_names=('pan',), config=config, urdf=urdf),
                           objects=(None,) * 3,
                           state_parts=('objects', 'ranges', 'imu', 'wrench'))


class Wire:
    """A node whose publishers hand what they get, serialized, to a reader."""

    def __init__(self, reader: StateReader) -> None:
        self.reader, self.topics, self.got = reader, [], []

    def publish_on(self, kind: type, topic: str, profile: object) -> SimpleNamespace:
        def publish(msg: object) -> None:
            self.topics.append(topic)
            data = msg if isinstance(msg, bytes) else serialize_message(msg)
            self.got.append(self.reader.read(topic, deserialize_message(data, kind)))
        return SimpleNamespace(publish=publish)


def state() -> RobotState:
    return RobotState(STAMP, '1@0', np.array([0.5]), np.array([0.1]), np.array([2.0]), None,
                      poses(), ranges(), imu(), wrench())


@pytest.mark.parametrize('floating', [False, True])
def test_a_state_comes_back_bit_for_bit_and_its_joints_come_last(floating: bool) -> None:
    wire = Wire(StateReader(task(floating)))
    publisher = StatePublisher(wire, task(floating))
    publisher.publish(state())
    assert wire.topics == ['objects', 'scan', 'imu', 'wrench', 'joint_states']
    assert wire.got[:4] == [None] * 4
    for name in ('position', 'velocity', 'effort', 'objects', 'ranges', 'imu', 'wrench'):
        assert getattr(wire.got[4], name).tobytes() == getattr(state(), name).tobytes()
    publisher.publish(state())
    assert wire.got[-1] is not None, 'published again, it is complete again'


def test_a_recorder_is_told_every_topic_with_its_type() -> None:
    names = TransitionFeed(load_task('rover', 'navigate')).type_names()
    assert names['joint_states'] == names['reward'] == 'sensor_msgs/msg/JointState'
    assert names['goal'] == 'geometry_msgs/msg/PoseStamped'
    assert names['odom'] == 'nav_msgs/msg/Odometry'
    assert names['scan'] == 'sensor_msgs/msg/LaserScan'
    pushing = TransitionFeed(load_task('arm', 'push')).type_names()
    assert pushing['objects'] == 'geometry_msgs/msg/PoseArray'
    assert set(pushing) == {'joint_states', 'objects', 'goal', 'policy/joint_command',
                            'teleop/joint_command', 'joint_command', 'reward'}


def test_a_scan_says_where_its_rays_point() -> None:
    scan = conversions.ranges_to_scan(STAMP, ranges(), SENSOR)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    np.testing.assert_allclose(angles, [-1.0, -0.5, 0.0, 0.5, 1.0], atol=1e-6)
    assert angles[-1] == pytest.approx(scan.angle_max)
    assert (scan.range_min, scan.range_max) == pytest.approx((0.1, 4.0))
    assert scan.header.frame_id == 'lidar'


@pytest.mark.parametrize(('what', 'reason'), [
    ('frame', "frame 'map', expected 'base_link'"), ('count', '2 poses, expected 3'),
    ('nan', 'not finite'), ('length', 'expected 1')])
def test_wrong_objects_are_refused(what: str, reason: str) -> None:
    message = conversions.objects_to_msg(1, poses(), 'base_link')
    if what == 'frame':
        message.header.frame_id = 'map'
    elif what == 'count':
        message.poses.pop()
    elif what == 'nan':
        message.poses[1].position.y = float('nan')
    else:
        message.poses[2].orientation.w += 0.5
    with pytest.raises(SpecError, match=reason):
        conversions.msg_to_objects(message, 3, 'base_link')


def test_a_wrong_scan_is_refused() -> None:
    message = conversions.ranges_to_scan(1, ranges(), SENSOR)
    message.ranges[3] = float('inf')
    with pytest.raises(SpecError, match='not finite'):
        conversions.scan_to_ranges(message, SENSOR)
    message.ranges.pop()
    with pytest.raises(SpecError, match='4 values, expected 5'):
        conversions.scan_to_ranges(message, SENSOR)


@pytest.mark.parametrize(('what', 'reason'), [
    ('frame', "imu is in frame 'base_link', expected 'tool'"), ('nan', 'imu is not finite'),
    ('length', 'length 1.* expected 1'), ('unmeasured', 'does not measure orientation')])
def test_a_wrong_imu_is_refused(what: str, reason: str) -> None:
    message = conversions.imu_to_msg(1, imu(), 'tool')
    if what == 'frame':
        message.header.frame_id = 'base_link'
    elif what == 'nan':
        message.angular_velocity.z = float('nan')
    elif what == 'length':
        message.orientation.w = 1.0
    else:
        message.orientation_covariance[0] = -1.0
    with pytest.raises(SpecError, match=reason):
        conversions.msg_to_imu(message, 'tool')


def test_a_wrong_wrench_is_refused() -> None:
    message = conversions.wrench_to_msg(1, wrench(), 'hand')
    with pytest.raises(SpecError, match="wrench is in frame 'hand', expected 'tool'"):
        conversions.msg_to_wrench(message, 'tool')
    message.wrench.torque.y = float('inf')
    with pytest.raises(SpecError, match='wrench is not finite'):
        conversions.msg_to_wrench(message, 'hand')
