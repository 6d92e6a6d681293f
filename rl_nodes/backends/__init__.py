# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Robots by backend name; each backend's library is imported when it is built.

Importing this package loads no more than names, so launch arguments can be read without it all.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError

if TYPE_CHECKING:
    from rl_nodes.backends.base import SimulatedRobot
    from rl_nodes.core.robot import RobotModel

BACKENDS = ('pybullet', 'mujoco')  # each named like the package it needs


def make_robot(backend: str, model: 'RobotModel') -> 'SimulatedRobot':
    """
    Return a robot of a backend.

    :raises ConfigError: unknown backend, or its library is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(f'unknown backend {backend!r}{suggestion(backend, BACKENDS)}; '
                          f'available: {", ".join(BACKENDS)}')
    try:
        if backend == 'mujoco':
            from rl_nodes.backends.mujoco_robot import MujocoRobot
            return MujocoRobot(model)
        from rl_nodes.backends.pybullet_robot import PybulletRobot
        return PybulletRobot(model)
    except ImportError as error:
        here = [f'backend:={name}' for name in installed_backends() if name != backend]
        raise ConfigError(
            f'backend {backend} needs the package {backend} ({error}); install it with: '
            f'pip install "rl_nodes[{backend}]"' + (f', or use {here[0]}' if here else '')
        ) from None


def installed_backends() -> tuple[str, ...]:
    """Return the backends whose library is there, the preferred one first."""
    return tuple(name for name in BACKENDS if find_spec(name) is not None)
