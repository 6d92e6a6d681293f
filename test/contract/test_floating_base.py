# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulator must do with a robot whose base floats."""

from collections.abc import Callable

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS, installed_backends, make_robot
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.robot import load_robot
from rl_nodes.core.rotations import quaternion_from_rpy, rotation_from_quaternion
from rl_nodes.core.types import BaseState, Start

NOWHERE = np.zeros(3)
MODEL = load_robot('quadruped')


@pytest.fixture(params=BACKENDS)
def robot(request: pytest.FixtureRequest,
          opened: Callable[..., SimulatedRobot]) -> SimulatedRobot:
    return opened(request.param, MODEL)


def thrown() -> BaseState:
    """Return a base high above the ground, turned, moving and spinning."""
    return BaseState(np.array([0.3, -0.2, 2.0]), quaternion_from_rpy(np.array([0.4, -0.3, 0.9])),
                     np.array([0.5, 0.2, -0.1]), np.array([0.3, -0.4, 0.2]))


def advance(robot: SimulatedRobot, seconds: float) -> None:
    """Let time pass while the robot holds."""
    for _ in range(round(seconds * MODEL.config.rate_hz)):
        robot.hold()
        robot.step()


def test_it_stands_at_home_for_five_seconds(robot: SimulatedRobot) -> None:
    robot.reset(Start(MODEL.home, NOWHERE))
    advance(robot, 5.0)
    measured = robot.read()
    assert measured.base.position == pytest.approx(MODEL.home_base.position, abs=0.04)
    assert rotation_from_quaternion(measured.base.orientation)[2, 2] > 0.999
    assert np.abs(measured.base.linear_velocity).max() < 0.01
    assert np.abs(measured.position - MODEL.home).max() < 0.1


@pytest.mark.parametrize('backend', installed_backends())
def test_a_robot_of_other_people_stands_too(backend: str) -> None:
    model = load_robot('a1')
    robot = make_robot(backend, model)
    robot.reset(Start(model.home, NOWHERE))
    for _ in range(250):
        robot.hold()
        robot.step()
    base = robot.read().base
    robot.close()
    assert base.position == pytest.approx(model.home_base.position, abs=0.04)
    assert rotation_from_quaternion(base.orientation)[2, 2] > 0.999
    assert np.abs(base.linear_velocity).max() < 0.01


def test_a_reset_gives_the_base_that_was_asked_for(robot: SimulatedRobot) -> None:
    robot.reset(Start(MODEL.home, NOWHERE, thrown()))
    base = robot.read().base
    for name in ('position', 'orientation', 'linear_velocity', 'angular_velocity'):
        np.testing.assert_allclose(getattr(base, name), getattr(thrown(), name), atol=1e-12)


def test_velocities_are_those_of_the_base_frame(robot: SimulatedRobot) -> None:
    """What is measured predicts how the pose changes: the derivative, in the axes of the base."""
    robot.reset(Start(MODEL.home, NOWHERE, thrown()))
    robot.step()
    before = robot.read().base
    robot.step()
    after = robot.read().base
    period = 1.0 / MODEL.config.rate_hz
    world = (after.position - before.position) / period
    mean = (rotation_from_quaternion(before.orientation) @ before.linear_velocity
            + rotation_from_quaternion(after.orientation) @ after.linear_velocity) / 2
    np.testing.assert_allclose(mean, world, atol=0.06)
    turn = (rotation_from_quaternion(before.orientation).T
            @ rotation_from_quaternion(after.orientation))
    spin = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0],
                     turn[1, 0] - turn[0, 1]]) / (2 * period)
    np.testing.assert_allclose((before.angular_velocity + after.angular_velocity) / 2, spin,
                               atol=0.06)


def test_it_falls_freely_and_rests_on_the_ground(robot: SimulatedRobot) -> None:
    high = BaseState.at_rest(MODEL.home_base.position + [0, 0, 0.6], np.array([0.0, 0, 0, 1]))
    robot.reset(Start(MODEL.home, NOWHERE, high))
    advance(robot, 0.2)
    fallen = high.position[2] - robot.read().base.position[2]
    assert fallen == pytest.approx(0.5 * 9.81 * 0.2 ** 2, rel=0.06)
    advance(robot, 3.0)
    assert 0.045 < robot.read().base.position[2] < 0.4  # on its belly at the lowest
