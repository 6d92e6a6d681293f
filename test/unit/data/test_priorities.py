# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""How often rows are drawn, and how that is made up for."""

import numpy as np
import pytest
from rl_nodes.data.priorities import Priorities
import torch


def drawn(priorities, stored, beta=1.0, count=40_000):
    return priorities.sample(count, stored, beta, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(('alpha', 'wanted'), [
    (1.0, [0.1, 0.2, 0.3, 0.4]), (0.5, np.sqrt([1, 2, 3, 4]) / np.sqrt([1, 2, 3, 4]).sum()),
    (0.0, [0.25] * 4)])
def test_frequencies_and_weights(alpha, wanted):
    priorities = Priorities(10, alpha, floor=0.0)
    priorities.set(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
    rows, weights = drawn(priorities, 4)
    frequencies = np.bincount(rows, minlength=10) / len(rows)
    assert frequencies[:4] == pytest.approx(wanted, abs=0.003)
    assert not frequencies[4:].any()
    for row in range(4):  # (N P)^-1
        assert weights[rows == row].unique().item() == pytest.approx(1 / (4 * wanted[row]))


def test_without_correction_every_weight_is_one():
    priorities = Priorities(4, 1.0)
    priorities.set(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
    assert (drawn(priorities, 4, beta=0.0, count=50)[1] == 1.0).all()


def test_each_part_of_the_range_gives_one_row():
    priorities = Priorities(64, 1.0)
    priorities.set(np.arange(64), np.ones(64))
    assert drawn(priorities, 64, count=64)[0].tolist() == list(range(64))


def test_new_rows_come_with_the_greatest_priority():
    priorities = Priorities(8, 1.0, floor=0.0)
    priorities.set(np.array([0]), np.array([5.0]))
    priorities.add(np.array([1]))
    priorities.set(np.array([0]), np.array([1.0]))
    rows, _ = drawn(priorities, 2)
    assert (rows == 1).float().mean().item() == pytest.approx(5 / 6, abs=0.01)


@pytest.mark.parametrize('capacity', [1, 2, 3, 1000])
def test_state_round_trip_at_any_capacity(capacity):
    first, second = Priorities(capacity, 0.6), Priorities(capacity, 0.6)
    first.set(np.arange(capacity), np.arange(capacity) + 1.0)
    second.load_state_dict(first.state_dict())
    for a, b in zip(drawn(first, capacity, count=64), drawn(second, capacity, count=64)):
        assert torch.equal(a, b)
