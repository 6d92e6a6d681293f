# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Tasks: layouts, actions there and back, rewards by hand, ends, refusals."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.tasks import load_task

UPRIGHT = np.array([0.0, 0, 0, 1])


def state(position, step: int = 0, velocity=None) -> RobotState:
    position = np.asarray(position, float)
    return RobotState(20_000_000 * step, '1@0', position,
                      np.zeros(len(position)) if velocity is None else np.asarray(velocity),
                      np.zeros(len(position)))


@pytest.fixture(scope='module')
def reach():
    return load_task('arm', 'reach')


@pytest.fixture(scope='module')
def balance():
    return load_task('cartpole', 'cartpole_balance')


def test_observation_has_the_promised_names_units_and_values(reach) -> None:
    spec = reach.contract.observation
    assert spec.elements[0] == 'joint_position/shoulder_pan'
    assert spec.units[6] == 'rad/s'
    home = state(reach.robot.home, velocity=np.arange(6.0))
    tool = reach.robot.chain.tip(reach.robot.home)[0]
    goal = Goal(0, tool + [0.1, 0.0, -0.2], UPRIGHT)
    observation = spec.validate(reach.observer().observe(home, goal))
    np.testing.assert_allclose(observation[:6], reach.robot.home, rtol=1e-6)
    np.testing.assert_array_equal(observation[6:12], np.arange(6.0))
    np.testing.assert_allclose(observation[12:15], tool, rtol=1e-6)
    np.testing.assert_allclose(observation[15:], [0.1, 0.0, -0.2], atol=1e-7)


def test_action_moves_relative_to_the_present_position_and_back(reach) -> None:
    here = state(reach.robot.home)
    action = np.array([1, -1, 0.5, 0, -0.25, 1], np.float32)
    command = reach.command(here, action)
    np.testing.assert_allclose(command - reach.robot.home,
                               action * reach.robot.limits('velocity') * 0.02, atol=1e-12)
    np.testing.assert_allclose(reach.to_action(here, command), action, atol=1e-6)
    np.testing.assert_array_equal(reach.command(here, action * 50),
                                  reach.command(here, np.sign(action)))
    np.testing.assert_array_equal(reach.hold_command(here), reach.robot.home)


def test_reach_reward_by_hand(reach) -> None:
    """2 cm away, half of the action elements at 1: -2 * 0.02 + 0.5 - 0.02 * 0.5."""
    here = state(reach.robot.home)
    after = state(reach.robot.home, 1)
    tool = reach.robot.chain.tip(reach.robot.home)[0]
    command = reach.command(here, np.array([1, 1, 1, 0, 0, 0], np.float32))
    outcome = reach.evaluate(here, command, after, Goal(0, tool + [0.02, 0, 0], UPRIGHT))
    assert outcome.terms == pytest.approx({'distance': 0.02, 'closeness': 0.5, 'action': 0.5})
    assert outcome.total == pytest.approx(-0.04 + 0.5 - 0.01)


@pytest.mark.parametrize(('gap', 'success'), [(0.0199, True), (0.0201, False)])
def test_reach_succeeds_within_two_centimetres(reach, gap: float, success: bool) -> None:
    here, after = state(reach.robot.home), state(reach.robot.home, 1)
    tool = reach.robot.chain.tip(reach.robot.home)[0]
    outcome = reach.evaluate(here, reach.robot.home, after, Goal(0, tool + [0, gap, 0], UPRIGHT))
    assert outcome.success is success
    assert not outcome.terminated


def test_time_limit_truncates_and_does_not_terminate(reach) -> None:
    goal = Goal(0, np.array([0.2, 0, 0.2]), UPRIGHT)
    for step, truncated in ((99, False), (100, True)):
        outcome = reach.evaluate(state(reach.robot.home, step - 1), reach.robot.home,
                                 state(reach.robot.home, step), goal)
        assert (outcome.terminated, outcome.truncated) == (False, truncated)


def test_starts_lie_in_the_reset_distribution_and_repeat_with_the_seed(reach) -> None:
    starts = [reach.start(np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(starts[0].goal, starts[1].goal)
    rng = np.random.default_rng(0)
    for _ in range(300):
        start = reach.start(rng)
        radius = np.linalg.norm(start.goal - [0, 0, 0.16])
        assert 0.2 - 1e-9 <= radius <= 0.36 + 1e-9
        assert start.goal[2] >= 0.06
        assert (np.abs(start.position - reach.robot.home) <= 0.2 + 1e-9).all()


@pytest.mark.parametrize(('position', 'terminated'), [
    ([0, 0.349], False), ([0, 0.351], True), ([1.199, 0], False), ([-1.201, 0], True),
    ([0, np.nan], True)])
def test_cartpole_ends_beyond_its_limits(balance, position, terminated: bool) -> None:
    outcome = balance.evaluate(state([0, 0]), np.zeros(1), state(position, 1),
                               Goal(0, np.zeros(3), UPRIGHT))
    assert outcome.terminated is terminated
    assert outcome.terms['alive'] == (0.0 if terminated else 1.0)


def test_cartpole_succeeds_only_at_the_time_limit(balance) -> None:
    goal = Goal(0, np.zeros(3), UPRIGHT)
    for step, success in ((499, False), (500, True)):
        outcome = balance.evaluate(state([0, 0], step - 1), np.zeros(1), state([0, 0], step), goal)
        assert outcome.success is success


def variant(tmp_path: Path, old: str, new: str) -> str:
    text = (share_directory() / 'config/tasks/reach.yaml').read_text()
    assert old in text
    path = tmp_path / 'reach.yaml'
    path.write_text(text.replace(old, new))
    return str(path)


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('type: reach', 'type: reech', "did you mean 'reach'"),
    ('  action: -0.02', '  acton: -0.02', "unknown term 'acton'.*did you mean 'action'"),
    ('joint_velocity, tool', 'joint_speed, tool', "unknown signal 'joint_speed'"),
    ('joint_position_delta', 'joint_effort', 'needs control mode effort'),
    ('radius_m: [0.2, 0.36]', 'radius_m: [0.4, 0.36]', '0.4 is above 0.36'),
    ('episode_s: 2.0', 'episode_s: 0', 'episode_s'),
    ('tolerance_m', 'tolerance_cm', "unknown key 'tolerance_cm'"),
])
def test_wrong_task_files_are_refused(tmp_path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_task('arm', variant(tmp_path, old, new))
    assert 'reach.yaml' in str(caught.value)


def test_robot_and_task_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match='cartpole has none'):
        load_task('cartpole', 'reach')
    with pytest.raises(ConfigError, match="joint 'slider'"):
        load_task('arm', 'cartpole_balance')


def test_goals_that_cannot_be_drawn_are_refused(tmp_path) -> None:
    task = load_task('arm', variant(tmp_path, 'lowest_m: 0.06', 'lowest_m: 3.0'))
    with pytest.raises(ConfigError, match='no goal in 1000 draws'):
        task.start(np.random.default_rng(0))
