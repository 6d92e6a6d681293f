# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a URDF, and what to do about it."""

from collections import Counter
from collections.abc import Collection, Iterator
import math
from pathlib import Path
import re
from typing import Literal, NamedTuple
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.backends.mujoco_urdf import FORMATS
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.meshes import find_mesh
from rl_nodes.core.urdf import load_urdf, MOVABLE, Urdf, UrdfJoint

GYRATION_M = (1e-3, 0.5)  # of a link; the inertia of a ball of 4 mm, or of a rod of 1.7 m
_XACRO = re.compile(r'<xacro:\w+|\$\{[^}]*\}|\$\([^)]*\)')
FAST_RAD_S = 30.0         # no joint of a robot of some size gets there under load

Level = Literal['FAIL', 'note']


class Problem(NamedTuple):
    """
    One finding.

    :param level: FAIL: it cannot be used, or not be simulated, as it is; note: look at it.
    :param subject: the link or joint; several where the same is wrong with all of them.
    :param text: what is wrong.
    :param remedy: what to do.
    """

    level: Level
    subject: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f'{self.level:>4}  {self.subject}: {self.text}; {self.remedy}'


def read(path: Path) -> Urdf:
    """
    Return the description in a file.

    :raises ConfigError: it is none that can be read at all, says why.
    """
    try:
        macro = _XACRO.search(path.read_text(encoding='utf-8', errors='replace'))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read: {error.strerror}') from None
    if macro:
        raise ConfigError(f'{path} holds {macro.group()!r}: it is xacro; expand it first: '
                          f'xacro {path} > robot.urdf')
    return load_urdf(path)


def inspect(urdf: Urdf, judged: Collection[str] = ()) -> list[Problem]:
    """
    Return everything that is wrong or remarkable in a description of one robot.

    :param judged: joints whose limits of speed and effort a configuration has settled.
    """
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as load_urdf
    found = list(_joints(urdf, root, judged))
    moving = {link for joint in urdf.movable() for link in solid(urdf, joint.child)}
    for link in root.findall('link'):
        found += _inertia(link, link.get('name', '') in moving, urdf)
        found += _shapes(link, urdf)
    return found


def roots(urdf: Urdf) -> list[str]:
    """Return the links that hang on no joint."""
    children = {joint.child for joint in urdf.joints.values()}
    return [link for link in urdf.links if link not in children]


def solid(urdf: Urdf, link: str) -> list[str]:
    """Return a link and every link below it that is fixed to it."""
    found = [link]
    for name in found:
        found += [joint.child for joint in urdf.joints.values()
                  if joint.kind == 'fixed' and joint.parent == name and joint.child not in found]
    return found


def require_one_robot(urdf: Urdf) -> None:
    """Raise ConfigError where the links and joints are no tree with joints that move."""
    found = '\n'.join(map(str, _structure(urdf)))
    if found:
        raise ConfigError(f'{urdf.path} is not one robot:\n{found}')


def _structure(urdf: Urdf) -> Iterator[Problem]:
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as load_urdf
    tops = roots(urdf)
    if len(tops) != 1:
        yield Problem('FAIL', 'tree', f'{len(tops)} root links: {", ".join(tops) or "none"}',
                      'join them by fixed joints, so that one link has no parent')
    parents = Counter(joint.child for joint in urdf.joints.values())
    for link, count in parents.items():
        if count > 1:
            yield Problem('FAIL', link, f'{count} joints lead to it: a loop',
                          'URDF describes trees: cut the loop at one joint')
    for joint in urdf.joints.values():
        for link in (joint.parent, joint.child):
            if link not in urdf.links:
                yield Problem('FAIL', joint.name, f'its link {link!r} does not exist',
                              'correct the name, or add the link')
    for kind in ('link', 'joint'):
        names = Counter(element.get('name', '') for element in root.findall(kind))
        for name, count in names.items():
            if count > 1:
                yield Problem('FAIL', name, f'{count} {kind}s have this name', 'rename one')
    if not urdf.movable():
        yield Problem('FAIL', 'tree', 'no joint moves', 'nothing here can be controlled')


def _joints(urdf: Urdf, root: ElementTree.Element,
            judged: Collection[str]) -> Iterator[Problem]:
    mimics = mimicry(root)
    for joint in urdf.movable():
        unit = MOVABLE[joint.kind]
        if joint.name in mimics:
            yield Problem(
                'note', joint.name, f'mimics {mimics[joint.name]}, which no simulator here does',
                'the draft keeps it in fixed_joints; move it to joints to drive it by itself, or '
                f'fix {mimics[joint.name]} too where no task uses it')
        if joint.kind == 'continuous':
            yield Problem('note', joint.name, 'continuous: it has no position limits',
                          'observe it by joint_angle_sincos; right for wheels, while an arm or a '
                          'leg should have limits: give lower and upper in the configuration')
        elif joint.lower is not None and joint.upper is not None and not (
                joint.lower < joint.upper):
            yield Problem('FAIL', joint.name, f'limits {joint.lower} to {joint.upper}: no range',
                          'correct <limit lower= upper=> in the URDF, or make it continuous')
        if joint.name in judged:
            continue
        for name, value, unit_of in (('effort', joint.effort, 'N·m' if unit == 'rad' else 'N'),
                                     ('velocity', joint.velocity, f'{unit}/s')):
            if value is None or not value > 0:
                yield Problem('FAIL', joint.name, f'{name} limit is {value}',
                              f'give {name}: [{unit_of}] in the configuration, from the data '
                              'sheet of its motor')
        if unit == 'rad' and joint.velocity is not None and joint.velocity > FAST_RAD_S:
            yield Problem('note', joint.name, f'velocity limit {joint.velocity:g} rad/s',
                          'full speed is what an action of 1 may ask for; tighten it')


def mimicry(root: ElementTree.Element) -> dict[str, str]:
    """Return which joint follows which."""
    return {joint.get('name', ''): str(mimic.get('joint')) for joint in root.findall('joint')
            for mimic in joint.findall('mimic')}


def _inertia(link: ElementTree.Element, moves: bool, urdf: Urdf) -> Iterator[Problem]:
    name = link.get('name', '')
    mass = mass_of(link)
    if mass < 0 or not math.isfinite(mass):
        yield Problem('FAIL', name, f'mass {mass:g} kg', 'give its mass')
        return
    if mass == 0:
        heavy = any(mass_of(other) > 0 for other in _elements(urdf, solid(urdf, name)))
        if moves and not heavy and _hangs_on_movable(urdf, name):
            yield Problem('FAIL', name, 'moves and has no mass',
                          'give it an <inertial>; simulators cannot move what weighs nothing')
        return
    inertia = link.find('inertial/inertia')
    if inertia is None:
        yield Problem('FAIL', name, f'{mass:g} kg without <inertia>', 'give its inertia')
        return
    xx, yy, zz, xy, xz, yz = (float(inertia.get(f'i{axes}', '0'))
                              for axes in ('xx', 'yy', 'zz', 'xy', 'xz', 'yz'))
    moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if not moments[0] > 0:
        yield Problem('FAIL' if moves else 'note', name,
                      f'principal moments of inertia {_list(moments)} kg·m² are not all positive',
                      'compute them anew from mass and shape')
    elif moments[2] > (moments[0] + moments[1]) * (1 + 1e-6):
        yield Problem('note', name, f'principal moments of inertia {_list(moments)} kg·m²: none '
                      'may exceed the sum of the others', 'MuJoCo refuses it: compute it anew')
    radius = math.sqrt(max(moments[2], 0.0) / mass)
    if moves and moments[0] > 0 and not GYRATION_M[0] <= radius <= GYRATION_M[1]:
        yield Problem('note', name, f'{mass:g} kg with {moments[2]:g} kg·m²: a radius of gyration '
                      f'of {radius:.3g} m', 'implausible for most links; compare with its size')


def _shapes(link: ElementTree.Element, urdf: Urdf) -> Iterator[Problem]:
    name = link.get('name', '')
    for kind in ('visual', 'collision'):
        for shape in link.findall(kind):
            for mesh in shape.iter('mesh'):
                reference = mesh.get('filename', '')
                if find_mesh(reference, urdf.path) is None:
                    yield Problem(
                        'FAIL', name, f'{kind} mesh {reference} is not there',
                        'package://<name>/... is looked for in the folders above the URDF and in '
                        'AMENT_PREFIX_PATH; other paths are relative to the URDF')
                elif not reference.lower().endswith(FORMATS):
                    yield Problem('note', name, f'{kind} mesh {reference}: MuJoCo reads '
                                  f'{", ".join(FORMATS)} only',
                                  'convert it' if kind == 'collision' else 'it is left out there')
            sizes = [float(size) for element in shape.iter() for key in
                     ('radius', 'length', 'size') for size in element.get(key, '').split()]
            if any(size <= 0 for size in sizes):
                yield Problem('FAIL', name, f'a {kind} shape has a size of 0',
                              'MuJoCo refuses it: remove the shape or give it a size')


def mass_of(link: ElementTree.Element) -> float:
    """Return the mass of a link [kg], 0 where it has none."""
    mass = link.find('inertial/mass')
    return 0.0 if mass is None else float(mass.get('value', '0'))


def _elements(urdf: Urdf, names: list[str]) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as load_urdf
    return [link for link in root.findall('link') if link.get('name') in names]


def _hangs_on_movable(urdf: Urdf, link: str) -> bool:
    above: dict[str, UrdfJoint] = {joint.child: joint for joint in urdf.joints.values()}
    return link in above and above[link].kind in MOVABLE


def _list(values: np.ndarray) -> str:
    return ', '.join(f'{value:.3g}' for value in values)
