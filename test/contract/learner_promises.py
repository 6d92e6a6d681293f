# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What learners of every kind promise of their state; ``go_on(learner, first, last)`` trains."""

import numpy as np
import torch


def leaves(state, key=''):
    if isinstance(state, dict):
        return {name: leaf for member in state
                for name, leaf in leaves(state[member], f'{key}/{member}').items()}
    return {key: torch.as_tensor(state)}


def assert_identical(first, second):
    a, b = leaves(first.state_dict()), leaves(second.state_dict())
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def assert_state_is_a_copy(learner, go_on, rounds):
    go_on(learner, 0, rounds)
    state = learner.state_dict()
    before = {key: leaf.clone() for key, leaf in leaves(state).items()}
    go_on(learner, rounds, rounds + 2)
    assert all(torch.equal(leaf, before[key]) for key, leaf in leaves(state).items())


def assert_no_global_random_state(learner, go_on, rounds):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    go_on(learner, 0, rounds)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def assert_needs_no_more_record_than_it_says(make, go_on, rounds):
    """As the training loops run it; and it can go on outside of them, as after a run."""
    recorded, spared = make(5), make(5)
    go_on(recorded, 0, rounds + 2)
    with torch.inference_mode(not spared.autograd):
        go_on(spared, 0, rounds)
    spared.load_state_dict(spared.state_dict())
    go_on(spared, rounds, rounds + 2)
    assert_identical(recorded, spared)
