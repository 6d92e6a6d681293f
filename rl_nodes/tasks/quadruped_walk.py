# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Walk: move with a commanded planar velocity.

The command travels as the goal: its position is (vx [m/s], vy [m/s], yaw rate [rad/s]), all in
the axes of ``base_link``. Start: as when standing, with a command drawn from the ranges. Reward
terms: ``velocity`` [1] and ``turning`` [1] (1 where the command is met), ``upright`` [1],
``bounce`` [m²/s²] (vertical speed squared), ``energy`` [W], ``shake`` [1], ``action`` [1]. End:
the robot has fallen. Success: at the time limit it has not fallen and its velocity then is within
the tolerances of the command.
"""

from typing import ClassVar

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import TaskConfig
from rl_nodes.tasks.legged import LeggedConfig, LeggedTask, Positive

Range = tuple[float, float]


class QuadrupedWalkConfig(LeggedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: quadruped_walk``.

    :param forward_m_s: range of the commanded vx.
    :param sideways_m_s: range of the commanded vy.
    :param yaw_rad_s: range of the commanded yaw rate.
    :param velocity_width_m_s: error at which the term ``velocity`` is 0.37.
    :param yaw_width_rad_s: error at which the term ``turning`` is 0.37.
    :param tolerance_m_s: error of the planar velocity that counts as walking as commanded.
    :param tolerance_rad_s: the same of the yaw rate.
    """

    forward_m_s: Range
    sideways_m_s: Range
    yaw_rad_s: Range
    velocity_width_m_s: Positive
    yaw_width_rad_s: Positive
    tolerance_m_s: Positive
    tolerance_rad_s: Positive

    def __post_init__(self) -> None:
        for name in ('forward_m_s', 'sideways_m_s', 'yaw_rad_s'):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f'{name}: {low} is above {high}')


class QuadrupedWalk(LeggedTask):
    """See the module's text."""

    config_type: ClassVar[type[TaskConfig]] = QuadrupedWalkConfig
    term_names: ClassVar[tuple[str, ...]] = ('velocity', 'turning', 'upright', 'bounce', 'energy',
                                             'shake', 'action')

    def __init__(self, name: str, config: QuadrupedWalkConfig, robot: RobotModel) -> None:
        super().__init__(name, config, robot)
        self._config = config

    def start(self, rng: np.random.Generator) -> Start:
        """Return a pose just above the ground and a command."""
        position, base = self.start_pose(rng)
        config = self._config
        command = [rng.uniform(*limits) for limits in (config.forward_m_s, config.sideways_m_s,
                                                       config.yaw_rad_s)]
        return Start(position, np.array(command), base)

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return how well the command is met, uprightness and costs."""
        planar, yaw = self._errors(after, goal)
        return {
            'velocity': terms.tracking(planar, self._config.velocity_width_m_s),
            'turning': terms.tracking(yaw, self._config.yaw_width_rad_s),
            'upright': terms.upright(self.tilt(after)),
            'bounce': float(after.floating.linear_velocity[2]) ** 2,
            **self.costs(before, action, after)}

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the robot moves as commanded at the time limit."""
        planar, yaw = self._errors(state, goal)
        return bool(step >= self.episode_steps and not self.failed(state, goal)
                    and float(np.linalg.norm(planar)) <= self._config.tolerance_m_s
                    and abs(yaw[0]) <= self._config.tolerance_rad_s)

    def _errors(self, state: RobotState, goal: Goal) -> tuple[np.ndarray, np.ndarray]:
        """Return the errors of the planar velocity (2,) and of the yaw rate (1,)."""
        return (state.floating.linear_velocity[:2] - goal.position[:2],
                state.floating.angular_velocity[2:] - goal.position[2:])
