# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
From the axes of a device to the commands of a robot.

Each map is driven by axes in [-1, 1], shape (N,), and gives a command in the robot's control mode,
shape (A,), within the joints' limits of speed. Position targets run ahead of where the robot is
by at most one period's way, and stay where they are once the axes are at rest.
"""

from typing import Literal, Protocol

import numpy as np
from rl_nodes.control.cartesian import TipVelocity
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState
from rl_nodes.tasks.base import Task

Mapping = Literal['auto', 'joint', 'cartesian', 'action']


class Motion(Protocol):
    """What a device moves."""

    def command(self, state: RobotState, axes: np.ndarray) -> np.ndarray:
        """Return the command for a state, shape (A,), float64."""

    def begin(self, state: RobotState) -> None:
        """Take over from where the robot is."""

    def page(self) -> str:
        """Go on to what else the axes may move, and say what."""


class JointMotion:
    """
    One axis per joint, as many joints at a time as there are axes.

    :param robot: whose joints move.
    :param count: number of axes.
    :param speed: share of the joints' limits that an axis at its end means.
    """

    def __init__(self, robot: RobotModel, count: int, speed: float) -> None:
        self._names, self._count, self._first = robot.command_names, count, 0
        self._target = Target(robot)
        mode = robot.config.control_mode
        self._most = speed * robot.limits('effort' if mode == 'effort' else 'velocity')

    def command(self, state: RobotState, axes: np.ndarray) -> np.ndarray:
        """See the base class."""
        share = np.zeros(len(self._names))
        moved = share[self._first:self._first + self._count]
        moved[:] = axes[:len(moved)]
        return self._target.moved(state, share * self._most)

    def begin(self, state: RobotState) -> None:
        """See the base class."""
        self._target.begin(state)

    def page(self) -> str:
        """See the base class."""
        self._first += self._count
        if self._first >= len(self._names):
            self._first = 0
        return f'moves {", ".join(self._names[self._first:self._first + self._count])}'


class CartesianMotion:
    """
    The axes move the tool along x, y, z of ``base_link``, then turn it about them.

    :param robot: has a tool.
    :param speed_m_s: of the tool with an axis at its end.
    :param speed_rad_s: the same for turning.
    """

    def __init__(self, robot: RobotModel, speed_m_s: float, speed_rad_s: float) -> None:
        if robot.chain is None or robot.config.control_mode == 'effort':
            raise ConfigError('mapping = cartesian needs a robot with a tool_link in control '
                              f'mode position or velocity; {robot.name} has '
                              f'{"none" if robot.chain is None else "one"} and control mode '
                              f'{robot.config.control_mode}; use mapping:=joint')
        self._target, self._tip = Target(robot), TipVelocity(robot, robot.chain)
        self._speed = np.array([speed_m_s] * 3 + [speed_rad_s] * 3)
        self._turns = len(robot.commanded) >= 6

    def command(self, state: RobotState, axes: np.ndarray) -> np.ndarray:
        """See the base class."""
        wanted = np.zeros(6)
        wanted[:min(6, len(axes))] = axes[:6]
        velocity = (wanted * self._speed)[:6 if self._turns else 3]
        joints = self._tip.joints(state.position, velocity) if axes.any() else np.zeros(
            len(self._target.names))
        return self._target.moved(state, joints)

    def begin(self, state: RobotState) -> None:
        """See the base class."""
        self._target.begin(state)

    def page(self) -> str:
        """See the base class."""
        return 'moves the tool'


class ActionMotion:
    """
    One axis per element of the task's action, as for a base on two wheels.

    :param task: whose actions are asked for.
    :param speed: share of an action that an axis at its end means.
    """

    def __init__(self, task: Task, speed: float) -> None:
        self._task, self._speed = task, speed
        self._size = len(task.contract.action.elements)

    def command(self, state: RobotState, axes: np.ndarray) -> np.ndarray:
        """See the base class."""
        action = np.zeros(self._size, np.float32)
        action[:len(axes)] = self._speed * axes[:self._size]
        return self._task.command(state, action)

    def begin(self, state: RobotState) -> None:
        """See the base class."""

    def page(self) -> str:
        """See the base class."""
        return f'moves {", ".join(self._task.contract.action.elements)}'


class Target:
    """
    What the axes have asked for so far, for a robot in control mode position.

    :param robot: its control mode, rate and limits.
    """

    def __init__(self, robot: RobotModel) -> None:
        self.names = robot.command_names
        self._commanded, self._rate_hz = robot.commanded, robot.config.rate_hz
        self._integrates = robot.config.control_mode == 'position'
        self._ahead = robot.limits('velocity') / robot.config.rate_hz
        margin = robot.config.safety.position_margin
        self._low, self._high = robot.limits('lower') + margin, robot.limits('upper') - margin
        self._target: np.ndarray | None = None

    def begin(self, state: RobotState) -> None:
        """Start from where the robot is."""
        self._target = state.position[self._commanded]

    def moved(self, state: RobotState, velocity: np.ndarray) -> np.ndarray:
        """
        Return the command for a state.

        :param velocity: of the commanded joints, or effort, by control mode; shape (A,).
        """
        if not self._integrates:
            return velocity
        here = state.position[self._commanded]
        target = (here if self._target is None else self._target) + velocity / self._rate_hz
        target = np.clip(target, np.minimum(self._low, here), np.maximum(self._high, here))
        self._target = np.clip(target, here - self._ahead, here + self._ahead)
        return self._target


def make_motion(task: Task, mapping: Mapping, axes: int, speed: float, speed_m_s: float,
                speed_rad_s: float) -> Motion:
    """
    Return what a device moves of a robot doing a task.

    :param mapping: auto takes cartesian where the robot has a tool, actions where it drives on
        wheels, and joint otherwise.
    :param axes: number of axes.
    :raises ConfigError: the robot cannot be moved that way.
    """
    robot = task.robot
    if robot.config.floating_base and robot.config.control_mode == 'position':
        raise ConfigError(f'robot {robot.name} stands on legs: no map from axes to joints keeps '
                          'it up; use input:=scripted, with expert:=FILE.onnx where the task has '
                          'no script')
    if mapping == 'auto':
        mapping = ('action' if task.contract.action_kind == 'planar_velocity' else
                   'joint' if robot.chain is None else 'cartesian')
    if mapping == 'cartesian':
        return CartesianMotion(robot, speed_m_s, speed_rad_s)
    if mapping == 'action':
        return ActionMotion(task, speed)
    return JointMotion(robot, axes, speed)
