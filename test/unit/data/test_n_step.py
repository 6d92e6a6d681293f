# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows of several steps by hand: sums, what follows, and the two ways an episode ends."""

import numpy as np
import pytest
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.n_step import NStepReturns


def steps(episode, first, rewards, terminated=False, truncated=False):
    """Return consecutive steps whose observations are 10 * episode + step."""
    count = len(rewards)
    step = np.arange(first, first + count)
    flags, last = np.zeros(count, bool), np.arange(count) == count - 1
    observation = (10.0 * episode + step)[:, None].astype(np.float32)
    return TransitionBatch(observation, observation, observation, np.array(rewards, np.float32),
                           observation + 1, last & terminated, last & truncated, flags, flags,
                           step, np.full(count, episode), step)


def rows(batch):
    columns = (batch.observation[:, 0], batch.reward, batch.next_observation[:, 0],
               batch.terminated.astype(bool), batch.truncated.astype(bool))
    return [(*row, pytest.approx(discount)) for row, discount in zip(
        zip(*columns), batch.discount)]


@pytest.mark.parametrize(('terminated', 'truncated'), [(True, False), (False, True)])
def test_three_steps_with_an_end(terminated, truncated):
    """With gamma = 0.5 the rewards 1, 2, 4, 8 give 3 = 1 + 1 + 1, then 6, 8 and 8."""
    found = NStepReturns(3, 0.5).add(steps(0, 0, [1, 2, 4, 8], terminated, truncated))
    end = (terminated, truncated)
    assert rows(found) == [(0, 3, 3, False, False, 0.125), (1, 6, 4, *end, 0.125),
                           (2, 8, 4, *end, 0.25), (3, 8, 4, *end, 0.5)]


def test_single_steps_pass_as_they_are():
    batch = steps(0, 0, [1, 2], terminated=True)
    found = NStepReturns(1, 0.9).add(batch)
    assert found.reward is batch.reward
    assert found.discount.tolist() == pytest.approx([0.9, 0.9])


def test_episodes_may_be_interleaved_and_come_in_parts():
    accumulator = NStepReturns(2, 0.5)
    assert len(accumulator.add(steps(1, 0, [1]))) == 0
    assert len(accumulator.add(steps(2, 0, [10]))) == 0
    assert rows(accumulator.add(steps(1, 1, [2]))) == [(10, 2, 12, False, False, 0.25)]
    assert rows(accumulator.add(steps(2, 1, [20], truncated=True))) == [
        (20, 20, 22, False, True, 0.25), (21, 20, 22, False, True, 0.5)]


def test_a_gap_closes_what_was_open_with_what_was_seen_last():
    accumulator = NStepReturns(3, 0.5)
    accumulator.add(steps(0, 0, [1, 2]))
    assert rows(accumulator.add(steps(0, 5, [4]))) == [(0, 2, 2, False, True, 0.25),
                                                       (1, 2, 2, False, True, 0.5)]


def test_state_round_trip():
    first, second = NStepReturns(3, 0.5), NStepReturns(3, 0.5)
    first.add(steps(0, 0, [1, 2]))
    first.add(steps(4, 0, [3]))
    second.load_state_dict(first.state_dict())
    later = steps(0, 2, [8], terminated=True)
    assert rows(first.add(later)) == rows(second.add(later))
    assert rows(first.add(steps(4, 1, [1, 1]))) == rows(second.add(steps(4, 1, [1, 1])))
