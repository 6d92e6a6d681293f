# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Robots by backend name; each backend's library is imported when it is built.

Importing this package loads no more than names, so launch arguments can be read without it all.
"""

from importlib.util import find_spec
from typing import Any, TYPE_CHECKING

from rl_nodes.core.config import convert, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.objects import ObjectConfig

if TYPE_CHECKING:
    from rl_nodes.backends.base import HardwareRobot, SimulatedRobot, Simulator
    from rl_nodes.backends.pybullet_view import PybulletView
    from rl_nodes.core.robot import RobotModel

BACKENDS = ('pybullet', 'mujoco')  # simulators, each named like the package it needs
HARDWARE = ('servo_bus', 'ros2_control')  # each named like its section in the robot's YAML file


def make_robot(backend: str, model: 'RobotModel',
               objects: tuple[ObjectConfig, ...] = (),
               disturbed: bool = False) -> 'SimulatedRobot':
    """
    Return a robot of a backend.

    :param objects: that are in its world; ``Start.objects`` says where.
    :param disturbed: whether ``Start.variation.disturbance`` is to take effect.
    :raises ConfigError: unknown backend, or its library is not installed.
    """
    robot = _make_simulator(backend, model, objects)
    if not disturbed:
        return robot
    from rl_nodes.backends.disturbed_robot import DisturbedRobot
    return DisturbedRobot(robot, model)


def _make_simulator(backend: str, model: 'RobotModel',
                    objects: tuple[ObjectConfig, ...]) -> 'Simulator':
    if backend in HARDWARE:
        raise ConfigError(f'backend {backend} drives a physical robot: its time and state are not '
                          f'ours, so only deploy runs on it. Simulators: {", ".join(BACKENDS)}')
    if backend not in BACKENDS:
        raise ConfigError(f'unknown backend {backend!r}{suggestion(backend, BACKENDS)}; '
                          f'available: {", ".join(BACKENDS)}')
    try:
        if backend == 'mujoco':
            from rl_nodes.backends.mujoco_robot import MujocoRobot
            return MujocoRobot(model, objects)
        from rl_nodes.backends.pybullet_robot import PybulletRobot
        return PybulletRobot(model, objects)
    except ImportError as error:
        here = [f'backend:={name}' for name in installed_backends() if name != backend]
        raise ConfigError(
            f'backend {backend} needs the package {backend} ({error}); install it with: '
            f'pip install "rl_nodes[{backend}]"' + (f', or use {here[0]}' if here else '')
        ) from None


def make_view(model: 'RobotModel', objects: tuple[ObjectConfig, ...] = (),
              window: bool = False) -> 'PybulletView':
    """
    Return a world to be looked at, for the states of whatever backend.

    :param objects: that are in it.
    :param window: whether it is shown on the screen; then it needs a process of its own.
    :raises ConfigError: PyBullet, which draws it, is not installed.
    """
    try:
        from rl_nodes.backends.pybullet_view import PybulletView, PybulletWindow
    except ImportError as error:
        raise ConfigError(f'cameras and windows are drawn by the package pybullet ({error}); '
                          'install it with: pip install "rl_nodes[pybullet]"') from None
    return (PybulletWindow if window else PybulletView)(model, objects)


def make_servo_bus(model: 'RobotModel') -> 'HardwareRobot':
    """
    Return the robot on the bus of its YAML section ``servo_bus``, not connected yet.

    :raises ConfigError: there is no such section, or it does not fit the robot.
    """
    from rl_nodes.backends.hardware.servo_bus import ServoBusConfig, ServoBusRobot
    return ServoBusRobot(model, convert(section(model, 'servo_bus'), ServoBusConfig,
                                        f'robot {model.name}: servo_bus'))


def section(model: 'RobotModel', backend: str) -> dict[str, Any]:
    """Return a hardware backend's section of a robot's YAML file; ConfigError without one."""
    settings: dict[str, Any] | None = getattr(model.config, backend)
    if settings is None:
        raise ConfigError(f'robot {model.name} has no section {backend}, which '
                          f'backend:={backend} needs; see docs/hardware/{backend}.md')
    return settings


def installed_backends() -> tuple[str, ...]:
    """Return the backends whose library is there, the preferred one first."""
    return tuple(name for name in BACKENDS if find_spec(name) is not None)
