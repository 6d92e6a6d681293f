# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The task of pushing: where it starts, what it rewards, when it ends, what it refuses."""

from collections.abc import Callable
from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.tasks import load_task
from rl_nodes.tasks.push import Push

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
YAML = (share_directory() / 'config' / 'tasks' / 'push.yaml').read_text()
Edited = Callable[[str, str], Push]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """Return a function that loads the shipped task with one line of it replaced."""
    def load(old: str, new: str) -> Push:
        assert old in YAML
        path = tmp_path / 'push.yaml'
        path.write_text(YAML.replace(old, new))
        return load_task('arm', str(path))
    return load


def state_with(task: Push, puck: tuple[float, float, float], seconds: float = 1.0) -> RobotState:
    joints = task.robot.home
    return RobotState(round(seconds * 1e9), '1@0', joints, np.zeros(6), np.zeros(6),
                      objects=np.array([[*puck, *UPRIGHT]]))


def goal(x: float, y: float) -> Goal:
    return Goal(0, np.array([x, y, 0.025]), UPRIGHT)


def test_starts_lie_in_the_region_that_the_yaml_gives() -> None:
    task = load_task('arm', 'push')
    rng, bearings = np.random.default_rng(0), []
    for _ in range(500):
        start = task.start(rng)
        (x, y, z, *quaternion), target = start.objects[0].tolist(), start.goal
        assert 0.21 <= math.hypot(x, y) <= 0.25 and abs(math.atan2(y, x)) <= 0.5
        assert z == target[2] == 0.03
        assert np.linalg.norm(quaternion) == pytest.approx(1.0)
        offset = target[:2] - [x, y]
        assert 0.06 <= np.hypot(*offset) <= 0.12 + 1e-9
        assert np.hypot(*target[:2]) <= 0.37
        bearings.append(math.remainder(math.atan2(offset[1], offset[0]) - math.atan2(y, x),
                                       2 * math.pi))
        assert np.abs(start.position - task.robot.home)[[0, 4, 5]].max() <= 0.03
    assert np.abs(bearings).max() <= 0.6 + 1e-9
    assert np.ptp(bearings) > 1.1, 'goals in one direction only'


def test_the_tool_starts_above_the_table_and_not_in_the_object() -> None:
    task = load_task('arm', 'push')
    rng = np.random.default_rng(1)
    for _ in range(100):
        start = task.start(rng)
        tool = task.robot.chain.tip_position(start.position)
        assert tool[2] > 0.02
        assert np.hypot(*(tool - start.objects[0, :3])[:2]) > 0.025 + 0.04


def test_the_terms_are_those_of_the_distances() -> None:
    task = load_task('arm', 'push')
    before, after = state_with(task, (0.25, 0.0, 0.025)), state_with(task, (0.27, 0.03, 0.025))
    found = task.terms(before, np.full(6, 0.5), after, goal(0.27, 0.06))
    assert tuple(found) == task.term_names
    assert found['distance'] == pytest.approx(0.03)
    assert found['closeness'] == pytest.approx(0.5), 'a half at the tolerance'
    tool = task.robot.chain.tip_position(task.robot.home)
    behind = [0.27, 0.03 - 0.065, 0.025]  # a standoff behind the puck as the goal sees it
    assert found['behind'] == pytest.approx(np.linalg.norm(tool - behind))
    assert (found['action'], found['lost']) == (pytest.approx(0.25), 0.0)


def test_where_the_object_is_at_its_goal_the_place_behind_it_does_not_jump() -> None:
    task = load_task('arm', 'push')
    rows = [task.terms(state, np.zeros(6), state, goal(0.3, 0.0))['behind'] for state in (
        state_with(task, (0.3 + x, 0.0, 0.025)) for x in np.linspace(-0.01, 0.01, 41))]
    assert np.abs(np.diff(rows)).max() < 0.003


@pytest.mark.parametrize(('puck', 'lost'), [
    ((0.39, 0.0, 0.03), False), ((0.41, 0.0, 0.03), True), ((-0.3, 0.3, 0.03), True),
    ((0.3, 0.0, 0.011), False), ((0.3, 0.0, 0.009), True), ((math.nan, 0.0, 0.025), True)])
def test_an_object_out_of_reach_or_below_the_table_ends_it(puck: tuple, lost: bool) -> None:
    task = load_task('arm', 'push')
    state = state_with(task, puck)
    assert task.failed(state, goal(0.3, 0.0)) is lost
    outcome = task.evaluate(state, task.robot.home, state, goal(0.3, 0.0))
    assert outcome.terminated is lost and outcome.terms['lost'] == lost


def test_a_tool_about_to_touch_the_table_ends_it() -> None:
    task = load_task('arm', 'push')
    rng = np.random.default_rng(2)
    start = task.start(rng)
    state = replace(state_with(task, (0.3, 0.0, 0.025)), position=start.position)
    assert not task.failed(state, goal(0.3, 0.0))
    low = start.position + 0.4 * (np.arange(6) == 1)  # the shoulder leans forward
    assert task.robot.chain.tip_position(low)[2] < 0.01
    assert task.failed(replace(state, position=low), goal(0.3, 0.0))


def test_success_is_measured_over_the_table() -> None:
    task = load_task('arm', 'push')
    assert task.succeeded(state_with(task, (0.3, 0.029, 0.03)), goal(0.3, 0.0), 5)
    assert not task.succeeded(state_with(task, (0.3, 0.031, 0.025)), goal(0.3, 0.0), 5)


def test_what_is_observed_of_the_puck() -> None:
    task = load_task('arm', 'push')
    state = state_with(task, (0.25, 0.1, 0.025))
    seen = dict(zip(task.contract.observation.elements,
                    task.observer().observe(state, goal(0.3, 0.0)), strict=True))
    tool = task.robot.chain.tip_position(task.robot.home)
    for index, axis in enumerate('xyz'):
        place, target = state.objects[0, index], goal(0.3, 0.0).position[index]
        for origin, value in (('tool', tool[index]), ('goal', target)):
            assert seen[f'object_from_{origin}/puck/{axis}'] == pytest.approx(
                place - value, abs=1e-6)


@pytest.mark.parametrize(('old', 'new', 'reason'), [
    ('ready: {shoulder_lift', 'ready: {shoulder_lit', r"'shoulder_lit' \(did you mean 'shoulder"),
    ('mass_kg: 0.1', 'mass_kg: 0.0', 'expected the one to push, with a mass'),
    ('radius_m: [0.21, 0.25]', 'radius_m: [0.25, 0.21]', 'radius_m: 0.25 is above 0.21'),
    ('- {name: puck,', '- {name: a, shape: sphere, size: [0.1], mass_kg: 1}\n  - {name: a,',
     '2 given'),
    ('object_from_goal', 'object_from_gaol', "did you mean 'object_from_goal'")])
def test_a_wrong_task_is_refused(edited: Edited, old: str, new: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        edited(old, new)


def test_a_region_beyond_reach_is_refused_at_the_first_start(edited: Edited) -> None:
    task = edited('reach_m: 0.37', 'reach_m: 0.2')
    with pytest.raises(ConfigError, match='no goal in 1000 draws'):
        task.start(np.random.default_rng(0))


def test_signals_of_objects_need_objects(tmp_path: Path) -> None:
    text = (share_directory() / 'config' / 'tasks' / 'reach.yaml').read_text()
    path = tmp_path / 'reach.yaml'
    path.write_text(text.replace('goal_offset]', 'object_position]'))
    with pytest.raises(ConfigError, match='object_position says nothing of robot arm'):
        load_task('arm', str(path))
