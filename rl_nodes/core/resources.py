# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Where configuration, robot descriptions and launch files lie, for ROS and pip installs alike."""

from importlib.util import find_spec
import os
from pathlib import Path
import sys

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError

PYBULLET_DATA = 'pybullet_data:'


def share_directory() -> Path:
    """
    Return the folder that holds ``config/``, ``urdf/`` and ``launch/``.

    A source checkout (also an editable or ``--symlink-install`` one) comes first, then each ament
    prefix, then the Python environment.

    :raises ConfigError: the package is installed without its data.
    """
    checkout = Path(__file__).resolve().parents[2]
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    candidates = [checkout] + [p / 'share' / 'rl_nodes' for p in [*prefixes, Path(sys.prefix)]]
    for candidate in candidates:
        if (candidate / 'config' / 'robots').is_dir():
            return candidate
    raise ConfigError(
        'the configuration of rl_nodes is not installed; looked in '
        f'{", ".join(map(str, candidates))}. Reinstall the package with pip or colcon.')


def find_config(family: str, name: str) -> Path:
    """
    Return the YAML file of a robot, task, learner or channel.

    :param family: ``robots``, ``tasks``, ``train`` or ``channels``.
    :param name: the name of a shipped file, or a path ending in ``.yaml``; for a robot also one
        ending in ``.urdf`` that has its configuration beside it.
    :raises ConfigError: nothing of that name; lists what exists.
    """
    if family == 'robots' and name.endswith('.urdf'):
        urdf = Path(name).expanduser()
        path = urdf.with_suffix('.yaml')
        if path.is_file():
            return path.resolve()
        if not urdf.is_file():
            raise ConfigError(f'no file {name}; give the path of a URDF that exists')
        raise ConfigError(f'{name} has no configuration beside it ({path.name}), which says what '
                          f'a URDF does not; make one to edit: rl_nodes robot init {name}')
    if name.endswith(('.yaml', '.yml')):
        path = Path(name).expanduser()
        if path.is_file():
            return path.resolve()
        raise ConfigError(f'no file {name} (a {family} configuration); give a path that exists')
    folder = share_directory() / 'config' / family
    path = folder / f'{name}.yaml'
    known = sorted(entry.stem for entry in folder.glob('*.yaml'))
    if name not in known:
        raise ConfigError(
            f'unknown {family.removesuffix("s") if family != "train" else "algorithm"} {name!r}'
            f'{suggestion(name, known)}; available: {", ".join(known)}, or a path to a .yaml file')
    return path


def find_urdf(reference: str, beside: Path) -> Path:
    """
    Return a robot description named in a robot configuration.

    :param reference: absolute path, relative to the YAML file or to the shipped ``urdf/``, or
        ``pybullet_data:`` and a path in the package of that name.
    :param beside: the YAML file that names it.
    :raises ConfigError: no such file.
    """
    if reference.startswith(PYBULLET_DATA):
        return _in_pybullet_data(reference.removeprefix(PYBULLET_DATA), beside)
    for candidate in (Path(reference), beside.parent / reference,
                      share_directory() / 'urdf' / reference):
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(f'{beside}: urdf {reference!r} not found beside it or in '
                      f'{share_directory() / "urdf"}')


def _in_pybullet_data(name: str, beside: Path) -> Path:
    """Return a file of the package ``pybullet_data``; nothing is imported."""
    package = find_spec('pybullet_data')
    if package is None or package.origin is None:
        raise ConfigError(f'{beside}: urdf {PYBULLET_DATA}{name} is a file of the package '
                          'pybullet_data, which comes with PyBullet and is not installed; '
                          'pip install "rl_nodes[pybullet]"')
    folder = Path(package.origin).parent
    path = folder / name
    if path.is_file():
        return path.resolve()
    known = [entry.relative_to(folder).as_posix() for entry in folder.rglob('*.urdf')
             if name.endswith('.urdf')]
    raise ConfigError(f'{beside}: urdf {PYBULLET_DATA}{name}: no such file in {folder}'
                      f'{suggestion(name, known)}')
