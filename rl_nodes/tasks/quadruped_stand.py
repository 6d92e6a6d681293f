# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Stand: land on four legs and stand still at the home height.

Start: joints around home, the base tilted and a little above the ground. Reward terms: ``height``
[1] (1 at the home height), ``still`` [1] (1 at rest), ``upright`` [1] (1 without tilt), ``energy``
[W], ``shake`` [1], ``action`` [1]. End: the robot has fallen. Success: at the time limit it has
not fallen, is within the tolerance of its home height and slower than the tolerance.
"""

from typing import ClassVar

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import TaskConfig
from rl_nodes.tasks.legged import LeggedConfig, LeggedTask, Positive


class QuadrupedStandConfig(LeggedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: quadruped_stand``.

    :param height_width_m: error of the height at which the term ``height`` is 0.37.
    :param speed_width_m_s: speed of the base at which the term ``still`` is 0.37.
    :param tolerance_m: error of the height that counts as standing.
    :param tolerance_m_s: speed of the base that counts as still.
    """

    height_width_m: Positive
    speed_width_m_s: Positive
    tolerance_m: Positive
    tolerance_m_s: Positive


class QuadrupedStand(LeggedTask):
    """See the module's text."""

    config_type: ClassVar[type[TaskConfig]] = QuadrupedStandConfig
    term_names: ClassVar[tuple[str, ...]] = ('height', 'still', 'upright', 'energy', 'shake',
                                             'action')

    def __init__(self, name: str, config: QuadrupedStandConfig, robot: RobotModel) -> None:
        super().__init__(name, config, robot)
        self._config = config

    def start(self, rng: np.random.Generator) -> Start:
        """Return a pose just above the ground; the goal is to move with speed zero."""
        position, base = self.start_pose(rng)
        return Start(position, np.zeros(3), base)

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return height, stillness, uprightness and costs."""
        return {
            'height': terms.tracking(self._error(after), self._config.height_width_m),
            'still': terms.tracking(after.floating.linear_velocity, self._config.speed_width_m_s),
            'upright': terms.upright(self.tilt(after)), **self.costs(before, action, after)}

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the robot stands still at the time limit."""
        speed = float(np.linalg.norm(state.floating.linear_velocity))
        return bool(step >= self.episode_steps and not self.failed(state, goal)
                    and abs(self._error(state)[0]) <= self._config.tolerance_m
                    and speed <= self._config.tolerance_m_s)

    def _error(self, state: RobotState) -> np.ndarray:
        return (state.floating.position - self._home_base.position)[2:]
