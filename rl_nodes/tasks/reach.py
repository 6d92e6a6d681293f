# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Reach: bring the tool to a point and keep it there.

Start: joints around home, a goal drawn from a part of a spherical shell around the shoulder.
Reward terms: ``distance`` [m], ``closeness`` [1] (0.5 at the tolerance), ``action`` [1].
End: only by the time limit. Success: the tool is within the tolerance at the end of the episode.
"""

import math
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig

Range = tuple[float, float]


class GoalRegion(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where goals lie, in spherical coordinates around ``center``.

    :param center: [m] in ``base_link``.
    :param radius_m: least and greatest distance from the center.
    :param azimuth_rad: around the vertical, 0 is x.
    :param elevation_rad: above the horizontal.
    :param lowest_m: goals are never below this height.
    """

    center: tuple[float, float, float]
    radius_m: Range
    azimuth_rad: Range
    elevation_rad: Range
    lowest_m: float = 0.05

    def __post_init__(self) -> None:
        for name in ('radius_m', 'azimuth_rad', 'elevation_rad'):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f'{name}: {low} is above {high}')


class ReachConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: reach``.

    :param goal: region that goals are drawn from.
    :param start_noise_rad: joints start at home plus uniform noise up to this.
    :param tolerance_m: distance that counts as reached.
    """

    goal: GoalRegion
    start_noise_rad: Annotated[float, Meta(ge=0)]
    tolerance_m: Annotated[float, Meta(gt=0)]


class Reach(Task):
    """See the module's text; needs a robot with a ``tool_link``."""

    config_type: ClassVar[type[TaskConfig]] = ReachConfig
    term_names: ClassVar[tuple[str, ...]] = ('distance', 'closeness', 'action')
    needs_tool: ClassVar[bool] = True
    start_ranges: ClassVar[tuple[str, ...]] = ('goal.radius_m', 'goal.azimuth_rad',
                                               'goal.elevation_rad', 'start_noise_rad')

    def __init__(self, name: str, config: ReachConfig, robot: RobotModel) -> None:
        if robot.chain is None:
            raise ConfigError(f'task {name} needs a robot with a tool_link; {robot.name} has none')
        super().__init__(name, config, robot)
        self._config = config
        low, high = np.full(len(robot.home), -np.inf), np.full(len(robot.home), np.inf)
        low[robot.commanded], high[robot.commanded] = robot.limits('lower'), robot.limits('upper')
        self._low, self._high = low, high

    def start(self, rng: np.random.Generator) -> Start:
        """Return joints near home and a goal in the region."""
        noise = self._config.start_noise_rad
        position = self.robot.home + rng.uniform(-noise, noise, len(self.robot.home))
        region = self._config.goal
        for _ in range(1000):
            radius = rng.uniform(*region.radius_m)
            azimuth = rng.uniform(*region.azimuth_rad)
            elevation = rng.uniform(*region.elevation_rad)
            flat = radius * math.cos(elevation)
            goal = np.array(region.center) + np.array([
                flat * math.cos(azimuth), flat * math.sin(azimuth), radius * math.sin(elevation)])
            if goal[2] >= region.lowest_m:
                return Start(np.clip(position, self._low, self._high), goal)
        raise ConfigError(f'task {self.name}: goal region lies below lowest_m = '
                          f'{region.lowest_m}: no goal in 1000 draws')

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return distance, closeness and action size."""
        gap = terms.distance(self.tool(after), goal.position)
        return {'distance': gap, 'closeness': terms.closeness(gap, self._config.tolerance_m),
                'action': terms.action_size(action)}

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return False: only the time limit ends a reach."""
        return False

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the tool is within the tolerance."""
        return terms.distance(self.tool(state), goal.position) <= self._config.tolerance_m
