# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The objects of a task in a PyBullet world."""

import math
from typing import Any

import numpy as np
import pybullet
from rl_nodes.core.errors import BackendError
from rl_nodes.core.objects import aside, ObjectConfig

UP = np.array([0.0, 0.0, 100.0, 0.0, 0.0, 0.0, 0.0])


class PybulletObjects:
    """
    Rigid bodies beside the robot.

    They are made high in the air, to be saved with the world like that: where they touch nothing
    no contact of an earlier episode survives the restored world.

    :param client: physics client; it has the robot and the ground already.
    :param objects: what they are; they lie aside until :meth:`place`.
    """

    def __init__(self, client: int, objects: tuple[ObjectConfig, ...]) -> None:
        self._client = client
        self._objects = objects
        self._aside = aside(objects)
        self._bodies = [_add(client, entry, pose)
                        for entry, pose in zip(objects, (self._aside + UP).tolist(), strict=True)]

    def place(self, poses: np.ndarray | None) -> None:
        """Put the objects, at rest, to poses (N, 7), in a restored world; None: aside."""
        rows = (self._aside if poses is None else poses).tolist()
        for body, row in zip(self._bodies, rows, strict=True):
            pybullet.resetBasePositionAndOrientation(body, row[:3], row[3:],
                                                     physicsClientId=self._client)
            pybullet.resetBaseVelocity(body, [0.0] * 3, [0.0] * 3, physicsClientId=self._client)

    def read(self) -> np.ndarray | None:
        """Return the poses, shape (N, 7); None without objects; BackendError if exploded."""
        if not self._bodies:
            return None
        rows = [position + quaternion for position, quaternion in (
            pybullet.getBasePositionAndOrientation(body, physicsClientId=self._client)
            for body in self._bodies)]
        for entry, row in zip(self._objects, rows, strict=True):
            if not math.isfinite(sum(row)):
                raise BackendError(f'the simulation exploded (object {entry.name} at '
                                   f'{list(row[:3])}); call recover(), the episode is void')
        return np.array(rows)


def _add(client: int, entry: ObjectConfig, pose: list[float]) -> int:
    """Return the number of a new body."""
    form: dict[str, Any]
    if entry.shape == 'box':
        form = {'shapeType': pybullet.GEOM_BOX, 'halfExtents': entry.half}
        looks = form
    elif entry.shape == 'sphere':
        form = {'shapeType': pybullet.GEOM_SPHERE, 'radius': entry.size[0]}
        looks = form
    else:
        form = {'shapeType': pybullet.GEOM_CYLINDER, 'radius': entry.size[0],
                'height': entry.size[1]}
        looks = {'shapeType': pybullet.GEOM_CYLINDER, 'radius': entry.size[0],
                 'length': entry.size[1]}
    body: int = pybullet.createMultiBody(
        entry.mass_kg, pybullet.createCollisionShape(**form, physicsClientId=client),
        pybullet.createVisualShape(**looks, rgbaColor=entry.colour, physicsClientId=client),
        pose[:3], pose[3:], physicsClientId=client)
    # Contacts take the product of two frictions; that of the ground is 1.
    pybullet.changeDynamics(body, -1, lateralFriction=entry.friction, linearDamping=0,
                            angularDamping=0, physicsClientId=client)
    if entry.mass_kg:
        pybullet.changeDynamics(body, -1, localInertiaDiagonal=entry.inertia,
                                physicsClientId=client)
    return body
