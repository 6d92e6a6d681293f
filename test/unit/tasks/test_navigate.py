# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Navigate: starts, observation, rewards by hand, ends; the action of two driven wheels."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config, share_directory
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.safety.gate import checks_for, judge_values
from rl_nodes.safety.verdict import Level
from rl_nodes.tasks import load_task
from rl_nodes.tasks.actions import ActionConfig, make_action_map

UPRIGHT = np.array([0.0, 0, 0, 1])
NS_PER_STEP = 100_000_000


@pytest.fixture(scope='module')
def task():
    return load_task('rover', 'navigate')


def rover(x=0.0, y=0.0, yaw=0.0, nearest=3.0, step=1, forward=0.0, turn=0.0) -> RobotState:
    ranges = np.full(25, 3.0)
    ranges[7] = nearest
    base = BaseState(np.array([x, y, 0.05]), quaternion_from_rpy(np.array([0.0, 0.0, yaw])),
                     np.array([forward, 0.0, 0.0]), np.array([0.0, 0.0, turn]))
    return RobotState(NS_PER_STEP * step, '1@0', np.zeros(4), np.zeros(4), np.zeros(4), base,
                      None, ranges)


def goal(x: float, y: float) -> Goal:
    return Goal(0, np.array([x, y, 0.0]), UPRIGHT)


def variant(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = find_config('tasks', 'navigate').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / 'navigate.yaml'
    path.write_text(text)
    return str(path)


# --- start ------------------------------------------------------------------------------------

def test_starts_leave_start_goal_and_gaps_free(task) -> None:
    rng = np.random.default_rng(0)
    size = np.array([0.302655, 0.22, 0.212132, 0.212132, 0.12, 0.12])  # circles around them
    blocked = 0
    for _ in range(200):
        start = task.start(rng)
        far = np.linalg.norm(start.goal[:2])
        assert 2.0 <= far <= 3.5
        assert start.goal[2] == 0.0
        points = start.objects[:, :2]
        for place in (np.zeros(2), start.goal[:2]):
            assert (np.linalg.norm(points - place, axis=1) - size >= 0.45 - 1e-4).all()
        gaps = np.linalg.norm(points[:, None] - points, axis=2) - size[:, None] - size
        assert (gaps[~np.eye(6, dtype=bool)] >= 0.65 - 1e-4).all()
        np.testing.assert_allclose(start.objects[:, 2], 0.2)
        np.testing.assert_allclose(np.linalg.norm(start.objects[:, 3:], axis=1), 1.0)
        along = points @ start.goal[:2] / far
        aside = np.abs(points @ [-start.goal[1], start.goal[0]]) / far
        blocked += bool(((along > 0) & (along < far) & (aside < size + 0.17)).any())
    assert blocked >= 80, 'many straight ways must be blocked'


def test_starts_repeat_with_the_seed_and_face_every_way(task) -> None:
    first, second = (task.start(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.objects, second.objects)
    np.testing.assert_array_equal(first.goal, second.goal)
    np.testing.assert_array_equal(first.base.orientation, second.base.orientation)
    rng = np.random.default_rng(0)
    headings = [2 * np.arctan2(*task.start(rng).base.orientation[2:]) for _ in range(100)]
    assert min(headings) < -2.5
    assert max(headings) > 2.5


def test_a_world_without_objects_is_allowed_and_one_too_full_is_not(tmp_path: Path) -> None:
    text = find_config('tasks', 'navigate').read_text()
    (tmp_path / 'open.yaml').write_text(text[:text.index('objects:')])
    bare = load_task('rover', str(tmp_path / 'open.yaml'))
    assert bare.start(np.random.default_rng(0)).objects is None
    assert bare.state_parts == ('base', 'ranges')
    full = load_task('rover', variant(tmp_path, ('gap_m: 0.65', 'gap_m: 5.0')))
    with pytest.raises(ConfigError, match='no room for 6 objects'):
        full.start(np.random.default_rng(0))


# --- observation and reward -------------------------------------------------------------------

def test_the_goal_is_seen_from_the_robot(task) -> None:
    """At (1, 1) facing +y, a goal at (0, 1) is 1 m to the left."""
    spec = task.contract.observation
    state = rover(1.0, 1.0, np.pi / 2, nearest=0.7, forward=0.3, turn=-0.4)
    observation = spec.validate(task.observer().observe(state, goal(0.0, 1.0)))
    named = dict(zip(spec.elements, observation.tolist(), strict=True))
    assert named['planar_goal/distance'] == pytest.approx(1.0)
    assert named['planar_goal/sin'] == pytest.approx(1.0)
    assert named['planar_goal/cos'] == pytest.approx(0.0, abs=1e-6)
    assert named['planar_velocity/forward'] == pytest.approx(0.3)
    assert named['planar_velocity/turn'] == pytest.approx(-0.4)
    assert named['log_ranges/7'] == pytest.approx(np.log(0.7))
    assert len(observation) == 30
    assert task.contract.kinematics == task.robot.range_sensor.fingerprint()


def test_plain_ranges_can_be_observed_too(tmp_path: Path) -> None:
    task = load_task('rover', variant(tmp_path, ('log_ranges', 'ranges')))
    spec = task.contract.observation
    observation = task.observer().observe(rover(nearest=0.7), goal(1.0, 0.0))
    assert observation[spec.elements.index('ranges/7')] == np.float32(0.7)
    assert (spec.low[-1], spec.high[-1], spec.units[-1]) == (0.05, 3.0, 'm')


def test_reward_by_hand(task) -> None:
    """4 cm nearer, 0.25 m away, an obstacle half way from near to hit, half speed ahead."""
    outcome = task.evaluate(rover(0.71, step=0), np.array([5.0, 5.0]), rover(0.75, nearest=0.3),
                            goal(1.0, 0.0))
    assert outcome.terms == pytest.approx({
        'distance': 0.25, 'progress': 0.04, 'closeness': 0.5, 'nearness': 0.5, 'collision': 0.0,
        'action': 0.125})
    weights = {'progress': 5.0, 'closeness': 1.0, 'nearness': -0.1, 'action': -0.02}
    assert outcome.total == pytest.approx(sum(
        weight * outcome.terms[name] for name, weight in weights.items()))


@pytest.mark.parametrize(('nearest', 'terminated'), [
    (0.201, False), (0.199, True), (0.0, True), (np.nan, True), (3.0, False)])
def test_a_collision_is_read_from_the_ranges(task, nearest: float, terminated: bool) -> None:
    outcome = task.evaluate(rover(step=0), np.zeros(2), rover(nearest=nearest), goal(0.1, 0.0))
    assert outcome.terminated is terminated
    assert outcome.success is not terminated
    assert outcome.terms['collision'] == terminated


@pytest.mark.parametrize(('x', 'success'), [(0.7501, True), (0.7499, False)])
def test_success_is_within_the_tolerance(task, x: float, success: bool) -> None:
    outcome = task.evaluate(rover(step=0), np.zeros(2), rover(x), goal(1.0, 0.0))
    assert outcome.success is success
    assert not outcome.terminated


def test_robots_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match='arm lacks a floating base'):
        load_task('arm', 'navigate')
    with pytest.raises(ConfigError, match='quadruped lacks a range_sensor'):
        load_task('quadruped', 'navigate')


@pytest.mark.parametrize(('change', 'message'), [
    (('goal_m: [2.0, 3.5]', 'goal_m: [3.5, 2.0]'), 'expected 0 < low <= high'),
    (('collision_m: 0.2', 'collision_m: 0.5'), 'not below near_m'),
    (('kind: planar_velocity', 'kind: joint_effort'), 'takes joint_velocity, planar_velocity')])
def test_wrong_settings_are_refused(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task('rover', variant(tmp_path, change))


# --- the action of two driven wheels ----------------------------------------------------------

@pytest.mark.parametrize(('action', 'wheels'), [
    ((1, 0), (10, 10)), ((-1, 0), (-10, -10)), ((0, 1), (-10, 10)), ((0.5, 0.25), (2.5, 7.5)),
    ((1, 1), (0, 10)), ((1, -0.5), (10, 10 / 3)), ((9, 0), (10, 10))])
def test_forward_and_turn_become_wheel_speeds(task, action, wheels) -> None:
    command = task.command(rover(), np.array(action, np.float32))
    np.testing.assert_allclose(command, wheels, atol=1e-6)


def test_actions_come_back_from_commands(task) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        expected = action / max(1.0, np.abs(action).sum())
        command = task.command(rover(), action)
        np.testing.assert_allclose(task.to_action(rover(), command), expected, atol=1e-6)
    np.testing.assert_array_equal(task.hold_command(rover()), np.zeros(2))


def test_no_action_is_limited_by_the_checks_and_too_fast_a_command_is(task) -> None:
    checks, state = checks_for(task.robot), rover()
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, (500, 2)).astype(np.float32):
        level, *_ = judge_values(checks, task.command(state, action), state)
        assert level == Level.PASS
    level, check, _, allowed = judge_values(checks, np.array([10.1, -3.0]), state)
    assert (level, check) == (Level.CLAMP, 'velocity')
    np.testing.assert_allclose(allowed, np.array([10.1, -3.0]) * 10.0 / 10.1)  # same curve
    assert judge_values(checks, np.array([np.nan, 0.0]), state)[0] == Level.STOP


def mirrored(tmp_path: Path, old: str, new: str) -> str:
    folder = share_directory()
    urdf = (folder / 'urdf' / 'rover.urdf').read_text()
    assert old in urdf
    (tmp_path / 'rover.urdf').write_text(urdf.replace(old, new, 1))
    (tmp_path / 'rover.yaml').write_text(
        (folder / 'config' / 'robots' / 'rover.yaml').read_text())
    return str(tmp_path / 'rover.yaml')


def test_a_wheel_mounted_the_other_way_round_turns_the_other_way(tmp_path: Path) -> None:
    path = mirrored(tmp_path, '<axis xyz="0 1 0"/>', '<axis xyz="0 -1 0"/>')
    task = load_task(path, 'navigate')
    command = task.command(rover(), np.array([0.5, 0.25], np.float32))
    np.testing.assert_allclose(command, [-2.5, 7.5])
    np.testing.assert_allclose(task.to_action(rover(), command), [0.5, 0.25], atol=1e-6)


@pytest.mark.parametrize(('old', 'new'), [
    ('<origin xyz="0 0.12 0"/>', '<origin xyz="0 -0.2 0"/>'),
    ('<axis xyz="0 1 0"/>', '<axis xyz="1 0 0"/>')])
def test_robots_without_a_wheel_at_each_side_have_no_such_action(tmp_path: Path, old: str,
                                                                 new: str) -> None:
    with pytest.raises(ConfigError, match='planar_velocity needs two commanded wheels'):
        load_task(mirrored(tmp_path, old, new), 'navigate')


def test_the_scale_is_a_share_of_the_speed_limit(task) -> None:
    half = make_action_map(ActionConfig('planar_velocity', 0.5), task.robot)
    np.testing.assert_allclose(half.command(rover(), np.array([1.0, 0.0])), [5.0, 5.0])
