# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Signals that speak of a task's objects."""

from collections.abc import Callable

import numpy as np
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import RobotModel
from rl_nodes.tasks.signals import Bounds, Compute, Signal, View


def object_signals(objects: tuple[ObjectConfig, ...]) -> dict[str, Signal]:
    """Return signals with three elements [m] per object; of a robot without objects they fail."""
    def elements(robot: RobotModel) -> list[tuple[str, str, Bounds]]:
        return [(f'{entry.name}/{axis}', 'm', (None, None)) for entry in objects for axis in 'xyz']

    def relative(origin: Callable[[View], np.ndarray]) -> Callable[[RobotModel], Compute]:
        return lambda robot: lambda view: (
            view.state.object_poses[:, :3] - origin(view)).ravel()
    return {
        'object_position': Signal(elements, relative(lambda view: np.zeros(3))),
        'object_from_tool': Signal(elements, relative(lambda view: view.tool), needs_tool=True),
        'object_from_goal': Signal(elements, relative(lambda view: view.goal.position))}
