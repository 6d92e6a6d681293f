# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The objects of a task in a MuJoCo model; poses are (x, y, z) and quaternion (x, y, z, w)."""

from typing import Any

import mujoco
import numpy as np
from rl_nodes.core.objects import aside, ObjectConfig

_SHAPES = {'box': mujoco.mjtGeom.mjGEOM_BOX, 'sphere': mujoco.mjtGeom.mjGEOM_SPHERE,
           'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER}
_W_FIRST = [0, 1, 2, 6, 3, 4, 5]  # MuJoCo's quaternions begin with w
_W_LAST = [0, 1, 2, 4, 5, 6, 3]


def add_objects(spec: Any, objects: tuple[ObjectConfig, ...], group: int) -> None:
    """
    Add objects to a model's description, after everything of the robot.

    :param group: of their shapes; what has mass moves freely, the rest are mocap bodies.
    """
    for entry in objects:  # at the origin: what a camera sees depends on the model's size
        body = spec.worldbody.add_body(name=_name(entry), mocap=not entry.mass_kg)
        if entry.mass_kg:
            body.add_freejoint(name=_name(entry))
            body.mass, body.inertia, body.explicitinertial = entry.mass_kg, entry.inertia, True
            body.ipos, body.iquat = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
        size = (entry.size[0], entry.half[2], 0.0) if entry.shape == 'cylinder' else entry.half
        # Of higher priority than robot and ground: the friction of its contacts is its own.
        body.add_geom(name=_name(entry), type=_SHAPES[entry.shape], size=size, group=group,
                      rgba=entry.colour, friction=(entry.friction, 0.005, 0.0001),
                      priority=2 if entry.mass_kg else 1)


class MujocoObjects:
    """
    Where the objects of a model are.

    :param sim: model compiled after :func:`add_objects`.
    :param data: its data.
    :param objects: the same.
    """

    def __init__(self, sim: Any, data: Any, objects: tuple[ObjectConfig, ...]) -> None:
        self._data = data
        self._aside = aside(objects)
        self._names = tuple(entry.name for entry in objects)
        self._free = [(index, sim.joint(_name(entry)).qposadr[0])
                      for index, entry in enumerate(objects) if entry.mass_kg]
        self._fixed = [(index, sim.body(_name(entry)).mocapid[0])
                       for index, entry in enumerate(objects) if not entry.mass_kg]

    def place(self, poses: np.ndarray | None) -> None:
        """Put the objects to poses (N, 7), in reset data; None: aside."""
        rows = (self._aside if poses is None else poses)[:, _W_FIRST]
        for index, start in self._free:
            self._data.qpos[start:start + 7] = rows[index]
        for index, number in self._fixed:
            self._data.mocap_pos[number] = rows[index, :3]
            self._data.mocap_quat[number] = rows[index, 3:]

    def read(self) -> np.ndarray | None:
        """Return the poses, shape (N, 7); None without objects."""
        if not self._names:
            return None
        rows = np.empty((len(self._names), 7))
        for index, start in self._free:
            rows[index] = self._data.qpos[start:start + 7]
        for index, number in self._fixed:
            rows[index, :3] = self._data.mocap_pos[number]
            rows[index, 3:] = self._data.mocap_quat[number]
        return rows[:, _W_LAST]

    def lost(self) -> str:
        """Return the name of an object that is nowhere, or ``''``."""
        for index, start in self._free:
            if not np.abs(self._data.qpos[start:start + 7]).max() < mujoco.mjMAXVAL:
                return self._names[index]
        return ''


def _name(entry: ObjectConfig) -> str:
    return f'object/{entry.name}'
