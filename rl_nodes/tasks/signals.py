# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What an observation can be made of.

A signal is a named piece of the observation vector. A task's YAML lists signals in order; this
module knows how many elements each has, their names, units and bounds, and how to compute them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import BaseState, Goal, RobotState

Bounds = tuple[float | None, float | None]

DOWN = np.array([0.0, 0.0, -1.0])


class View(NamedTuple):
    """What signals are computed from: a state, its goal and the tool position derived from it."""

    state: RobotState
    goal: Goal
    tool: np.ndarray

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
    """

    elements: Callable[[RobotModel], list[tuple[str, str, Bounds]]]
    compute: Callable[[RobotModel], Compute]
    needs_tool: bool = False
    needs_base: bool = False


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
}


class ObservationLayout:
    """
    The observation vector of a robot doing a task.

    :param names: signals in order.
    :param robot: whose joints and frames they speak of.
    :raises ConfigError: an unknown signal, or one that the robot cannot give.
    """

    def __init__(self, names: tuple[str, ...], robot: RobotModel) -> None:
        rows: list[tuple[str, str, Bounds]] = []
        self._parts: list[tuple[slice, Callable[[View], np.ndarray]]] = []
        for name in names:
            if name not in SIGNALS:
                raise ConfigError(f'observation: unknown signal {name!r}'
                                  f'{suggestion(name, SIGNALS)}; signals: {", ".join(SIGNALS)}')
            signal = SIGNALS[name]
            if signal.needs_tool and robot.chain is None:
                raise ConfigError(f'observation: {name} needs a robot with a tool_link; '
                                  f'{robot.name} has none')
            if signal.needs_base and not robot.config.floating_base:
                raise ConfigError(f'observation: {name} needs a robot with a floating base; '
                                  f'{robot.name} has none')
            elements = signal.elements(robot)
            if not elements:
                raise ConfigError(f'observation: {name} says nothing of robot {robot.name}: it '
                                  'has no such joint')
            self._parts.append((slice(len(rows), len(rows) + len(elements)),
                                signal.compute(robot)))
            rows += [(f'{name}/{element}', unit, bounds) for element, unit, bounds in elements]
        self.needs_tool = any(SIGNALS[name].needs_tool for name in names)
        self.spec = ArraySpec(
            'observation', tuple(row[0] for row in rows), tuple(row[1] for row in rows),
            tuple(row[2][0] for row in rows), tuple(row[2][1] for row in rows))
        self._shape = self.spec.shape

    def assemble(self, view: View) -> np.ndarray:
        """Return the observation, shape (O,), float32."""
        vector = np.empty(self._shape, np.float32)
        for part, compute in self._parts:
            vector[part] = compute(view)
        return vector
