# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The inertial measurement unit and the force-torque sensor of a robot in a PyBullet world."""

from collections.abc import Callable

import numpy as np
import pybullet
from rl_nodes.core.inertial import Imu
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.types import BaseState
from rl_nodes.core.urdf import UrdfJoint

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
Motion = tuple[np.ndarray, np.ndarray, np.ndarray]  # orientation, velocity, spin: see Imu.velocity


class PybulletImu:
    """
    Measures the acceleration over one physics step.

    :param client: physics client.
    :param body: the robot in it.
    :param link: number of the link that carries the sensor; -1 for the base.
    :param sensor: where it sits.
    :param base: gives the floating base; None where it is fixed.
    """

    def __init__(self, client: int, body: int, link: int, sensor: Imu,
                 base: Callable[[], BaseState] | None) -> None:
        self._client, self._body, self._link = client, body, link
        self._sensor, self._base = sensor, base
        self.reset()

    def reset(self) -> None:
        """Be at rest."""
        self._before = self._acceleration = np.zeros(3)

    def begin(self) -> None:
        """A physics step comes."""
        self._before = self._sensor.velocity(*self._motion())

    def end(self, seconds: float) -> None:
        """A physics step has been made."""
        self._acceleration = (self._sensor.velocity(*self._motion()) - self._before) / seconds

    def measure(self, gravity: float) -> np.ndarray:
        """Return what it measures, shape (10,); gravity in m/s²."""
        orientation, _, spin = self._motion()
        return self._sensor.measured(orientation, spin, self._acceleration, gravity)

    def _motion(self) -> Motion:
        if self._link < 0:
            if self._base is None:
                return UPRIGHT, np.zeros(3), np.zeros(3)
            base = self._base()
            outward = rotation_from_quaternion(base.orientation)
            return (base.orientation, outward @ base.linear_velocity,
                    outward @ base.angular_velocity)
        center, _, _, _, origin, orientation, linear, spin = (np.array(part) for part in (
            pybullet.getLinkState(self._body, self._link, computeLinkVelocity=1,
                                  computeForwardKinematics=1, physicsClientId=self._client)))
        return orientation, linear + np.cross(spin, origin - center), spin


class PybulletWrench:
    """
    Measures what a joint bears.

    :param client: physics client.
    :param body: the robot in it.
    :param number: of the joint, and of the link behind it.
    :param joint: the joint.
    """

    def __init__(self, client: int, body: int, number: int, joint: UrdfJoint) -> None:
        self._client, self._body, self._joint = client, body, number
        self._drive = np.zeros(6)
        self._drive[:3 if joint.kind == 'prismatic' else None][-3:] = joint.axis
        pybullet.enableJointForceTorqueSensor(body, number, 1, physicsClientId=client)
        center, turn = pybullet.getDynamicsInfo(body, number, physicsClientId=client)[3:5]
        self._center, self._turn = np.array(center), rotation_from_quaternion(np.array(turn))

    def measure(self, effort: float) -> np.ndarray:
        """
        Return what it measures, shape (6,).

        PyBullet has what the bearing exerts on the link behind it, about that link's centre of
        mass. What the drive exerts comes on top of it; joint damping is left out.

        :param effort: of the drive [N·m or N].
        """
        reaction = np.array(pybullet.getJointState(
            self._body, self._joint, physicsClientId=self._client)[2])
        force, torque = self._turn @ -reaction[:3], self._turn @ -reaction[3:]
        return np.concatenate([force, torque + np.cross(self._center, force)]
                              ) - effort * self._drive
