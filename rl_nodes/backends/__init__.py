# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Robots by backend name; each backend's library is imported when it is built."""

from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel

BACKENDS = ('pybullet',)


def make_robot(backend: str, model: RobotModel) -> SimulatedRobot:
    """
    Return a robot of a backend.

    :raises ConfigError: unknown backend, or its library is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(f'unknown backend {backend!r}{suggestion(backend, BACKENDS)}; '
                          f'available: {", ".join(BACKENDS)}')
    try:
        from rl_nodes.backends.pybullet_robot import PybulletRobot
    except ImportError as error:
        raise ConfigError(f'backend pybullet needs the package pybullet ({error}); install it '
                          'with: pip install "rl_nodes[pybullet]"') from None
    return PybulletRobot(model)
