# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transitions whose observations remember what came before, and what only a critic sees."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, RobotState
from rl_nodes.data.assembler import TransitionAssembler
from rl_nodes.tasks import load_task
from test_assembler import assert_same, outcome, PERIOD, play, Script

STEPS = 8


@pytest.fixture(scope='module', params=['last_action', 'return_to_go, last_action'])
def task(request, tmp_path_factory):
    shipped = find_config('tasks', 'cartpole_swingup_partial').read_text()
    changed = shipped.replace('last_action]', f'{request.param}]')
    if request.param != 'last_action':
        changed += 'return_to_go: {target: 9.0, scale: 3.0}\n'
    path = tmp_path_factory.mktemp('tasks') / 'remembering.yaml'
    path.write_text(changed)
    loaded = load_task('cartpole', str(path))
    loaded.period_ns = PERIOD
    return loaded


def to_go(task, seen):
    """Return the newest return to go in an observation, in units of reward; or skip the test."""
    names = task.contract.observation.elements
    if 'return_to_go/total@t' not in names:
        pytest.skip('this variant of the task does not observe its return to go')
    return 3.0 * seen[..., names.index('return_to_go/total@t')]


def assembler(task, **options):
    return TransitionAssembler(
        task.observer, lambda state, command: task.to_action(state, command.value), PERIOD,
        observation_size=task.contract.observation.shape[0], action_size=1, privileged_size=2,
        **{'patience': 10, 'command_patience': 10, **options})


def two_episodes():
    """Return the messages of two episodes with random states and commands."""
    script, rng = Script(), np.random.default_rng(4)
    for number, start in ((1, 1000), (2, 1000 + PERIOD * (STEPS + 1))):
        script.add(start, 0, 'add_goal', Goal(start, np.zeros(3), np.zeros(4)))
        for k in range(STEPS + 1):
            stamp, episode = start + PERIOD * k, str(EpisodeId(number, start))
            now = RobotState(stamp, episode, *rng.normal(size=(3, 2)))
            script.add(stamp, 1, 'add_privileged', stamp, now.velocity)
            script.add(stamp, 2, 'add_state', now)
            script.add(stamp, 3, 'add_reward', stamp, episode, outcome(0.5 * k, k == STEPS))
            if k < STEPS:
                command = JointCommand(stamp, 'p@1', rng.normal(size=1))
                script.add(stamp, 4, 'add_wanted', command)
                script.add(stamp, 5, 'add_executed', replace(command, value=command.value / 2))
    return script


def observed(task, script):
    """Return what an observer that misses nothing sees, by stamp."""
    observer, seen = task.observer(), {}
    state = goal = None
    for _, _, method, (thing, *others) in script.messages:
        if method == 'add_goal':
            goal = thing
        elif method == 'add_state':
            state = thing
            seen[state.stamp_ns] = observer.observe(state, goal)
        elif method == 'add_wanted':
            observer.acted(state, thing.value)
        elif method == 'add_reward':
            observer.rewarded(thing, others[0], others[1].total)
    return seen


def test_rows_hold_what_an_observer_saw_that_was_there_all_along(task):
    script = two_episodes()
    seen = observed(task, script)
    batch, counts = play(script, assembler(task))
    assert counts == {'emitted': 2 * STEPS}
    states = [m[3][0] for m in script.messages if m[2] == 'add_state']
    for row in range(2 * STEPS):
        before, after = states[row + row // STEPS:][:2]
        np.testing.assert_array_equal(batch.observation[row], seen[before.stamp_ns])
        np.testing.assert_array_equal(batch.next_observation[row], seen[after.stamp_ns])
        np.testing.assert_array_equal(batch.privileged[row], before.velocity.astype(np.float32))
        np.testing.assert_array_equal(batch.next_privileged[row],
                                      after.velocity.astype(np.float32))
    assert np.abs(batch.observation[:, -1]).max() > 0.0  # the last action is the one wanted
    np.testing.assert_array_equal(batch.next_observation[:, -1], batch.wanted[:, 0])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_of_arrival_gives_the_same_rows(task, data):
    script = two_episodes()
    expected, counts = play(script, assembler(task), flush=True)
    delays = data.draw(st.lists(st.floats(0, 8.9), min_size=len(script.messages),
                                max_size=len(script.messages)))
    order = sorted(range(len(script.messages)),
                   key=lambda i: script.messages[i][0] + PERIOD * delays[i])
    mixed = Script()
    mixed.messages = [script.messages[i] for i in order]
    batch, mixed_counts = play(mixed, assembler(task), flush=True)
    assert_same(batch, expected)
    assert mixed_counts == counts


def test_messages_that_come_twice_shift_nothing(task):
    script = two_episodes()
    expected, _ = play(script, assembler(task))
    script.messages = [message for message in script.messages for _ in range(2)]
    batch, counts = play(script, assembler(task))
    assert_same(batch, expected)
    assert counts['duplicates'] > 0


def test_a_state_is_remembered_although_its_row_is_lost(task):
    script = two_episodes().without('add_executed', 1000 + 3 * PERIOD)
    seen = observed(task, script)
    batch, counts = play(script, assembler(task), flush=True)
    assert counts == {'emitted': 2 * STEPS - 1, 'no_command': 1}
    np.testing.assert_array_equal(batch.observation[3], seen[1000 + 4 * PERIOD])


def test_a_lost_state_is_filled_and_the_history_goes_on(task):
    script = two_episodes().without('add_state', 1000 + 3 * PERIOD)
    whole, _ = play(two_episodes(), assembler(task), flush=True)
    batch, counts = play(script, assembler(task), flush=True)
    assert counts == {'emitted': 2 * STEPS - 2, 'gap': 1}
    # Oldest first, cart positions of frames 1, 2, 2 (for 3) and 4.
    carts = whole.observation[:, 3]
    assert batch.observation[2, :4].tolist() == [carts[1], carts[2], carts[2], carts[4]]


def test_what_is_to_be_earned_is_the_target_less_earlier_rewards(task):
    batch, _ = play(two_episodes(), assembler(task))
    left = 9.0 - np.cumsum([0.0, 0.0, *(0.5 * np.arange(1, STEPS))])  # rewards are 0.5 k
    for episode in range(2):
        rows = slice(episode * STEPS, (episode + 1) * STEPS)
        np.testing.assert_array_equal(to_go(task, batch.observation[rows]), left[:-1])
        np.testing.assert_array_equal(to_go(task, batch.next_observation[rows]), left[1:])


def test_the_reward_of_a_state_that_was_lost_here_counts(task):
    batch, _ = play(two_episodes().without('add_state', 1000 + 3 * PERIOD), assembler(task))
    assert to_go(task, batch.observation)[2] == 9.0 - (0.5 + 1.0 + 1.5)  # of state 4


def test_without_a_reward_nothing_is_told_that_depends_on_it(task):
    batch, counts = play(two_episodes().without('add_reward', 1000 + 3 * PERIOD),
                         assembler(task), flush=True)
    left = to_go(task, batch.observation)
    assert counts == {'emitted': STEPS + 2, 'reward_missing': STEPS - 2}
    assert left[:4].tolist() == [9.0, 9.0, 9.0, 9.0]  # the third is the next episode's first


def test_an_episode_whose_start_is_missing_gives_no_rows(task):
    script = two_episodes()
    script.messages = [message for message in script.messages
                       if message[0] >= 1000 + 2 * PERIOD or message[2] == 'add_goal']
    batch, counts = play(script, assembler(task), flush=True)
    assert to_go(task, batch.observation)[0] == 9.0 and len(batch) == STEPS
    assert counts == {'emitted': STEPS, 'gap': 1, 'reward_missing': STEPS - 2}


def test_steps_whose_critic_would_be_blind_are_dropped_and_counted(task):
    script = two_episodes().without('add_privileged', 1000 + 3 * PERIOD)
    whole, _ = play(two_episodes(), assembler(task), flush=True)
    batch, counts = play(script, assembler(task), flush=True)
    assert counts == {'emitted': 2 * STEPS - 2, 'no_privileged': 2}
    kept = [row for row in range(2 * STEPS) if row not in (2, 3)]
    np.testing.assert_array_equal(batch.observation, whole.observation[kept])
    np.testing.assert_array_equal(batch.privileged, whole.privileged[kept])


def test_after_a_jump_of_the_clock_nothing_of_before_is_remembered(task):
    script, used = two_episodes(), assembler(task)
    expected, _ = play(script, assembler(task))
    play(script, used)
    used.reset()
    assert_same(play(script, used)[0], expected)
