# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What an observation can be made of.

A signal is a named piece of the observation vector. A task's YAML lists signals in order; this
module knows how many elements each has, their names, units and bounds, and how to compute them.
What is observed of one instant is a frame; with ``history`` an observation holds the newest few
frames of some signals.
"""

from collections.abc import Callable, Mapping
import math
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.gait import Gait
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import BaseState, Goal, RobotState

Bounds = tuple[float | None, float | None]

DOWN = np.array([0.0, 0.0, -1.0])
NEAREST = 1e-3  # whose logarithm is told of ranges below it [m]
LAST_ACTION = 'last_action'      # for observations, which are remembered
RANDOMISATION = 'randomisation'  # for what only a critic or a teacher sees


class View(NamedTuple):
    """
    What signals are computed from.

    :param state: as it was measured.
    :param goal: the state's goal.
    :param tool: position of the tool derived from the state [m], shape (3,).
    :param last_action: the action wanted in the state before, shape (A,); empty where nobody
        remembers it.
    :param values: what the episode's randomisation has drawn, by name; empty where none is known.
    :param return_to_go: what is left to be earned, in units of reward; NaN where nobody knows.
    """

    state: RobotState
    goal: Goal
    tool: np.ndarray
    last_action: np.ndarray = np.zeros(0)
    values: Mapping[str, float] = MappingProxyType({})
    return_to_go: float = math.nan

    @property
    def base(self) -> BaseState:
        """Return the base of a robot that has a floating one."""
        return self.state.floating


Compute = Callable[[View], np.ndarray]


class Signal(NamedTuple):
    """
    One kind of signal.

    :param elements: (element name, unit, (low, high)) of each element for a robot.
    :param compute: for a robot, the function from a view to the elements' values, float64.
    :param needs_tool: whether the robot must have a ``tool_link``.
    :param needs_base: whether the robot must have a floating base.
    :param needs_ranges: whether the robot must have a range sensor.
    :param needs_imu: whether the robot must have an inertial measurement unit.
    :param needs_wrench: whether the robot must have a force-torque sensor.
    """

    elements: Callable[[RobotModel], list[tuple[str, str, Bounds]]]
    compute: Callable[[RobotModel], Compute]
    needs_tool: bool = False
    needs_base: bool = False
    needs_ranges: bool = False
    needs_imu: bool = False
    needs_wrench: bool = False


def _per_joint(unit: str, bounds: Callable[..., Bounds]) -> Callable:
    return lambda robot: [(joint.name, unit.replace('q', joint.unit), bounds(joint))
                          for joint in robot.joints]


def _point(unit: str) -> Callable:
    return lambda robot: [(axis, unit, (None, None)) for axis in 'xyz']


def _plain(compute: Compute) -> Callable[[RobotModel], Compute]:
    """Return what binds a signal that is computed alike for every robot."""
    return lambda robot: compute


def _bounded(robot: RobotModel) -> list[int]:
    """Return the indices of the joints with both position limits."""
    return [index for index, joint in enumerate(robot.joints)
            if joint.lower is not None and joint.upper is not None]


def _endless(robot: RobotModel) -> list[int]:
    """Return the indices of the revolute joints that turn without end."""
    return [index for index, joint in enumerate(robot.joints)
            if joint.unit == 'rad' and (joint.lower is None or joint.upper is None)]


def _bounded_position(robot: RobotModel) -> Compute:
    index = _bounded(robot)
    return lambda view: view.state.position[index]


def _sincos(robot: RobotModel) -> Compute:
    index = _endless(robot)

    def compute(view: View) -> np.ndarray:
        angle = view.state.position[index]
        return np.concatenate([np.sin(angle), np.cos(angle)])
    return compute


def _gravity(view: View) -> np.ndarray:
    return rotation_from_quaternion(view.base.orientation).T @ DOWN


def _planar_goal(view: View) -> np.ndarray:
    """Return how far the goal is over ground, and its direction from straight ahead."""
    ahead = rotation_from_quaternion(view.base.orientation)[:2, 0]
    (x, y), (ax, ay) = (view.goal.position - view.base.position)[:2].tolist(), ahead.tolist()
    distance, angle = math.hypot(x, y), math.atan2(ax * y - ay * x, ax * x + ay * y)
    return np.array([distance, math.sin(angle), math.cos(angle)])


def _logarithm(range_m: float) -> float:
    return math.log(max(range_m, NEAREST))


def _rays(unit: str, bound: Callable[[float], float]) -> Callable:
    def elements(robot: RobotModel) -> list[tuple[str, str, Bounds]]:
        sensor = robot.config.range_sensor
        return [] if sensor is None else [
            (str(index), unit, (bound(sensor.min_m), bound(sensor.max_m)))
            for index in range(sensor.rays)]
    return elements


def _sensed(unit: str) -> Callable:
    """Return the elements of a wrench, with the joint: policies depend on it."""
    def elements(robot: RobotModel) -> list[tuple[str, str, Bounds]]:
        sensor = robot.config.force_torque
        return [] if sensor is None else [
            (f'{axis}@{sensor.joint}', unit, (None, None)) for axis in 'xyz']
    return elements


def _gait(robot: RobotModel) -> Gait:
    if robot.gait is None:
        raise ConfigError(f'phase needs a robot with a gait; {robot.name} has none')
    return robot.gait


def _clock(robot: RobotModel) -> list[tuple[str, str, Bounds]]:
    """Return the elements of the gait's clock, with its period: policies depend on it."""
    return [(f'{name}@{_gait(robot).cycle_s:g}s', '1', (-1.0, 1.0)) for name in ('sin', 'cos')]


def _phase(robot: RobotModel) -> Compute:
    gait = _gait(robot)

    def compute(view: View) -> np.ndarray:
        angle = 2 * math.pi * gait.phase(view.state)
        return np.array([math.sin(angle), math.cos(angle)])
    return compute


SIGNALS: dict[str, Signal] = {
    'joint_position': Signal(
        _per_joint('q', lambda joint: (joint.lower, joint.upper)),
        _plain(lambda view: view.state.position)),
    'joint_velocity': Signal(
        _per_joint('q/s', lambda joint: (-joint.velocity, joint.velocity)),
        _plain(lambda view: view.state.velocity)),
    'bounded_joint_position': Signal(
        lambda robot: [(joint.name, joint.unit, (joint.lower, joint.upper))
                       for joint in (robot.joints[i] for i in _bounded(robot))],
        _bounded_position),
    'joint_angle_sincos': Signal(
        lambda robot: [(f'{robot.joints[i].name}/{function}', '1', (-1.0, 1.0))
                       for function in ('sin', 'cos') for i in _endless(robot)],
        _sincos),
    'tool_position': Signal(_point('m'), _plain(lambda view: view.tool), needs_tool=True),
    'goal_position': Signal(_point('m'), _plain(lambda view: view.goal.position)),
    'goal_offset': Signal(
        _point('m'), _plain(lambda view: view.goal.position - view.tool), needs_tool=True),
    'projected_gravity': Signal(
        lambda robot: [(axis, '1', (-1.0, 1.0)) for axis in 'xyz'], _plain(_gravity),
        needs_base=True),
    'base_linear_velocity': Signal(
        _point('m/s'), _plain(lambda view: view.base.linear_velocity), needs_base=True),
    'base_angular_velocity': Signal(
        _point('rad/s'), _plain(lambda view: view.base.angular_velocity), needs_base=True),
    'base_height': Signal(
        lambda robot: [('z', 'm', (None, None))],
        _plain(lambda view: view.base.position[2:]), needs_base=True),
    'command': Signal(
        lambda robot: [('vx', 'm/s', (None, None)), ('vy', 'm/s', (None, None)),
                       ('yaw_rate', 'rad/s', (None, None))],
        _plain(lambda view: view.goal.position), needs_base=True),
    'posture': Signal(
        lambda robot: [('roll', 'rad', (None, None)), ('pitch', 'rad', (None, None)),
                       ('height', 'm', (None, None))],
        _plain(lambda view: view.goal.position), needs_base=True),
    'phase': Signal(_clock, _phase),
    'planar_goal': Signal(
        lambda robot: [('distance', 'm', (0.0, None)), ('sin', '1', (-1.0, 1.0)),
                       ('cos', '1', (-1.0, 1.0))],
        _plain(_planar_goal), needs_base=True),
    'planar_velocity': Signal(
        lambda robot: [('forward', 'm/s', (None, None)), ('turn', 'rad/s', (None, None))],
        _plain(lambda view: np.array([view.base.linear_velocity[0],
                                      view.base.angular_velocity[2]])), needs_base=True),
    'ranges': Signal(_rays('m', lambda range_m: range_m),
                     _plain(lambda view: view.state.scan), needs_ranges=True),
    'log_ranges': Signal(_rays('ln m', _logarithm),  # what is near matters most
                         _plain(lambda view: np.log(np.maximum(view.state.scan, NEAREST))),
                         needs_ranges=True),
    'imu_angular_velocity': Signal(
        _point('rad/s'), _plain(lambda view: view.state.inertial[4:7]), needs_imu=True),
    'imu_linear_acceleration': Signal(  # the specific force
        _point('m/s^2'), _plain(lambda view: view.state.inertial[7:]), needs_imu=True),
    'wrench_force': Signal(_sensed('N'), _plain(lambda view: view.state.exerted[:3]),
                           needs_wrench=True),
    'wrench_torque': Signal(_sensed('N*m'), _plain(lambda view: view.state.exerted[3:]),
                            needs_wrench=True),
}


def last_action_signal(action: ArraySpec) -> Signal:
    """Return the signal ``last_action`` of a task with this action."""
    elements = [(name, unit, (low, high)) for name, unit, low, high in zip(
        action.elements, action.units, action.low, action.high, strict=True)]
    return Signal(lambda robot: elements, _plain(lambda view: view.last_action))


def return_to_go_signal(scale: float) -> Signal:
    """Return the signal ``return_to_go``, in units of so much reward."""
    unit = 'reward' if scale == 1.0 else f'{scale!r} reward'
    return Signal(lambda robot: [('total', unit, (None, None))],
                  _plain(lambda view: np.array([view.return_to_go / scale])))


def randomisation_signal(names: tuple[str, ...]) -> Signal:
    """Return the signal ``randomisation`` of a task that draws values of these names."""
    elements: list[tuple[str, str, Bounds]] = [(name, '1', (None, None)) for name in names]
    return Signal(lambda robot: elements,
                  _plain(lambda view: np.array([view.values[name] for name in names])))


class ObservationLayout:
    """
    What is observed of one instant: a frame.

    :param names: signals in order.
    :param robot: whose joints and frames they speak of.
    :param signals: that there are, by name.
    :param key: of the task's YAML that lists them.
    :raises ConfigError: an unknown signal, or one that the robot cannot give.
    """

    def __init__(self, names: tuple[str, ...], robot: RobotModel,
                 signals: Mapping[str, Signal] = SIGNALS, key: str = 'observation') -> None:
        rows: list[tuple[str, str, Bounds]] = []
        self.places: list[tuple[str, slice]] = []  # of each signal in the frame
        self._parts: list[tuple[slice, Callable[[View], np.ndarray]]] = []
        for name in names:
            if name not in signals:
                raise ConfigError(f'{key}: unknown signal {name!r}'
                                  f'{suggestion(name, signals)}; signals: {", ".join(signals)}')
            signal = signals[name]
            if signal.needs_tool and robot.chain is None:
                raise ConfigError(f'{key}: {name} needs a robot with a tool_link; '
                                  f'{robot.name} has none')
            if signal.needs_base and not robot.config.floating_base:
                raise ConfigError(f'{key}: {name} needs a robot with a floating base; '
                                  f'{robot.name} has none')
            if signal.needs_ranges and robot.range_sensor is None:
                raise ConfigError(f'{key}: {name} needs a robot with a range_sensor; '
                                  f'{robot.name} has none')
            if signal.needs_imu and robot.imu is None:
                raise ConfigError(f'{key}: {name} needs a robot with an imu; {robot.name} has '
                                  'none')
            if signal.needs_wrench and robot.config.force_torque is None:
                raise ConfigError(f'{key}: {name} needs a robot with a force_torque sensor; '
                                  f'{robot.name} has none')
            elements = signal.elements(robot)
            if not elements:
                raise ConfigError(f'{key}: {name} says nothing of robot {robot.name}: it '
                                  'has no such joint')
            self.places.append((name, slice(len(rows), len(rows) + len(elements))))
            self._parts.append((slice(len(rows), len(rows) + len(elements)),
                                signal.compute(robot)))
            rows += [(f'{name}/{element}', unit, bounds) for element, unit, bounds in elements]
        self.needs_tool = any(signals[name].needs_tool for name in names)
        self.needs_ranges = any(signals[name].needs_ranges for name in names)
        self.needs_imu = any(signals[name].needs_imu for name in names)
        self.spec = ArraySpec(
            key, tuple(row[0] for row in rows), tuple(row[1] for row in rows),
            tuple(row[2][0] for row in rows), tuple(row[2][1] for row in rows))
        self._shape = self.spec.shape

    def assemble(self, view: View) -> np.ndarray:
        """Return the frame, shape of the spec, float32."""
        vector = np.empty(self._shape, np.float32)
        for part, compute in self._parts:
            vector[part] = compute(view)
        return vector
