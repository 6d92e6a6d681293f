# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Shipped robots with other safety settings, and states of them, as fixtures."""

from collections.abc import Callable

from limited_robots import make_robot, make_state
import pytest
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState


@pytest.fixture(scope='session')
def robot_with() -> Callable[..., RobotModel]:
    return make_robot


@pytest.fixture(scope='session')
def state_of() -> Callable[..., RobotState]:
    return make_state
