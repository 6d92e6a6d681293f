# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows carry their index, so that a row torn apart or from the wrong place shows."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.core.errors import CheckpointError, SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.replay_buffer import ReplayBuffer
import torch


def rows(first, count):
    """Return transitions whose every value is made from their index."""
    index = np.arange(first, first + count)
    value = index.astype(np.float32)
    wide = np.stack([value, -value], 1)
    return TransitionBatch(
        observation=wide, action=value[:, None] + 0.25, wanted=value[:, None], reward=value,
        next_observation=wide + 0.5, terminated=index % 2 == 0, truncated=index % 3 == 0,
        success=index < 0, limited=index < 0, policy_version=index, episode=index, step=index)


def stored(buffer):
    return sorted(buffer.state_dict()['reward'][:, 0].tolist())


def test_ring_keeps_the_newest():
    buffer = ReplayBuffer(5, 2, 1)
    for first in (0, 3, 6):
        assert buffer.add(rows(first, 3)) == 3
    assert len(buffer) == 5
    assert stored(buffer) == [4, 5, 6, 7, 8]
    assert buffer.added == 9


def test_batch_larger_than_the_ring():
    buffer = ReplayBuffer(4, 2, 1)
    buffer.add(rows(0, 2))
    buffer.add(rows(2, 11))
    assert stored(buffer) == [9, 10, 11, 12]
    buffer.add(rows(13, 1))
    assert stored(buffer) == [10, 11, 12, 13]


def test_samples_are_whole_rows():
    buffer = ReplayBuffer(50, 2, 1)
    buffer.add(rows(0, 70))
    sample = buffer.sample(200, torch.Generator().manual_seed(0))
    index = sample.reward
    assert torch.equal(sample.observation, torch.stack([index, -index], 1))
    assert torch.equal(sample.next_observation, torch.stack([index, -index], 1) + 0.5)
    assert torch.equal(sample.action[:, 0], index + 0.25)
    assert torch.equal(sample.terminated, (index % 2 == 0).float())
    assert torch.equal(sample.truncated, (index % 3 == 0).float())
    assert index.min() >= 20
    assert len(index.unique()) > 40


@pytest.mark.parametrize('field', ['observation', 'action', 'reward', 'next_observation'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_and_counted(field, value):
    batch = rows(0, 4)
    bad = getattr(batch, field).copy()
    bad[2] = value
    buffer = ReplayBuffer(10, 2, 1)
    assert buffer.add(replace(batch, **{field: bad})) == 3
    assert stored(buffer) == [0, 1, 3]
    assert buffer.refused == 1


def test_wrong_width_stores_nothing():
    buffer = ReplayBuffer(10, 3, 1)
    with pytest.raises(SpecError, match=r"'observation' has shape \[4, 2\], expected \[4, 3\]"):
        buffer.add(rows(0, 4))
    assert len(buffer) == 0


def test_sampling_nothing_says_so():
    with pytest.raises(TrainingError, match='no transition'):
        ReplayBuffer(10, 2, 1).sample(4, torch.Generator())


def test_empty_batch_changes_nothing():
    buffer = ReplayBuffer(10, 2, 1)
    assert buffer.add(rows(0, 0)) == 0
    assert len(buffer) == 0


def test_state_round_trip_draws_the_same():
    buffer, copy = ReplayBuffer(7, 2, 1), ReplayBuffer(7, 2, 1)
    buffer.add(rows(0, 10))
    copy.load_state_dict(buffer.state_dict())
    for each in (buffer, copy):
        each.add(rows(10, 2))
    first = buffer.sample(20, torch.Generator().manual_seed(4)).reward
    assert torch.equal(first, copy.sample(20, torch.Generator().manual_seed(4)).reward)


def test_state_of_another_size_is_refused():
    buffer = ReplayBuffer(7, 2, 1)
    buffer.add(rows(0, 3))
    with pytest.raises(CheckpointError, match='capacity 7'):
        ReplayBuffer(8, 2, 1).load_state_dict(buffer.state_dict())


def test_newest_observations():
    buffer = ReplayBuffer(5, 2, 1)
    buffer.add(rows(0, 7))
    assert buffer.newest(3)[:, 0].tolist() == [6, 5, 4]
    assert len(buffer.newest(100)) == 5
