# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Push: bring an object to a point of the table by pushing it with the tool, and leave it there.

Start: the tool low and near the base, the object in front of it, a goal further out.
Reward terms: ``distance`` [m] of object and goal over the table, ``closeness`` [1] (0.5 at the
tolerance), ``behind`` [m] from the tool to the place from where to push: behind the object as the
goal sees it, ``action`` [1], ``lost`` [1] (1 where the episode ends in failure).
End: the object lies out of reach or fell below the table, or the tool is about to touch the
table. Success: the object is within the tolerance at the end of the episode.
"""

import math
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig

Range = tuple[float, float]
FALLEN_M = 0.02  # an object whose center is this far below where it began has left the table


class PushRegion(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where object and goal lie on the table, in polar coordinates around ``base_link``.

    :param radius_m: least and greatest distance of the object from the base.
    :param azimuth_rad: of the object, around the vertical; 0 is x.
    :param distance_m: from the object to its goal.
    :param bearing_rad: of the goal as the object sees it; 0 is straight away from the base.
    :param reach_m: no goal is further from the base; an object that is ends the episode.
    """

    radius_m: Range
    azimuth_rad: Range
    distance_m: Range
    bearing_rad: Range
    reach_m: Annotated[float, Meta(gt=0)]

    def __post_init__(self) -> None:
        for name in ('radius_m', 'azimuth_rad', 'distance_m', 'bearing_rad'):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f'{name}: {low} is above {high}')


class PushConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: push``; ``objects`` has the one to push.

    :param region: where object and goal lie at the start.
    :param ready: joint positions at the start by name, where they are not those of home [rad, m].
    :param start_noise_rad: joints start there plus uniform noise up to this.
    :param standoff_m: from the object's center to the tool that pushes it.
    :param clearance_m: height of the tool below which it touches the table.
    :param tolerance_m: distance over the table that counts as there.
    """

    region: PushRegion
    ready: dict[str, float]
    start_noise_rad: Annotated[float, Meta(ge=0)]
    standoff_m: Annotated[float, Meta(gt=0)]
    clearance_m: Annotated[float, Meta(ge=0)]
    tolerance_m: Annotated[float, Meta(gt=0)]


class Push(Task):
    """See the module's text; needs a robot with a ``tool_link`` and one object."""

    config_type: ClassVar[type[TaskConfig]] = PushConfig
    term_names: ClassVar[tuple[str, ...]] = ('distance', 'closeness', 'behind', 'action', 'lost')
    needs_tool: ClassVar[bool] = True
    start_ranges: ClassVar[tuple[str, ...]] = (
        'region.radius_m', 'region.azimuth_rad', 'region.distance_m', 'region.bearing_rad',
        'start_noise_rad')

    def __init__(self, name: str, config: PushConfig, robot: RobotModel) -> None:
        if robot.chain is None:
            raise ConfigError(f'task {name} needs a robot with a tool_link; {robot.name} has none')
        if len(config.objects) != 1 or not config.objects[0].mass_kg:
            raise ConfigError(f'objects: {len(config.objects)} given; expected the one to push, '
                              'with a mass')
        super().__init__(name, config, robot)
        self._config = config
        self.standoff_m = config.standoff_m
        self._height = config.objects[0].half[2]
        low, high = np.full(len(robot.home), -np.inf), np.full(len(robot.home), np.inf)
        low[robot.commanded], high[robot.commanded] = robot.limits('lower'), robot.limits('upper')
        self._low, self._high = low, high
        self._ready = robot.home.copy()
        for joint, value in config.ready.items():
            if joint not in robot.joint_names:
                raise ConfigError(f'ready: robot {robot.name} has no joint {joint!r}'
                                  f'{suggestion(joint, robot.joint_names)}; it has '
                                  f'{", ".join(robot.joint_names)}')
            self._ready[robot.index_of(joint)] = value

    def start(self, rng: np.random.Generator) -> Start:
        """Return joints near ready, the object on the table and a goal within reach."""
        noise, region = self._config.start_noise_rad, self._config.region
        position = self._ready + rng.uniform(-noise, noise, len(self._ready))
        yaw = rng.uniform(-math.pi, math.pi)
        for _ in range(1000):
            azimuth = rng.uniform(*region.azimuth_rad)
            there = self._on_table(rng.uniform(*region.radius_m), azimuth)
            goal = there + self._on_table(rng.uniform(*region.distance_m),
                                          azimuth + rng.uniform(*region.bearing_rad))
            if math.hypot(*goal.tolist()) <= region.reach_m:
                pose = [*there, self._height, 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]
                return Start(np.clip(position, self._low, self._high),
                             np.array([*goal, self._height]), objects=np.array([pose]))
        raise ConfigError(f'task {self.name}: region lies beyond reach_m = {region.reach_m}: no '
                          'goal in 1000 draws')

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return distance, closeness, how far the tool is from behind, action size, lost."""
        gap = self._gap(after, goal)
        return {'distance': gap, 'closeness': terms.closeness(gap, self._config.tolerance_m),
                'behind': terms.distance(self.tool(after), self._behind(after, goal, gap)),
                'action': terms.action_size(action), 'lost': float(self.failed(after, goal))}

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether the object is out of reach or off the table, or the tool too low."""
        x, y, z = state.object_poses[0, :3].tolist()
        return not (math.hypot(x, y) <= self._config.region.reach_m + self._config.tolerance_m
                    and z >= self._height - FALLEN_M
                    and self.tool(state)[2] >= self._config.clearance_m)

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the object is within the tolerance."""
        return self._gap(state, goal) <= self._config.tolerance_m

    def _behind(self, state: RobotState, goal: Goal, gap: float) -> np.ndarray:
        """
        Return from where to push, shape (3,): the standoff behind the object.

        Within the tolerance, where the goal's direction means little, it moves under the object.
        """
        place = state.object_poses[0, :3]
        away = (place - goal.position) / max(gap, self._config.tolerance_m)
        away[2] = 0.0
        behind: np.ndarray = place + self._config.standoff_m * away
        return behind

    @staticmethod
    def _on_table(radius: float, angle: float) -> np.ndarray:
        return radius * np.array([math.cos(angle), math.sin(angle)])

    @staticmethod
    def _gap(state: RobotState, goal: Goal) -> float:
        """Return the distance of object and goal over the table [m]."""
        x, y = (state.object_poses[0, :2] - goal.position[:2]).tolist()
        return math.hypot(x, y)
