# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A URDF as MuJoCo takes it."""

import logging
from pathlib import Path
import xml.etree.ElementTree as ElementTree

from rl_nodes.core.errors import ConfigError
from rl_nodes.core.meshes import with_mesh_paths
from rl_nodes.core.urdf import Urdf

FORMATS = ('.obj', '.stl', '.msh')

_log = logging.getLogger(__name__)


def mujoco_urdf(urdf: Urdf) -> tuple[str, dict[str, bytes]]:
    """
    Return (the URDF with MuJoCo's options in it, the mesh files that it names).

    What is seen stays apart from what collides, every link stays a body, a link without
    ``<inertial>`` has no mass, as in every other reader of URDF, and a ``<mimic>`` couples
    nothing, as in PyBullet. MuJoCo takes meshes of one file name for one mesh, whatever folder
    they lie in, so each gets a name of its own. A picture's mesh that it cannot read is left out.

    :raises ConfigError: a mesh is missing, or of a format that MuJoCo cannot collide with.
    """
    root = with_mesh_paths(urdf)
    for own in root.findall('mujoco'):
        root.remove(own)
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', {
        'discardvisual': 'false', 'fusestatic': 'false', 'strippath': 'false',
        'inertiafromgeom': 'false'})
    for joint in root.findall('joint'):
        for mimic in joint.findall('mimic'):
            joint.remove(mimic)
    names: dict[Path, str] = {}
    for link in root.findall('link'):  # nameless shapes make MuJoCo complain on the terminal
        for kind in ('visual', 'collision'):
            for index, shape in enumerate(link.findall(kind)):
                shape.set('name', f'{link.get("name")}/{kind}/{index}')
                for mesh in shape.iter('mesh'):
                    path = Path(mesh.get('filename', ''))
                    if path.suffix.lower() in FORMATS:
                        mesh.set('filename', names.setdefault(
                            path, f'{len(names)}{path.suffix.lower()}'))
                    elif kind == 'visual':
                        _log.info('%s: MuJoCo cannot draw %s', urdf.path.name, path.name)
                        link.remove(shape)
                    else:
                        raise ConfigError(
                            f'{urdf.path}: MuJoCo cannot read the collision mesh {path} of link '
                            f'{link.get("name")!r}; convert it to one of {", ".join(FORMATS)}, or '
                            'use backend:=pybullet')
    return (ElementTree.tostring(root, encoding='unicode'),
            {name: _one_shape(path) for path, name in names.items()})


def _one_shape(path: Path) -> bytes:
    """Return a mesh file; of an .obj of several groups MuJoCo would take the first alone."""
    data = path.read_bytes()
    if path.suffix.lower() != '.obj':
        return data
    return b'\n'.join(line for line in data.splitlines()
                      if not line.startswith((b'o ', b'g ', b'usemtl', b'mtllib')))
