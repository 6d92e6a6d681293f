# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where the links may be: clear of each other, inside and outside of zones.

Links and what they carry are covered by capsules, so clearances are never overestimated. With c
the clearance of a pair of links, or of a link and a zone, now and c' after the command,

    c' >= min(slow_m, stop_m + (1 - approach) (c - stop_m))   where c >= stop_m               (1)
    c' >= c                                                   where c <  stop_m               (2)

is demanded (a discrete control barrier function: Agrawal, Sreenath, 2017). A command that does not
keep that is shortened as a whole. What is near already may always move away. Between the two poses
a point moves by half a period's way at most from the nearer one, which ``stop_m`` has to cover.
"""

from collections.abc import Callable, Sequence
import math

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.kinematics import Tree
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_rpy
from rl_nodes.core.safety_config import GeometryConfig, ZoneConfig
from rl_nodes.core.types import RobotState
from rl_nodes.safety import capsules
from rl_nodes.safety.capsules import Capsule, Point
from rl_nodes.safety.limits import Finding, Narrowing, Reference, Trace
from rl_nodes.safety.verdict import Level

_HALVINGS = 6      # of the search for the longest step that keeps eq. (1) and (2)
_ROUNDING_M = 1e-12

Segment = tuple[Point, Point, Point]  # start, end, middle


class Part:
    """
    One capsule on a link.

    :param link: that it is fixed to.
    :param label: the link's name, or that of the body on it.
    :param frame: index of its frame in the robot's :class:`Tree`.
    :param capsule: in that frame.
    """

    def __init__(self, link: str, label: str, frame: int, capsule: Capsule) -> None:
        self.link, self.label, self.frame, self.capsule = link, label, frame, capsule
        (ax, ay, az), (bx, by, bz) = capsule.start, capsule.end
        self.numbers = (frame, ax, ay, az, bx - ax, by - ay, bz - az)
        self.reach = capsule.radius + math.dist(capsule.start, capsule.end) / 2


class Clearances:
    """
    The distances that count, and how they are computed.

    :param robot: links, joints and home come from it.
    :param config: its ``safety.geometry``.
    :param stop_m: clearance that must be there at home [m].
    :param slow_m: greatest clearance that anybody will ask for [m].
    :raises ConfigError: a link that does not exist or does not move, or a clearance that is not
        even there at home.
    """

    def __init__(self, robot: RobotModel, config: GeometryConfig, stop_m: float,
                 slow_m: float) -> None:
        self._where = f'robot {robot.name}: safety.geometry'
        self._tree = Tree(robot.urdf, robot.config.base_link, robot.joint_names)
        self.parts = self._make_parts(robot, config)
        self._parts = [part.numbers for part in self.parts]
        self._slow = slow_m
        self.labels: list[str] = []
        # (clearance's index, first part, second part, radii, square of the greatest distance of
        # the middles at which the clearance may be below slow_m)
        self._pairs: list[tuple[int, int, int, float, float]] = []
        self._zones: list[tuple[int, int, Callable[[Segment], float]]] = []
        if config.self_collision:
            self._pair(config)
        for zone in config.zones:
            self._surround(zone)
        for index, value in self.near(robot.home.tolist(), stop_m).items():
            raise ConfigError(
                f'{self._where}: {self.labels[index]}: {value * 1e3:.1f} mm apart at home, '
                f'stop_m is {stop_m * 1e3:.1f} mm; links that may touch go to ignore')

    def near(self, position: Sequence[float], bound: float) -> dict[int, float]:
        """
        Return every clearance below a bound [m], by its index in :attr:`labels`.

        :param position: joint positions [rad or m], (J,).
        :param bound: not above ``slow_m``.
        """
        segments = self.segments(position)
        found = {}
        for index, i, k, radii, greatest in self._pairs:
            a, b = segments[i], segments[k]
            (ax, ay, az), (bx, by, bz) = a[2], b[2]
            x, y, z = ax - bx, ay - by, az - bz
            if x * x + y * y + z * z > greatest:
                continue
            value = capsules.segments_apart(a[0], a[1], b[0], b[1]) - radii
            if value < bound:
                found[index] = value
        for index, i, clearance in self._zones:
            value = clearance(segments[i])
            if value < bound:
                found[index] = value
        return found

    def clearance(self, index: int, segments: Sequence[Segment]) -> float:
        """Return the clearance [m] of an index in :attr:`labels`, for given segments."""
        if index < len(self._pairs):
            _, i, k, radii, _ = self._pairs[index]
            return capsules.segments_apart(*segments[i][:2], *segments[k][:2]) - radii
        _, i, zone = self._zones[index - len(self._pairs)]
        return zone(segments[i])

    def segments(self, position: Sequence[float]) -> list[Segment]:
        """Return each part's segment in ``base_link``, for joint positions (J,)."""
        frames = self._tree.frames(position)
        found = []
        for frame, ax, ay, az, ux, uy, uz in self._parts:
            px, py, pz, r0, r1, r2, r3, r4, r5, r6, r7, r8 = frames[frame]
            x, y, z = (px + r0 * ax + r1 * ay + r2 * az, py + r3 * ax + r4 * ay + r5 * az,
                       pz + r6 * ax + r7 * ay + r8 * az)
            vx, vy, vz = (r0 * ux + r1 * uy + r2 * uz, r3 * ux + r4 * uy + r5 * uz,
                          r6 * ux + r7 * uy + r8 * uz)
            found.append(((x, y, z), (x + vx, y + vy, z + vz),
                          (x + 0.5 * vx, y + 0.5 * vy, z + 0.5 * vz)))
        return found

    # --- from the configuration -----------------------------------------------------------------

    def _make_parts(self, robot: RobotModel, config: GeometryConfig) -> list[Part]:
        """Return the capsules of the links and of what they carry."""
        self._require_links([body.link for body in config.bodies])
        self._require_links([link for pair in config.ignore for link in pair])
        bodies = [(link, link, capsule) for link, covers in capsules.of_links(robot.urdf).items()
                  if link in self._tree.links for capsule in covers]
        for body in config.bodies:
            bodies += [(body.link, body.name, capsule) for capsule in capsules.cover(
                body.shape, body.size, np.array(body.xyz), rotation_from_rpy(np.array(body.rpy)))]
        parts = []
        for link, label, capsule in bodies:
            frame, offset, rotation = self._tree.links[link]
            start, end = (tuple((offset + rotation @ np.array(point)).tolist())
                          for point in (capsule.start, capsule.end))
            parts.append(Part(link, label, frame, Capsule(start, end, capsule.radius)))
        return parts

    def _pair(self, config: GeometryConfig) -> None:
        """Take all pairs of parts that are not neighbours."""
        ignored = {frozenset(pair) for pair in config.ignore}
        for k, b in enumerate(self.parts):
            for i, a in enumerate(self.parts[:k]):
                parents = self._tree.parents
                if (a.frame == b.frame or parents[a.frame] == b.frame
                        or parents[b.frame] == a.frame or frozenset((a.link, b.link)) in ignored):
                    continue
                radii = a.capsule.radius + b.capsule.radius
                self._pairs.append((len(self.labels), i, k, radii,
                                    (a.reach + b.reach + self._slow) ** 2))
                self.labels.append(f'{a.label} and {b.label}')

    def _surround(self, zone: ZoneConfig) -> None:
        """Take a zone for each part that it is for."""
        self._require_links(zone.links)
        concerned = [i for i, part in enumerate(self.parts) if part.frame and (
            not zone.links or part.link in zone.links)]
        if not concerned:
            raise ConfigError(f'{self._where}: zone {zone.name}: no link that it is for both '
                              'moves and has collision geometry')
        for i in concerned:
            part = self.parts[i]
            self._zones.append((len(self.labels), i, _zone_clearance(zone, part.capsule.radius)))
            self.labels.append(f'{part.label} and {zone.name}')

    def _require_links(self, links: list[str] | tuple[str, ...]) -> None:
        for link in links:
            if link not in self._tree.links:
                raise ConfigError(f'{self._where}: no link {link!r}'
                                  f'{suggestion(link, self._tree.links)}; links: '
                                  f'{", ".join(self._tree.links)}')


class GeometryCheck:
    """
    Links stay clear of each other and of the borders of zones, eq. (1) and (2).

    :param robot: position or velocity control; what its ``safety.geometry`` says.
    """

    name = 'geometry'

    def __init__(self, robot: RobotModel, config: GeometryConfig, narrowing: Narrowing) -> None:
        if robot.config.control_mode == 'effort':
            raise ConfigError(f'robot {robot.name}: safety.geometry: control_mode effort has no '
                              'speed to limit')
        self._reference = Reference(robot)
        self._stop = config.stop_m + narrowing.extra_clearance_m
        self._slow = config.slow_m + narrowing.extra_clearance_m
        self._clearances = Clearances(robot, config, self._stop, self._slow)
        self._kept = 1.0 - config.approach
        self._ahead = self._reference.period_s / self._reference.unit

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        origin, step = self._reference.step(command, state)
        near = self._clearances.near(self._target(state, step), self._slow)
        if not near:
            return None
        here = self._clearances.segments(state.position.tolist())
        worst = self._violated(near, here)
        if worst is None:
            return None
        least, most = 0.0, 1.0
        for _ in range(_HALVINGS):
            share = (least + most) / 2
            near_there = self._clearances.near(self._target(state, step, share), self._slow)
            if self._violated(near_there, here) is None:
                least = share
            else:
                most = share
        now = self._clearances.clearance(worst, here)
        return Finding(Level.CLAMP, f'{self._clearances.labels[worst]}: '
                       f'{now * 1e3:.1f} mm apart, the command leads to '
                       f'{near[worst] * 1e3:.1f} mm', np.array([
                           start + least * part for start, part in zip(origin, step)]))

    def _target(self, state: RobotState, step: list[float], share: float = 1.0) -> list[float]:
        """Return where a share of a step leads within one period, (J,)."""
        target: list[float] = state.position.tolist()
        for joint, part in zip(self._reference.commanded, step):
            target[joint] += share * part * self._ahead
        return target

    def _violated(self, near: dict[int, float], here: list[Segment]) -> int | None:
        """Return a clearance that eq. (1) or (2) does not allow, None where there is none."""
        for index, value in near.items():
            now = self._clearances.clearance(index, here)
            least = (min(self._slow, self._stop + self._kept * (now - self._stop))
                     if now >= self._stop else now)
            if not value >= least - _ROUNDING_M:
                return index
        return None


def _zone_clearance(zone: ZoneConfig, radius: float) -> Callable[[Segment], float]:
    """Return the function that gives a segment's clearance [m] to a zone's border."""
    rotation = rotation_from_rpy(np.array(zone.rpy))
    r0, r1, r2, r3, r4, r5, r6, r7, r8 = rotation.T.ravel().tolist()
    cx, cy, cz = zone.xyz

    def inside(point: Point) -> Point:
        """Return a point in the zone's own frame."""
        x, y, z = point[0] - cx, point[1] - cy, point[2] - cz
        return (r0 * x + r1 * y + r2 * z, r3 * x + r4 * y + r5 * z, r6 * x + r7 * y + r8 * z)

    if zone.shape == 'plane':
        sign = 1.0 if zone.keep == 'in' else -1.0

        def above(point: Point) -> float:
            """Return what :func:`inside` gives along z, towards the side to keep to."""
            return sign * (r6 * (point[0] - cx) + r7 * (point[1] - cy) + r8 * (point[2] - cz))

        return lambda segment: min(above(segment[0]), above(segment[1])) - radius
    if zone.shape == 'box':
        x, y, z = zone.size
        half = x / 2, y / 2, z / 2
        if zone.keep == 'out':
            return lambda segment: capsules.box_apart(
                inside(segment[0]), inside(segment[1]), half) - radius
        # A convex region holds a segment once it holds both ends.
        return lambda segment: min(h - abs(p) for end in segment[:2]
                                   for h, p in zip(half, inside(end))) - radius
    size, length = zone.size[0], zone.size[1] if zone.shape == 'capsule' else 0.0
    bottom, top = (0.0, 0.0, -length / 2), (0.0, 0.0, length / 2)
    if zone.keep == 'out':
        return lambda segment: capsules.segments_apart(
            inside(segment[0]), inside(segment[1]), bottom, top) - size - radius
    return lambda segment: size - radius - max(
        capsules.segments_apart(inside(end), inside(end), bottom, top) for end in segment[:2])
