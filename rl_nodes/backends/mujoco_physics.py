# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot's drives in MuJoCo, and what can be different about it from episode to episode."""

import copy
from typing import Any

import mujoco
import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.variation import Physics


class MujocoPhysics:
    """
    One compiled model, and changed copies of it.

    :param sim: the compiled model; its drives get their gains here.
    :param model: the robot.
    :param kv: of each drive, see ``mujoco_robot.py``, shape (A,); zeros for effort control.
    :ivar bodies: number of the body at the root of each solid, shape (1 + J,).
    """

    def __init__(self, sim: Any, model: RobotModel, kv: np.ndarray) -> None:
        self._sim, self._kv = sim, kv
        joints = np.array([sim.joint(name).id for name in model.joint_names])
        self.bodies = np.array([sim.body(model.config.base_link).id, *sim.jnt_bodyid[joints]])
        self._driven = joints[model.commanded]
        self._dofs = sim.jnt_dofadr[joints]
        self._driven_dofs = self._dofs[model.commanded]
        # The number of each body's solid; what belongs to none, as the world, comes last.
        solids = {body: solid for solid, body in enumerate(self.bodies.tolist())}
        self._solids = np.array([solids.get(root, len(solids))
                                 for root in sim.body_weldid.tolist()])
        settings, self._mode = model.config.simulation, model.config.control_mode
        self._rate = settings.position_gain * settings.physics_hz
        if self._mode != 'effort':
            self._set_gains(sim, kv)

    def of(self, physics: Physics | None) -> tuple[Any, np.ndarray | float]:
        """
        Return (model for an episode, strength of its drives (A,)).

        :param physics: None for the compiled model itself.
        """
        if physics is None:
            return self._sim, 1.0
        sim = copy.copy(self._sim)
        mass = np.append(physics.mass, 1.0)[self._solids]
        sim.body_mass *= mass
        sim.body_inertia *= mass[:, None]
        sim.geom_friction[:, 0] *= physics.friction
        sim.opt.gravity[:] *= physics.gravity
        sim.dof_damping.reshape(sim.nv, -1)[self._dofs, 0] *= physics.damping
        sim.actuator_forcerange *= physics.strength[:, None]
        sim.jnt_actfrcrange[self._driven] *= physics.strength[:, None]
        if self._mode == 'effort':
            sim.actuator_gainprm[:, 0] *= physics.strength
        else:
            self._set_gains(sim, self._kv * physics.strength)
        mujoco.mj_setConst(sim, mujoco.MjData(sim))  # what follows from masses
        return sim, physics.strength

    def _set_gains(self, sim: Any, kv: np.ndarray) -> None:
        """Set the actuators as the text of ``mujoco_robot.py`` says."""
        damping = sim.dof_damping.reshape(sim.nv, -1)[self._driven_dofs, 0]
        position = self._mode == 'position'
        gain = (kv + damping) * (self._rate if position else 1.0)
        sim.actuator_gainprm[:, 0] = gain
        sim.actuator_biasprm[:, 1] = -gain if position else 0.0
        sim.actuator_biasprm[:, 2] = -kv
