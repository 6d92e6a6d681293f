# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Stand: land on four legs, take the commanded posture and keep still.

The posture travels as the goal: its position is (roll [rad], pitch [rad], height of the base
[m]). Start: joints around home, the base tilted and a little above the ground. Reward terms:
``height`` [1] and ``attitude`` [1] (1 where the posture is taken), ``still`` [1] (1 at rest),
``energy`` [W], ``shake`` [1], ``action`` [1]. End: the robot has fallen. Success: at the time
limit it has not fallen, height, roll and pitch are within the tolerances of the posture and the
base is slower than the tolerance.
"""

from typing import ClassVar

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion, rpy_from_rotation
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import TaskConfig
from rl_nodes.tasks.legged import LeggedConfig, LeggedTask, Positive, Range, require_order


class QuadrupedStandConfig(LeggedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: quadruped_stand``.

    :param roll_rad: range of the commanded roll.
    :param pitch_rad: range of the commanded pitch; positive is nose down.
    :param height_m: range of the commanded height, relative to home.
    :param height_width_m: error of the height at which the term ``height`` is 0.37.
    :param attitude_width_rad: error of roll and pitch at which the term ``attitude`` is 0.37.
    :param speed_width_m_s: speed of the base at which the term ``still`` is 0.37.
    :param tolerance_m: error of the height that counts as standing as commanded.
    :param tolerance_rad: the same of roll and of pitch.
    :param tolerance_m_s: speed of the base that counts as still.
    """

    roll_rad: Range
    pitch_rad: Range
    height_m: Range
    height_width_m: Positive
    attitude_width_rad: Positive
    speed_width_m_s: Positive
    tolerance_m: Positive
    tolerance_rad: Positive
    tolerance_m_s: Positive

    def __post_init__(self) -> None:
        require_order(self, 'roll_rad', 'pitch_rad', 'height_m')


class QuadrupedStand(LeggedTask):
    """See the module's text."""

    config_type: ClassVar[type[TaskConfig]] = QuadrupedStandConfig
    term_names: ClassVar[tuple[str, ...]] = ('height', 'attitude', 'still', 'energy', 'shake',
                                             'action')
    start_ranges: ClassVar[tuple[str, ...]] = (*LeggedTask.start_ranges, 'roll_rad', 'pitch_rad',
                                               'height_m')

    def __init__(self, name: str, config: QuadrupedStandConfig, robot: RobotModel) -> None:
        super().__init__(name, config, robot)
        self._config = config

    def start(self, rng: np.random.Generator) -> Start:
        """Return a pose just above the ground and a posture."""
        position, base = self.start_pose(rng)
        config = self._config
        posture = [rng.uniform(*limits) for limits in (config.roll_rad, config.pitch_rad,
                                                       config.height_m)]
        return Start(position, np.array([0.0, 0.0, self._home_base.position[2]]) + posture, base)

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return how well the posture is taken, stillness and costs."""
        error, config = self._error(after, goal), self._config
        return {
            'height': terms.tracking(error[2:], config.height_width_m),
            'attitude': terms.tracking(error[:2], config.attitude_width_rad),
            'still': terms.tracking(after.floating.linear_velocity, config.speed_width_m_s),
            **self.costs(before, action, after)}

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the robot stands still as commanded, at the time limit."""
        if step < self.episode_steps or self.failed(state, goal):
            return False
        roll, pitch, height = np.abs(self._error(state, goal)).tolist()
        config = self._config
        return bool(max(roll, pitch) <= config.tolerance_rad and height <= config.tolerance_m
                    and float(np.linalg.norm(state.floating.linear_velocity))
                    <= config.tolerance_m_s)

    def _error(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the errors of roll [rad], pitch [rad] and height [m], shape (3,)."""
        base = state.floating
        roll, pitch, _ = rpy_from_rotation(rotation_from_quaternion(base.orientation)).tolist()
        return np.array([roll, pitch, base.position[2]]) - goal.position
