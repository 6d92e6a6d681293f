# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot: its YAML record and the model that joins it with the URDF."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.cameras import CameraSensorConfig
from rl_nodes.core.config import load, suggestion
from rl_nodes.core.contract import ControlMode, Joint
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.gait import Gait, GaitConfig
from rl_nodes.core.inertial import check_force_torque, ForceTorqueConfig, Imu, ImuConfig
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.range_sensor import RangeSensor, RangeSensorConfig
from rl_nodes.core.resources import find_config, find_urdf
from rl_nodes.core.safety_config import SafetyConfig
from rl_nodes.core.types import BaseState
from rl_nodes.core.urdf import load_urdf, MOVABLE, Urdf

Positive = Annotated[float, Meta(gt=0)]


class JointConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One joint; limits left out come from the URDF and may only be tightened.

    :param name: as in the URDF.
    :param home: home position [rad or m].
    :param lower: least position [rad or m].
    :param upper: greatest position [rad or m].
    :param velocity: greatest speed [rad/s or m/s].
    :param effort: greatest effort [N·m or N].
    :param acceleration: greatest by which commands may speed up, and at which the joint can brake
        [rad/s² or m/s²]; none where neither is limited.
    :param jerk: greatest by which that acceleration may rise [rad/s³ or m/s³]; needs the latter.
    :param commanded: False for a passive joint.
    """

    name: str
    home: float = 0.0
    lower: float | None = None
    upper: float | None = None
    velocity: Positive | None = None
    effort: Positive | None = None
    acceleration: Positive | None = None
    jerk: Positive | None = None
    commanded: bool = True

    def __post_init__(self) -> None:
        if self.jerk is not None and self.acceleration is None:
            raise ValueError(f'joint {self.name}: jerk without acceleration limits nothing')


class CameraConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A virtual camera for pictures of a run.

    :param target: point looked at, in the world [m].
    :param distance_m: from the target.
    :param yaw_deg: around the vertical.
    :param pitch_deg: negative looks down.
    :param follow: the target moves with a floating base, at its height.
    """

    target: tuple[float, float, float] = (0.0, 0.0, 0.2)
    distance_m: Positive = 1.0
    yaw_deg: float = 50.0
    pitch_deg: float = -30.0
    follow: bool = False

    def looks_at(self, base: BaseState | None) -> list[float]:
        """Return the point looked at [m] while the base is there; None where it is fixed."""
        x, y, z = self.target
        return [x, y, z] if base is None or not self.follow else [
            x + float(base.position[0]), y + float(base.position[1]), z]

    @property
    def goal_radius_m(self) -> float:
        """Return the radius of a goal that is well visible from there."""
        return self.distance_m / 40


class SimulationConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the simulated backends; they mean the same in each.

    :param physics_hz: rate of physics steps; a whole multiple of the robot's rate.
    :param position_gain: share of the position error that a motor removes per physics step.
    :param friction: coefficient of sliding friction of contacts with the ground.
    :param ground: whether there is a floor at z = 0.
    :param camera: where pictures are taken from.
    """

    physics_hz: Positive = 200.0
    position_gain: Annotated[float, Meta(gt=0, le=1)] = 0.25
    friction: Annotated[float, Meta(ge=0)] = 0.8
    ground: bool = True
    camera: CameraConfig = CameraConfig()


class HardwareConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    How the bridge treats the physical robot, whatever drives it.

    :param reset: home: before each episode the robot moves straight (in joint space) to its home
        pose; none: episodes start where it stands.
    :param home_speed: greatest joint speed on the way home [rad/s or m/s].
    :param home_tolerance: distance at which a joint is at home [rad or m].
    :param home_timeout_s: after this long on the way the robot holds until a person calls reset.
    :param reconnect_period_s: between two attempts to reach the robot after a fault.
    :param reconnect_attempts: in a row; then a person has to call reset for more.
    """

    reset: Literal['home', 'none'] = 'home'
    home_speed: Positive = 0.5
    home_tolerance: Positive = 0.05
    home_timeout_s: Positive = 15.0
    reconnect_period_s: Positive = 1.0
    reconnect_attempts: Annotated[int, Meta(ge=1)] = 60


class RobotConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    ``config/robots/<robot>.yaml``.

    :param urdf: file name in ``urdf/``, beside the YAML file, or absolute.
    :param control_mode: what a command means.
    :param rate_hz: control rate.
    :param base_link: frame of goals and tool positions.
    :param tool_link: frame that tasks move; empty where the robot has none.
    :param joints: every measured joint, in the order of all vectors.
    :param fixed_joints: position [rad or m] of each movable joint that this robot does not use,
        a gripper's for instance; neither measured nor commanded, the simulators keep it there.
    :param safety: see :class:`SafetyConfig` in ``core/safety_config.py``.
    :param floating_base: whether ``base_link`` moves freely, as that of a walking robot.
    :param home_height_m: height of a floating ``base_link`` when the robot stands at home [m].
    :param gait: see :class:`GaitConfig`; none where the robot does not walk.
    :param range_sensor: see :class:`RangeSensorConfig`; none where the robot has none.
    :param imu: see :class:`ImuConfig`; none where the robot has none.
    :param force_torque: see :class:`ForceTorqueConfig`; none where the robot has none.
    :param cameras: see :class:`CameraSensorConfig`.
    :param simulation: see :class:`SimulationConfig`.
    :param hardware: see :class:`HardwareConfig`.
    :param controllers: settings of ``pd`` and ``lqr``, see ``control/controllers.py``.
    :param servo_bus: settings of ``backend:=servo_bus``, read by that backend.
    :param ros2_control: settings of ``backend:=ros2_control``, read by that backend.
    :param record_topics: names and regular expressions of topics that are recorded besides.
    """

    urdf: str
    control_mode: ControlMode
    rate_hz: Annotated[float, Meta(ge=1, le=2000)]
    base_link: str
    joints: tuple[JointConfig, ...]
    safety: SafetyConfig
    tool_link: str = ''
    fixed_joints: dict[str, float] = {}
    floating_base: bool = False
    home_height_m: float = 0.0
    gait: GaitConfig | None = None
    range_sensor: RangeSensorConfig | None = None
    imu: ImuConfig | None = None
    force_torque: ForceTorqueConfig | None = None
    cameras: tuple[CameraSensorConfig, ...] = ()
    simulation: SimulationConfig = SimulationConfig()
    hardware: HardwareConfig = HardwareConfig()
    controllers: dict[str, dict[str, Any]] = {}
    servo_bus: dict[str, Any] | None = None
    ros2_control: dict[str, Any] | None = None
    record_topics: tuple[str, ...] = ()


class RobotModel:
    """
    A robot's configuration checked against its URDF.

    :ivar name: the YAML file's stem.
    :ivar config: the record.
    :ivar urdf: the parsed description.
    :ivar joints: all measured joints with their effective limits, order of all vectors.
    :ivar commanded: indices of the commanded joints in ``joints``, shape (A,).
    :ivar home: home position, shape (J,).
    :ivar home_base: pose of a floating base at home; None where the base is fixed.
    :ivar chain: forward kinematics to ``tool_link``; None where there is none.
    :ivar gait: how it steps; None where it does not walk.
    :ivar range_sensor: geometry of its range sensor; None where there is none.
    :ivar imu: geometry of its inertial measurement unit; None where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.config = load(path, RobotConfig)
        self.urdf = load_urdf(find_urdf(self.config.urdf, path), self.config.fixed_joints)
        self.joints = tuple(_effective(joint, self.urdf, path) for joint in self.config.joints)
        names = tuple(joint.name for joint in self.joints)
        if len(set(names)) != len(names):
            raise ConfigError(f'{path}: a joint is listed twice: {", ".join(names)}')
        missing = [joint.name for joint in self.urdf.movable() if joint.name not in names]
        if missing:
            raise ConfigError(f'{path}: joints {", ".join(missing)} of {self.urdf.path.name} are '
                              'not listed; list every movable joint (commanded: false if passive) '
                              'or give its position in fixed_joints')
        self.commanded = np.flatnonzero([joint.commanded for joint in self.joints])
        if not len(self.commanded):
            raise ConfigError(f'{path}: no joint is commanded')
        self.command_names = tuple(names[i] for i in self.commanded)
        self.joint_names = names
        self.home = np.array([joint.home for joint in self.config.joints])
        self.home_base = BaseState.at_rest(
            np.array([0.0, 0.0, self.config.home_height_m]),
            np.array([0.0, 0.0, 0.0, 1.0])) if self.config.floating_base else None
        self.chain = Chain(self.urdf, self.config.base_link, self.config.tool_link,
                           names) if self.config.tool_link else None
        if self.config.gait and self.home_base is None:
            raise ConfigError(f'{path}: gait: a robot that walks has a floating base '
                              '(floating_base: true)')
        self.gait = Gait(self.config.gait, self.urdf, self.config.base_link, names, self.home,
                         self.config.home_height_m) if self.config.gait else None
        self.range_sensor = RangeSensor(
            self.config.range_sensor, self.urdf,
            self.config.base_link) if self.config.range_sensor else None
        self.imu = Imu(self.config.imu, self.urdf,
                       self.config.base_link) if self.config.imu else None
        if self.config.force_torque:
            check_force_torque(self.config.force_torque, self.urdf)
        _check_cameras(self.config.cameras, self.urdf, path)
        physics_hz = self.config.simulation.physics_hz
        ratio = physics_hz / self.config.rate_hz
        if ratio != int(ratio):
            raise ConfigError(f'{path}: simulation.physics_hz = {physics_hz} '
                              f'is not a whole multiple of rate_hz = {self.config.rate_hz}')

    def index_of(self, joint: str) -> int:
        """Return a joint's place in all vectors; ConfigError where the robot has no such joint."""
        if joint not in self.joint_names:
            raise ConfigError(f'robot {self.name} has no joint {joint!r}; it has '
                              f'{", ".join(self.joint_names)}')
        return self.joint_names.index(joint)

    def geometry(self, tool: bool, ranges: bool, imu: bool) -> str:
        """Return the fingerprints of what signals are derived by, one after another."""
        used = ((self.chain, tool), (self.range_sensor, ranges), (self.imu, imu))
        return ''.join(part.fingerprint() for part, needed in used if needed and part)

    def limits(self, field: str) -> np.ndarray:
        """
        Return one limit of the commanded joints.

        :param field: ``lower``, ``upper``, ``velocity``, ``effort``, ``acceleration``, ``jerk``.
        :return: shape (A,); infinite where there is none.
        """
        default = -np.inf if field == 'lower' else np.inf
        joints = self.config.joints if field in ('acceleration', 'jerk') else self.joints
        values = [getattr(joints[i], field) for i in self.commanded]
        return np.array([default if value is None else value for value in values])


def _check_cameras(cameras: tuple[CameraSensorConfig, ...], urdf: Urdf, path: Path) -> None:
    names = [camera.name for camera in cameras]
    if len(set(names)) != len(names):
        raise ConfigError(f'{path}: a camera is listed twice: {", ".join(names)}')
    for camera in cameras:
        if camera.link not in urdf.links:
            raise ConfigError(
                f'{path}: camera {camera.name!r}: no link {camera.link!r} in {urdf.path.name}'
                f'{suggestion(camera.link, urdf.links)}; links: {", ".join(urdf.links)}')


def load_robot(name: str) -> RobotModel:
    """
    Return the robot of a shipped name, or of a path to a YAML file or to a URDF beside one.

    :raises ConfigError: says which file and key, what came and what is allowed.
    """
    return RobotModel(find_config('robots', name))


def _effective(joint: JointConfig, urdf: Urdf, path: Path) -> Joint:
    """Join YAML and URDF limits; the YAML may tighten, never widen."""
    known = [movable.name for movable in urdf.movable()]
    if joint.name not in known:
        raise ConfigError(f'{path}: joint {joint.name!r} is not in {urdf.path.name}; '
                          f'movable joints there: {", ".join(known)}')
    source = urdf.joints[joint.name]
    values: dict[str, Any] = {}
    for field, sign in (('lower', -1.0), ('upper', 1.0), ('velocity', 1.0), ('effort', 1.0)):
        ours, theirs = getattr(joint, field), getattr(source, field)
        if ours is not None and theirs is not None and sign * ours > sign * theirs:
            raise ConfigError(f'{path}: joint {joint.name!r}: {field} = {ours} widens the limit '
                              f'{theirs} of {urdf.path.name}; it may only be tightened')
        values[field] = theirs if ours is None else ours
    for field in ('velocity', 'effort'):
        if values[field] is None or values[field] <= 0:
            raise ConfigError(f'{path}: joint {joint.name!r} has no {field} limit in '
                              f'{urdf.path.name}; give {field} here')
    lower, upper = values['lower'], values['upper']
    if lower is not None and upper is not None and not lower <= joint.home <= upper:
        raise ConfigError(f'{path}: joint {joint.name!r}: home = {joint.home} is outside '
                          f'[{lower}, {upper}]')
    return Joint(joint.name, MOVABLE[source.kind], lower, upper, values['velocity'],
                 values['effort'], joint.commanded)
