# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts cut where episodes end: every step once, in order, never two episodes together."""

import numpy as np
from rl_nodes.data.sequences import Sequences
import torch

ENDED = np.zeros((5, 3), bool)
ENDED[1, 0] = ENDED[2, 0] = ENDED[4, 1] = True  # environment 2 goes on


def test_where_they_begin_and_how_long_they_are():
    sequences = Sequences(ENDED)
    found = zip(sequences.environment, sequences.start, sequences.length)
    assert list(found) == [(0, 0, 2), (0, 2, 1), (0, 3, 2), (1, 0, 5), (2, 0, 5)]


def test_padding_is_masked_and_rows_are_told_step_by_step():
    index, there = Sequences(ENDED).padded(np.array([2, 3]))
    assert there.T.tolist() == [[True, True, False, False, False], [True] * 5]
    assert index[:2, 0].tolist() == [9, 12]  # steps 3 and 4 of environment 0
    assert index[:, 1].tolist() == [1, 4, 7, 10, 13]
    assert index[there].tolist() == [9, 1, 12, 4, 7, 10, 13]
    assert index.min() >= 0 and index.max() < 15


def test_minibatches_have_each_step_once_and_about_so_many():
    rng = np.random.default_rng(0)
    sequences = Sequences(rng.random((40, 6)) < 0.1)
    generator = torch.Generator().manual_seed(0)
    for size in (1, 30, 10_000):
        batches = list(sequences.minibatches(size, generator))
        rows = [index[there] for index, there in map(sequences.padded, batches)]
        assert sorted(torch.cat(rows).tolist()) == list(range(240))
        longest = sequences.length.max()
        assert all(len(part) < size + longest for part in rows)
        assert len(batches) >= min(240 // (size + longest), len(sequences))
    assert len(batches) == 1
    orders = [np.concatenate(list(sequences.minibatches(30, generator))).tolist()
              for _ in range(2)]
    assert orders[0] != orders[1]
