# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How a policy's action becomes a command, and back.

Every action lies in [-1, 1], one value per commanded joint or, for two driven wheels, forward and
turn. The default kind moves position targets relative to the present position, by at most what
the joint's speed limit allows in one period: when the policy falls silent the robot holds within
one step. Legs that carry a robot sag under its weight,
so targets relative to where they are would let them sink; theirs are relative to home.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.control.controllers import ControllerKind, make_controller
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import RobotState
from rl_nodes.tasks.planar_action import PlanarActionMap
from rl_nodes.tasks.residual import ResidualActionMap

ActionKind = Literal['joint_position_delta', 'joint_position_home', 'joint_velocity',
                     'planar_velocity', 'joint_effort']
# Kinds whose commands tell the action that they were made of.
REVERSIBLE = ('joint_position_delta', 'joint_position_home', 'joint_velocity', 'joint_effort')
_MODE = {'joint_position_delta': 'position', 'joint_position_home': 'position',
         'joint_velocity': 'velocity', 'planar_velocity': 'velocity', 'joint_effort': 'effort'}


class ActionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    The action section of a task.

    :param kind: ``joint_position_delta`` (target = present position + action · speed limit ·
        period), ``joint_position_home`` (target = home + action · distance from home to the
        nearer position limit), ``joint_velocity`` (action · speed limit), ``planar_velocity``
        (forward and turn of a robot on two wheels, see ``planar_action.py``) or ``joint_effort``
        (action · effort limit); must fit the robot's control mode.
    :param scale: share of the joint's limit that an action of 1 means.
    :param residual_of: the controller that actions are added to, see ``control/controllers.py``;
        none where actions are all there is.
    """

    kind: ActionKind
    scale: Annotated[float, Meta(gt=0, le=1)] = 1.0
    residual_of: ControllerKind | None = None


class ActionMap:
    """
    Actions to commands and back, joint by joint.

    :raises ConfigError: the robot has no limits that the kind needs.
    """

    def __init__(self, config: ActionConfig, robot: RobotModel) -> None:
        needed = _MODE[config.kind]
        self.kind: str = config.kind
        limit = robot.limits('effort' if needed == 'effort' else 'velocity')
        period = 1.0 / robot.config.rate_hz if needed == 'position' else 1.0
        self.size = limit * config.scale * period
        self.relative = config.kind == 'joint_position_delta'
        self._position = needed == 'position'
        self.home = np.zeros(len(limit))
        if config.kind == 'joint_position_home':
            self.home = robot.home[robot.commanded]
            room = np.minimum(self.home - robot.limits('lower'),
                              robot.limits('upper') - self.home)
            if not ((room > 0) & np.isfinite(room)).all():
                raise ConfigError(f'action.kind = {config.kind} needs position limits on both '
                                  f'sides of home; robot {robot.name} has distances '
                                  f'{room.tolist()}')
            self.size = room * config.scale
        self._commanded = robot.commanded
        count = len(robot.commanded)
        self.spec = ArraySpec('action', robot.command_names, ('1',) * count, (-1.0,) * count,
                              (1.0,) * count)

    def command(self, state: RobotState, action: np.ndarray) -> np.ndarray:
        """Return the command, shape (A,), float64; actions outside of [-1, 1] are clipped."""
        scaled = np.maximum(np.minimum(action.astype(np.float64), 1.0), -1.0) * self.size
        origin = state.position[self._commanded] if self.relative else self.home
        return origin + scaled

    def hold(self, state: RobotState) -> np.ndarray:
        """Return the command that keeps the robot where it is, shape (A,), float64."""
        if self._position:
            return state.position[self._commanded]
        return np.zeros(len(self._commanded))

    def action(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the action that a command amounts to, shape (A,), float32."""
        origin = state.position[self._commanded] if self.relative else self.home
        return ((command - origin) / self.size).astype(np.float32)


def make_action_map(config: ActionConfig,
                    robot: RobotModel) -> ActionMap | PlanarActionMap | ResidualActionMap:
    """
    Return what turns actions into commands of a robot and back.

    :raises ConfigError: the kind does not fit the robot, or its controller cannot be had.
    """
    needed = _MODE[config.kind]
    if robot.config.control_mode != needed:
        fitting = [kind for kind, mode in _MODE.items() if mode == robot.config.control_mode]
        raise ConfigError(
            f'action.kind = {config.kind} needs control mode {needed}; robot {robot.name} is '
            f'in control mode {robot.config.control_mode}, which takes {", ".join(fitting)}')
    if config.kind == 'planar_velocity':
        if config.residual_of is not None:
            raise ConfigError(f'action.residual_of = {config.residual_of}: controllers command '
                              'joint by joint, action.kind = planar_velocity does not; use '
                              'joint_velocity')
        return PlanarActionMap(config.scale, robot)
    if config.residual_of is None:
        return ActionMap(config, robot)
    return ResidualActionMap(ActionMap(config, robot), make_controller(config.residual_of, robot),
                             robot)
