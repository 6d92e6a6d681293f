# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Walk: move with a commanded planar velocity, stepping in time.

The command travels as the goal: its position is (vx [m/s], vy [m/s], yaw rate [rad/s]), all in
the axes of ``base_link``. Start: as when standing, with a command drawn from the ranges. Reward
terms: ``velocity`` [1] and ``turning`` [1] (1 where the command is met), ``gait`` [1] (1 where
every foot is as high as the robot's gait wants it), ``tilt`` [rad²], ``bounce`` [m²/s²] (vertical
speed squared), ``sway`` [rad²/s²] (speed of roll and pitch squared), ``energy`` [W], ``shake``
[1], ``action`` [1]. End: the robot has fallen. Success: at the time limit it has not fallen and
its mean velocity since the start is within the tolerances of the command.

The mean velocity is the constant one, in the axes of the base, that leads from the start to where
the robot is. With yaw a and displacement d (in the axes of the start) after time T it is

    v = V(a)^-1 d / T,   w = a / T,   V(a) = [[sin a, cos a - 1], [1 - cos a, sin a]] / a      (1)

A pure function of one state, so every node that judges the episode agrees.
"""

import math
from typing import ClassVar

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.timing import NS
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import TaskConfig
from rl_nodes.tasks.legged import LeggedConfig, LeggedTask, Positive, Range, require_order


class QuadrupedWalkConfig(LeggedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: quadruped_walk``.

    :param forward_m_s: range of the commanded vx.
    :param sideways_m_s: range of the commanded vy.
    :param yaw_rad_s: range of the commanded yaw rate; in an episode less than one turn, since the
        mean of more cannot be told from one pose.
    :param velocity_width_m_s: error at which the term ``velocity`` is 0.37.
    :param yaw_width_rad_s: error at which the term ``turning`` is 0.37.
    :param clearance_m: height of a step.
    :param gait_width_m: error of a foot's height at which it adds 0.37 to the term ``gait``.
    :param tolerance_m_s: error of the mean planar velocity that counts as walking as commanded.
    :param tolerance_rad_s: the same of the mean yaw rate.
    """

    forward_m_s: Range
    sideways_m_s: Range
    yaw_rad_s: Range
    velocity_width_m_s: Positive
    yaw_width_rad_s: Positive
    clearance_m: Positive
    gait_width_m: Positive
    tolerance_m_s: Positive
    tolerance_rad_s: Positive

    def __post_init__(self) -> None:
        require_order(self, 'forward_m_s', 'sideways_m_s', 'yaw_rad_s')
        most = max(map(abs, self.yaw_rad_s)) * self.episode_s
        if not most < 1.5 * math.pi:
            raise ValueError(f'yaw_rad_s: {self.yaw_rad_s} for {self.episode_s} s is up to '
                             f'{most:.3g} rad; expected less than 3/4 of a turn')


class QuadrupedWalk(LeggedTask):
    """
    See the module's text.

    :raises ConfigError: the robot has no gait.
    """

    config_type: ClassVar[type[TaskConfig]] = QuadrupedWalkConfig
    term_names: ClassVar[tuple[str, ...]] = ('velocity', 'turning', 'gait', 'tilt', 'bounce',
                                             'sway', 'energy', 'shake', 'action')
    start_ranges: ClassVar[tuple[str, ...]] = (
        *LeggedTask.start_ranges, 'forward_m_s', 'sideways_m_s', 'yaw_rad_s')

    def __init__(self, name: str, config: QuadrupedWalkConfig, robot: RobotModel) -> None:
        if robot.gait is None:
            raise ConfigError(f'task {name} needs a robot with a gait; {robot.name} has none '
                              '(gait: {cycle_s: ..., feet: ...})')
        super().__init__(name, config, robot)
        self._config = config
        self._gait = robot.gait

    def start(self, rng: np.random.Generator) -> Start:
        """Return a pose just above the ground and a command."""
        position, base = self.start_pose(rng)
        config = self._config
        command = [rng.uniform(*limits) for limits in (config.forward_m_s, config.sideways_m_s,
                                                       config.yaw_rad_s)]
        return Start(position, np.array(command), base)

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return how well command and gait are met, and costs."""
        base, config = after.floating, self._config
        planar, yaw = base.linear_velocity[:2], base.angular_velocity[2:]
        roll, pitch, _ = base.angular_velocity.tolist()
        return {
            'velocity': terms.tracking(planar - goal.position[:2], config.velocity_width_m_s),
            'turning': terms.tracking(yaw - goal.position[2:], config.yaw_width_rad_s),
            'gait': self._in_time(after), 'tilt': self.tilt(after) ** 2,
            'bounce': float(base.linear_velocity[2]) ** 2, 'sway': roll * roll + pitch * pitch,
            **self.costs(before, action, after)}

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the robot has walked as commanded, at the time limit."""
        if step < self.episode_steps or self.failed(state, goal):
            return False
        planar, yaw = self.mean_velocity(state, goal)
        return bool(float(np.linalg.norm(planar - goal.position[:2])) <= self._config.tolerance_m_s
                    and abs(yaw - goal.position[2]) <= self._config.tolerance_rad_s)

    def mean_velocity(self, state: RobotState, goal: Goal) -> tuple[np.ndarray, float]:
        """
        Return the mean planar velocity (2,) [m/s] and yaw rate [rad/s] since the start, eq. (1).

        :param goal: of whole turns, those are taken that bring the yaw closest to the command.
        """
        elapsed_s = self.step_of(state) * self.period_ns / NS
        ahead = rotation_from_quaternion(state.floating.orientation)[:2, 0]
        yaw = math.atan2(ahead[1], ahead[0])
        turn = 2 * math.pi
        yaw += turn * round((float(goal.position[2]) * elapsed_s - yaw) / turn)
        half = 0.5 * yaw
        straight = half / math.tan(half) if abs(half) > 1e-6 else 1.0
        x, y = (state.floating.position - self._home_base.position)[:2]
        return (np.array([straight * x + half * y, straight * y - half * x]) / elapsed_s,
                yaw / elapsed_s)

    def _in_time(self, state: RobotState) -> float:
        """Return how close the feet are to the heights that the gait wants."""
        up = self._gait.feet_up(state)
        wanted = self._gait.wanted_up(self._gait.phase(state), self._config.clearance_m)
        width = self._config.gait_width_m
        return sum(math.exp(-((is_up - should) / width) ** 2)
                   for is_up, should in zip(up, wanted, strict=True)) / len(up)
