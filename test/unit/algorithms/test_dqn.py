# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Deep Q-learning: every switch against numbers worked out by hand."""

from dataclasses import replace
import math

import numpy as np
import pytest
from rl_nodes.algorithms.dqn import Dqn, DqnConfig, project
from rl_nodes.core.errors import SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
import torch

FIRST, LAST = np.array([0]), np.array([2])


def transitions(count, seed=0):
    rng = np.random.default_rng(seed)
    flags, index = np.zeros(count, bool), np.arange(count)
    action = rng.integers(0, 3, (count, 1)).astype(np.float32)
    return TransitionBatch(
        rng.normal(size=(count, 4)).astype(np.float32), action, action,
        rng.normal(size=count).astype(np.float32), rng.normal(size=(count, 4)).astype(np.float32),
        rng.random(count) < 0.2, rng.random(count) < 0.2, flags, flags, index, index, index)


def dqn(seed=0, **settings):
    return Dqn(4, FIRST, LAST, DqnConfig(**({'hidden': (16, 16), 'batch_size': 8,
                                             'buffer_size': 200, 'learning_starts': 1,
                                             'normalize_observation': False} | settings)), seed)


def constant(network, values):
    """Let a plain network answer the same values to every observation."""
    network.flat.zero_()
    network.streams[0].biases[-1].copy_(torch.tensor(values))


def bias_gradient(learner):
    """Return the gradient of the last layer's biases in the next update."""
    learner.update()
    return learner.network.streams[0].bias_gradients[-1].flatten()


@pytest.mark.parametrize(('double', 'terminated', 'y'), [
    (False, False, 1.0 + 0.5 * 5.0), (True, False, 1.0 + 0.5 * 2.0), (False, True, 1.0),
    (True, True, 1.0)])
def test_target_by_hand_and_no_gradient_through_it(double, terminated, y):
    """The slow values are (4, 5, 2), the fast ones (0, 1, 3.2): double takes the slow third."""
    learner = dqn(double=double, discount=0.5)
    batch = transitions(20)
    learner.observe(replace(batch, reward=np.ones(20, np.float32),
                            action=np.full((20, 1), 2, np.float32),
                            terminated=np.full(20, terminated)))
    constant(learner.network, [0.0, 1.0, 3.2])
    constant(learner.target_network, [4.0, 5.0, 2.0])
    error = 3.2 - y
    # Huber: the error itself within 1, its sign beyond.
    torch.testing.assert_close(bias_gradient(learner), torch.tensor(
        [0.0, 0.0, max(-1.0, min(1.0, error))]))
    assert not learner.target_network.gradient.any()


def test_rewards_are_clipped_one_by_one_where_asked():
    batch = transitions(4)
    batch = replace(
        batch, reward=np.array([-7.0, 0.25, 1e30, np.nan], np.float32), step=np.arange(4),
        episode=np.zeros(4, np.int64), terminated=np.arange(4) == 2, truncated=np.zeros(4, bool),
        next_observation=np.roll(batch.observation, -1, 0))
    for clip, sums in ((None, [-7.0 + 0.5 * 0.25, 0.25 + 0.5e30, 1e30]),
                       (1.0, [-1.0 + 0.5 * 0.25, 0.25 + 0.5, 1.0]),
                       (0.1, [-0.1 + 0.5 * 0.1, 0.1 + 0.5 * 0.1, 0.1])):
        learner = dqn(n_step=2, discount=0.5, reward_clip=clip)
        assert learner.observe(batch) == 3  # what is not finite is refused all the same
        torch.testing.assert_close(learner.buffer.gather(torch.arange(3)).reward,
                                   torch.tensor(sums))


def test_slow_network_is_copied_every_so_often():
    learner = dqn(target_every=3)
    learner.observe(transitions(50))
    equal = []
    for _ in range(6):
        learner.update()
        equal.append(torch.equal(learner.network.flat, learner.target_network.flat))
    assert equal == [False, False, True] * 2


def test_gradients_are_shortened():
    learner = dqn(gradient_norm=1e-3)
    learner.observe(transitions(50))
    learner.update()
    norm = torch.linalg.vector_norm(learner.network.gradient).item()
    assert norm == pytest.approx(1e-3, rel=1e-4)
    assert learner.metrics()['gradient_norm'] > 1e-3


def test_epsilon_falls_with_the_transitions():
    learner = dqn(epsilon_start=1.0, epsilon_end=0.2, exploration_steps=100)
    assert learner.epsilon() == 1.0
    learner.observe(transitions(50))
    assert learner.epsilon() == pytest.approx(0.6)
    learner.observe(transitions(90))
    assert learner.epsilon() == pytest.approx(0.2)
    constant(learner.network, [0.0, 9.0, 0.0])
    actions = learner.act(np.zeros((6000, 4), np.float32))
    assert actions.dtype == np.int64
    assert (actions != 1).mean() == pytest.approx(0.2 * 2 / 3, abs=0.02)
    assert (learner.act(np.zeros((50, 4), np.float32), explore=False) == 1).all()


def test_no_network_is_asked_where_every_row_acts_at_random(monkeypatch):
    for epsilon in (1.0, 0.5):
        learner = dqn(epsilon_start=epsilon, epsilon_end=epsilon)
        constant(learner.network, [0.0, 0.0, 9.0])
        if epsilon == 1.0:
            monkeypatch.setattr(learner.network, 'forward', None)
        actions = [learner.act(np.zeros((rows, 4)))[:, 0] for rows in [1, 4, 300] * 40]
        shares = np.bincount(np.concatenate(actions)) / (40 * 305)
        other = 1 / 3 if epsilon == 1.0 else 0.5 / 3
        assert shares == pytest.approx([other, other, 1.0 - 2.0 * other], abs=0.02)


@pytest.mark.parametrize('rows', [1, 3, 1000])
def test_numbers_drawn_in_advance_are_part_of_the_state(rows):
    seen = np.zeros((rows, 4))
    first, second = dqn(seed=1), dqn(seed=2)
    first.act(seen)
    second.load_state_dict(first.state_dict())
    for _ in range(300):
        np.testing.assert_array_equal(first.act(seen), second.act(seen))


@pytest.mark.parametrize(('reward', 'discount', 'wanted'), [
    (0.0, 1.0, [0.1, 0.2, 0.3, 0.4]),      # nothing moves
    (1.0, 1.0, [0.0, 0.1, 0.2, 0.7]),      # one atom up, the last two join at the end
    (0.5, 1.0, [0.05, 0.15, 0.25, 0.55]),  # half an atom: halves to both sides
    (-9.0, 1.0, [1.0, 0.0, 0.0, 0.0]),     # far below: all at the least value
    (2.25, 0.0, [0.0, 0.0, 0.75, 0.25]),   # nothing follows: the reward alone
    (3.0, 0.0, [0.0, 0.0, 0.0, 1.0]),      # exactly the greatest atom
])
def test_projection_table(reward, discount, wanted):
    """The atoms are 0, 1, 2, 3."""
    projected = project(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([reward]),
                        torch.tensor([discount]), torch.tensor([0.0, 1.0, 2.0, 3.0]))
    torch.testing.assert_close(projected, torch.tensor([wanted]))


def test_categorical_values_are_means_and_its_loss_is_the_cross_entropy():
    learner = dqn(categorical=True, atoms=3, value_min=0.0, value_max=2.0, discount=0.5)
    batch = transitions(20)
    learner.observe(replace(batch, reward=np.ones(20, np.float32), terminated=np.ones(20, bool),
                            action=np.zeros((20, 1), np.float32)))
    for network in (learner.network, learner.target_network):
        constant(network, [0.0] * 9)
    torch.testing.assert_close(learner.policy_module().values(torch.zeros(1, 4)),
                               torch.ones(1, 3))
    # The target is all at z = 1; p = 1/3 each, so the gradient is p - m.
    torch.testing.assert_close(bias_gradient(learner)[:3], torch.tensor([1 / 3, -2 / 3, 1 / 3]))
    assert learner.metrics()['loss'] == pytest.approx(math.log(3))


@pytest.mark.parametrize('noisy', ['independent', 'factorised'])
def test_noise_is_learned_and_not_exported(noisy):
    learner = dqn(noisy=noisy, epsilon_start=0.0, epsilon_end=0.0)
    learner.observe(transitions(50))
    before = learner.network.flat.clone()
    learner.update()
    assert (learner.network.flat != before)[-10:].any()  # the spreads come last
    observation = torch.from_numpy(transitions(30).observation)
    module = learner.policy_module()
    assert torch.equal(module(observation), module(observation))
    np.testing.assert_array_equal(module(observation).numpy(),
                                  learner.act(observation.numpy(), explore=False))


def test_priorities_follow_the_errors_and_weights_the_loss():
    learner = dqn(prioritized=True, priority_exponent=1.0, discount=0.0, batch_size=64)
    batch = transitions(64)
    rewards = np.where(np.arange(64) < 8, 10.0, 1.0).astype(np.float32)
    learner.observe(replace(batch, reward=rewards, action=np.zeros((64, 1), np.float32)))
    constant(learner.network, [0.0, 0.0, 0.0])
    for _ in range(4):
        learner.update()
    rows, weights = learner._priorities.sample(512, 64, 1.0, torch.Generator().manual_seed(0))
    assert (rows < 8).float().mean() == pytest.approx(80 / (80 + 56), abs=0.03)
    assert weights[rows < 8].max() < weights[rows >= 8].min()


def test_priorities_of_distributions_are_divergences():
    """What is predicted exactly has no priority, however wide its distribution."""
    learner = dqn(prioritized=True, priority_exponent=1.0, categorical=True, atoms=3,
                  batch_size=64, value_min=0.0, value_max=2.0, discount=0.5, learning_rate=1e-9)
    batch = transitions(64)
    certain = np.arange(64) < 32
    learner.observe(replace(batch, action=np.zeros((64, 1), np.float32), terminated=certain,
                            reward=np.where(certain, 1.0, 0.5).astype(np.float32)))
    for network in (learner.network, learner.target_network):
        constant(network, [0.0] * 9)
    for _ in range(4):
        learner.update()
    # Of 1/3 each, terminated: all at 1, KL = log 3. Others: 1/2 to 3/2, so (1/6, 2/3, 1/6).
    certain, wide = math.log(3), math.log(3) + 2 / 6 * math.log(1 / 6) + 2 / 3 * math.log(2 / 3)
    rows, _ = learner._priorities.sample(4096, 64, 1.0, torch.Generator().manual_seed(0))
    assert (rows < 32).float().mean() == pytest.approx(certain / (certain + wide), abs=0.02)


def test_rows_that_are_not_fit_are_refused():
    learner = dqn()
    batch = transitions(10)
    batch.observation[4] = np.nan
    batch.action[5:8, 0] = 7, -1, 0.5
    assert learner.observe(batch) == 6
    assert learner.buffer.refused == 4
    assert learner.observe(replace(batch, action=np.full((10, 1), np.nan, np.float32))) == 0
    with pytest.raises(SpecError, match='one number each'):
        learner.observe(replace(batch, action=np.zeros((10, 2), np.float32)))


def test_actions_are_counted_from_the_first():
    learner = Dqn(4, np.array([3]), np.array([5]), DqnConfig(buffer_size=50, hidden=(8,)), 0)
    assert set(learner.act(np.zeros((200, 4), np.float32))[:, 0]) == {3, 4, 5}
    assert learner.policy_module()(torch.zeros(1, 4)).item() in (3, 4, 5)


@pytest.mark.parametrize('settings', [
    {}, {'categorical': True, 'dueling': True, 'prioritized': True, 'noisy': 'factorised'}])
def test_divergence_raises_and_can_be_rolled_back(settings):
    learner = dqn(**settings)
    learner.observe(transitions(100))
    learner.update()
    good = learner.state_dict()
    learner.network.flat[3] = math.nan
    with pytest.raises(TrainingError, match='diverged'):
        learner.update()
    assert not learner.is_finite()
    learner.roll_back(good)
    assert learner.is_finite()
    learner.update()
