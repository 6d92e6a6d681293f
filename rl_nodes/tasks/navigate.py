# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Navigate: drive to a goal among obstacles that only the range sensor sees.

The goal is a point on the ground in ``odom``. Start: at the origin of ``odom``, any heading; a
goal drawn by distance and direction; the obstacles on a disc over start and goal, both of them and
every gap between two obstacles wide enough. Reward terms: ``distance`` [m], ``progress`` [m]
towards the goal in the step, ``closeness`` [1] (0.5 at the tolerance), ``nearness`` [1] of the
nearest obstacle (0 beyond ``near_m``, 1 at ``collision_m``), ``collision`` [1], ``action`` [1].
End: something is nearer to the range sensor than ``collision_m``. Success: the robot is within the
tolerance of the goal at the end of the episode and has hit nothing.
"""

import math
from typing import Annotated, ClassVar

from msgspec import Meta
import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState, Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig

Positive = Annotated[float, Meta(gt=0)]
Range = tuple[float, float]


class NavigateConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: navigate``.

    :param goal_m: range of the goal's distance from the start.
    :param spread_m: how far the disc with the obstacles reaches beyond start and goal.
    :param clearance_m: free around start and goal.
    :param gap_m: free between two obstacles.
    :param collision_m: distance from the range sensor that counts as hit.
    :param near_m: distance from the range sensor below which an obstacle is near.
    :param tolerance_m: distance from the goal that counts as reached.
    """

    goal_m: Range
    spread_m: Positive
    clearance_m: Positive
    gap_m: Positive
    collision_m: Positive
    near_m: Positive
    tolerance_m: Positive

    def __post_init__(self) -> None:
        if not 0 < self.goal_m[0] <= self.goal_m[1]:
            raise ValueError(f'goal_m = {list(self.goal_m)}; expected 0 < low <= high')
        if not self.collision_m < min(self.near_m, self.clearance_m):
            raise ValueError(f'collision_m = {self.collision_m} is not below near_m = '
                             f'{self.near_m} and clearance_m = {self.clearance_m}')


class Navigate(Task):
    """
    See the module's text; needs a robot with a floating base and a ``range_sensor``.

    :ivar radii: of the circle over ground around each object [m], shape (N,).
    """

    config_type: ClassVar[type[TaskConfig]] = NavigateConfig
    term_names: ClassVar[tuple[str, ...]] = ('distance', 'progress', 'closeness', 'nearness',
                                             'collision', 'action')
    start_ranges: ClassVar[tuple[str, ...]] = ('goal_m',)
    goal_frame: ClassVar[str] = 'odom'

    def __init__(self, name: str, config: NavigateConfig, robot: RobotModel) -> None:
        if robot.home_base is None or robot.range_sensor is None:
            raise ConfigError(f'task {name} needs a robot with floating_base: true and a '
                              f'range_sensor; {robot.name} lacks '
                              + ('a floating base' if robot.home_base is None
                                 else 'a range_sensor'))
        super().__init__(name, config, robot)
        self._config = config
        self._height = robot.home_base.position[2]
        self.radii = np.array([_radius(entry) for entry in config.objects])

    def start(self, rng: np.random.Generator) -> Start:
        """Return a robot at the origin, a goal and the obstacles of a world."""
        heading, direction = rng.uniform(-math.pi, math.pi, 2)
        distance = rng.uniform(*self._config.goal_m)
        goal = distance * np.array([math.cos(direction), math.sin(direction), 0.0])
        base = BaseState.at_rest(np.array([0.0, 0.0, self._height]),
                                 quaternion_from_rpy(np.array([0.0, 0.0, heading])))
        return Start(self.robot.home, goal, base,
                     self._obstacles(rng, goal[:2]) if self.objects else None)

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return distance, progress, closeness, nearness, collision and action size."""
        was, gap = _distance(before, goal), _distance(after, goal)
        config = self._config
        nearness = (config.near_m - float(after.scan.min())) / (config.near_m - config.collision_m)
        return {'distance': gap, 'progress': was - gap,
                'closeness': terms.closeness(gap, config.tolerance_m),
                'nearness': min(1.0, max(0.0, nearness)),
                'collision': float(self.failed(after, goal)),
                'action': terms.action_size(action)}

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether the robot has hit something."""
        return not float(state.scan.min()) >= self._config.collision_m

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the robot is at the goal and has hit nothing."""
        return (_distance(state, goal) <= self._config.tolerance_m
                and not self.failed(state, goal))

    def _obstacles(self, rng: np.random.Generator, goal: np.ndarray) -> np.ndarray:
        """Return poses of all obstacles, shape (N, 7)."""
        reach = float(np.linalg.norm(goal)) / 2 + self._config.spread_m
        for _ in range(100):  # worlds
            points = self._scattered(rng, goal, reach)
            if points is not None:
                yaws = rng.uniform(-math.pi, math.pi, len(points))
                return np.array([
                    [*point, entry.half[2], *quaternion_from_rpy(np.array([0.0, 0.0, yaw]))]
                    for point, entry, yaw in zip(points, self.objects, yaws, strict=True)])
        raise ConfigError(f'task {self.name}: no room for {len(self.objects)} objects in 100 '
                          'draws; give fewer or smaller ones, a greater spread_m, or smaller '
                          'clearance_m and gap_m')

    def _scattered(self, rng: np.random.Generator, goal: np.ndarray,
                   reach: float) -> list[np.ndarray] | None:
        """Return a place (2,) for each obstacle, or None where one has found none."""
        config = self._config
        points: list[np.ndarray] = []
        for radius in self.radii:
            for _ in range(100):
                angle = rng.uniform(-math.pi, math.pi)
                out = reach * math.sqrt(rng.uniform())
                point = goal / 2 + [out * math.cos(angle), out * math.sin(angle)]
                free = min(math.hypot(*point), math.hypot(*(point - goal)))
                if free >= radius + config.clearance_m and all(
                        math.hypot(*(point - other)) >= radius + size + config.gap_m
                        for other, size in zip(points, self.radii)):
                    points.append(point)
                    break
            else:
                return None
        return points


def _radius(entry: ObjectConfig) -> float:
    """Return the radius of the circle over ground that an object fits in, however it turns."""
    x, y, _ = entry.half
    return math.hypot(x, y) if entry.shape == 'box' else x


def _distance(state: RobotState, goal: Goal) -> float:
    """Return how far the goal is over ground [m]."""
    x, y = (goal.position - state.floating.position)[:2].tolist()
    return math.hypot(x, y)
