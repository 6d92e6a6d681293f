# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A first configuration of a robot, guessed from its URDF and full of comments to edit."""

from collections.abc import Iterator
import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.core.rotations import rotation_about, rotation_from_rpy
from rl_nodes.core.urdf import MOVABLE, Urdf, UrdfJoint
from rl_nodes.robot_setup.inspection import mass_of, mimicry, roots, solid

TOOL = re.compile(r'tool|tcp|grasp|end_?eff|\bee\b|_ee|ee_|flange|tip', re.IGNORECASE)
MARGIN = 0.02  # kept free at each end of a joint's range [rad or m]


def draft(urdf: Urdf, reference: str) -> str:
    """
    Return the text of a robot configuration.

    :param urdf: a description with one root link and at least one movable joint.
    :param reference: what the configuration's ``urdf`` shall say.
    """
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as load_urdf
    base = roots(urdf)[0]
    followers = mimicry(root)
    joints = [joint for joint in urdf.movable() if joint.name not in followers]
    homes = {joint.name: _home(joint) for joint in urdf.movable()}
    floating = _floats(urdf, base)
    trunk = solid(urdf, base)
    mode = 'velocity' if floating and all(
        joint.kind == 'continuous' and joint.parent in trunk for joint in joints) else 'position'
    tool = '' if floating else _tool(urdf, base, joints)
    mass = sum(mass_of(link) for link in root.findall('link'))
    rate, physics = 50, 400 if floating else 200
    lines = [
        f'# {urdf.name}: {mass:.3f} kg, {len(urdf.links)} links, {len(urdf.movable())} movable '
        'joints.', '# Drafted from the URDF: read every line, correct what was guessed.',
        f'urdf: {reference}',
        _line(f'control_mode: {mode}', 'position, velocity or effort: what the drives take'),
        _line(f'rate_hz: {rate}', 'commands per second'),
        _line(f'base_link: {base}', 'frame of goals and tool positions')]
    if tool:
        lines.append(_line(f'tool_link: {tool}', 'guessed: what tasks bring to goals'))
    if floating:
        height = -_lowest(urdf, root, base, homes)
        lines += [
            _line('floating_base: true', 'guessed, as several limbs start at the root'),
            _line(f'home_height_m: {height:.3f}', 'of the base at home; meshes are not counted')]
    lines.append(_line('joints:', "limits are the URDF's; here they may only be tightened"))
    lines += [_joint_line(joint, homes[joint.name]) for joint in joints]
    if followers:
        lines.append(_line('fixed_joints:', 'kept there; neither measured nor commanded'))
        lines += [_line(f'  {name}: {homes[name]:g}', f'mimics {leader}')
                  for name, leader in followers.items()]
    lines += [
        'safety:', _line('  watchdog_s: 0.1', 'five periods of silence stop the robot'),
        '  command_timeout_s: 0.15', _line(f'  position_margin: {MARGIN:g}', 'rad or m'),
        _line('  sensing: {}', 'an encoder that jumps, freezes or lies stops the robot'),
        'simulation:', _line(f'  physics_hz: {physics}', 'a whole multiple of rate_hz'),
        '  position_gain: 0.25', _line('  ground: true', 'whether there is a floor at z = 0')]
    return '\n'.join(lines) + '\n'


def _line(text: str, comment: str) -> str:
    return f'{text:<32} # {comment}'


def _joint_line(joint: UrdfJoint, home: float) -> str:
    unit = MOVABLE[joint.kind]
    missing = [name for name in ('velocity', 'effort') if not (getattr(joint, name) or 0) > 0]
    given = ''.join(f', {name}: null' for name in missing)
    limits = 'endless' if joint.lower is None else f'{joint.lower:.4g} to {joint.upper:.4g} {unit}'
    known = [f'{value:.4g} {name}' for value, name in (
        (joint.velocity, f'{unit}/s'), (joint.effort, 'N·m' if unit == 'rad' else 'N'))
        if value is not None and value > 0]
    wanted = f'; GIVE {" AND ".join(missing).upper()}' if missing else ''
    return (f'  - {{name: {joint.name}, home: {home:g}{given}}}  '
            f'# {", ".join([limits, *known])}{wanted}')


def _home(joint: UrdfJoint) -> float:
    """Return 0 where the joint can be there, else the middle of its range."""
    if joint.lower is None or joint.upper is None:
        return 0.0
    if joint.lower + MARGIN <= 0.0 <= joint.upper - MARGIN:
        return 0.0
    return round((joint.lower + joint.upper) / 2, 4)


def _floats(urdf: Urdf, base: str) -> bool:
    """Return whether several limbs start at the root, as of what walks or rolls."""
    trunk = solid(urdf, base)
    return base != 'world' and sum(joint.parent in trunk for joint in urdf.movable()) > 1


def _tool(urdf: Urdf, base: str, joints: list[UrdfJoint]) -> str:
    """Return the end of the longest chain, of several the one with a tool's name."""
    parents = {joint.parent for joint in urdf.joints.values()}
    names = [joint.name for joint in joints]

    def rank(link: str) -> tuple[bool, int, int]:
        chain = urdf.chain(base, link)
        return (bool(TOOL.search(link)), sum(joint.name in names for joint in chain), len(chain))

    ends = [link for link in urdf.links if link not in parents and any(
        joint.kind in MOVABLE for joint in urdf.chain(base, link))]
    return max(ends, key=rank)


def _lowest(urdf: Urdf, root: ElementTree.Element, base: str, homes: dict[str, float]) -> float:
    """Return the height of the lowest point of all collision shapes in the base's frame [m]."""
    frames = {base: (np.zeros(3), np.eye(3))}
    waiting = list(urdf.joints.values())
    while waiting:  # a tree: every round places at least one link
        for joint in [joint for joint in waiting if joint.parent in frames]:
            waiting.remove(joint)
            origin, turned = frames[joint.parent]
            origin, turned = origin + turned @ joint.offset, turned @ joint.rotation
            if joint.kind == 'prismatic':
                origin = origin + turned @ joint.axis * homes[joint.name]
            elif joint.kind != 'fixed':
                turned = turned @ rotation_about(joint.axis, homes[joint.name])
            frames[joint.child] = (origin, turned)
    heights = [float(origin[2]) for origin, _ in frames.values()]
    for link in root.findall('link'):
        origin, turned = frames[link.get('name', '')]
        for shape in link.findall('collision'):
            pose = shape.find('origin')
            offset, rpy = (_three(pose, key) for key in ('xyz', 'rpy'))
            rotation = turned @ rotation_from_rpy(rpy)
            heights += [float((origin + turned @ offset + rotation @ corner)[2]) - radius
                        for corner, radius in _corners(shape.find('geometry'))]
    return min(heights)


def _corners(geometry: ElementTree.Element | None) -> Iterator[tuple[np.ndarray, float]]:
    """Return points of a shape [m], each with the radius of a ball around it."""
    for shape in () if geometry is None else geometry:
        if shape.tag == 'sphere':
            yield np.zeros(3), float(shape.get('radius', '0'))
        elif shape.tag == 'box':
            half = np.array([float(side) / 2 for side in shape.get('size', '0 0 0').split()])
            yield from ((half * signs, 0.0) for signs in itertools.product((-1, 1), repeat=3))
        elif shape.tag == 'cylinder':
            radius, half_length = (float(shape.get(key, '0')) / part
                                   for key, part in (('radius', 1), ('length', 2)))
            for step, end in itertools.product(range(16), (-1, 1)):
                angle = math.tau * step / 16
                yield np.array([radius * math.cos(angle), radius * math.sin(angle),
                                end * half_length]), 0.0


def _three(element: ElementTree.Element | None, key: str) -> np.ndarray:
    text = '0 0 0' if element is None else element.get(key, '0 0 0')
    return np.array([float(part) for part in text.split()])
