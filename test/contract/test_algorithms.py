# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every off-policy learner promises. A new one joins by one entry in LEARNERS."""

from learner_promises import (
    assert_identical,
    assert_needs_no_more_record_than_it_says,
    assert_no_global_random_state,
    assert_state_is_a_copy,
    leaves,
)
import numpy as np
import pytest
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.possible_values import PossibleValues
from rl_nodes.algorithms.recurrent_sac import RecurrentSac, RecurrentSacConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.training.checkpoint import CheckpointStore
import torch

OBSERVATION, ACTION = 4, 2
LOW, HIGH = np.array([-1.0, -3.0], np.float32), np.array([1.0, 2.0], np.float32)
SMALL = {'hidden': (32, 32), 'batch_size': 16, 'buffer_size': 300, 'learning_starts': 20}
RAINBOW = {'double': True, 'dueling': True, 'n_step': 3, 'prioritized': True, 'categorical': True,
           'noisy': 'factorised'}


def maker(learner, config, **settings):
    """Return what makes a learner from a seed."""
    def make(seed):
        low, high = (np.array([0]), np.array([4])) if learner is Dqn else (LOW, HIGH)
        made = learner(OBSERVATION, low, high, config(**SMALL, **settings), seed)
        if 'critic_layer_norm' in settings:
            made.learn_from(transitions(500, 40))
        return made
    return make


LEARNERS = {
    'sac': maker(Sac, SacConfig), 'sac_v': maker(Sac, SacConfig, variant='v_network'),
    'sac_state_dependent': maker(Sac, SacConfig, state_dependent_noise=8),
    'sac_shown': maker(Sac, SacConfig, critic_layer_norm=True),
    'recurrent_sac': maker(RecurrentSac, RecurrentSacConfig, memory_size=8, sequence_length=4,
                           burn_in=2),
    'td3': maker(Td3, Td3Config), 'ddpg': maker(Ddpg, DdpgConfig, noise='ou'),
    'dqn': maker(Dqn, DqnConfig), 'rainbow': maker(Dqn, DqnConfig, **RAINBOW)}


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS.keys(), autouse=True)
def make(request, one_thread):
    return request.param


def transitions(seed, count=10, discrete=False):
    rng = np.random.default_rng(seed)
    flags, index = np.zeros(count, bool), np.arange(count)
    action = rng.uniform(LOW, HIGH, (count, ACTION)).astype(np.float32)
    if discrete:
        action = rng.integers(0, 5, (count, 1)).astype(np.float32)
    observation = rng.normal(size=(2, count, OBSERVATION)).astype(np.float32)
    return TransitionBatch(observation[0], action, action,
                           rng.normal(size=count).astype(np.float32), observation[1],
                           rng.random(count) < 0.1, rng.random(count) < 0.1, flags, flags, index,
                           index // 4, np.full(count, seed))


def go_on(learner, first, last):
    """Live through rounds [first, last) of experience, acting and learning."""
    actions = []
    for round_number in range(first, last):
        learner.observe(transitions(round_number, discrete=isinstance(learner, Dqn)))
        actions.append(learner.act(transitions(1000 + round_number).observation))
        if learner.ready():
            for _ in range(3):
                learner.update()
    return actions


def test_shapes_and_types(make):
    learner = make(0)
    for rows in (1, 7):
        action = learner.act(np.zeros((rows, OBSERVATION), np.float32))
        assert action.shape == (rows, 1 if isinstance(learner, Dqn) else ACTION)
        assert action.dtype == (np.int64 if isinstance(learner, Dqn) else np.float32)
    count = 1 if learner.memory else 5
    outputs = learner.policy_module()(torch.zeros(count, OBSERVATION), *(
        torch.zeros(shape) for shape in learner.memory.values()))
    if learner.sampling == 'deterministic':
        assert outputs.shape == (5, 1)
    else:
        assert [tuple(output.shape) for output in outputs] == [
            *[(count, ACTION)] * 3, *learner.memory.values()]


def test_not_ready_before_enough_experience(make):
    learner = make(0)
    discrete = isinstance(learner, Dqn)
    learner.observe(transitions(0, discrete=discrete))
    assert not learner.ready()
    learner.observe(transitions(1, discrete=discrete))
    assert learner.ready()


def test_same_seed_same_learner(make):
    first, second, other = make(5), make(5), make(6)
    for a, b in zip(go_on(first, 0, 6), go_on(second, 0, 6)):
        assert np.array_equal(a, b)
    assert_identical(first, second)
    go_on(other, 0, 6)
    a, b = leaves(first.state_dict()), leaves(other.state_dict())
    assert any(a[key].shape != b[key].shape or not torch.equal(a[key], b[key])
               for key in a if 'weights' in key)


def test_resumed_equals_uninterrupted(make, tmp_path):
    uninterrupted, interrupted = make(5), make(5)
    go_on(uninterrupted, 0, 20)
    go_on(interrupted, 0, 11)
    store = CheckpointStore(tmp_path)
    store.save({'learner': interrupted.state_dict(), 'buffer': interrupted.buffer.state_dict()}, 1)
    state, _ = store.load_newest()
    resumed = make(99)
    resumed.load_state_dict(state['learner'])
    resumed.buffer.load_state_dict(state['buffer'])
    go_on(resumed, 11, 20)
    assert_identical(uninterrupted, resumed)


def test_state_is_a_copy(make):
    assert_state_is_a_copy(make(0), go_on, 4)


def test_no_more_of_autograd_than_it_says(make):
    assert_needs_no_more_record_than_it_says(make, go_on, 4)


def test_no_global_random_state(make):
    assert_no_global_random_state(make(0), go_on, 4)


def test_weights_or_gradients_that_are_not_finite_end_in_a_roll_back(make):
    """Whatever became NaN, at most two updates later it is an error, never a policy."""
    learner = make(0)
    go_on(learner, 0, 5)
    good = learner.state_dict()
    for key in good['weights']:
        learner._vectors()[key][0] = float('nan')
        assert not learner.is_finite()
        with pytest.raises(TrainingError, match='diverged'):
            for _ in range(2):
                learner.update()
        learner.roll_back(good)
        assert learner.is_finite()
        learner.update()


def test_values_far_beyond_any_return_end_in_a_roll_back(make):
    """Finite as they are; distributions of returns cannot leave their range."""
    learner = make(0)
    go_on(learner, 0, 5)
    good = learner.state_dict()
    for key, vector in learner._vectors().items():
        if key in ('critics', 'network'):
            vector.mul_(1e6 if getattr(learner.config, 'critic_layer_norm', False) else 1e3)
    assert learner.is_finite()
    if getattr(learner.config, 'categorical', False):
        learner.update()
        return
    with pytest.raises(TrainingError, match='no return is beyond .* learning diverged'):
        learner.update()
    learner.roll_back(good)
    learner.update()


def test_values_may_begin_anywhere():
    possible = PossibleValues(0.9)
    assert not possible.complaint(-5e4, torch.tensor([-1.0, 0.5]))
    assert not possible.complaint(9e5, torch.tensor([0.0]))
    assert 'values of 6e+06 on average, where no return is beyond ±10' in possible.complaint(
        6e6, torch.tensor([1.0]))
    assert not possible.complaint(6e6, torch.tensor([1.0]), bonus=1e4)


def test_values_may_wander_before_any_reward_has_come():
    """A sparse task: the first mean is near zero by chance, what networks say is not."""
    possible = PossibleValues(0.99)
    for value in (1e-7, 0.3, -2.0, 50.0):
        assert not possible.complaint(value, torch.zeros(4))
    assert possible.complaint(1e6, torch.zeros(4))
