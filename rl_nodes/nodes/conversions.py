# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages to core records and back; the only place that knows both."""

from array import array
import re
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, WrenchStamped
from nav_msgs.msg import Odometry
import numpy as np
from rl_nodes.core.errors import NotFiniteError, SpecError
from rl_nodes.core.origin import labelled, split_label
from rl_nodes.core.range_sensor import RangeSensorConfig
from rl_nodes.core.timing import NS
from rl_nodes.core.types import (
    BaseState,
    EpisodeId,
    Goal,
    JointCommand,
    Outcome,
    RobotState,
    TransitionBatch,
)
from rl_nodes.data import experience
from rl_nodes.inference.bundle import identify, PolicyBundle
from rl_nodes.nodes import joint_state
from sensor_msgs.msg import Imu, JointState, LaserScan
from std_msgs.msg import Float32MultiArray, MultiArrayDimension, UInt8MultiArray

BASE_LINK = 'base_link'
ODOM = 'odom'
FLAGS = ('terminated', 'truncated', 'success')


def stamp_to_ns(stamp: Time) -> int:
    """Return a message stamp [ns]."""
    return stamp.sec * NS + stamp.nanosec


def ns_to_stamp(ns: int) -> Time:
    """Return a message stamp of nanoseconds."""
    return Time(sec=ns // NS, nanosec=ns % NS)


def vector(name: str, values: Any, length: int) -> np.ndarray:
    """Return a float64 copy of a message's numbers; SpecError unless there are ``length``."""
    if len(values) != length:
        raise SpecError(f'{name} has {len(values)} values, expected {length}')
    return np.array(values, np.float64)


def state_to_msg(state: RobotState, names: tuple[str, ...]) -> bytes:
    """Return the serialized message of a state; its ``frame_id`` is the episode id."""
    return joint_state.encode(state.stamp_ns, state.episode, names, state.position,
                              state.velocity, state.effort)


def msg_to_state(msg: JointState, names: tuple[str, ...]) -> RobotState:
    """
    Return the state in a message, reordered by name; joints we do not know are left out.

    :raises SpecError: a joint is missing or twice, or position and velocity differ in length.
    """
    count = len(msg.name)
    position = vector('joint_states.position', msg.position, count)
    velocity = vector('joint_states.velocity', msg.velocity, count)
    effort = np.array(msg.effort, np.float64)
    if tuple(msg.name) != names:
        if len(set(msg.name)) != count:
            raise SpecError(f'joint_states names a joint twice: {", ".join(msg.name)}')
        missing = [name for name in names if name not in msg.name]
        if missing:
            raise SpecError(f'joint_states lacks {", ".join(missing)}; it has '
                            f'{", ".join(msg.name) or "nothing"}')
        order = [msg.name.index(name) for name in names]
        position, velocity = position[order], velocity[order]
        effort = effort[order] if len(effort) == count else np.empty(0)
    if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
        raise NotFiniteError('joint_states is not finite')
    try:
        EpisodeId.parse(msg.header.frame_id)
    except ValueError as error:
        raise SpecError(f'joint_states: {error}') from None
    return RobotState(stamp_to_ns(msg.header.stamp), msg.header.frame_id, position, velocity,
                      effort if len(effort) == len(names) else np.empty(0))


def base_to_odom(stamp_ns: int, base: BaseState) -> Odometry:
    """Return the message of a floating base: ``base_link`` in ``odom``, no covariance."""
    msg = Odometry(child_frame_id=BASE_LINK)
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = ODOM
    pose, twist = msg.pose.pose, msg.twist.twist
    point, rotation = pose.position, pose.orientation
    point.x, point.y, point.z = base.position.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = base.orientation.tolist()
    twist.linear.x, twist.linear.y, twist.linear.z = base.linear_velocity.tolist()
    twist.angular.x, twist.angular.y, twist.angular.z = base.angular_velocity.tolist()
    return msg


def odom_to_base(msg: Odometry) -> tuple[int, BaseState]:
    """
    Return (stamp [ns], floating base) of a message.

    :raises SpecError: other frames, not finite, or no unit quaternion.
    """
    frames = (msg.header.frame_id, msg.child_frame_id)
    if frames != (ODOM, BASE_LINK):
        raise SpecError(f'odom has {frames[1]!r} in {frames[0]!r}, expected {BASE_LINK!r} in '
                        f'{ODOM!r}')
    point, rotation = msg.pose.pose.position, msg.pose.pose.orientation
    linear, angular = msg.twist.twist.linear, msg.twist.twist.angular
    base = BaseState(
        np.array([point.x, point.y, point.z]),
        np.array([rotation.x, rotation.y, rotation.z, rotation.w]),
        np.array([linear.x, linear.y, linear.z]), np.array([angular.x, angular.y, angular.z]))
    values = np.concatenate([base.position, base.orientation, base.linear_velocity,
                             base.angular_velocity])
    if not np.isfinite(values).all():
        raise NotFiniteError(f'odom is not finite: {values.tolist()}')
    _require_unit('odom', base.orientation)
    return stamp_to_ns(msg.header.stamp), base


def objects_to_msg(stamp_ns: int, poses: np.ndarray, frame: str) -> PoseArray:
    """Return the message of objects: poses (N, 7) in ``frame``, in the order of the task."""
    msg = PoseArray()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = frame
    for values in poses.tolist():
        pose = Pose()
        point, rotation = pose.position, pose.orientation
        point.x, point.y, point.z, rotation.x, rotation.y, rotation.z, rotation.w = values
        msg.poses.append(pose)
    return msg


def msg_to_objects(msg: PoseArray, count: int, frame: str) -> tuple[int, np.ndarray]:
    """
    Return (stamp [ns], poses (N, 7)) of a message.

    :raises SpecError: another frame or number of poses, not finite, or no unit quaternion.
    """
    if msg.header.frame_id != frame:
        raise SpecError(f'objects are in frame {msg.header.frame_id!r}, expected {frame!r}')
    if len(msg.poses) != count:
        raise SpecError(f'objects has {len(msg.poses)} poses, expected {count}')
    poses = np.array([[p.position.x, p.position.y, p.position.z, p.orientation.x,
                       p.orientation.y, p.orientation.z, p.orientation.w] for p in msg.poses])
    if not np.isfinite(poses).all():
        raise NotFiniteError(f'objects is not finite: {poses.tolist()}')
    for pose in poses:
        _require_unit('objects', pose[3:])
    return stamp_to_ns(msg.header.stamp), poses


def ranges_to_scan(stamp_ns: int, ranges: np.ndarray, sensor: RangeSensorConfig) -> LaserScan:
    """Return the message of a range sensor's distances [m], taken all at once."""
    msg = LaserScan(
        angle_min=-sensor.field_of_view_rad / 2, angle_max=sensor.field_of_view_rad / 2,
        angle_increment=sensor.field_of_view_rad / (sensor.rays - 1),
        range_min=sensor.min_m, range_max=sensor.max_m,
        ranges=array('f', ranges.astype(np.float32).tobytes()))
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = sensor.link
    return msg


def scan_to_ranges(msg: LaserScan, sensor: RangeSensorConfig) -> tuple[int, np.ndarray]:
    """Return (stamp [ns], distances [m]); SpecError for another number or not finite."""
    ranges = vector('scan.ranges', msg.ranges, sensor.rays)
    if not np.isfinite(ranges).all():
        raise NotFiniteError(f'scan is not finite: {ranges.tolist()}')
    return stamp_to_ns(msg.header.stamp), ranges


def imu_to_msg(stamp_ns: int, imu: np.ndarray, link: str) -> Imu:
    """Return the message of an inertial measurement unit (10,) on a link; no covariance."""
    msg = Imu()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = link
    turn, spin, felt = msg.orientation, msg.angular_velocity, msg.linear_acceleration
    turn.x, turn.y, turn.z, turn.w, spin.x, spin.y, spin.z, felt.x, felt.y, felt.z = imu.tolist()
    return msg


def msg_to_imu(msg: Imu, link: str) -> tuple[int, np.ndarray]:
    """
    Return (stamp [ns], what is measured (10,)) of a message.

    :raises SpecError: another frame, something not measured, not finite, or no unit quaternion.
    """
    _require_frame('imu', msg.header.frame_id, link)
    for name in ('orientation', 'angular_velocity', 'linear_acceleration'):
        if getattr(msg, f'{name}_covariance')[0] == -1.0:  # what drivers say of what they lack
            raise SpecError(f'imu does not measure {name} (its covariance begins with -1)')
    turn, spin, felt = msg.orientation, msg.angular_velocity, msg.linear_acceleration
    imu = np.array([turn.x, turn.y, turn.z, turn.w, spin.x, spin.y, spin.z,
                    felt.x, felt.y, felt.z])
    if not np.isfinite(imu).all():
        raise NotFiniteError(f'imu is not finite: {imu.tolist()}')
    _require_unit('imu', imu[:4])
    return stamp_to_ns(msg.header.stamp), imu


def wrench_to_msg(stamp_ns: int, wrench: np.ndarray, link: str) -> WrenchStamped:
    """Return the message of a wrench (6,) at the origin and in the axes of a link."""
    msg = WrenchStamped()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = link
    force, torque = msg.wrench.force, msg.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = wrench.tolist()
    return msg


def msg_to_wrench(msg: WrenchStamped, link: str) -> tuple[int, np.ndarray]:
    """Return (stamp [ns], wrench (6,)); SpecError for another frame or not finite."""
    _require_frame('wrench', msg.header.frame_id, link)
    force, torque = msg.wrench.force, msg.wrench.torque
    wrench = np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
    if not np.isfinite(wrench).all():
        raise NotFiniteError(f'wrench is not finite: {wrench.tolist()}')
    return stamp_to_ns(msg.header.stamp), wrench


def _require_frame(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise SpecError(f'{name} is in frame {found!r}, expected {expected!r}')


def _require_unit(name: str, quaternion: np.ndarray) -> None:
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) <= 1e-3:
        raise SpecError(f'{name}: the quaternion has length {length:.4g}, expected 1')


def command_to_msg(command: JointCommand, names: tuple[str, ...], mode: str) -> bytes:
    """Return the serialized message of a command; values go where the control mode has them."""
    values = {'position': joint_state.NOTHING, mode: command.value}
    return joint_state.encode(command.stamp_ns, labelled(command.source, command.intervention),
                              names, **values)


def msg_to_command(msg: JointState, mode: str) -> tuple[tuple[str, ...], JointCommand]:
    """Return (names as they came, command); length and values are judged by the supervisor."""
    value = np.array(getattr(msg, mode), np.float64)
    source, intervention = split_label(msg.header.frame_id)
    return tuple(msg.name), JointCommand(stamp_to_ns(msg.header.stamp), source, value,
                                         intervention)


def goal_to_msg(goal: Goal, frame: str) -> PoseStamped:
    """Return the message of a goal in ``frame``."""
    msg = PoseStamped()
    msg.header.stamp = ns_to_stamp(goal.stamp_ns)
    msg.header.frame_id = frame
    point, rotation = msg.pose.position, msg.pose.orientation
    point.x, point.y, point.z = goal.position.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = goal.orientation.tolist()
    return msg


def msg_to_goal(msg: PoseStamped, frame: str) -> Goal:
    """Return the goal in a message; SpecError unless finite and in ``frame``."""
    point, rotation = msg.pose.position, msg.pose.orientation
    position = np.array([point.x, point.y, point.z])
    orientation = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    if msg.header.frame_id != frame:
        raise SpecError(f'goal is in frame {msg.header.frame_id!r}, expected {frame!r}')
    if not (np.isfinite(position).all() and np.isfinite(orientation).all()):
        raise NotFiniteError('goal is not finite')
    return Goal(stamp_to_ns(msg.header.stamp), position, orientation)


def variation_to_msg(stamp_ns: int, episode: str, values: dict[str, float]) -> JointState:
    """Return the ``randomisation`` message: what is different in an episode, by name."""
    msg = JointState()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = episode
    msg.name = list(values)
    msg.position = array('d', values.values())
    return msg


def msg_to_variation(msg: JointState) -> tuple[int, str, dict[str, float]]:
    """Return (stamp [ns], episode id, values by name); SpecError for another layout."""
    values = vector('randomisation.position', msg.position, len(msg.name)).tolist()
    return stamp_to_ns(msg.header.stamp), msg.header.frame_id, dict(zip(msg.name, values))


def privileged_to_msg(stamp_ns: int, episode: str, names: tuple[str, ...],
                      values: np.ndarray) -> JointState:
    """Return the ``privileged`` message: what only a critic or a teacher sees of a state."""
    msg = JointState()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = episode
    msg.name = list(names)
    msg.position = array('d', values.tolist())
    return msg


def msg_to_privileged(msg: JointState, names: tuple[str, ...]) -> tuple[int, np.ndarray]:
    """Return (stamp [ns], values (P,)) in a message; SpecError for other names or not finite."""
    if tuple(msg.name) != names:
        raise SpecError(f'privileged names {", ".join(msg.name)}; expected {", ".join(names)}')
    return (stamp_to_ns(msg.header.stamp),
            vector('privileged.position', msg.position, len(names)))


def outcome_to_msg(stamp_ns: int, episode: str, outcome: Outcome) -> bytes:
    """Return the serialized ``reward``: total, every term, then the three flags as 0 or 1."""
    return joint_state.encode(
        stamp_ns, episode, ('total', *outcome.terms, *FLAGS),
        np.array([outcome.total, *outcome.terms.values(),
                  *(getattr(outcome, flag) for flag in FLAGS)], np.float64))


def msg_to_outcome(msg: JointState) -> tuple[int, str, Outcome]:
    """Return (stamp [ns], episode id, outcome); SpecError for another layout."""
    vector('reward.position', msg.position, len(msg.name))
    if tuple(msg.name[-3:]) != FLAGS or tuple(msg.name[:1]) != ('total',):
        raise SpecError(f'reward names {", ".join(msg.name)}; expected total, terms, '
                        f'{", ".join(FLAGS)}')
    values = msg.position.tolist()
    return stamp_to_ns(msg.header.stamp), msg.header.frame_id, Outcome(
        values[0], dict(zip(msg.name[1:-3], values[1:-3], strict=True)),
        *(value != 0.0 for value in values[-3:]))


def void_note(episode: str, why: str) -> str:
    """Return what ``robot/status`` says, as ``last_void``, of an episode that does not count."""
    return f'{episode}: {why}'


def void_of_status(msg: DiagnosticArray) -> tuple[str, str] | None:
    """Return (episode id, why) of the newest void episode in a ``robot/status``."""
    episode, found, why = status_values(msg).get('last_void', '').partition(': ')
    return (episode, why) if found else None


def hears_all(msg: DiagnosticArray) -> bool:
    """Return whether a ``recorder/status`` says that every topic has been heard."""
    return status_values(msg).get('hears_all') == 'True'


def reset_answer(number: int) -> str:
    """Return what ``robot_bridge/reset`` answers: which episode comes next."""
    return f'episode {number} starts'


def episode_of_answer(text: str) -> int:
    """Return the episode number in an answer of ``robot_bridge/reset``; SpecError if none."""
    number = re.fullmatch('episode ([0-9]+) starts', text)
    if number is None:
        raise SpecError(f'robot_bridge/reset answered {text!r}, expected "episode <n> starts"')
    return int(number[1])


def batch_to_msg(batch: TransitionBatch) -> Float32MultiArray:
    """Return the ``experience`` message of a batch: dimensions are rows and labelled columns."""
    columns, data = experience.encode(batch)
    width = sum(size for _, size in columns)
    msg = Float32MultiArray()
    msg.layout.dim = [
        MultiArrayDimension(label=experience.LAYOUT, size=len(batch), stride=len(data)),
        MultiArrayDimension(label=experience.format_columns(columns), size=width, stride=width)]
    msg.data = array('f', data.tobytes())
    return msg


def msg_to_batch(msg: Float32MultiArray, expected: experience.Columns) -> TransitionBatch:
    """Return the batch in a message; SpecError for another layout than the expected columns."""
    dims = msg.layout.dim
    if len(dims) != 2:
        raise SpecError(f'experience has {len(dims)} dimensions, expected rows and columns')
    return experience.decode(dims[0].label, dims[0].size, dims[1].label,
                             np.frombuffer(msg.data, np.float32), expected)


def bundle_to_msg(bundle: PolicyBundle) -> UInt8MultiArray:
    """Return the ``policy/update`` message: the ONNX file's bytes, the manifest as the label."""
    msg = UInt8MultiArray()
    msg.layout.dim = [MultiArrayDimension(label=bundle.manifest_json(), size=len(bundle.onnx),
                                          stride=len(bundle.onnx))]
    msg.data = array('B', bundle.onnx)
    return msg


def msg_to_bundle(msg: UInt8MultiArray) -> PolicyBundle:
    """Return the bundle in a message, whose graph is not checked yet; see ``identify``."""
    manifest = msg.layout.dim[0].label if msg.layout.dim else ''
    return identify(bytes(msg.data), manifest, 'the received policy')


def status(name: str, level: int, message: str, values: dict[str, Any]) -> DiagnosticStatus:
    """Return a diagnostic status; values become text."""
    return DiagnosticStatus(
        name=name, level=bytes([level]), message=message, hardware_id='rl_nodes',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])


def status_values(array_msg: DiagnosticArray) -> dict[str, str]:
    """Return the key-value pairs of the first status in an array."""
    if not array_msg.status:
        return {}
    return {pair.key: pair.value for pair in array_msg.status[0].values}
