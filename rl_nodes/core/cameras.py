# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Cameras that a robot carries: their record, their optics, when they look, and whether they do.

Frames: a camera's own frame is that of REP-103 for bodies (x looks forward, y left, z up); its
pictures are in its optical frame (z forward, x right, y down), named ``<name>_optical_frame``.
Pixels are counted from 0 at the centre of the upper left one.
"""

from collections.abc import Iterable
import hashlib
import math
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.rotations import rotation_from_quaternion, rotation_from_rpy
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import RobotState
from rl_nodes.core.urdf import Urdf

# Columns are the axes of the optical frame in the camera's own one.
_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
COMPRESSED = '/compressed'  # what image_transport lets the names of compressed pictures end in

STALLED_PICTURES = 5    # periods without a picture after which a camera is taken for stalled,
STALLED_LEAST_S = 0.5   # but not before this time

Pixels = Annotated[int, Meta(ge=16, le=4096)]
Positive = Annotated[float, Meta(gt=0)]
Topic = Annotated[str, Meta(pattern='^(/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*)?$')]


class Source(NamedTuple):
    """
    A topic that a camera is heard on.

    :param topic: relative to the robot's namespace, or absolute.
    :param type_name: of its messages.
    :param recorded: the name that they have in recordings.
    """

    topic: str
    type_name: str
    recorded: str


class CameraSensorConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One camera on a link of the robot, without lens distortion, its pixels square.

    :param name: of its topics and frame; unique on the robot.
    :param link: that carries it.
    :param xyz: where it is, in the link's frame [m].
    :param rpy: how it is turned there [rad], as in a URDF; without it looks along the link's x.
    :param width: of a picture [px].
    :param height: of a picture [px].
    :param horizontal_fov_rad: angle of view over the width.
    :param rate_hz: pictures per second.
    :param near_m: nothing nearer is seen.
    :param far_m: nothing farther is seen.
    :param depth: whether it measures distances too.
    :param topic: that the driver of a physical camera publishes its pictures on, compressed ones
        where it ends in ``/compressed``; empty for ``camera/<name>/image_raw``.
    :param depth_topic: likewise of distances; empty for ``camera/<name>/depth/image_raw``.
    """

    name: Annotated[str, Meta(pattern='^[a-z][a-z0-9_]*$')]
    link: str
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)
    width: Pixels = 640
    height: Pixels = 480
    horizontal_fov_rad: Annotated[float, Meta(gt=0, le=3)] = 1.2
    rate_hz: Annotated[float, Meta(gt=0, le=200)] = 15.0
    near_m: Positive = 0.02
    far_m: Positive = 10.0
    depth: bool = False
    topic: Topic = ''
    depth_topic: Topic = ''

    def __post_init__(self) -> None:
        if not self.near_m < self.far_m:
            raise ValueError(f'near_m = {self.near_m} must be below far_m = {self.far_m}')
        if self.depth_topic and not self.depth:
            raise ValueError(f'depth_topic = {self.depth_topic} without depth: true')

    @property
    def optical_frame(self) -> str:
        """Return the name of the frame that the pictures are in."""
        return f'{self.name}_optical_frame'

    def topics(self) -> dict[str, str]:
        """Return the name of the message type by topic, of what is drawn for this camera."""
        kinds = {'image_raw': IMAGE, **({'depth/image_raw': IMAGE} if self.depth else {}),
                 'camera_info': CAMERA_INFO}
        return {f'camera/{self.name}/{topic}': kind for topic, kind in kinds.items()}

    def sources(self, driver: bool) -> tuple[Source, ...]:
        """
        Return where this camera is heard, its pictures in colour first.

        As drivers do, its description is looked for beside its pictures.

        :param driver: whether it is a physical one; otherwise it is drawn.
        """
        if not driver:
            return tuple(Source(topic, kind, topic) for topic, kind in self.topics().items())
        own = f'camera/{self.name}'
        given = [(self.topic, f'{own}/image_raw')]
        if self.depth:
            given.append((self.depth_topic, f'{own}/depth/image_raw'))
        found = [Source(topic or usual, COMPRESSED_IMAGE, usual + COMPRESSED)
                 if topic.endswith(COMPRESSED) else Source(topic or usual, IMAGE, usual)
                 for topic, usual in given]
        beside = found[0].topic.removesuffix(COMPRESSED).rpartition('/')
        return (*found, Source(f'{beside[0]}{beside[1]}camera_info', CAMERA_INFO,
                               f'{own}/camera_info'))

    def intrinsics(self) -> np.ndarray:
        """Return the matrix K, shape (3, 3): point in the optical frame to pixel times depth."""
        focal = self.width / 2 / math.tan(self.horizontal_fov_rad / 2)
        return np.array([[focal, 0.0, (self.width - 1) / 2], [0.0, focal, (self.height - 1) / 2],
                         [0.0, 0.0, 1.0]])


class CameraMount:
    """
    Where a camera is, by forward kinematics.

    :param camera: the camera.
    :param urdf: of the robot that carries it.
    :param joint_names: order of the joints in states.
    """

    def __init__(self, camera: CameraSensorConfig, urdf: Urdf,
                 joint_names: tuple[str, ...]) -> None:
        children = {joint.child for joint in urdf.joints.values()}
        root = next(link for link in urdf.links if link not in children)
        self._camera = camera
        self._chain = Chain(urdf, root, camera.link, joint_names)
        self._position = np.array(camera.xyz)
        self._rotation = rotation_from_rpy(np.array(camera.rpy)) @ _OPTICAL

    def pose(self, state: RobotState) -> tuple[np.ndarray, np.ndarray]:
        """
        Return (position [m] (3,), rotation (3, 3)) of the optical frame.

        It is in the frame that does not move: the robot's root link where the base is fixed,
        ``odom`` where it floats.
        """
        position, rotation = self._chain.tip(state.position)
        position = position + rotation @ self._position
        rotation = rotation @ self._rotation
        if state.base is None:
            return position, rotation
        base = rotation_from_quaternion(state.base.orientation)
        return state.base.position + base @ position, base @ rotation

    def fingerprint(self) -> str:
        """Return the SHA-256 of where it is and how wide it looks, rounded to 1e-9."""
        camera = self._camera
        aspect = camera.height / camera.width
        digest = hashlib.sha256(self._chain.fingerprint().encode())
        for array in (self._position, self._rotation, [camera.horizontal_fov_rad, aspect]):
            digest.update((np.round(array, 9) + 0.0).tobytes())
        return digest.hexdigest()


class Shutter:
    """
    When a camera looks: at its own rate, on a grid that does not drift.

    :param rate_hz: of the camera.
    :param tolerance_ns: how much earlier than on the grid it may look [ns]; half a state period
        gives regular pictures of states that are not stamped to the nanosecond.
    :ivar missed: periods that went by without a picture.
    """

    def __init__(self, rate_hz: float, tolerance_ns: int = 0) -> None:
        self._period_ns = period_ns(rate_hz)
        self._tolerance_ns = min(tolerance_ns, self._period_ns // 2)
        self._due_ns: int | None = None
        self.missed = 0

    def due(self, now_ns: int) -> bool:
        """Return whether to look now, which is taken to happen [ns, one clock for all calls]."""
        if self._due_ns is None or now_ns < self._due_ns - 2 * self._period_ns:
            self._due_ns = now_ns  # the first time, or the clock was set back
        late_ns = now_ns + self._tolerance_ns - self._due_ns
        if late_ns < 0:
            return False
        periods = late_ns // self._period_ns
        self.missed += periods
        self._due_ns += (periods + 1) * self._period_ns
        return True


class CameraWatch:
    """
    Tells which cameras have stalled.

    Time counts while the robot's states come, and between two of them at most one of the camera's
    periods: where the robot is silent or waits in lockstep, its cameras may be silent too.

    :param cameras: the ones promised.
    """

    def __init__(self, cameras: Iterable[CameraSensorConfig]) -> None:
        self._period_ns = {camera.name: period_ns(camera.rate_hz) for camera in cameras}
        self._silent_ns = dict.fromkeys(self._period_ns, 0)
        self._seen: set[str] = set()
        self._state_ns: int | None = None

    def picture(self, name: str) -> None:
        """Take note of a picture."""
        self._silent_ns[name] = 0
        self._seen.add(name)

    def state(self, now_ns: int) -> None:
        """Take note of a state at steady time ``now_ns`` [ns]."""
        gap_ns = 0 if self._state_ns is None else now_ns - self._state_ns
        self._state_ns = now_ns
        for name, period in self._period_ns.items():
            self._silent_ns[name] += min(gap_ns, period)

    def stalled(self) -> tuple[str, ...]:
        """Return the names of the cameras that have stalled."""
        return tuple(name for name, period in self._period_ns.items()
                     if self._silent_ns[name] > max(STALLED_PICTURES * period,
                                                    STALLED_LEAST_S * NS))

    def describe(self, name: str) -> str:
        """Return how long a camera has been silent, in words."""
        silent_s = self._silent_ns[name] / NS
        if name not in self._seen:
            return f'camera {name} has sent no picture yet, {silent_s:.1f} s after the first state'
        return f'camera {name} has stalled: no picture for {silent_s:.1f} s'
