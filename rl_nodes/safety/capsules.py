# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Links as capsules: what covers a body, and how far it is from another.

A capsule is a segment and a radius. It covers whatever lies within that radius of the segment, so
it covers a convex body once it covers its corners. Distances (Ericson, Real-Time Collision
Detection, 2005, section 5.1.9) are computed in plain floats, which at this size is faster than
arrays and gives the same bits on every machine.
"""

from functools import lru_cache
import math
from typing import NamedTuple
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.meshes import find_mesh, vertices
from rl_nodes.core.rotations import rotation_from_rpy
from rl_nodes.core.urdf import Urdf

Point = tuple[float, float, float]
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_RIM = 16           # corners of the prism around a cylinder
_STRIPS = 8         # capsules that may cover a flat box side by side
_ROUND_M = 1e-9     # capsules are rounded to this and widened by twice of it


class Capsule(NamedTuple):
    """All points within ``radius`` of the segment from ``start`` to ``end`` [m]."""

    start: Point
    end: Point
    radius: float


def cover(shape: str, size: tuple[float, ...], xyz: np.ndarray,
          rotation: np.ndarray) -> list[Capsule]:
    """
    Return capsules that cover a body.

    :param shape: box, sphere, capsule or cylinder; the last two along z.
    :param size: as in ``core/safety_config.py`` [m].
    :param xyz: its center [m], shape (3,).
    :param rotation: its orientation, shape (3, 3).
    """
    if shape in ('sphere', 'capsule'):
        half = rotation[:, 2] * (size[1] / 2 if shape == 'capsule' else 0.0)
        return [_rounded(xyz - half, xyz + half, size[0])]
    if shape == 'cylinder':
        angle = 2 * np.pi * np.arange(_RIM) / _RIM
        rim = size[0] / math.cos(math.pi / _RIM) * np.stack(
            [np.cos(angle), np.sin(angle), np.zeros(_RIM)], axis=1)
        half = np.array([0.0, 0.0, size[1] / 2])
        return [around(xyz + np.concatenate([rim - half, rim + half]) @ rotation.T)]
    lengths = np.array(size)
    thin, across, _ = np.argsort(lengths)
    strips = min(_STRIPS, math.ceil(lengths[across] / lengths[thin] - 1e-6))
    strip, found = lengths.copy(), []
    strip[across] /= strips
    for place in range(strips):
        center = np.zeros(3)
        center[across] = (place + 0.5) * strip[across] - lengths[across] / 2
        found.append(around(xyz + (center + _CORNERS * strip) @ rotation.T))
    return found


def around(points: np.ndarray) -> Capsule:
    """
    Return a small capsule that covers points, shape (N, 3), and so their convex hull.

    Tried are the coordinate axes and the principal ones, and along each some radii; the smallest
    volume wins.
    """
    _, principal = np.linalg.eigh(np.cov(points.T))
    found = []
    for axis in (*np.eye(3), *principal.T):
        side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
        side /= np.linalg.norm(side)
        basis = np.stack([side, np.cross(axis, side), axis])
        own = points @ basis.T
        middle = (own.min(axis=0) + own.max(axis=0)) / 2
        aside = np.hypot(*(own - middle)[:, :2].T)
        for radius in aside.max() * np.linspace(1.0, 1.5, 26):
            reach = np.sqrt(np.maximum(radius ** 2 - aside ** 2, 0.0))
            low, high = (own[:, 2] + reach).min(), (own[:, 2] - reach).max()
            if high < low:
                low = high = (low + high) / 2
            start, end = (np.array([*middle[:2], z]) @ basis for z in (low, high))
            found.append(_rounded(start, end, radius))
    return min(found, key=lambda capsule: capsule.radius ** 2 * (
        math.dist(capsule.start, capsule.end) + 4 / 3 * capsule.radius))


@lru_cache(maxsize=4)  # limits are narrowed while a robot moves
def of_links(urdf: Urdf) -> dict[str, list[Capsule]]:
    """
    Return what covers the collision geometry of each link, in the link's frame.

    :raises ConfigError: a collision mesh is missing or of an unknown format.
    """
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as parse_urdf
    found: dict[str, list[Capsule]] = {}
    for link in root.findall('link'):
        capsules = found[link.get('name', '')] = []
        for collision in link.findall('collision'):
            origin = collision.find('origin')
            xyz, rotation = np.zeros(3), np.eye(3)
            if origin is not None:
                xyz = _numbers(origin.get('xyz', '0 0 0'))
                rotation = rotation_from_rpy(_numbers(origin.get('rpy', '0 0 0')))
            for body in collision.findall('geometry/*'):
                capsules += _cover_element(body, xyz, rotation, urdf)
    return found


def _cover_element(body: ElementTree.Element, xyz: np.ndarray, rotation: np.ndarray,
                   urdf: Urdf) -> list[Capsule]:
    if body.tag == 'mesh':
        reference = body.get('filename', '')
        path = find_mesh(reference, urdf.path)
        if path is None:
            raise ConfigError(f'{urdf.path}: the collision mesh {reference!r} is not there')
        return [around(xyz + vertices(path) * _numbers(body.get('scale', '1 1 1')) @ rotation.T)]
    if body.tag == 'box':
        size: tuple[float, ...] = tuple(_numbers(body.get('size', '')).tolist())
    elif body.tag == 'sphere':
        size = (float(body.get('radius', 'nan')),)
    elif body.tag in ('cylinder', 'capsule'):
        size = (float(body.get('radius', 'nan')), float(body.get('length', 'nan')))
    else:
        raise ConfigError(f'{urdf.path}: collision geometry <{body.tag}>; known: box, sphere, '
                          'cylinder, capsule, mesh')
    if not all(0 < length < math.inf for length in size):
        raise ConfigError(f'{urdf.path}: a collision <{body.tag}> without a size above 0')
    return cover(body.tag, size, xyz, rotation)


def segments_apart(a: Point, b: Point, c: Point, d: Point) -> float:
    """Return the least distance [m] between the segments a b and c d."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = d[0] - c[0], d[1] - c[1], d[2] - c[2]
    wx, wy, wz = a[0] - c[0], a[1] - c[1], a[2] - c[2]
    uu, vv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
    uv = ux * vx + uy * vy + uz * vz
    uw, vw = ux * wx + uy * wy + uz * wz, vx * wx + vy * wy + vz * wz
    slant = uu * vv - uv * uv
    s = min(max((uv * vw - vv * uw) / slant, 0.0), 1.0) if slant > 1e-12 * uu * vv else 0.0
    t = (uv * s + vw) / vv if vv > 0.0 else 0.0
    if t < 0.0 or t > 1.0 or not vv > 0.0:
        t = min(max(t, 0.0), 1.0)
        s = min(max((uv * t - uw) / uu, 0.0), 1.0) if uu > 0.0 else 0.0
    x, y, z = wx + s * ux - t * vx, wy + s * uy - t * vy, wz + s * uz - t * vz
    return math.sqrt(x * x + y * y + z * z)


def box_apart(a: Point, b: Point, half: Point) -> float:
    """
    Return the least distance [m] between the segment a b and an upright box around the origin.

    Its square along the segment is convex and, between the places where a face's plane is passed,
    a parabola: the least is where the slope changes its sign.

    :param half: half of the box's lengths [m].
    """
    u = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    places = sorted({0.0, 1.0, *(
        t for x, d, h in zip(a, u, half) if d != 0.0
        for t in ((h - x) / d, (-h - x) / d) if 0.0 < t < 1.0)})
    last, last_slope = 0.0, 0.0
    for t in places:
        slope = 0.0
        for x, d, h in zip(a, u, half):
            place = x + t * d
            slope += d * (place - h if place > h else min(place + h, 0.0))
        if slope >= 0.0:
            if t > 0.0:
                t = last + (t - last) * last_slope / (last_slope - slope)
            break
        last, last_slope = t, slope
    return math.sqrt(sum(max(abs(x + t * d) - h, 0.0) ** 2 for x, d, h in zip(a, u, half)))


def _rounded(start: np.ndarray, end: np.ndarray, radius: float) -> Capsule:
    """Round, so that the last bits of a linear algebra library decide nothing."""
    (ax, ay, az), (bx, by, bz) = (np.round(p / _ROUND_M) * _ROUND_M for p in (start, end))
    return Capsule((float(ax), float(ay), float(az)), (float(bx), float(by), float(bz)),
                   float(np.round(radius / _ROUND_M) + 2) * _ROUND_M)


def _numbers(text: str) -> np.ndarray:
    values = np.array([float(part) for part in text.split()])
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ConfigError(f'{text!r} in a collision geometry is not three finite numbers')
    return values
