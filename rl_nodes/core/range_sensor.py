# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A planar range sensor: where its rays go and what it makes of the distances they find."""

import hashlib
import math
from typing import Annotated

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.types import BaseState
from rl_nodes.core.urdf import Urdf

Positive = Annotated[float, Meta(gt=0)]


class RangeSensorConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A planar range sensor, its rays spread evenly about the x axis of a link, in its xy plane.

    :param link: that carries it.
    :param rays: how many, from the right to the left.
    :param field_of_view_rad: between the first and the last ray.
    :param min_m: nearest distance measured.
    :param max_m: greatest distance measured, and what is measured where nothing is hit.
    """

    link: str
    rays: Annotated[int, Meta(ge=2)]
    field_of_view_rad: Annotated[float, Meta(gt=0, le=2 * math.pi)]
    min_m: Annotated[float, Meta(ge=0)]
    max_m: Positive

    def __post_init__(self) -> None:
        if not self.min_m < self.max_m:
            raise ValueError(f'min_m = {self.min_m} is not below max_m = {self.max_m}')


class RangeSensor:
    """
    The geometry of a range sensor on a robot, the same for every simulator.

    :param config: its record.
    :param urdf: the robot; no joint between ``base_link`` and the sensor's link may move.
    :param base_link: the robot's.
    :raises ConfigError: no such link, or it moves against ``base_link``.
    :ivar config: the record.
    :ivar angles: of the rays about the link's z axis [rad], shape (R,).
    """

    def __init__(self, config: RangeSensorConfig, urdf: Urdf, base_link: str) -> None:
        self.config = config
        if config.link not in urdf.links:
            raise ConfigError(f'range_sensor.link: no link {config.link!r} in {urdf.path.name}'
                              f'{suggestion(config.link, urdf.links)}; links: '
                              f'{", ".join(urdf.links)}')
        self._offset, rotation = np.zeros(3), np.eye(3)
        for joint in urdf.chain(base_link, config.link):
            if joint.kind != 'fixed':
                raise ConfigError(f'range_sensor.link: joint {joint.name!r} moves {config.link!r} '
                                  f'against {base_link!r}; expected a link fixed to it')
            self._offset = self._offset + rotation @ joint.offset
            rotation = rotation @ joint.rotation
        half = config.field_of_view_rad / 2
        self.angles = np.linspace(-half, half, config.rays)
        self._directions = np.stack([np.cos(self.angles), np.sin(self.angles),
                                     np.zeros(config.rays)], axis=1) @ rotation.T

    def rays(self, base: BaseState | None) -> tuple[np.ndarray, np.ndarray]:
        """
        Return (origin of all rays [m], shape (3,); their unit directions, shape (R, 3)).

        Both are in the frame that does not move: ``odom`` where the base floats, else
        ``base_link``.

        :param base: where the robot is; None where its base is fixed.
        """
        if base is None:
            return self._offset, self._directions
        rotation = rotation_from_quaternion(base.orientation)
        return base.position + rotation @ self._offset, self._directions @ rotation.T

    def measured(self, distance: np.ndarray) -> np.ndarray:
        """
        Return what is measured: within the limits and, as in a LaserScan, exact as float32.

        :param distance: to what each ray hits [m], shape (R,); infinite where nothing is hit.
        """
        limited = np.minimum(np.maximum(distance, self.config.min_m), self.config.max_m)
        return limited.astype(np.float32).astype(np.float64)

    def fingerprint(self) -> str:
        """Return the SHA-256 of where the rays go, to a nanometre and a nanoradian."""
        digest = hashlib.sha256()
        for array in (self._offset, self._directions):
            digest.update((np.round(array, 9) + 0.0).tobytes())
        return digest.hexdigest()
