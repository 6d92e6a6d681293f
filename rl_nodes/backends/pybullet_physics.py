# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What can be different about a robot in PyBullet from episode to episode, and a push."""

import numpy as np
import pybullet
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.variation import Physics

GRAVITY = 9.81  # [m/s²]


class PybulletPhysics:
    """
    The properties of a robot's body that a saved state of PyBullet does not contain.

    :param client: physics client.
    :param body: the robot's body, as it is without a variation.
    :param joints: PyBullet's number of each joint in the model's order; a joint's number is also
        that of the link that it moves.
    :param ground: body of the ground, with a friction of 1; None without one.
    :param model: the robot.
    :ivar strength: of each drive, shape (A,).
    """

    def __init__(self, client: int, body: int, joints: list[int], ground: int | None,
                 model: RobotModel) -> None:
        self._client, self._body, self._joints, self._ground = client, body, joints, ground
        self._links = [-1, *joints]  # solids
        self._masses = [pybullet.getDynamicsInfo(body, link, physicsClientId=client)[:3:2]
                        for link in self._links]  # mass, moments of inertia
        self._damping = [pybullet.getJointInfo(body, joint, physicsClientId=client)[6]
                         for joint in joints]
        self._nominal = Physics(np.ones(len(self._links)), np.ones(len(joints)),
                                np.ones(len(model.commanded)))
        self._present = self._nominal
        self.strength = self._nominal.strength

    def apply(self, physics: Physics | None) -> bool:
        """
        Make the robot different; multiples of 1 give the bits of the unchanged one.

        :param physics: None for nothing different.
        :return: whether anything has changed.
        """
        wanted = physics or self._nominal
        if wanted is self._present:
            return False
        self._present, self.strength = wanted, wanted.strength
        client, body = self._client, self._body
        for link, (mass, inertia), scale in zip(self._links, self._masses, wanted.mass.tolist(),
                                                strict=True):
            pybullet.changeDynamics(
                body, link, mass=mass * scale,
                localInertiaDiagonal=[scale * moment for moment in inertia],
                physicsClientId=client)
        for joint, damping, scale in zip(self._joints, self._damping, wanted.damping.tolist(),
                                         strict=True):
            pybullet.changeDynamics(body, joint, jointDamping=damping * scale,
                                    physicsClientId=client)
        if self._ground is not None:  # its own is 1, and contacts take the product
            pybullet.changeDynamics(self._ground, -1, lateralFriction=wanted.friction,
                                    physicsClientId=client)
        pybullet.setGravity(0, 0, -GRAVITY * wanted.gravity, physicsClientId=client)
        return True

    @property
    def gravity(self) -> float:
        """Return what pulls down [m/s²]."""
        return GRAVITY * self._present.gravity

    def push(self, solid: int, force: list[float]) -> None:
        """Exert a force [N], axes of the world, for the next physics step."""
        link = self._links[solid]
        if link < 0:
            center = pybullet.getBasePositionAndOrientation(self._body,
                                                            physicsClientId=self._client)[0]
        else:
            center = pybullet.getLinkState(self._body, link, computeForwardKinematics=1,
                                           physicsClientId=self._client)[0]
        pybullet.applyExternalForce(self._body, link, force, center, pybullet.WORLD_FRAME,
                                    physicsClientId=self._client)
