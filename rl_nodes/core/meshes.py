# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The mesh files that a URDF names, wherever the package lies that they belong to."""

from collections.abc import Iterator
import os
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.urdf import Urdf

_SCHEMES = ('package://', 'model://')


def find_mesh(reference: str, urdf: Path) -> Path | None:
    """
    Return the file of a mesh, None where there is none.

    ``package://name/rest`` is looked for below every folder above the URDF, then in the nearest
    package that holds the URDF, whatever its folder is called, then in installed ROS packages.

    :param reference: what ``filename`` says in the URDF.
    :param urdf: the URDF's file; other references are relative to its folder.
    """
    for scheme in _SCHEMES:
        if reference.startswith(scheme):
            candidates = _in_packages(reference.removeprefix(scheme), urdf)
            break
    else:
        candidates = iter([urdf.parent / reference.removeprefix('file://')])
    return next((path.resolve() for path in candidates if path.is_file()), None)


def with_mesh_paths(urdf: Urdf) -> ElementTree.Element:
    """
    Return the description for a simulator: every mesh by its absolute path.

    :raises ConfigError: names the first mesh that is missing.
    """
    root = ElementTree.fromstring(urdf.text)  # noqa: S314 - as parse_urdf
    for link in root.findall('link'):
        for mesh in link.iter('mesh'):
            reference = mesh.get('filename', '')
            path = find_mesh(reference, urdf.path)
            if path is None:
                raise ConfigError(
                    f'{urdf.path}: the mesh {reference!r} of link {link.get("name")!r} is not '
                    f'there; check the URDF with: rl_nodes robot check {urdf.path}')
            mesh.set('filename', str(path))
    return root


def _in_packages(name: str, urdf: Path) -> Iterator[Path]:
    _, _, rest = name.partition('/')
    for folder in urdf.parents:
        yield folder / name
    for folder in urdf.parents:
        if (folder / 'package.xml').is_file():
            yield folder / rest
            break
    for prefix in filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        yield Path(prefix) / 'share' / name
    for prefix in filter(None, os.environ.get('ROS_PACKAGE_PATH', '').split(os.pathsep)):
        yield Path(prefix) / name


def vertices(path: Path) -> np.ndarray:
    """
    Return the corners of a mesh in its own unit, shape (N, 3).

    :param path: a Wavefront ``.obj`` or a ``.stl`` file, binary or text.
    :raises ConfigError: unreadable, of another format, or without corners.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() == '.obj':
            rows = [line.split()[1:4] for line in data.splitlines() if line.startswith(b'v ')]
        elif path.suffix.lower() != '.stl':
            raise ConfigError(f'{path}: corners can be read of .obj and .stl meshes only')
        elif len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], 'little'):
            facets = np.frombuffer(data, np.dtype([('n', '<f4', 3), ('v', '<f4', (3, 3)),
                                                   ('a', '<u2')]), offset=84)
            return _corners(facets['v'].reshape(-1, 3).astype(float), path)
        else:
            rows = [line.split()[1:4] for line in data.splitlines()
                    if line.lstrip().startswith(b'vertex ')]
        return _corners(np.array([[float(part) for part in row] for row in rows]), path)
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path}: not a readable mesh: {error}') from None


def _corners(points: np.ndarray, path: Path) -> np.ndarray:
    if points.shape[1:] != (3,) or len(points) < 4 or not np.isfinite(points).all():
        raise ConfigError(f'{path}: a mesh needs four corners or more, all of them finite')
    return np.unique(points, axis=0)
