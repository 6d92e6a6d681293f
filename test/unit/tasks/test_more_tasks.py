# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Swing-up and legs: observations, rewards by hand, ends and successes, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.tasks import load_task

UPRIGHT = np.array([0.0, 0, 0, 1])
NOWHERE = Goal(0, np.zeros(3), UPRIGHT)
NS_PER_STEP = 20_000_000


@pytest.fixture(scope='module')
def swingup():
    return load_task('cartpole', 'cartpole_swingup')


@pytest.fixture(scope='module')
def walk():
    return load_task('quadruped', 'quadruped_walk')


@pytest.fixture(scope='module')
def stand():
    return load_task('quadruped', 'quadruped_stand')


def pole(angle: float, speed: float = 0.0, cart: float = 0.0, step: int = 1) -> RobotState:
    return RobotState(NS_PER_STEP * step, '1@0', np.array([cart, angle]), np.array([0.0, speed]),
                      np.zeros(2))


def dog(task, linear=(0, 0, 0), angular=(0, 0, 0), height=0.313, rpy=(0, 0, 0), step=1,
        velocity=0.0, effort=0.0) -> RobotState:
    base = BaseState(np.array([0.0, 0, height]), quaternion_from_rpy(np.array(rpy, float)),
                     np.array(linear, float), np.array(angular, float))
    return RobotState(NS_PER_STEP * step, '1@0', task.robot.home, np.full(12, velocity),
                      np.full(12, effort), base)


def test_a_turn_more_is_the_same_observation(swingup) -> None:
    spec = swingup.contract.observation
    assert spec.elements == ('bounded_joint_position/slider', 'joint_angle_sincos/pole/sin',
                             'joint_angle_sincos/pole/cos', 'joint_velocity/slider',
                             'joint_velocity/pole')
    once = swingup.observe(pole(0.3, 2.0, 0.5), NOWHERE)
    np.testing.assert_allclose(once, [0.5, np.sin(0.3), np.cos(0.3), 0, 2], rtol=1e-6)
    np.testing.assert_allclose(swingup.observe(pole(0.3 + 2 * np.pi, 2.0, 0.5), NOWHERE), once,
                               atol=1e-6)


def test_swingup_reward_by_hand(swingup) -> None:
    """Level pole at 5 rad/s, cart half way out, half effort: 0.5 - 0.1/4 - 0.05/4 - 0.02/4."""
    outcome = swingup.evaluate(pole(np.pi, step=0), np.array([10.0]),
                               pole(np.pi / 2, 5.0, 0.7), NOWHERE)
    assert outcome.terms == pytest.approx({'upright': 0.5, 'offset': 0.25, 'spin': 0.25,
                                           'action': 0.25})
    assert outcome.total == pytest.approx(0.5 - 0.0425)


@pytest.mark.parametrize(('state', 'terminated', 'success'), [
    (pole(0.19, 0.9), False, True), (pole(2 * np.pi - 0.19), False, True),
    (pole(0.21), False, False), (pole(0.0, 1.1), False, False), (pole(np.pi), False, False),
    (pole(0.0, 0.0, 1.41), True, False), (pole(0.0, 0.0, np.nan), True, False)])
def test_swingup_ends_and_succeeds(swingup, state, terminated: bool, success: bool) -> None:
    outcome = swingup.evaluate(pole(np.pi, step=0), np.zeros(1), state, NOWHERE)
    assert (outcome.terminated, outcome.success) == (terminated, success)


def test_the_pole_starts_hanging(swingup) -> None:
    start = swingup.start(np.random.default_rng(0))
    assert abs(start.position[1] - np.pi) <= 0.05


def test_walk_observes_gravity_velocities_and_command(walk) -> None:
    goal = Goal(0, np.array([0.5, 0.1, -0.2]), UPRIGHT)
    state = dog(walk, (1, 2, 3), (4, 5, 6), rpy=(0, np.pi / 2, 0.7))
    spec, observation = walk.contract.observation, walk.observe(state, goal)
    named = dict(zip(spec.elements, observation.tolist(), strict=True))
    # Nose down: the base's x axis points to the ground, whatever the yaw.
    gravity = [named[f'projected_gravity/{axis}'] for axis in 'xyz']
    assert gravity == pytest.approx([1, 0, 0], abs=1e-6)
    assert [named[f'base_linear_velocity/{axis}'] for axis in 'xyz'] == [1, 2, 3]
    assert [named[f'base_angular_velocity/{axis}'] for axis in 'xyz'] == [4, 5, 6]
    command = [named[f'command/{name}'] for name in ('vx', 'vy', 'yaw_rate')]
    assert command == pytest.approx([0.5, 0.1, -0.2])


def test_walk_reward_by_hand(walk) -> None:
    """Off by one width in each: exp(-1) twice; 12 joints of 2 N·m at 3 rad/s are 72 W."""
    goal = Goal(0, np.array([0.5, 0.0, 0.1]), UPRIGHT)
    after = dog(walk, (0.75, 0, 0.2), (0, 0, 0.35), velocity=3.0, effort=-2.0)
    outcome = walk.evaluate(dog(walk, step=0), walk.robot.home, after, goal)
    decay = np.exp(-1)
    assert outcome.terms == pytest.approx({
        'velocity': decay, 'turning': decay, 'upright': 1.0, 'bounce': 0.04, 'energy': 72.0,
        'shake': (3 / 16) ** 2, 'action': 0.0})
    assert outcome.total == pytest.approx(
        1.5 * decay + 0.2 - 0.04 - 0.0005 * 72 - 0.1 * (3 / 16) ** 2)


@pytest.mark.parametrize(('change', 'failed'), [
    ({}, False), ({'rpy': (0.79, 0, 0)}, False), ({'rpy': (0, 0.81, 2)}, True),
    ({'height': 0.151}, False), ({'height': 0.149}, True), ({'height': np.nan}, True)])
def test_legs_fall_beyond_tilt_and_height(walk, stand, change, failed: bool) -> None:
    for task in (walk, stand):
        assert task.evaluate(dog(task, step=0), task.robot.home, dog(task, **change),
                             NOWHERE).terminated is failed


@pytest.mark.parametrize(('step', 'vx', 'yaw', 'success'), [
    (499, 0.4, 0.0, False), (500, 0.4, 0.0, True), (500, 0.54, 0.29, True),
    (500, 0.56, 0.0, False), (500, 0.4, 0.31, False)])
def test_walk_succeeds_as_commanded_at_the_time_limit(walk, step, vx, yaw, success) -> None:
    goal = Goal(0, np.array([0.4, 0.0, 0.0]), UPRIGHT)
    after = dog(walk, (vx, 0, 0), (0, 0, yaw), step=step)
    assert walk.evaluate(dog(walk, step=step - 1), walk.robot.home, after,
                         goal).success is success


@pytest.mark.parametrize(('step', 'height', 'vx', 'success'), [
    (249, 0.313, 0.0, False), (250, 0.313, 0.0, True), (250, 0.342, 0.09, True),
    (250, 0.344, 0.0, False), (250, 0.313, 0.11, False)])
def test_stand_succeeds_still_at_its_height(stand, step, height, vx, success) -> None:
    after = dog(stand, (vx, 0, 0), height=height, step=step)
    assert stand.evaluate(dog(stand, step=step - 1), stand.robot.home, after,
                          NOWHERE).success is success


def test_actions_of_legs_are_relative_to_home_and_back(walk) -> None:
    state = replace(dog(walk), position=walk.robot.home + 0.1)
    command = walk.command(state, np.ones(12, np.float32))
    np.testing.assert_allclose(command[:3] - walk.robot.home[:3], [0.35, 0.675, 0.5])
    np.testing.assert_allclose(walk.to_action(state, command), np.ones(12), atol=1e-6)
    np.testing.assert_array_equal(walk.hold_command(state), state.position)


def test_robots_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match='arm has none'):
        load_task('arm', 'quadruped_stand')
    with pytest.raises(ConfigError, match="joint 'slider'"):
        load_task('quadruped', 'cartpole_swingup')
