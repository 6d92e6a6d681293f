# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What was earned before a state, by hand.

State k of episode e is stamped 1000 e + 10 k; its reward is k, the first one's 0.
"""

import random

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, RewardMissingError
from rl_nodes.core.returns import KEPT_EPISODES, KEPT_REWARDS, ReturnBook, target_of
from rl_nodes.core.types import RobotState
from rl_nodes.tasks import load_task

PERIOD = 10


def state(k, episode=1, late=0):
    return RobotState(1000 * episode + PERIOD * k + late, f'{episode}@{1000 * episode}',
                      np.zeros(1), np.zeros(1), np.zeros(1))


class Book(ReturnBook):
    """A book that is told of rewards by the number of their state."""

    def __init__(self):
        super().__init__(PERIOD)

    def earn(self, *steps, episode=1, late=0):
        for k in steps:
            rewarded = state(k, episode, late)
            self.add(rewarded.stamp_ns, rewarded.episode, float(k))


@pytest.fixture
def book():
    return Book()


def test_nothing_was_earned_before_the_first_state_and_nothing_is_awaited(book):
    assert not book.awaits(state(0))
    assert book.before(state(0)) == 0.0
    assert book.before(state(0, late=5)) == 0.0


def test_a_state_waits_for_the_reward_of_the_one_before_and_its_own_does_not_count(book):
    book.earn(0, 1)
    assert book.awaits(state(3))
    with pytest.raises(RewardMissingError, match='has not come'):
        book.before(state(3))
    assert book.before(state(2)) == 0 + 1
    book.earn(2)
    assert not book.awaits(state(3))
    assert book.before(state(3)) == 0 + 1 + 2
    book.earn(3)
    assert book.before(state(3)) == 0 + 1 + 2
    assert book.before(state(2)) == 0 + 1


def test_before_any_reward_of_an_episode_its_later_states_wait(book):
    book.earn(0, 1, 2)
    assert book.awaits(state(1, episode=2))
    with pytest.raises(RewardMissingError, match='has not come'):
        book.before(state(1, episode=2))


def test_a_reward_counts_once_and_where_it_belongs(book):
    for _ in range(3):
        book.earn(0, 1, 2)
        book.earn(0, 1, episode=2)
    assert book.before(state(3)) == 0 + 1 + 2
    assert book.before(state(2, episode=2)) == 0 + 1
    book.earn(2)  # late, of the episode before
    assert book.before(state(2, episode=2)) == 0 + 1


def test_states_that_never_were_have_no_rewards(book):
    book.earn(0, 1)
    assert book.awaits(state(4))  # those of 2 and 3 may still come
    book.earn(4)                  # now they cannot any more
    assert not book.awaits(state(4))
    assert book.before(state(4)) == 0 + 1
    assert book.before(state(5)) == 0 + 1 + 4


def test_the_reward_of_a_state_that_was_seen_is_waited_for_whatever_else_comes(book):
    book.earn(0, 1)
    with pytest.raises(RewardMissingError):
        book.before(state(3))
    book.earn(4, 5)
    for k in (4, 5):
        assert book.awaits(state(k))
        with pytest.raises(RewardMissingError, match='has not come'):
            book.before(state(k))
    book.earn(3)
    assert book.before(state(5)) == 0 + 1 + 3 + 4


@pytest.mark.parametrize('late', [-4, 4])
def test_jitter_of_stamps_is_no_lost_reward(book, late):
    book.earn(0)
    book.earn(1, late=late)
    assert book.before(state(2)) == 0 + 1


def test_whoever_comes_in_the_middle_of_an_episode_does_not_guess(book):
    book.earn(5, 6)
    assert not book.awaits(state(7))  # no reward to come would help
    with pytest.raises(RewardMissingError, match=r'from 1050 on only'):
        book.before(state(7))
    book.earn(0, 1, episode=2)
    assert book.before(state(2, episode=2)) == 0 + 1


def test_of_an_episode_only_the_first_reward_may_be_missing_for_it_is_nothing(book):
    book.earn(1)
    assert book.before(state(2)) == 1
    book.earn(2, 3, episode=2)
    with pytest.raises(RewardMissingError, match='on only'):
        book.before(state(4, episode=2))


def test_long_episodes_take_no_more_memory_and_lose_nothing(book):
    steps = 50 * KEPT_REWARDS
    for k in range(steps):
        book.earn(k, k)
        assert book.before(state(k + 1)) == k * (k + 1) / 2
    assert len(book._ledgers['1@1000'].newest) == KEPT_REWARDS
    with pytest.raises(RewardMissingError, match='too late'):
        book.before(state(steps - KEPT_REWARDS - 1))
    book.earn(3)  # once more, long after
    assert book.before(state(steps)) == steps * (steps - 1) / 2


def test_few_episodes_are_kept(book):
    for episode in range(1, 10):
        book.earn(0, 1, episode=episode)
    assert len(book._ledgers) == KEPT_EPISODES


@given(st.permutations(range(12)), st.integers(0, 2**32))
def test_any_order_of_arrival_gives_the_same_bits(order, seed):
    totals = [random.Random(seed + k).uniform(-1, 1) for k in range(12)]
    book, expected = ReturnBook(PERIOD), 0.0
    for k in order:
        book.add(1000 + PERIOD * k, '1@1000', totals[k])
        book.add(1000 + PERIOD * k, '1@1000', totals[k])
    for k in range(13):
        assert book.before(state(k)) == expected
        expected += totals[k] if k < 12 else 0.0


def test_a_reward_that_is_not_finite_is_not_passed_over(book):
    book.earn(0)
    book.add(1010, '1@1000', float('nan'))
    assert np.isnan(book.before(state(2)))


def test_a_target_is_refused_where_nobody_observes_it():
    with pytest.raises(ConfigError, match='reach does not observe return_to_go'):
        target_of('3', load_task('arm', 'reach').contract)
