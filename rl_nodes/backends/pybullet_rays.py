# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The range sensor of a robot in a PyBullet world."""

import numpy as np
import pybullet
from rl_nodes.core.range_sensor import RangeSensor
from rl_nodes.core.types import BaseState

_ROBOT = 1 << 5  # collision group of a robot with a sensor; PyBullet's own groups end below
_EVERYTHING = -1


class PybulletRays:
    """
    Casts the rays; the robot itself is the only thing they pass through.

    :param client: physics client.
    :param body: the robot in it.
    :param sensor: where the rays go.
    """

    def __init__(self, client: int, body: int, sensor: RangeSensor) -> None:
        self._client = client
        self._sensor = sensor
        for link in range(-1, pybullet.getNumJoints(body, physicsClientId=client)):
            pybullet.setCollisionFilterGroupMask(body, link, _ROBOT, _EVERYTHING,
                                                 physicsClientId=client)

    def measure(self, base: BaseState | None) -> np.ndarray:
        """
        Return what the sensor measures [m], shape (R,), float64.

        :param base: where the robot is; None where its base is fixed.
        """
        origin, directions = self._sensor.rays(base)
        reach = self._sensor.config.max_m
        hits = pybullet.rayTestBatch(
            [origin.tolist()] * len(directions), (origin + reach * directions).tolist(),
            collisionFilterMask=~_ROBOT, physicsClientId=self._client)
        return self._sensor.measured(reach * np.array([hit[2] for hit in hits]))
