# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Robots of every simulator that is installed."""

from collections.abc import Callable, Iterator

import pytest
from rl_nodes.backends import installed_backends, make_robot
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import RobotModel


@pytest.fixture
def require_backend() -> Callable[[str], None]:
    """Return what skips the test where a simulator is missing."""
    def require(backend: str) -> None:
        if backend not in installed_backends():
            pytest.skip(f'{backend} is not installed: simulators are optional')
    return require


@pytest.fixture
def opened(require_backend: Callable[[str], None]) -> Iterator[Callable[..., SimulatedRobot]]:
    """Return a function that makes robots; they are closed at the end."""
    robots = []

    def make(backend: str, model: RobotModel, *objects: ObjectConfig,
             disturbed: bool = False) -> SimulatedRobot:
        require_backend(backend)
        robots.append(make_robot(backend, model, objects, disturbed))
        return robots[-1]

    yield make
    for robot in robots:
        robot.close()
