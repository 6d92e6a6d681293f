# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The range sensor of a robot in a MuJoCo model."""

from typing import Any

import mujoco
import numpy as np
from rl_nodes.core.range_sensor import RangeSensor
from rl_nodes.core.types import BaseState


class MujocoRays:
    """
    Casts the rays.

    :param sensor: where they go.
    :param group: of the shapes that they meet; none of the robot's is in it.
    """

    def __init__(self, sensor: RangeSensor, group: int) -> None:
        self._sensor = sensor
        self._groups = np.zeros(mujoco.mjNGROUP, np.uint8)
        self._groups[group] = 1
        self._hit = np.zeros(1, np.int32)

    def measure(self, sim: Any, data: Any, base: BaseState | None) -> np.ndarray:
        """
        Return what the sensor measures [m], shape (R,), float64.

        :param sim: the model.
        :param data: its data; where its shapes are is brought up to date.
        :param base: where the robot is; None where its base is fixed.
        """
        mujoco.mj_kinematics(sim, data)
        origin, directions = self._sensor.rays(base)
        found = np.array([mujoco.mj_ray(sim, data, origin, direction, self._groups, 1, -1,
                                        self._hit) for direction in directions])
        return self._sensor.measured(np.where(found < 0, np.inf, found))
