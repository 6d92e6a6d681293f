# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
An inertial measurement unit and a force-torque sensor: where they sit and what they measure.

Simulators move in steps, so an acceleration is the mean over the last physics step: the change of
the velocity of the sensor, whatever a simulator calls acceleration inside. The first state of an
episode follows no step: the unit is at rest there, and the wrench is zero, as joint efforts are.
"""

import hashlib

from msgspec import Struct
import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import (
    quaternion_from_rpy,
    quaternion_product,
    rotation_from_quaternion,
    rpy_from_rotation,
)
from rl_nodes.core.urdf import MOVABLE, Urdf


class ImuConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    An inertial measurement unit.

    :param link: that carries it; it measures in the axes of this link, at its origin.
    """

    link: str


class ForceTorqueConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A force-torque sensor.

    :param joint: that it sits in, one that moves. It measures what everything behind the joint
        exerts on everything before it, at the origin and in the axes of the joint's child link.
    """

    joint: str


class Imu:
    """
    The geometry of an inertial measurement unit, the same for every simulator.

    :param config: its record.
    :param urdf: the robot.
    :param base_link: the robot's.
    :raises ConfigError: no such link.
    :ivar joint: the last joint that moves on the way to it; None where it sits on ``base_link``.
    """

    def __init__(self, config: ImuConfig, urdf: Urdf, base_link: str) -> None:
        if config.link not in urdf.links:
            raise ConfigError(f'imu.link: no link {config.link!r} in {urdf.path.name}'
                              f'{suggestion(config.link, urdf.links)}; links: '
                              f'{", ".join(urdf.links)}')
        self.config = config
        self.joint: str | None = None
        self._offset, rotation = np.zeros(3), np.eye(3)
        for joint in urdf.chain(base_link, config.link):
            if joint.kind in MOVABLE:
                self.joint, self._offset, rotation = joint.name, np.zeros(3), np.eye(3)
            else:
                self._offset = self._offset + rotation @ joint.offset
                rotation = rotation @ joint.rotation
        self._turn = quaternion_from_rpy(rpy_from_rotation(rotation))

    def velocity(self, orientation: np.ndarray, linear: np.ndarray,
                 spin: np.ndarray) -> np.ndarray:
        """
        Return the sensor's velocity in the axes of the world [m/s], shape (3,).

        :param orientation: of the link that the joint moves (or ``base_link``), (x, y, z, w).
        :param linear: velocity of that link's origin, axes of the world [m/s], shape (3,).
        :param spin: its angular velocity, axes of the world [rad/s], shape (3,).
        """
        return linear + np.cross(spin, rotation_from_quaternion(orientation) @ self._offset)

    def measured(self, orientation: np.ndarray, spin: np.ndarray, acceleration: np.ndarray,
                 gravity: float) -> np.ndarray:
        """
        Return what is measured, shape (10,), as :class:`rl_nodes.core.types.RobotState` has it.

        :param orientation: as of :meth:`velocity`, as is ``spin``.
        :param acceleration: of the sensor, axes of the world [m/s²], shape (3,).
        :param gravity: pulls down [m/s²].
        """
        turned = quaternion_product(orientation, self._turn)
        inward = rotation_from_quaternion(turned).T
        felt = acceleration + np.array([0.0, 0.0, gravity])
        return np.concatenate([turned, inward @ spin, inward @ felt])

    def fingerprint(self) -> str:
        """Return the SHA-256 of where it sits, to a nanometre and a nanoradian."""
        digest = hashlib.sha256(str(self.joint).encode())
        for array in (self._offset, self._turn):
            digest.update((np.round(array, 9) + 0.0).tobytes())
        return digest.hexdigest()


def check_force_torque(config: ForceTorqueConfig, urdf: Urdf) -> None:
    """Refuse a sensor in a joint that is not there or does not move; ConfigError says so."""
    movable = [joint.name for joint in urdf.movable()]
    if config.joint not in movable:
        raise ConfigError(f'force_torque.joint: {config.joint!r} is no joint of {urdf.path.name} '
                          f'that moves{suggestion(config.joint, movable)}; joints: '
                          f'{", ".join(movable)}')
