# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Swing-up and legs: observations, rewards by hand, ends and successes, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.tasks import load_task

UPRIGHT = np.array([0.0, 0, 0, 1])
NOWHERE = Goal(0, np.zeros(3), UPRIGHT)
NS_PER_STEP = 20_000_000       # of the cartpole
NS_PER_STRIDE = 40_000_000     # of the quadruped, one period


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
        velocity=0.0, effort=0.0, at=(0, 0), joints=None) -> RobotState:
    base = BaseState(np.array([*at, height], float), quaternion_from_rpy(np.array(rpy, float)),
                     np.array(linear, float), np.array(angular, float))
    position = task.robot.home if joints is None else joints
    return RobotState(NS_PER_STRIDE * step, '1@0', position, np.full(12, velocity),
                      np.full(12, effort), base)


def test_a_turn_more_is_the_same_observation(swingup) -> None:
    spec = swingup.contract.observation
    assert spec.elements == ('bounded_joint_position/slider', 'joint_angle_sincos/pole/sin',
                             'joint_angle_sincos/pole/cos', 'joint_velocity/slider',
                             'joint_velocity/pole')
    once = swingup.observer().observe(pole(0.3, 2.0, 0.5), NOWHERE)
    np.testing.assert_allclose(once, [0.5, np.sin(0.3), np.cos(0.3), 0, 2], rtol=1e-6)
    turned = swingup.observer().observe(pole(0.3 + 2 * np.pi, 2.0, 0.5), NOWHERE)
    np.testing.assert_allclose(turned, once, atol=1e-6)


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
    spec, observation = walk.contract.observation, walk.observer().observe(state, goal)
    named = dict(zip(spec.elements, observation.tolist(), strict=True))
    # Nose down: the base's x axis points to the ground, whatever the yaw.
    gravity = [named[f'projected_gravity/{axis}'] for axis in 'xyz']
    assert gravity == pytest.approx([1, 0, 0], abs=1e-6)
    assert [named[f'base_linear_velocity/{axis}'] for axis in 'xyz'] == [1, 2, 3]
    assert [named[f'base_angular_velocity/{axis}'] for axis in 'xyz'] == [4, 5, 6]
    command = [named[f'command/{name}'] for name in ('vx', 'vy', 'yaw_rate')]
    assert command == pytest.approx([0.5, 0.1, -0.2])


@pytest.mark.parametrize(('step', 'angle'), [
    (0, 0.0), (1, np.pi / 5), (5, np.pi), (11, np.pi / 5)])
def test_walk_observes_the_clock_of_the_gait(walk, step: int, angle: float) -> None:
    """A cycle of 0.4 s is ten periods; the contract tells it, for a policy depends on it."""
    spec = walk.contract.observation
    assert spec.elements[:2] == ('phase/sin@0.4s', 'phase/cos@0.4s')
    observation = walk.observer().observe(dog(walk, step=step), NOWHERE)
    assert observation[:2] == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-6)


def test_walk_reward_by_hand(walk) -> None:
    """
    Off by one width in each: exp(-1) twice; 12 joints of 2 N·m at 3 rad/s are 72 W.

    A tenth of the cycle in, a standing robot has two feet where they belong; the other two
    should be sin(0.2 pi) 3 cm up.
    """
    goal = Goal(0, np.array([0.5, 0.0, 0.1]), UPRIGHT)
    after = dog(walk, (0.75, 0, 0.2), (0.3, 0.4, 0.6), step=1, velocity=3.0, effort=-2.0)
    outcome = walk.evaluate(dog(walk, step=0), walk.robot.home, after, goal)
    decay = np.exp(-1)
    gait = 0.5 + 0.5 * np.exp(-(0.03 * np.sin(0.2 * np.pi) / 0.025) ** 2)
    assert outcome.terms == pytest.approx({
        'velocity': decay, 'turning': decay, 'gait': gait, 'tilt': 0.0, 'bounce': 0.04,
        'sway': 0.25, 'energy': 72.0, 'shake': (3 / 8) ** 2, 'action': 0.0})
    assert outcome.total == pytest.approx(
        1.5 * decay + 1.2 * gait - 0.5 * 0.04 - 0.03 * 0.25 - 0.0005 * 72 - 0.3 * (3 / 8) ** 2)


def test_feet_are_as_high_as_they_are_lifted(walk) -> None:
    """Base 1 cm up, front left leg bent: 0.2 m (2 cos 0.75 - cos 0.95 - cos 0.85) more."""
    gait, joints = walk.robot.gait, walk.robot.home.copy()
    joints[1:3] = 0.95, -1.8
    up = gait.feet_up(dog(walk, height=0.323, rpy=(0, 0, 2.0), at=(3, 4), joints=joints))
    bent = 0.2 * (2 * np.cos(0.75) - np.cos(0.95) - np.cos(0.85))
    assert up == pytest.approx([0.01 + bent, 0.01, 0.01, 0.01])
    assert gait.wanted_up(0.25, 0.06) == pytest.approx([0.06, 0.0, 0.0, 0.06])
    assert gait.wanted_up(0.5 + 1 / 12, 0.06) == pytest.approx([0.0, 0.03, 0.03, 0.0])


@pytest.mark.parametrize(('change', 'failed'), [
    ({}, False), ({'rpy': (0.79, 0, 0)}, False), ({'rpy': (0, 0.81, 2)}, True),
    ({'height': 0.151}, False), ({'height': 0.149}, True), ({'height': np.nan}, True)])
def test_legs_fall_beyond_tilt_and_height(walk, stand, change, failed: bool) -> None:
    for task in (walk, stand):
        assert task.evaluate(dog(task, step=0), task.robot.home, dog(task, **change),
                             NOWHERE).terminated is failed


def test_mean_velocity_is_the_one_that_leads_here(walk) -> None:
    """Ten seconds at 0.4 m/s, 0.1 m/s and 0.3 rad/s in many small steps end at one pose."""
    velocity, yaw_rate, position, yaw = np.array([0.4, 0.1]), 0.3, np.zeros(2), 0.0
    for _ in range(100_000):
        middle = yaw + 0.5e-4 * yaw_rate
        turn = np.array([[np.cos(middle), -np.sin(middle)], [np.sin(middle), np.cos(middle)]])
        position, yaw = position + turn @ velocity * 1e-4, yaw + 1e-4 * yaw_rate
    state = dog(walk, rpy=(0.1, -0.05, yaw), at=position, step=250)
    planar, turning = walk.mean_velocity(state, Goal(0, np.array([0.4, 0.0, 0.2]), UPRIGHT))
    assert [*planar, turning] == pytest.approx([0.4, 0.1, 0.3], abs=2e-3)


@pytest.mark.parametrize(('step', 'x', 'yaw', 'success'), [
    (249, 4.0, 0.0, False), (250, 4.0, 0.0, True), (250, 4.9, 0.0, True), (250, 3.1, 0.0, True),
    (250, 5.1, 0.0, False), (250, 4.0, 1.45, True), (250, 4.0, 1.55, False),
    (250, 0.0, 0.0, False)])
def test_walk_succeeds_where_the_command_leads(walk, step, x, yaw, success) -> None:
    """Ten seconds at 0.4 m/s; an arc ends nearer to the start than its length by sin(a)/a."""
    goal = Goal(0, np.array([0.4, 0.0, 0.0]), UPRIGHT)
    chord = x * np.sin(yaw / 2) / (yaw / 2) if yaw else x
    at = (chord * np.cos(yaw / 2), chord * np.sin(yaw / 2))
    after = dog(walk, rpy=(0, 0, yaw), at=at, step=step)
    assert walk.evaluate(dog(walk, step=step - 1), walk.robot.home, after,
                         goal).success is success


@pytest.mark.parametrize(('step', 'height', 'rpy', 'vx', 'success'), [
    (124, 0.283, (0.1, -0.1, 0), 0.0, False), (125, 0.283, (0.1, -0.1, 0), 0.0, True),
    (125, 0.302, (0.17, -0.03, 2), 0.09, True), (125, 0.304, (0.1, -0.1, 0), 0.0, False),
    (125, 0.283, (0.19, -0.1, 0), 0.0, False), (125, 0.283, (0.1, -0.01, 0), 0.0, False),
    (125, 0.283, (0.1, -0.1, 0), 0.16, False), (125, 0.313, (0, 0, 0), 0.0, False)])
def test_stand_succeeds_still_in_its_posture(stand, step, height, rpy, vx, success) -> None:
    goal = Goal(0, np.array([0.1, -0.1, 0.283]), UPRIGHT)
    after = dog(stand, (vx, 0, 0), height=height, rpy=rpy, step=step)
    assert stand.evaluate(dog(stand, step=step - 1), stand.robot.home, after,
                          goal).success is success


def test_stand_draws_and_observes_a_posture(stand) -> None:
    draws = np.array([stand.start(np.random.default_rng(seed)).goal for seed in range(200)])
    assert draws.min(0) == pytest.approx([-0.2, -0.2, 0.263], abs=0.01)
    assert draws.max(0) == pytest.approx([0.2, 0.2, 0.343], abs=0.01)
    goal = Goal(0, np.array([0.1, -0.2, 0.3]), UPRIGHT)
    named = dict(zip(stand.contract.observation.elements,
                     stand.observer().observe(dog(stand), goal).tolist(), strict=True))
    posture = [named[f'posture/{name}'] for name in ('roll', 'pitch', 'height')]
    assert posture == pytest.approx([0.1, -0.2, 0.3])


def test_actions_of_legs_are_relative_to_home_and_back(walk) -> None:
    state = replace(dog(walk), position=walk.robot.home + 0.1)
    command = walk.command(state, np.ones(12, np.float32))
    np.testing.assert_allclose(command[:3] - walk.robot.home[:3], [0.175, 0.3375, 0.25])
    np.testing.assert_allclose(walk.to_action(state, command), np.ones(12), atol=1e-6)
    np.testing.assert_array_equal(walk.hold_command(state), state.position)


def test_robots_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match='arm has none'):
        load_task('arm', 'quadruped_stand')
    with pytest.raises(ConfigError, match="joint 'slider'"):
        load_task('quadruped', 'cartpole_swingup')
    with pytest.raises(ConfigError, match='needs a robot with a gait; arm has none'):
        load_task('arm', 'quadruped_walk')


@pytest.mark.parametrize(('task_name', 'old', 'new', 'message'), [
    ('quadruped_walk', 'forward_m_s: [0.2, 0.5]', 'forward_m_s: [0.5, 0.2]', '0.5 is above 0.2'),
    ('quadruped_walk', 'yaw_rad_s: [-0.3, 0.3]', 'yaw_rad_s: [-0.5, 0.3]', 'to 5 rad; expected'),
    ('quadruped_stand', 'pitch_rad: [-0.2, 0.2]', 'pitch_rad: [0.2, -0.2]', 'is above'),
    ('reach', 'joint_velocity', 'phase', 'phase needs a robot with a gait; arm has none')])
def test_wrong_commands_are_refused(tmp_path, task_name, old, new, message) -> None:
    text = find_config('tasks', task_name).read_text()
    assert old in text
    path = tmp_path / 'task.yaml'
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_task('arm' if task_name == 'reach' else 'quadruped', str(path))
