# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transitions joined by stamp: cases by hand, and any order of arrival."""

from dataclasses import asdict

from assembler_script import idle, make, Observer, outcome, PERIOD, play, Script, state, to_action
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rl_nodes.core.origin import INTERVENTION
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, RobotState, TransitionBatch
from rl_nodes.data.assembler import policy_version, TransitionAssembler


def test_one_episode_by_hand():
    batch, counts = play(Script().episode(3, 1000, 3, limited=(1,)))
    assert counts == {'emitted': 3}
    np.testing.assert_array_equal(batch.observation, [[300, 3.5], [301, 3.5], [302, 3.5]])
    np.testing.assert_array_equal(batch.next_observation, [[301, 3.5], [302, 3.5], [303, 3.5]])
    np.testing.assert_array_equal(batch.wanted, [[0.25], [0.25], [0.25]])
    np.testing.assert_array_equal(batch.action, [[0.25], [0.125], [0.25]])
    np.testing.assert_array_equal(batch.limited, [False, True, False])
    np.testing.assert_array_equal(batch.reward, [10, 20, 30])       # never that of state 0
    np.testing.assert_array_equal(batch.terminated, [False, False, True])
    np.testing.assert_array_equal(batch.truncated, [False, False, False])
    np.testing.assert_array_equal(batch.success, [False, False, True])
    np.testing.assert_array_equal(batch.policy_version, [7, 7, 7])
    np.testing.assert_array_equal(batch.episode, [3, 3, 3])
    np.testing.assert_array_equal(batch.step, [0, 1, 2])
    for name, column in batch.columns().items():
        assert column.dtype in (np.float32, np.bool_, np.int64, INTERVENTION), name


def test_an_end_is_emitted_at_once_and_terminated_and_truncated_stay_apart():
    for end in ('terminated', 'truncated'):
        batch, counts = play(Script().episode(0, 0, 2, end=end))
        assert counts == {'emitted': 2}
        assert getattr(batch, end)[-1] and batch.terminated[-1] != batch.truncated[-1]


def test_a_step_that_did_not_end_waits_for_the_state_after():
    script = Script().episode(0, 0, 2, end='')
    assembler = make()
    batch, _ = play(script, assembler)
    np.testing.assert_array_equal(batch.step, [0])
    assembler.add_state(state(EpisodeId(0, 0), 3))
    np.testing.assert_array_equal(assembler.take().step, [1])
    assert assembler.ready == 0 and assembler.take().observation.shape == (0, 2)


def test_two_episodes_never_mix():
    script = Script().episode(0, 0, 2).episode(1, 30, 2, end='truncated')
    batch, counts = play(script)
    assert counts == {'emitted': 4}
    np.testing.assert_array_equal(batch.episode, [0, 0, 1, 1])
    np.testing.assert_array_equal(batch.next_observation[:, 0], [1, 2, 101, 102])
    np.testing.assert_array_equal(batch.observation[:, 1], [0.5, 0.5, 1.5, 1.5])
    np.testing.assert_array_equal(batch.step, [0, 1, 0, 1])


def test_states_after_the_end_of_an_episode_start_no_step():
    script = Script().episode(0, 0, 2)
    for k in range(3, 8):
        after = state(EpisodeId(0, 0), k)
        script.add(after.stamp_ns, 1, 'add_state', after)
        script.add(after.stamp_ns, 2, 'add_reward', after.stamp_ns, '0@0', outcome(99.0))
        for method in ('add_wanted', 'add_executed'):
            script.add(after.stamp_ns, 3, method,
                       JointCommand(after.stamp_ns, 'reach@7', after.position))
    batch, counts = play(idle(script, 100))
    assert counts == {'emitted': 2}
    np.testing.assert_array_equal(batch.reward, [10, 20])


def test_a_goal_from_before_the_episode_is_not_its_goal():
    script = Script().episode(0, 0, 2).episode(1, 30, 12).without('add_goal', 30)
    batch, counts = play(script, flush=True)
    assert len(batch) == 2 and counts == {'emitted': 2, 'no_goal': 12}


def test_a_goal_within_an_episode_holds_from_its_stamp_on():
    script = Script().episode(0, 0, 4)
    script.messages.insert(6, (20, 0, 'add_goal', (Goal(20, np.array([9.0, 0, 0]), np.zeros(4)),)))
    batch, counts = play(script)
    assert counts == {'emitted': 4}
    np.testing.assert_array_equal(batch.observation[:, 1], [0.5, 0.5, 9, 9])
    np.testing.assert_array_equal(batch.next_observation[:, 1], [0.5, 9, 9, 9])


def test_duplicates_are_ignored_and_counted():
    script = Script().episode(0, 0, 5)
    doubled = Script()
    for entry in script.messages:
        doubled.messages += [entry, entry]
    once, _ = play(script)
    twice, counts = play(doubled)
    # The last reward ends the episode at once; nothing is expected of its state any more.
    assert counts == {'emitted': 5, 'duplicates': len(script.messages) - 1}
    assert_same(once, twice)


def test_a_duplicate_of_long_ago_is_a_duplicate_and_not_late():
    assembler = make()
    script = Script().episode(0, 0, 50)
    play(script, assembler)
    for _, _, method, arguments in script.messages[1:5]:
        getattr(assembler, method)(*arguments)
    assert assembler.counters.duplicates == 4 and assembler.counters.late == 0


def test_a_missing_state_drops_the_step_into_it_and_counts_a_gap():
    batch, counts = play(Script().episode(0, 0, 20).without('add_state', 50))
    assert counts == {'emitted': 18, 'gap': 1}
    np.testing.assert_array_equal(batch.step, [s for s in range(20) if s not in (4, 5)])
    assert not batch.truncated.any()


def test_the_limit_of_a_gap_is_one_and_a_half_periods():
    for late, expected in ((5, {'emitted': 12}), (6, {'emitted': 11, 'gap': 1})):
        script = Script()
        script.add(0, 0, 'add_goal', Goal(0, np.zeros(3), np.zeros(4)))
        for k in range(13):
            stamp = PERIOD * k + (late if k >= 3 else 0)
            position = np.array([float(k)])
            script.add(stamp, 1, 'add_state',
                       RobotState(stamp, '0@0', position, position, position))
            script.add(stamp, 2, 'add_reward', stamp, '0@0', outcome(1.0, terminated=k == 12))
            for method in ('add_wanted', 'add_executed'):
                script.add(stamp, 3, method, JointCommand(stamp, 'reach@7', position))
        _, counts = play(script)
        assert counts == expected, late


def test_a_missing_first_state_is_a_gap_too():
    batch, counts = play(Script().episode(0, 0, 2).episode(1, 30, 20).without('add_state', 30))
    assert counts == {'emitted': 21, 'gap': 1}
    np.testing.assert_array_equal(batch.step, [0, 1, *range(1, 20)])


def test_a_missing_executed_command_drops_the_step_once_two_later_states_are_there():
    script = Script().episode(0, 0, 6).without('add_executed', 20)
    batch, counts = play(script)
    assert counts == {'emitted': 5, 'no_command': 1}
    np.testing.assert_array_equal(batch.step, [0, 1, 3, 4, 5])
    assembler = make()
    for _, _, method, arguments in [m for m in script.messages if m[0] <= 30]:
        getattr(assembler, method)(*arguments)
    assert assembler.counters.no_command == 0
    assembler.add_state(state(EpisodeId(0, 0), 4))
    assert assembler.counters.no_command == 1
    assembler.add_executed(JointCommand(20, 'reach@7', np.zeros(1)))
    assert assembler.counters.late == 1 and assembler.counters.emitted == 2


def test_a_missing_wanted_command_drops_the_step_unless_the_monitor_acted():
    _, counts = play(Script().episode(0, 0, 6).without('add_wanted', 20))
    assert counts == {'emitted': 5, 'no_command': 1}
    script = Script().episode(0, 0, 6).without('add_wanted', 20).without('add_executed', 20)
    script.add(20, 4, 'add_executed', JointCommand(20, 'monitor', np.array([2.5])))
    script.messages.sort(key=lambda m: m[:2])
    batch, counts = play(script)
    assert counts == {'emitted': 6}
    assert batch.limited[2] and batch.policy_version[2] == -1
    np.testing.assert_array_equal(batch.action[2], [0.5])
    np.testing.assert_array_equal(batch.wanted[2], [0.5])


@pytest.mark.parametrize('arrivals', [(0, 1), (1, 0)])
def test_of_two_wanted_commands_the_one_executed_counts(arrivals):
    script = Script().episode(0, 0, 2).without('add_wanted', 0)
    both = [JointCommand(0, 'teleop', np.array([5.0])),
            JointCommand(0, 'reach@7', np.array([0.25]))]
    script.messages[2:2] = [(0, 3, 'add_wanted', (both[i],)) for i in arrivals]
    batch, _ = play(script)
    np.testing.assert_array_equal(batch.wanted[0], [0.25])
    assert not batch.limited[0]


def test_a_missing_reward_is_never_a_reward_of_zero():
    script = Script().episode(0, 0, 30).without('add_reward', 50)
    assembler = make()
    seen = []
    for stamp, _, method, arguments in script.messages:
        getattr(assembler, method)(*arguments)
        if not seen and assembler.counters.reward_missing:
            seen.append((stamp, method))
    batch, counts = assembler.take(), assembler.counters
    assert seen == [(150, 'add_state')]         # ten states after the one not rewarded
    assert (counts.emitted, counts.reward_missing) == (29, 1)
    assert 4 not in batch.step and (batch.reward != 0).all()


def test_a_dead_reward_node_drops_every_step():
    script = Script().episode(0, 0, 30)
    script.messages = [m for m in script.messages if m[2] != 'add_reward']
    batch, counts = play(script, flush=True)
    assert len(batch) == 0 and counts == {'reward_missing': 30}


def test_a_reset_by_hand_marks_the_last_step_truncated():
    script = Script().episode(0, 0, 3, end='').episode(1, 40, 12)
    batch, counts = play(script)
    assert counts == {'emitted': 15, 'cut': 1}
    np.testing.assert_array_equal(np.flatnonzero(batch.truncated), [2])
    assert not batch.terminated[2] and batch.next_observation[2, 0] == 3


def test_a_reset_by_hand_without_the_last_reward_is_counted():
    script = Script().episode(0, 0, 3, end='').without('add_reward', 30).episode(1, 40, 12)
    batch, counts = play(script)
    assert counts == {'emitted': 14, 'reward_missing': 1}
    assert not batch.truncated.any()


def test_the_lost_last_state_of_an_episode_is_a_gap_and_no_reset():
    script = Script().episode(0, 0, 3).without('add_state', 30).episode(1, 40, 12)
    batch, counts = play(script)
    assert counts == {'emitted': 14, 'gap': 1}
    assert not batch.truncated.any()


def test_flush_ends_the_open_episode():
    batch, counts = play(Script().episode(0, 0, 3, end=''), flush=True)
    assert counts == {'emitted': 3, 'cut': 1}
    np.testing.assert_array_equal(batch.truncated, [False, False, True])


@pytest.mark.parametrize('spoil, count', [
    (lambda: ('add_reward', 30, '0@0', outcome(float('nan'))), 1),
    (lambda: ('add_executed', JointCommand(30, 'reach@7', np.array([np.nan]))), 1),
    (lambda: ('add_executed', JointCommand(30, 'reach@7', np.zeros(2))), 1),
    (lambda: ('add_state', RobotState(30, '0@0', np.array([np.inf]), np.zeros(1), np.zeros(1))),
     2),
])
def test_what_cannot_be_is_dropped_and_counted(spoil, count):
    method, *arguments = spoil()
    script = Script().episode(0, 0, 20).without(method, 30)
    script.add(30, 2, method, *arguments)
    script.messages.sort(key=lambda m: m[:2])
    batch, counts = play(script)
    assert counts == {'emitted': 20 - count, 'invalid': count}
    assert all(np.isfinite(column).all() for column in batch.columns().values()
               if column.dtype != INTERVENTION)


def test_a_malformed_episode_id_is_in_no_episode():
    script = Script().episode(0, 0, 2)
    for k in range(5):
        script.add(30 + PERIOD * k, 1, 'add_state', RobotState(
            30 + PERIOD * k, 'seven', np.zeros(1), np.zeros(1), np.zeros(1)))
    _, counts = play(script)
    assert counts == {'emitted': 2, 'invalid': 1}


def test_memory_is_bounded_whatever_comes():
    assembler = make(window=50, most_rows=20)
    for k in range(1000):
        assembler.add_executed(JointCommand(10**9 + k, 'reach@7', np.zeros(1)))
        assembler.add_wanted(JointCommand(10**9 + k, 'reach@7', np.zeros(1)))
        assembler.add_reward(10**9 + k, '0@0', outcome(0.0))
        assembler.add_goal(Goal(10**9 + k, np.zeros(3), np.zeros(4)))
    assert assembler.counters.overflow == 4 * 950
    assembler.reset()
    play(Script().episode(0, 0, 100), assembler)        # took nothing while it went on
    assert assembler.counters.overflow == 4 * 950 + 80
    window = assembler._window
    assert max(map(len, (window.order, window.entries, window.rewards, window.executed))) <= 50


def test_observations_are_computed_once_and_buffers_may_be_used_again():
    buffer = np.zeros(2, np.float32)
    calls = []

    class ObserverInto(Observer):
        def observe(self, now, goal):
            calls.append(now.stamp_ns)
            buffer[:] = now.position[0], goal.position[0]
            return buffer

    assembler = TransitionAssembler(ObserverInto, to_action, PERIOD, observation_size=2,
                                    action_size=1)
    batch, _ = play(Script().episode(0, 0, 5), assembler)
    np.testing.assert_array_equal(batch.observation[:, 0], range(5))
    assert calls == [PERIOD * k for k in range(6)]


@pytest.mark.parametrize('source, version', [
    ('reach@12', 12), ('a@b@3', 3), ('teleop', -1), ('monitor', -1), ('reach@', -1),
    ('reach@-3', -1), ('', -1), ('x@1.5', -1)])
def test_the_policy_version_is_in_the_source(source, version):
    assert policy_version(JointCommand(0, source, np.zeros(1))) == version
    assert policy_version(None) == -1


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match='command_patience'):
        make(command_patience=11)


def assert_same(a, b):
    assert a.columns().keys() == b.columns().keys()
    for name, column in a.columns().items():
        assert column.tobytes() == b.columns()[name].tobytes(), name


def disordered(script, delays, kinds=None):
    """Return the script with message i delayed by ``delays[i]`` periods."""
    order = sorted(range(len(script.messages)), key=lambda i: (
        script.messages[i][0] + PERIOD * delays[i], delays[i]))
    mixed = Script()
    mixed.messages = [script.messages[i] for i in order]
    return mixed


def natural():
    script = Script().episode(0, 0, 9, limited=(2, 5)).episode(1, 100, 4, end='truncated')
    script.episode(2, 150, 6, end='').episode(3, 220, 5, version=8)
    return idle(script, 280, 25)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_of_arrival_within_the_patience_gives_the_same_rows(data):
    script = natural()
    expected, counts = play(script)
    assert counts == {'emitted': 24, 'cut': 1}
    delays = data.draw(st.lists(st.floats(0, 8.9), min_size=len(script.messages),
                                max_size=len(script.messages)))
    batch, mixed_counts = play(disordered(script, delays), make(command_patience=10))
    assert_same(batch, expected)
    assert mixed_counts == counts


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_usual_patience_stands_commands_late_by_less_than_two_periods(data):
    script = natural()
    expected, counts = play(script)
    delays = data.draw(st.lists(st.floats(0, 1.9), min_size=len(script.messages),
                                max_size=len(script.messages)))
    batch, mixed_counts = play(disordered(script, delays))
    assert_same(batch, expected)
    assert mixed_counts == counts


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 7))
def test_rows_do_not_depend_on_when_they_are_taken(random, every):
    script = natural()
    script.messages = [m for m in script.messages if random.random() < 0.9]
    expected, counts = play(script)
    assembler = make()
    parts = []
    for index, (_, _, method, arguments) in enumerate(script.messages):
        getattr(assembler, method)(*arguments)
        if index % every == 0:
            parts.append(assembler.take())
    parts.append(assembler.take())
    assert {k: v for k, v in asdict(assembler.counters).items() if v} == counts
    assert_same(TransitionBatch.concatenate(parts), expected)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_lost_messages_are_counted_and_never_invented(random):
    script = natural()
    whole, _ = play(script)
    rows = {(int(e), int(s)): i for i, (e, s) in enumerate(zip(whole.episode, whole.step))}
    script.messages = [m for m in script.messages if random.random() < 0.85]
    random.shuffle(script.messages)
    script.messages.sort(key=lambda m: m[0] + 15 * random.random())
    batch, counts = play(script, flush=True)
    assert counts.get('emitted', 0) == len(batch)
    names = ('observation', 'next_observation', 'action', 'wanted', 'reward', 'limited')
    for index, key in enumerate(zip(batch.episode.tolist(), batch.step.tolist())):
        for name in names:
            np.testing.assert_array_equal(getattr(batch, name)[index],
                                          getattr(whole, name)[rows[key]])
