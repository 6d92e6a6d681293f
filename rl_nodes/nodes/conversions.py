# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages to core records and back; the only place that knows both."""

from array import array
import re
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
import numpy as np
from rl_nodes.core.errors import SpecError
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
from rl_nodes.inference.bundle import PolicyBundle
from sensor_msgs.msg import JointState
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


def state_to_msg(state: RobotState, names: tuple[str, ...]) -> JointState:
    """Return the message of a state; its ``frame_id`` is the episode id."""
    msg = JointState()
    msg.header.stamp = ns_to_stamp(state.stamp_ns)
    msg.header.frame_id = state.episode
    msg.name = list(names)
    msg.position = array('d', state.position.tobytes())
    msg.velocity = array('d', state.velocity.tobytes())
    msg.effort = array('d', state.effort.tobytes())
    return msg


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
        raise SpecError('joint_states is not finite')
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
        raise SpecError(f'odom is not finite: {values.tolist()}')
    length = float(np.linalg.norm(base.orientation))
    if not abs(length - 1.0) <= 1e-3:
        raise SpecError(f'odom: the quaternion has length {length:.4g}, expected 1')
    return stamp_to_ns(msg.header.stamp), base


def command_to_msg(command: JointCommand, names: tuple[str, ...], mode: str) -> JointState:
    """Return the message of a command; values go where the control mode has them."""
    msg = JointState()
    msg.header.stamp = ns_to_stamp(command.stamp_ns)
    msg.header.frame_id = command.source
    msg.name = list(names)
    setattr(msg, mode, array('d', command.value.tobytes()))
    return msg


def msg_to_command(msg: JointState, mode: str) -> tuple[tuple[str, ...], JointCommand]:
    """Return (names as they came, command); length and values are judged by the supervisor."""
    value = np.array(getattr(msg, mode), np.float64)
    return tuple(msg.name), JointCommand(stamp_to_ns(msg.header.stamp), msg.header.frame_id, value)


def goal_to_msg(goal: Goal) -> PoseStamped:
    """Return the message of a goal."""
    msg = PoseStamped()
    msg.header.stamp = ns_to_stamp(goal.stamp_ns)
    msg.header.frame_id = BASE_LINK
    point, rotation = msg.pose.position, msg.pose.orientation
    point.x, point.y, point.z = goal.position.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = goal.orientation.tolist()
    return msg


def msg_to_goal(msg: PoseStamped) -> Goal:
    """Return the goal in a message; SpecError unless finite and in ``base_link``."""
    point, rotation = msg.pose.position, msg.pose.orientation
    position = np.array([point.x, point.y, point.z])
    orientation = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    if msg.header.frame_id != BASE_LINK:
        raise SpecError(f'goal is in frame {msg.header.frame_id!r}, expected {BASE_LINK!r}')
    if not (np.isfinite(position).all() and np.isfinite(orientation).all()):
        raise SpecError('goal is not finite')
    return Goal(stamp_to_ns(msg.header.stamp), position, orientation)


def outcome_to_msg(stamp_ns: int, episode: str, outcome: Outcome) -> JointState:
    """Return the ``reward`` message: total, every term, then the three flags as 0 or 1."""
    msg = JointState()
    msg.header.stamp = ns_to_stamp(stamp_ns)
    msg.header.frame_id = episode
    msg.name = ['total', *outcome.terms, *FLAGS]
    msg.position = array('d', [outcome.total, *outcome.terms.values(),
                               *(float(getattr(outcome, flag)) for flag in FLAGS)])
    return msg


def msg_to_outcome(msg: JointState) -> tuple[int, str, Outcome]:
    """Return (stamp [ns], episode id, outcome); SpecError for another layout."""
    vector('reward.position', msg.position, len(msg.name))
    if tuple(msg.name[-3:]) != FLAGS or msg.name[:1] != ['total']:
        raise SpecError(f'reward names {", ".join(msg.name)}; expected total, terms, '
                        f'{", ".join(FLAGS)}')
    values = list(msg.position)
    return stamp_to_ns(msg.header.stamp), msg.header.frame_id, Outcome(
        values[0], dict(zip(msg.name[1:-3], values[1:-3], strict=True)),
        *(value != 0.0 for value in values[-3:]))


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
    """Return the verified bundle in a message; BundleError where anything is wrong."""
    manifest = msg.layout.dim[0].label if msg.layout.dim else ''
    return PolicyBundle.from_parts(bytes(msg.data), manifest)


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
