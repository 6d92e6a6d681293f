# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A robot simulated by MuJoCo, in this process, from the same URDF and settings as any other.

The drive of position and velocity control is one servo per commanded joint,

    effort = kv (v_wanted - v) + D v_wanted + gravity
    v_wanted = g (target - q), not beyond v_max; with velocity control it is the command

with D the joint's damping and g the drive's rate [1/s]. The URDF says nothing of a servo, but it
has effort and speed limits, and

    kv = (effort_max / v_max - D) / 2                                                          (1)

is the stiffest servo that never asks for more than the effort limit between full speed one way
and full speed the other: one that saturates chatters at joints as light as a wrist's. The
integrator treats it implicitly, so that no stiffness makes it unstable; light joints follow
v_wanted within one physics step, as with PyBullet's drive, heavy ones lag by inertia / kv.
Gravity is fed forward inside the effort limit, so nothing sags; but not where the base floats:
what legs carry depends on contacts, so they sag a little, as real ones do.
"""

import ctypes
import logging
import os
from typing import Any
import warnings

import numpy as np
from rl_nodes.backends.base import Measurement, require_command
from rl_nodes.backends.mujoco_urdf import mujoco_urdf
from rl_nodes.core.errors import BackendError
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.types import BaseState, Start
from rl_nodes.core.urdf import Urdf
from rl_nodes.core.variation import Physics


def _drawing_library() -> str:
    """Return what MuJoCo shall draw with: EGL needs no window; without it, physics alone."""
    try:
        ctypes.CDLL('libEGL.so.1')
    except OSError:
        return 'disable'
    return 'egl'


os.environ.setdefault('MUJOCO_GL', _drawing_library())  # MuJoCo looks once, when it is imported

import mujoco  # noqa: E402 - see above
from rl_nodes.backends.mujoco_objects import (  # noqa: E402 - imports it, too
    add_objects,
    MujocoObjects,
)
from rl_nodes.backends.mujoco_physics import MujocoPhysics  # noqa: E402 - imports it, too
from rl_nodes.backends.mujoco_rays import MujocoRays  # noqa: E402 - imports it, too
from rl_nodes.backends.mujoco_sensors import (  # noqa: E402 - imports it, too
    MujocoImu,
    MujocoWrench,
)

_log = logging.getLogger(__name__)
mujoco.set_mju_user_warning(_log.warning)  # else it writes a file into the working directory

# Groups of shapes: ground and objects, the robot's looks, what of it collides. MuJoCo draws the
# groups 0 to 2.
_WORLD, _VISIBLE, _HIDDEN = 0, 1, 3
_GOAL_COLOR = np.array([0.1, 0.75, 0.3, 1.0], np.float32)


class MujocoRobot:
    """
    One robot in its own MuJoCo model and data.

    Two robots given the same resets and commands produce the same bits: a reset sets all of the
    data back, the solver's starting point included. Pictures are drawn from data of their own and
    leave the physics alone.

    :param model: the robot; ``model.config.simulation`` has the settings.
    :param objects: what else is in its world.
    :raises BackendError: MuJoCo cannot load the URDF, or a joint's limits leave no drive.
    """

    def __init__(self, model: RobotModel, objects: tuple[ObjectConfig, ...] = ()) -> None:
        self._model = model
        self._settings = model.config.simulation
        self._mode = model.config.control_mode
        self._substeps = round(self._settings.physics_hz / model.config.rate_hz)
        self._sim = _compile(model, objects)
        self._data = mujoco.MjData(self._sim)
        self._objects = MujocoObjects(self._sim, self._data, objects)
        self._rays = MujocoRays(model.range_sensor, _WORLD) if model.range_sensor else None
        self._imu = MujocoImu(model.imu, model) if model.imu else None
        sensor = model.config.force_torque
        self._wrench = MujocoWrench(model.urdf.joints[sensor.joint].child) if sensor else None
        self._marks = model.chain is not None or bool(objects)
        # A free joint has seven positions and six velocities, so the addresses of the two differ.
        self._joints = np.array([self._sim.joint(name).qposadr[0] for name in model.joint_names])
        self._dofs = np.array([self._sim.joint(name).dofadr[0] for name in model.joint_names])
        self._commanded = self._joints[model.commanded]
        self._home = model.home_base
        self._effort_limit = model.limits('effort')
        kv = np.zeros(len(self._commanded)) if self._mode == 'effort' else self._tune()
        self._physics = MujocoPhysics(self._sim, model, kv)
        self._drive_kv = kv
        self._kv = np.zeros(len(self._joints))
        self._largest = np.zeros(len(self._joints))  # passive joints get no effort
        self._become(None)
        self._goal = np.zeros(3)
        self._target = np.zeros(len(self._commanded))
        self._effort = np.zeros(len(self._joints))
        self._renderer: mujoco.Renderer | None = None

    def _tune(self) -> np.ndarray:
        """Return kv of the module's text for every drive, shape (A,)."""
        speed = self._model.limits('velocity')
        damping = self._sim.dof_damping.reshape(self._sim.nv, -1)[
            self._dofs[self._model.commanded], 0]
        kv = (self._effort_limit / speed - damping) / 2  # (1)
        if not (kv > 0).all():
            name = self._model.command_names[int(np.argmin(kv))]
            raise BackendError(
                f'robot {self._model.name}: the damping of joint {name!r} takes all of its effort '
                'limit at its speed limit; nothing is left for a drive')
        rate = self._settings.position_gain * self._settings.physics_hz
        # The distance that asks for the speed limit, with room for the rounding of q + v·dt - q.
        self._reach = speed / rate * (1 + 1e-9)
        return kv

    def _become(self, physics: Physics | None) -> None:
        """Make the robot different for an episode; None for nothing different."""
        self._varied = physics is not None
        self._sim, strength = self._physics.of(physics)
        self._kv[self._model.commanded] = self._drive_kv * strength
        self._largest[self._model.commanded] = self._effort_limit * strength

    def reset(self, start: Start) -> None:
        """Set all data back, set the joints and hold them."""
        physics = start.variation.physics if start.variation else None
        if self._varied or physics is not None:
            self._become(physics)
        mujoco.mj_resetData(self._sim, self._data)
        if self._home is not None:
            self._place(start.base or self._home)
        self._data.qpos[self._joints] = start.position
        self._target = self._data.qpos[self._commanded]
        self._effort = np.zeros(len(self._joints))
        self._objects.place(start.objects)
        for sensor in (self._imu, self._wrench):
            if sensor is not None:
                sensor.reset()
        self._goal = start.goal
        self.hold()

    def read(self) -> Measurement:
        """Return the state; BackendError where the simulation has exploded."""
        position = self._data.qpos[self._joints]
        velocity = self._data.qvel[self._dofs]
        largest = max(np.abs(self._data.qpos).max(), np.abs(self._data.qvel).max())
        if not largest < mujoco.mjMAXVAL:
            lost = self._objects.lost()
            raise BackendError(
                f'the simulation of {self._model.name} exploded ('
                + (f'object {lost}' if lost else f'joint positions {position.tolist()}')
                + '); call recover(), the episode is void')
        base = None if self._home is None else self._base()
        return Measurement(
            position, velocity, self._effort, base, self._objects.read(),
            None if self._rays is None else self._rays.measure(self._sim, self._data, base),
            None if self._imu is None else self._imu.measure(self._sim, self._data),
            None if self._wrench is None else self._wrench.wrench)

    def truth(self) -> Measurement:
        """Return the present state, which is what is measured."""
        return self.read()

    def write(self, command: np.ndarray) -> np.ndarray:
        """Set the drives' targets; efforts are cut to the joints' limits, as a drive does."""
        require_command(command, len(self._commanded))
        if self._mode == 'position':
            self._target = command.copy()
            return command
        if self._mode == 'effort':
            command = np.minimum(np.maximum(command, -self._effort_limit), self._effort_limit)
        self._data.ctrl[:] = command
        return command

    def hold(self) -> None:
        """Hold the present position, stand still, or exert no effort, by control mode."""
        if self._home is None:
            self._target = self._data.qpos[self._commanded]
        self._data.ctrl[:] = 0.0

    def step(self, substeps: int | None = None) -> None:
        """Advance by some physics steps, by default those of one control period."""
        sim, data = self._sim, self._data
        but_one = (self._substeps if substeps is None else substeps) - 1
        if self._mode == 'position' and self._aim():
            for _ in range(but_one):  # far: the target moves on at the speed limit
                mujoco.mj_step(sim, data)
                self._aim()
        else:
            mujoco.mj_step(sim, data, but_one)
        if self._imu is not None:
            self._imu.begin(sim, data)
        all_before = data.qvel.copy()
        before = all_before[self._dofs]
        mujoco.mj_step(sim, data)
        if self._wrench is not None:
            self._wrench.end(sim, data, all_before)
        if self._imu is not None:
            self._imu.end(sim, data)
        # MuJoCo has the effort at the step's start; the implicit step takes kv · Δv off it.
        effort = data.qfrc_actuator[self._dofs] - self._kv * (data.qvel[self._dofs] - before)
        self._effort = np.minimum(np.maximum(effort, -self._largest), self._largest)

    def push(self, solid: int, force: np.ndarray) -> None:
        """Exert a force on a solid from now on, until a reset."""
        self._data.xfrc_applied[self._physics.bodies[solid], :3] = force

    def _place(self, base: BaseState) -> None:
        """Set pose and motion of the floating base; MuJoCo's quaternions begin with w."""
        x, y, z, w = base.orientation.tolist()
        self._data.qpos[:7] = [*base.position.tolist(), w, x, y, z]
        self._data.qvel[:3] = rotation_from_quaternion(base.orientation) @ base.linear_velocity
        self._data.qvel[3:6] = base.angular_velocity

    def _base(self) -> BaseState:
        """Return the floating base; its linear velocity has the axes of the world in MuJoCo."""
        w, x, y, z = self._data.qpos[3:7].tolist()
        orientation = np.array([x, y, z, w])
        return BaseState(self._data.qpos[:3].copy(), orientation,
                         rotation_from_quaternion(orientation).T @ self._data.qvel[:3],
                         self._data.qvel[3:6].copy())

    def _aim(self) -> bool:
        """Set the servos' targets, none further than the speed limit allows; say if one was."""
        away = self._target - self._data.qpos[self._commanded]
        if (np.abs(away) <= self._reach).all():
            self._data.ctrl[:] = self._target
            return False
        self._data.ctrl[:] = self._target - away + np.minimum(np.maximum(away, -self._reach),
                                                              self._reach)
        return True

    def recover(self) -> None:
        """Set everything back to zero: nothing that is not finite outlives that."""
        mujoco.mj_resetData(self._sim, self._data)
        self._effort = np.zeros(len(self._joints))
        self.hold()

    def render(self, width: int = 320, height: int = 240) -> np.ndarray:
        """
        Return a picture, shape (height, width, 3), uint8.

        :raises BackendError: MuJoCo has nothing to draw with.
        """
        renderer = self._open_renderer(width, height)
        shown = mujoco.MjData(self._sim)
        shown.qpos[:] = self._data.qpos
        shown.mocap_pos[:], shown.mocap_quat[:] = self._data.mocap_pos, self._data.mocap_quat
        mujoco.mj_forward(self._sim, shown)
        camera = mujoco.MjvCamera()
        camera.lookat[:] = self._settings.camera.looks_at(
            None if self._home is None else self._base())
        camera.distance = self._settings.camera.distance_m
        camera.azimuth = 90.0 + self._settings.camera.yaw_deg  # zero looks along y
        camera.elevation = self._settings.camera.pitch_deg
        renderer.update_scene(shown, camera)
        if self._marks:
            _mark(renderer.scene, self._goal, self._settings.camera.goal_radius_m)
        return renderer.render()

    def close(self) -> None:
        """Let go of the drawing context; the rest is memory."""
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            renderer.close()

    def _open_renderer(self, width: int, height: int) -> Any:
        if self._renderer is not None:
            if (self._renderer.width, self._renderer.height) == (width, height):
                return self._renderer
            self.close()
        screen = self._sim.vis.global_
        screen.offwidth = max(screen.offwidth, width)
        screen.offheight = max(screen.offheight, height)
        try:
            self._renderer = mujoco.Renderer(self._sim, height, width)
        except (AttributeError, ImportError, RuntimeError, mujoco.FatalError) as error:
            raise BackendError(
                f'MuJoCo cannot draw with MUJOCO_GL={os.environ.get("MUJOCO_GL")} ({error}); '
                'install EGL (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri), set '
                'MUJOCO_GL=osmesa where OSMesa is installed, or draw with backend pybullet'
            ) from None
        return self._renderer


def _compile(model: RobotModel, objects: tuple[ObjectConfig, ...]) -> Any:
    """Return the MuJoCo model of a robot: its URDF, its limits, and one actuator per joint."""
    try:
        text, meshes = mujoco_urdf(model.urdf)
        spec = mujoco.MjSpec.from_string(text, assets=meshes)
        _complete(spec, model)
        add_objects(spec, objects, _WORLD)
        with warnings.catch_warnings():  # no mesh of ours has a texture
            warnings.filterwarnings('ignore', 'obj_decoder: invalid or missing face texture')
            sim = spec.compile()
    except (OSError, ValueError, mujoco.FatalError) as error:
        reason = ' '.join(str(error).split())
        raise BackendError(f'MuJoCo cannot load {model.urdf.path}: {reason}') from None
    # Gravity is fed forward to all bodies but reaches no joint that has no drive.
    for joint in model.joints:
        limit = joint.effort if joint.commanded else 0.0
        sim.jnt_actfrclimited[sim.joint(joint.name).id] = 1
        sim.jnt_actfrcrange[sim.joint(joint.name).id] = (-limit, limit)
    return sim


def _complete(spec: Any, model: RobotModel) -> None:
    """Add what a URDF does not say: world, limits of the configuration, drives, looks."""
    settings = model.config.simulation
    # What legs carry depends on contacts, which no feed-forward knows.
    feed_forward = model.config.control_mode != 'effort' and not model.config.floating_base
    spec.option.timestep = 1.0 / settings.physics_hz
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.gravity = (0.0, 0.0, -9.81)
    # An exploded state must be seen, not silently replaced by the initial one.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.visual.headlight.ambient = (0.35, 0.35, 0.35)
    spec.visual.headlight.diffuse = (0.6, 0.6, 0.6)
    if model.config.floating_base:
        spec.body(model.config.base_link).add_freejoint()
    for geom in spec.geoms:
        geom.friction[0] = settings.friction
        geom.group = _HIDDEN if geom.contype else _VISIBLE
    if settings.ground:
        spec.worldbody.add_geom(name='ground', type=mujoco.mjtGeom.mjGEOM_PLANE,
                                size=(0, 0, 0.05), rgba=(0.82, 0.83, 0.85, 1),
                                friction=(settings.friction, 0.005, 0.0001))
    spec.add_texture(name='sky', type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT, rgb1=(0.93, 0.94, 0.96),
                     width=8, height=48)
    for first, second in _neighbours(model.urdf):
        spec.add_exclude(bodyname1=first, bodyname2=second)
    joints = {joint.name: joint for joint in spec.joints}
    for limits in model.joints:
        joint = joints[limits.name]
        if limits.lower is not None and limits.upper is not None:
            joint.range = (limits.lower, limits.upper)
        if feed_forward:
            joint.actgravcomp = True
        if limits.commanded:
            drive = spec.add_actuator(
                name=limits.name, target=limits.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            drive.gaintype = mujoco.mjtGain.mjGAIN_FIXED
            drive.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            drive.gainprm[0] = 1.0
            drive.forcelimited = True
            drive.forcerange = (-limits.effort, limits.effort)
    if feed_forward:
        for body in spec.bodies:
            body.gravcomp = 1.0


def _neighbours(urdf: Urdf) -> list[tuple[str, str]]:
    """
    Return the pairs of links that a single joint connects; those may touch.

    Links joined by fixed joints are one solid. MuJoCo knows this rule too, but not for the solid
    that stands on the world.
    """
    solid = {link: link for link in urdf.links}
    fixed = [joint for joint in urdf.joints.values() if joint.kind == 'fixed']
    for _ in fixed:  # as many rounds as the longest chain of fixed joints could need
        for joint in fixed:
            solid[joint.child] = solid[joint.parent]
    members = {link: [other for other in urdf.links if solid[other] == solid[link]]
               for link in urdf.links}
    return [(first, second) for joint in urdf.movable()
            for first in members[joint.parent] for second in members[joint.child]]


def _mark(scene: Any, goal: np.ndarray, radius_m: float) -> None:
    """Draw a ball at the goal; it exists in the picture only."""
    mujoco.mjv_initGeom(scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_SPHERE,
                        np.full(3, radius_m), goal, np.eye(3).ravel(), _GOAL_COLOR)
    scene.ngeom += 1
