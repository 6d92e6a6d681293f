# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot simulated by PyBullet, in this process, without a window."""

from collections.abc import Iterator
import contextlib
import ctypes
from dataclasses import replace
import math
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.backends.base import Measurement, require_command
from rl_nodes.core.errors import BackendError
from rl_nodes.core.meshes import with_mesh_paths
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.types import BaseState, Start


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what PyBullet prints from C (build time, names of links) off the terminal."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    saved, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        libc.fflush(None)
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


with quiet():
    import pybullet
    from rl_nodes.backends.pybullet_objects import PybulletObjects
    from rl_nodes.backends.pybullet_physics import GRAVITY, PybulletPhysics
    from rl_nodes.backends.pybullet_rays import PybulletRays
    from rl_nodes.backends.pybullet_sensors import PybulletImu, PybulletWrench

ALOFT = np.array([0.0, 0.0, 50.0])  # where a robot on the ground touches nothing
_MODE = {'position': pybullet.POSITION_CONTROL, 'velocity': pybullet.VELOCITY_CONTROL,
         'effort': pybullet.TORQUE_CONTROL}


class PybulletRobot:
    """
    One robot in its own physics client.

    Two robots given the same resets and commands produce the same bits: a reset restores a saved
    state (setting joints back would leave contact caches behind) in which nothing loose touches
    anything, as that would keep contacts of an earlier episode, and the first restore is made
    before the first episode because only from the second one on are they identical.

    :param model: the robot; ``model.config.simulation`` has the settings.
    :param objects: what else is in its world.
    """

    def __init__(self, model: RobotModel, objects: tuple[ObjectConfig, ...] = ()) -> None:
        settings = model.config.simulation
        self._model = model
        self._described = objects
        self._settings = settings
        self._home = model.home_base
        self._mode = model.config.control_mode
        self._substeps = round(settings.physics_hz / model.config.rate_hz)
        self._client = self._connect()
        if self._client < 0:
            raise BackendError('PyBullet gave no physics client; too many are open in this '
                               'process')
        self._build()

    def _connect(self) -> int:
        """Return a new physics client, negative where there is none left."""
        client: int = pybullet.connect(pybullet.DIRECT)
        return client

    def _build(self) -> None:
        client = self._client
        pybullet.resetSimulation(physicsClientId=client)
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=client)
        pybullet.setTimeStep(1.0 / self._settings.physics_hz, physicsClientId=client)
        pybullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1,
                                           physicsClientId=client)
        ground = None
        if self._settings.ground:
            plane = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=client)
            ground = pybullet.createMultiBody(0, plane, physicsClientId=client)
            pybullet.changeDynamics(ground, -1, lateralFriction=1.0,  # contacts take the product
                                    physicsClientId=client)
        try:
            with quiet(), tempfile.NamedTemporaryFile(suffix='.urdf') as file:
                file.write(ElementTree.tostring(with_mesh_paths(self._model.urdf)))
                file.flush()
                self._body = pybullet.loadURDF(
                    file.name, useFixedBase=self._home is None,
                    physicsClientId=client,
                    flags=(pybullet.URDF_USE_INERTIA_FROM_FILE | pybullet.URDF_MERGE_FIXED_LINKS
                           | pybullet.URDF_USE_SELF_COLLISION
                           | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT))
        except pybullet.error as error:
            raise BackendError(f'PyBullet cannot load {self._model.urdf.path}: {error}') from None
        count = pybullet.getNumJoints(self._body, physicsClientId=client)
        index = {pybullet.getJointInfo(self._body, i, physicsClientId=client)[1].decode(): i
                 for i in range(count)}
        self._joints = [index[name] for name in self._model.joint_names]
        self._commanded = [index[name] for name in self._model.command_names]
        for link in range(-1, count):
            pybullet.changeDynamics(self._body, link, linearDamping=0, angularDamping=0,
                                    lateralFriction=self._settings.friction,
                                    physicsClientId=client)
        self._center = pybullet.getDynamicsInfo(self._body, -1, physicsClientId=client)[3:5]
        # A fresh body brakes every joint with a motor of its own; the drive is ours alone.
        pybullet.setJointMotorControlArray(
            self._body, self._joints, pybullet.VELOCITY_CONTROL,
            forces=[0.0] * len(self._joints), physicsClientId=client)
        self._effort_limit = self._model.limits('effort')
        mode = self._model.config.control_mode
        self._effort = mode == 'effort'
        self._target_key = {'position': 'targetPositions', 'velocity': 'targetVelocities',
                            'effort': 'forces'}[mode]
        self._drive = {'bodyUniqueId': self._body, 'jointIndices': self._commanded,
                       'controlMode': _MODE[mode], 'physicsClientId': client}
        if not self._effort:
            self._drive['forces'] = self._effort_limit.tolist()
        if mode == 'position':
            self._drive['positionGains'] = [self._settings.position_gain] * len(self._commanded)
        self._physics = PybulletPhysics(client, self._body, self._joints, ground, self._model)
        self._force: tuple[int, list[float]] | None = None
        self._objects = PybulletObjects(client, self._described)
        self._rays = PybulletRays(client, self._body, self._model.range_sensor) \
            if self._model.range_sensor else None
        imu, wrench = self._model.imu, self._model.config.force_torque
        self._imu = PybulletImu(
            client, self._body, -1 if imu.joint is None else index[imu.joint], imu,
            None if self._home is None else self._base) if imu else None
        self._wrench = PybulletWrench(
            client, self._body, index[wrench.joint], self._model.urdf.joints[wrench.joint]
        ) if wrench else None
        self._wrenched = self._model.index_of(wrench.joint) if wrench else 0
        if self._home is not None:  # saved touching nothing, like the objects
            self._place(replace(self._home, position=self._home.position + ALOFT))
        self._saved = pybullet.saveState(physicsClientId=client)
        pybullet.restoreState(self._saved, physicsClientId=client)
        self._goal = np.zeros(3)
        self._fresh = True

    def reset(self, start: Start) -> None:
        """Restore the saved world, set the joints and hold them."""
        if self._physics.apply(start.variation.physics if start.variation else None) \
                and not self._effort:
            self._drive['forces'] = (self._effort_limit * self._physics.strength).tolist()
        self._force = None
        pybullet.restoreState(self._saved, physicsClientId=self._client)
        if self._home is not None or self._described:  # forget the contacts of before the restore
            pybullet.performCollisionDetection(physicsClientId=self._client)
        if self._home is not None:
            self._place(start.base or self._home)
        for joint, value in zip(self._joints, start.position.tolist(), strict=True):
            pybullet.resetJointState(self._body, joint, value, 0.0, physicsClientId=self._client)
        self._objects.place(start.objects)
        self._goal = start.goal
        self._fresh = True
        if self._imu is not None:
            self._imu.reset()
        if self._home is None:
            self.hold()
        else:
            self._target(start.position[self._model.commanded].tolist() if self._mode == 'position'
                         else [0.0] * len(self._commanded))

    def read(self) -> Measurement:
        """Return the state; BackendError where the simulation has exploded."""
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        positions, velocities, _, efforts = zip(*states)
        position, velocity, effort = np.array(positions), np.array(velocities), np.array(efforts)
        if self._fresh:  # PyBullet still has the efforts of before the reset
            effort[:] = 0.0
        elif self._effort:  # PyBullet reports no given effort
            effort[self._model.commanded] = self._values
        if not math.isfinite(sum(positions) + sum(velocities) + sum(effort.tolist())):
            raise BackendError(
                f'the simulation of {self._model.name} exploded (joint positions '
                f'{list(positions)}); call recover(), the episode is void')
        base = None if self._home is None else self._base()
        return Measurement(position, velocity, effort, base, self._objects.read(),
                           None if self._rays is None else self._rays.measure(base),
                           *self._sensed(effort))

    def _sensed(self, effort: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return what IMU and force-torque sensor measure; None where there is none."""
        return (None if self._imu is None else self._imu.measure(self._physics.gravity),
                None if self._wrench is None else
                np.zeros(6) if self._fresh else
                self._wrench.measure(float(effort[self._wrenched])))

    def truth(self) -> Measurement:
        """Return the present state, which is what is measured."""
        return self.read()

    def write(self, command: np.ndarray) -> np.ndarray:
        """
        Set the drives' targets; efforts are cut to the joints' limits, as a drive does.

        :raises BackendError: refused; one NaN would spoil every joint for good.
        """
        require_command(command, len(self._commanded))
        if self._effort:
            command = np.minimum(np.maximum(command, -self._effort_limit), self._effort_limit)
            self._target((command * self._physics.strength).tolist())
        else:
            self._target(command.tolist())
        return command

    def hold(self) -> None:
        """Hold the present position, stand still, or exert no effort, by control mode."""
        if self._mode == 'position' and self._home is not None:
            self._target(self._values)
        elif self._mode == 'position':
            states = pybullet.getJointStates(self._body, self._commanded,
                                             physicsClientId=self._client)
            self._target([state[0] for state in states])
        else:
            self._target([0.0] * len(self._commanded))

    def step(self, substeps: int | None = None) -> None:
        """Advance by some physics steps, by default those of one control period."""
        self._fresh = False
        step, client = pybullet.stepSimulation, self._client
        count = self._substeps if substeps is None else substeps
        for number in range(count):
            if self._effort:  # PyBullet applies an effort for one physics step only, and a force
                self._apply()
            if self._force is not None:
                self._physics.push(*self._force)
            if self._imu is not None and number == count - 1:
                self._imu.begin()
            step(client)
        if self._imu is not None and count:
            self._imu.end(1.0 / self._settings.physics_hz)

    def push(self, solid: int, force: np.ndarray) -> None:
        """Exert a force on a solid from now on, until a reset."""
        self._force = (solid, force.tolist()) if force.any() else None

    def recover(self) -> None:
        """Load everything afresh: the only cure once a state is not finite."""
        self._build()

    def render(self, width: int = 320, height: int = 240) -> np.ndarray:
        """Return a picture by the software renderer, shape (height, width, 3), uint8."""
        camera = self._settings.camera
        marker = self._mark_goal()
        view = pybullet.computeViewMatrixFromYawPitchRoll(
            camera.looks_at(None if self._home is None else self._base()), camera.distance_m,
            camera.yaw_deg, camera.pitch_deg, 0, 2)
        projection = pybullet.computeProjectionMatrixFOV(45, width / height, 0.05, 10)
        picture = pybullet.getCameraImage(
            width, height, view, projection, shadow=1, lightDirection=(1.0, -1.0, 2.0),
            renderer=pybullet.ER_TINY_RENDERER, physicsClientId=self._client)[2]
        if marker is not None:  # a saved state fits the bodies that were there when it was saved
            pybullet.removeBody(marker, physicsClientId=self._client)
        return np.asarray(picture, np.uint8).reshape(height, width, 4)[:, :, :3]

    def close(self) -> None:
        """Disconnect from the physics client."""
        if self._client >= 0:
            pybullet.disconnect(physicsClientId=self._client)
            self._client = -1

    def _place(self, base: BaseState) -> None:
        """Set pose and motion of the floating base; PyBullet takes those of its centre of mass."""
        center, turned = pybullet.multiplyTransforms(
            base.position.tolist(), base.orientation.tolist(), *self._center)
        pybullet.resetBasePositionAndOrientation(self._body, center, turned,
                                                 physicsClientId=self._client)
        rotation = rotation_from_quaternion(base.orientation)
        spin = rotation @ base.angular_velocity
        linear = rotation @ base.linear_velocity + np.cross(spin, center - base.position)
        pybullet.resetBaseVelocity(self._body, linear.tolist(), spin.tolist(),
                                   physicsClientId=self._client)

    def _base(self) -> BaseState:
        """Return the floating base; PyBullet gives its centre of mass in world axes."""
        center, turned = pybullet.getBasePositionAndOrientation(self._body,
                                                                physicsClientId=self._client)
        linear, spin = pybullet.getBaseVelocity(self._body, physicsClientId=self._client)
        origin, orientation = pybullet.multiplyTransforms(
            center, turned, *pybullet.invertTransform(*self._center))
        position, quaternion = np.array(origin), np.array(orientation)
        inward = rotation_from_quaternion(quaternion).T
        at_origin = np.array(linear) + np.cross(spin, position - np.array(center))
        if not math.isfinite(position.sum() + quaternion.sum() + at_origin.sum() + sum(spin)):
            raise BackendError(f'the simulation of {self._model.name} exploded (base at '
                               f'{position.tolist()}); call recover(), the episode is void')
        return BaseState(position, quaternion, inward @ at_origin, inward @ np.array(spin))

    def _target(self, values: list[float]) -> None:
        self._values = values
        if not self._effort:  # efforts add up until a physics step, which applies its own
            self._apply()

    def _apply(self) -> None:
        self._drive[self._target_key] = self._values
        pybullet.setJointMotorControlArray(**self._drive)

    def _mark_goal(self) -> int | None:
        """Make a ball at the goal, without collision or mass, and return its number."""
        if self._model.chain is None and not self._described:
            return None
        ball = pybullet.createVisualShape(pybullet.GEOM_SPHERE,
                                          radius=self._settings.camera.goal_radius_m,
                                          rgbaColor=(0.1, 0.75, 0.3, 1),
                                          physicsClientId=self._client)
        return pybullet.createMultiBody(baseVisualShapeIndex=ball,
                                        basePosition=self._goal.tolist(),
                                        physicsClientId=self._client)
