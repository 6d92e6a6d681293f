# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The inertial measurement unit and the force-torque sensor of a robot in a MuJoCo model."""

from typing import Any

import mujoco
import numpy as np
from rl_nodes.core.inertial import Imu
from rl_nodes.core.robot import RobotModel


class MujocoImu:
    """
    Measures the acceleration over one physics step.

    :param sensor: where it sits.
    :param model: the robot.
    """

    def __init__(self, sensor: Imu, model: RobotModel) -> None:
        self._sensor = sensor
        self._link = model.config.base_link if sensor.joint is None else \
            model.urdf.joints[sensor.joint].child
        self._moves = sensor.joint is not None or model.config.floating_base
        self.reset()

    def reset(self) -> None:
        """Be at rest."""
        self._before = self._acceleration = np.zeros(3)

    def begin(self, sim: Any, data: Any) -> None:
        """A physics step comes."""
        self._before = self._sensor.velocity(*self._motion(sim, data))

    def end(self, sim: Any, data: Any) -> None:
        """A physics step has been made."""
        after = self._sensor.velocity(*self._motion(sim, data))
        self._acceleration = (after - self._before) / sim.opt.timestep

    def measure(self, sim: Any, data: Any) -> np.ndarray:
        """Return what it measures, shape (10,)."""
        orientation, _, spin = self._motion(sim, data)
        return self._sensor.measured(orientation, spin, self._acceleration,
                                     -float(sim.opt.gravity[2]))

    def _motion(self, sim: Any, data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return orientation, velocity and spin as of ``Imu.velocity``."""
        if not self._moves:
            return np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3), np.zeros(3)
        # A physics step leaves all of these as they were at its start.
        mujoco.mj_kinematics(sim, data)
        mujoco.mj_comPos(sim, data)
        mujoco.mj_comVel(sim, data)
        body, velocity = sim.body(self._link).id, np.zeros(6)
        mujoco.mj_objectVelocity(sim, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
        w, x, y, z = data.xquat[body].tolist()
        return np.array([x, y, z, w]), velocity[3:], velocity[:3]


class MujocoWrench:
    """
    Measures what a joint bears.

    :param link: behind the joint.
    """

    def __init__(self, link: str) -> None:
        self._link = link
        self.reset()

    def reset(self) -> None:
        """Bear nothing."""
        self.wrench = np.zeros(6)

    def end(self, sim: Any, data: Any, before: np.ndarray) -> None:
        """
        A physics step has been made, and nothing been brought up to date since.

        :param before: velocities before it, shape (nv,).
        """
        # What the implicit step has made of the accelerations that MuJoCo began with.
        data.qacc[:] = (data.qvel - before) / sim.opt.timestep
        mujoco.mj_rnePostConstraint(sim, data)
        body, reaction = sim.body(self._link).id, np.zeros(6)
        mujoco.mju_transformSpatial(
            reaction, data.cfrc_int[body], 1, data.xpos[body],
            data.subtree_com[sim.body_rootid[body]], data.xmat[body])
        self.wrench = -np.concatenate([reaction[3:], reaction[:3]])
