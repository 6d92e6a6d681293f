# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of a URDF that control needs: movable joints, their limits, and the tree of frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import rotation_about, rotation_from_rpy, rpy_from_rotation

Unit = Literal['rad', 'm']

MOVABLE: dict[str, Unit] = {'revolute': 'rad', 'continuous': 'rad', 'prismatic': 'm'}
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class UrdfJoint:
    """
    One joint of any kind.

    :param kind: ``revolute``, ``continuous``, ``prismatic`` or ``fixed``.
    :param offset: origin in the parent link's frame [m], shape (3,).
    :param rotation: orientation in the parent link's frame, shape (3, 3).
    :param axis: unit axis in the joint's frame, shape (3,).
    :param lower: least position [rad or m]; None where unlimited.
    :param upper: greatest position [rad or m]; None where unlimited.
    :param velocity: greatest speed [rad/s or m/s]; None where not given.
    :param effort: greatest effort [N·m or N]; None where not given.
    """

    name: str
    kind: str
    parent: str
    child: str
    offset: np.ndarray
    rotation: np.ndarray
    axis: np.ndarray
    lower: float | None
    upper: float | None
    velocity: float | None
    effort: float | None


@dataclass(frozen=True, eq=False)
class Urdf:
    """
    A parsed robot description: its name, links and joints by name, in file order.

    :param path: file that it comes from.
    :param text: the description itself, with the fixed joints as such.
    """

    path: Path
    name: str
    links: tuple[str, ...]
    joints: dict[str, UrdfJoint]
    text: str

    def movable(self) -> list[UrdfJoint]:
        """Return the joints that move, in file order."""
        return [joint for joint in self.joints.values() if joint.kind in MOVABLE]

    def chain(self, base: str, tip: str) -> list[UrdfJoint]:
        """
        Return the joints from link ``base`` to link ``tip``, fixed ones included.

        :raises ConfigError: a link does not exist or ``tip`` does not descend from ``base``.
        """
        for link in (base, tip):
            if link not in self.links:
                raise ConfigError(
                    f'{self.path}: no link {link!r}; links: {", ".join(self.links)}')
        above = {joint.child: joint for joint in self.joints.values()}
        chain: list[UrdfJoint] = []
        while tip != base:
            if tip not in above:
                raise ConfigError(f'{self.path}: link {tip!r} does not descend from {base!r}')
            chain.insert(0, above[tip])
            tip = above[tip].parent
        return chain


def load_urdf(path: Path, fixed: Mapping[str, float] = _NOTHING) -> Urdf:
    """
    Return the description in a URDF file.

    :param fixed: position [rad or m] of each joint that shall not move.
    :raises ConfigError: unreadable, not XML, not a robot, a joint of an unsupported kind, or one
        to be fixed that does not move or not there.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not a readable URDF: {error}') from None
    return parse_urdf(text, str(path), fixed)


def parse_urdf(text: str, source: str, fixed: Mapping[str, float] = _NOTHING) -> Urdf:
    """
    Return the description in a URDF text.

    :param source: file or topic that it comes from, for messages.
    :param fixed: as for :func:`load_urdf`.
    :raises ConfigError: not XML, not a robot, or a joint of an unsupported kind.
    """
    path = Path(source)
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - expat has no network
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f'{path}: not a readable URDF: {error}') from None
    if root.tag != 'robot':
        raise ConfigError(f'{path}: the top element is <{root.tag}>, expected <robot>')
    links = tuple(link.get('name', '') for link in root.findall('link'))
    joints = {joint.name: joint for joint in (
        _joint(element, path) for element in root.findall('joint'))}
    if fixed:
        elements = {element.get('name'): element for element in root.findall('joint')}
        for name, position in fixed.items():
            _fix(joints, name, position, elements.get(name), path)
            joints[name] = _joint(elements[name], path)
        text = ElementTree.tostring(root, encoding='unicode')
    return Urdf(path, root.get('name', path.stem), links, joints, text)


def _fix(joints: dict[str, UrdfJoint], name: str, position: float,
         element: ElementTree.Element | None, path: Path) -> None:
    """Make a movable joint's element one of a fixed joint at a position."""
    movable = [joint.name for joint in joints.values() if joint.kind in MOVABLE]
    if element is None or name not in movable:
        raise ConfigError(f'{path}: fixed_joints: {name!r} is no movable joint'
                          f'{suggestion(name, movable)}; movable: {", ".join(movable)}')
    joint = joints[name]
    if not (joint.lower is None or joint.lower <= position) or not (
            joint.upper is None or position <= joint.upper):
        raise ConfigError(f'{path}: fixed_joints: {name} = {position} is outside '
                          f'[{joint.lower}, {joint.upper}]')
    offset, rotation = joint.offset, joint.rotation
    if joint.kind == 'prismatic':
        offset = offset + rotation @ joint.axis * position
    else:
        rotation = rotation @ rotation_about(joint.axis, position)
    for child in list(element):
        if child.tag not in ('parent', 'child'):
            element.remove(child)
    element.set('type', 'fixed')
    ElementTree.SubElement(element, 'origin', {
        'xyz': ' '.join(map(repr, offset.tolist())),
        'rpy': ' '.join(map(repr, rpy_from_rotation(rotation).tolist()))})


def _joint(element: ElementTree.Element, path: Path) -> UrdfJoint:
    name = element.get('name', '?')
    kind = element.get('type', '?')
    if kind not in MOVABLE and kind != 'fixed':
        raise ConfigError(f'{path}: joint {name!r} is of type {kind!r}; '
                          f'supported: fixed, {", ".join(MOVABLE)}')
    parent, child = element.find('parent'), element.find('child')
    if parent is None or child is None:
        raise ConfigError(f'{path}: joint {name!r} lacks <parent> or <child>')
    origin, axis, limit = element.find('origin'), element.find('axis'), element.find('limit')
    bounded = kind in ('revolute', 'prismatic')
    try:
        direction = _vector(axis, 'xyz', '1 0 0') if kind in MOVABLE else np.array([1.0, 0, 0])
        if not direction.any():
            raise ValueError('axis "0 0 0" has no direction')
        return UrdfJoint(
            name, kind, parent.get('link', ''), child.get('link', ''),
            _vector(origin, 'xyz', '0 0 0'), rotation_from_rpy(_vector(origin, 'rpy', '0 0 0')),
            direction / np.linalg.norm(direction),
            _number(limit, 'lower', '0') if bounded else None,
            _number(limit, 'upper', '0') if bounded else None,
            _number(limit, 'velocity', None), _number(limit, 'effort', None))
    except ValueError as error:
        raise ConfigError(f'{path}: joint {name!r}: {error}') from None


def _vector(element: ElementTree.Element | None, key: str, default: str) -> np.ndarray:
    text = default if element is None else element.get(key, default)
    values = np.array([float(part) for part in text.split()])
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f'{key}="{text}" is not three finite numbers')
    return values


def _number(element: ElementTree.Element | None, key: str, default: str | None) -> float | None:
    text = default if element is None else element.get(key, default)
    return None if text is None else float(text)
