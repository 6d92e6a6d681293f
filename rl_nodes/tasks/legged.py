# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What tasks of a robot on legs have in common: how it starts, how it falls, what it costs."""

import math
from typing import Annotated, ClassVar

from msgspec import Meta
import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import quaternion_from_rpy, rotation_from_quaternion
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig

Positive = Annotated[float, Meta(gt=0)]
Range = tuple[float, float]


def require_order(config: TaskConfig, *names: str) -> None:
    """Raise ValueError where one of these ranges has its ends the wrong way round."""
    for name in names:
        low, high = getattr(config, name)
        if not low <= high:
            raise ValueError(f'{name}: {low} is above {high}')


class LeggedConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What tasks on legs share.

    :param start_noise_rad: joints start at home plus uniform noise up to this.
    :param start_tilt_rad: roll and pitch of the base at the start, at most.
    :param start_drop_m: the base starts this much above its home height, so that no foot starts
        in the ground.
    :param tilt_limit_rad: tilt of the base that counts as fallen.
    :param height_limit_m: height of the base below which the robot has fallen.
    """

    start_noise_rad: Annotated[float, Meta(ge=0)]
    start_tilt_rad: Annotated[float, Meta(ge=0)]
    start_drop_m: Annotated[float, Meta(ge=0)]
    tilt_limit_rad: Positive
    height_limit_m: Positive


class LeggedTask(Task):
    """
    A robot with a floating base that must not fall.

    Heights are those of ``odom``, whose origin lies on the ground.

    :raises ConfigError: the robot's base does not float.
    """

    start_ranges: ClassVar[tuple[str, ...]] = ('start_noise_rad', 'start_tilt_rad', 'start_drop_m')

    def __init__(self, name: str, config: LeggedConfig, robot: RobotModel) -> None:
        if robot.home_base is None:
            raise ConfigError(f'task {name} needs a robot with a floating base; {robot.name} '
                              'has none (floating_base: true)')
        super().__init__(name, config, robot)
        self._legs = config
        self._home_base = robot.home_base
        self._speed = robot.limits('velocity')

    def start_pose(self, rng: np.random.Generator) -> tuple[np.ndarray, BaseState]:
        """Return joints near home (J,) and a base a little above the ground."""
        noise, tilt = self._legs.start_noise_rad, self._legs.start_tilt_rad
        position = self.robot.home + rng.uniform(-noise, noise, len(self.robot.home))
        roll, pitch = rng.uniform(-tilt, tilt, 2)
        height = self._home_base.position + [0.0, 0.0, self._legs.start_drop_m]
        return position, BaseState.at_rest(height, quaternion_from_rpy(
            np.array([roll, pitch, 0.0])))

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether the robot has fallen."""
        return not (self.tilt(state) <= self._legs.tilt_limit_rad
                    and state.floating.position[2] >= self._legs.height_limit_m)

    def tilt(self, state: RobotState) -> float:
        """Return the angle between the base's z axis and the vertical [rad]."""
        up = float(rotation_from_quaternion(state.floating.orientation)[2, 2])
        return math.acos(min(1.0, max(-1.0, up)))

    def costs(self, before: RobotState, action: np.ndarray,
              after: RobotState) -> dict[str, float]:
        """
        Return what motion costs.

        ``energy`` [W] is the power of all joints, ``shake`` [1] the mean square change of the
        joints' speed in one period relative to their speed limits, ``action`` [1] the mean square
        of the action.
        """
        change = (after.velocity - before.velocity)[self.robot.commanded] / self._speed
        return {'energy': terms.power(after.effort, after.velocity),
                'shake': terms.action_size(change), 'action': terms.action_size(action)}
