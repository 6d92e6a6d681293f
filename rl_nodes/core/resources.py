# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Where configuration, robot descriptions and launch files lie, for ROS and pip installs alike."""

import os
from pathlib import Path
import sys

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError


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
    :param name: the name of a shipped file, or a path ending in ``.yaml``.
    :raises ConfigError: nothing of that name; lists what exists.
    """
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

    :param reference: absolute path, or relative to the YAML file or to the shipped ``urdf/``.
    :param beside: the YAML file that names it.
    :raises ConfigError: no such file.
    """
    for candidate in (Path(reference), beside.parent / reference,
                      share_directory() / 'urdf' / reference):
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(f'{beside}: urdf {reference!r} not found beside it or in '
                      f'{share_directory() / "urdf"}')
