# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a task sees of a simulated robot that waits for its cameras."""

import gymnasium
import numpy as np
from rl_nodes.backends import make_view
from rl_nodes.core.cameras import CameraMount
from rl_nodes.core.types import RobotState
from rl_nodes.tasks.base import Task


class Eyes:
    """
    Draws what the cameras see in a world of its own, at their rate, and makes it smaller.

    The same pictures as those of the node ``camera`` and the policy server in lockstep.

    :param task: that observes pictures.
    """

    def __init__(self, task: Task) -> None:
        self._task, robot = task, task.robot
        self._view = make_view(robot, task.objects)
        self._looks = [(sight, CameraMount(sight.camera, robot.urdf, robot.joint_names),
                        sight.reduction()) for sight in task.sights]
        self._seen: dict[str, np.ndarray] = {}

    def spaces(self) -> dict[str, gymnasium.Space]:
        """Return the space of each picture, by name of the policy's input."""
        return {spec.input: gymnasium.spaces.Box(0, 255, spec.shape, np.uint8)
                for spec in self._task.contract.pictures}

    def look(self, state: RobotState) -> dict[str, np.ndarray]:
        """Return the pictures that go with a state, by name of the policy's input."""
        due = [look for look in self._looks
               if self._task.pictured_at(state, look[0]) == state.stamp_ns]
        if due:
            self._view.show(state, np.zeros(3))
        for sight, mount, reduction in due:
            picture, _ = self._view.look(sight.camera, *mount.pose(state))
            self._seen[sight.spec.input] = reduction(picture)
        return {name: picture.copy() for name, picture in self._seen.items()}

    def close(self) -> None:
        """Let go of the world."""
        self._view.close()
