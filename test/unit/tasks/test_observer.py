# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What an observation remembers, by hand.

A cart at x with a pole at rest; state k is stamped start + k periods. Of each frame two frames of
the cart's position and three last actions are observed; the effort limit makes an action of a
command.
"""

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, RewardMissingError, SpecError
from rl_nodes.core.resources import find_config
from rl_nodes.core.returns import target_of
from rl_nodes.core.types import EpisodeId, Goal, RobotState
from rl_nodes.tasks import load_task

NOWHERE = Goal(0, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
START = 1_000_000_000


def written(folder, **keys):
    """Return the task cartpole_balance with other keys."""
    path = folder / 'task.yaml'
    lines = [line for line in find_config('tasks', 'cartpole_balance').read_text().splitlines()
             if line.partition(':')[0] not in keys]
    path.write_text('\n'.join([*lines, *(f'{key}: {value}' for key, value in keys.items())]))
    return load_task('cartpole', str(path))


@pytest.fixture
def task(tmp_path):
    return written(tmp_path, observation='[bounded_joint_position, last_action]',
                   history='{bounded_joint_position: 2, last_action: 3}')


@pytest.fixture
def see(task):
    """Return a function from (step, position, episode, offset in periods) to (state, seen)."""
    observer = task.observer()

    def state(step, x, number=1, late=0.0):
        stamp = START + round((step + late) * task.period_ns)
        return RobotState(stamp, str(EpisodeId(number, START)), np.array([x, 0.0]), np.zeros(2),
                          np.zeros(2))

    def look(*arguments, goal=NOWHERE, **others):
        return observer.observe(state(*arguments, **others), goal).tolist()

    def act(step, action, *, x=0.0, **others):
        observer.acted(state(step, x, **others),
                       task.command(state(step, x), np.array([action], np.float32)))
    look.act = act
    look.state = state
    look.observer = observer
    return look


def near(values):
    return pytest.approx(values, abs=1e-6)


def test_names_say_which_frame_and_the_oldest_comes_first(task):
    assert task.contract.observation.elements == (
        'bounded_joint_position/slider@t-1', 'bounded_joint_position/slider@t',
        'last_action/slider@t-2', 'last_action/slider@t-1', 'last_action/slider@t')
    assert task.contract.observation.low[2:] == (-1.0,) * 3


def test_an_episode_starts_with_its_first_frame_and_without_actions(see):
    assert see(0, 0.5) == near([0.5, 0.5, 0, 0, 0])
    see.act(0, 0.25)
    assert see(1, 0.6) == near([0.5, 0.6, 0, 0, 0.25])
    see.act(1, -0.5)
    assert see(2, 0.7) == near([0.6, 0.7, 0, 0.25, -0.5])
    see.act(2, 1.0)
    assert see(3, 0.1, number=2) == near([0.1, 0.1, 0, 0, 0])


def test_a_state_that_comes_again_shifts_nothing(see):
    see(0, 0.5)
    see.act(0, 0.25)
    first = see(1, 0.6)
    see.act(1, -0.5)
    assert see(1, 0.6) == first
    see.act(1, -0.5)
    assert see(1, 0.6) == first
    assert see(2, 0.7) == near([0.6, 0.7, 0, 0.25, -0.5])


def test_states_that_never_came_repeat_the_one_before(see):
    see(0, 0.5)
    see.act(0, 0.25)
    see(1, 0.6)
    see.act(1, -0.5)
    # 2 and 3 never came: frame 2 is like frame 1, and what was wanted for 1 holds on.
    assert see(4, 0.9) == near([0.6, 0.9, -0.5, -0.5, -0.5])
    assert see(500, 1.0) == near([0.9, 1.0, -0.5, -0.5, -0.5])


def test_an_action_that_never_came_or_is_not_finite_is_the_one_before(see):
    see(0, 0.5)
    see.act(0, 0.25)
    see(1, 0.6)
    assert see(2, 0.7) == near([0.6, 0.7, 0, 0.25, 0.25])
    see.act(2, np.nan)
    see.act(1, 0.75)  # for a state that has passed
    see.act(3, 0.75)  # for one that was never seen
    see.observer.acted(see.state(2, 0.7), np.zeros(3))
    assert see(3, 0.8) == near([0.7, 0.8, 0.25, 0.25, 0.25])


@pytest.mark.parametrize('late', [-0.4, 0.4])
def test_jitter_of_stamps_is_no_lost_state(see, late):
    see(0, 0.5)
    see.act(0, 0.25)
    assert see(1, 0.6, late=late) == near([0.5, 0.6, 0, 0, 0.25])
    assert see(2, 0.7) == near([0.6, 0.7, 0, 0.25, 0.25])


def test_an_older_state_is_refused_because_it_would_change_the_past(see):
    see(3, 0.5)
    with pytest.raises(SpecError, match='their order'):
        see(2, 0.4)
    assert see(4, 0.6) == near([0.5, 0.6, 0, 0, 0])


def test_a_state_with_a_newer_goal_replaces_its_frame(tmp_path):
    task = written(tmp_path, observation='[goal_position]', history=2)
    observer = task.observer()
    state = RobotState(START, str(EpisodeId(1, START)), np.zeros(2), np.zeros(2), np.zeros(2))
    later = RobotState(
        START + task.period_ns, state.episode, np.zeros(2), np.zeros(2), np.zeros(2))
    observer.observe(state, NOWHERE)
    observer.observe(later, NOWHERE)
    moved = Goal(later.stamp_ns, np.ones(3), NOWHERE.orientation)
    assert observer.observe(later, moved).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_number_is_the_history_of_every_signal(tmp_path):
    task = written(tmp_path, history=3)
    assert task.contract.observation.elements[:6] == (
        'joint_position/slider@t-2', 'joint_position/pole@t-2', 'joint_position/slider@t-1',
        'joint_position/pole@t-1', 'joint_position/slider@t', 'joint_position/pole@t')
    assert len(task.contract.observation.elements) == 12
    plain = written(tmp_path, history=1)
    assert plain.contract.observation == load_task('cartpole', 'cartpole_balance') \
        .contract.observation


def test_the_return_to_go_is_the_target_less_the_rewards_of_earlier_states(tmp_path):
    task = written(tmp_path, observation='[bounded_joint_position, return_to_go]',
                   history='{return_to_go: 3}', return_to_go='{target: 10, scale: 2}')
    assert task.contract.observation.elements == (
        'bounded_joint_position/slider', *(f'return_to_go/total@{age}' for age in
                                           ('t-2', 't-1', 't')))
    assert task.contract.observation.units[1:] == ('2.0 reward',) * 3
    observer = task.observer()

    def see(step):
        stamp = START + step * task.period_ns
        return observer.observe(RobotState(
            stamp, str(EpisodeId(1, START)), np.zeros(2), np.zeros(2), np.zeros(2)),
            NOWHERE).tolist()[1:]

    def earn(step, total):
        observer.rewarded(START + step * task.period_ns, str(EpisodeId(1, START)), total)
    assert see(0) == [5, 5, 5]
    earn(0, 0.0)
    earn(1, 4.0)
    assert see(1) == [5, 5, 5]
    with pytest.raises(RewardMissingError):
        see(3)
    assert see(2) == [5, 5, 3]  # the one that could not be observed has left nothing behind
    earn(2, -2.0)
    earn(2, -2.0)
    assert see(3) == [5, 3, 4]
    assert see(3) == [5, 3, 4]
    earn(3, 0.5)
    earn(4, 0.5)
    assert see(5) == [4, 4, 3.5]  # the frame of 4, which never came, is that of 3


def test_another_target_holds_for_observers_to_come(tmp_path):
    task = written(tmp_path, observation='[return_to_go]', return_to_go='{target: 10.0}')
    assert task.contract.observation.units == ('reward',)
    fingerprint = task.contract.fingerprint()
    state = RobotState(START, str(EpisodeId(1, START)), np.zeros(2), np.zeros(2), np.zeros(2))
    assert task.observer().observe(state, NOWHERE).tolist() == [10]
    task.target_return = target_of('-2.5', task.contract)
    assert task.observer().observe(state, NOWHERE).tolist() == [-2.5]
    with pytest.raises(ConfigError, match='target_return = a lot: expected a finite number'):
        target_of('a lot', task.contract)
    assert written(tmp_path, observation='[return_to_go]', return_to_go='{target: 3}') \
        .contract.fingerprint() == fingerprint  # a target is asked for, not relied on
    assert written(tmp_path, observation='[return_to_go]',
                   return_to_go='{target: 3, scale: 2}').contract.fingerprint() != fingerprint


@pytest.mark.parametrize(('keys', 'told'), [
    ({'observation': '[return_to_go]'}, 'return_to_go: .* there is only the signal'),
    ({'return_to_go': '{target: 1}'}, 'return_to_go: .* there is only the section'),
    ({'return_to_go': '{target: .inf}'}, 'return_to_go'),
    ({'return_to_go': '{target: 1, scale: 0}'}, 'return_to_go'),
    ({'return_to_go': '{target: 1, sclae: 1}'}, 'return_to_go'),
    ({'privileged': '[return_to_go]'}, "privileged: unknown signal 'return_to_go'"),
    ({'history': '{joint_positon: 2}'}, "'joint_positon' is not observed.*joint_position"),
    ({'history': 0}, 'history'),
    ({'history': '{joint_position: 101}'}, 'history'),
    ({'privileged': '[last_action]'}, "privileged: unknown signal 'last_action'"),
    ({'privileged': '[randomisation]'}, "privileged: unknown signal 'randomisation'"),
    ({'privileged': '[base_height]'}, 'privileged: base_height needs .* floating base')])
def test_what_cannot_be_observed_is_refused_by_name(tmp_path, keys, told):
    with pytest.raises(ConfigError, match=told):
        written(tmp_path, **keys)


def test_privileged_signals_have_a_layout_of_their_own_and_leave_others_as_they_were(tmp_path):
    plain = load_task('cartpole', 'cartpole_balance')
    assert plain.contract.privileged is None and 'privileged' not in plain.contract.to_json()
    path = tmp_path / 'cartpole_balance.yaml'
    path.write_text(find_config('tasks', 'cartpole_balance').read_text()
                    + 'privileged: [joint_velocity, randomisation]\n'
                    + 'randomisation: {friction_scale: [0.5, 1.5], action_delay: [0.0, 1.0]}\n')
    task = load_task('cartpole', str(path))
    assert task.contract.privileged.elements == (
        'joint_velocity/slider', 'joint_velocity/pole', 'randomisation/difficulty',
        'randomisation/friction_scale', 'randomisation/action_delay')
    assert task.contract.observation == plain.contract.observation
    assert type(task.contract).from_json(task.contract.to_json()) == task.contract
    with pytest.raises(Exception, match='privileged'):
        plain.contract.require(task.contract, 'a', 'b')
    start = task.episode(np.random.default_rng(0))
    state = RobotState(0, '1@0', np.zeros(2), np.array([0.5, -1.5]), np.zeros(2))
    seen = task.privileged(state, NOWHERE, start.variation)
    assert seen.dtype == np.float32
    assert seen.tolist() == pytest.approx([0.5, -1.5, 1.0, *(
        start.variation.values[name] for name in ('friction_scale', 'action_delay'))])


@pytest.mark.parametrize(('robot', 'name', 'fingerprint'), [
    ('arm', 'reach', 'a0a3ee52d8863c0733763c7282df82ed8aeaaa05e532386980e2ef222ad4c376'),
    ('cartpole', 'cartpole_balance',
     '9c492feb19e3cba26ab66ae8d74f8ddc6a21727e48ec59d2c647035460e3f028'),
    ('cartpole', 'cartpole_swingup',
     '07419e438d579aa9998ecde8c9b393d6da91933e54f1a49259a3f7421eeb239d')])
def test_contracts_of_tasks_that_remember_nothing_are_what_they_were(robot, name, fingerprint):
    assert load_task(robot, name).contract.fingerprint() == fingerprint
