# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""DDPG and TD3: targets by hand, gradients against autograd, delay, smoothing and noise."""

from dataclasses import replace
import math

import numpy as np
import pytest
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.types import TransitionBatch
import torch

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])


def transitions(count, seed=0):
    rng = np.random.default_rng(seed)
    flags, index = np.zeros(count, bool), np.arange(count)
    action = rng.uniform(LOW, HIGH, (count, 2)).astype(np.float32)
    return TransitionBatch(
        rng.normal(3.0, 2.0, (count, 3)).astype(np.float32), action, action,
        rng.normal(size=count).astype(np.float32),
        rng.normal(3.0, 2.0, (count, 3)).astype(np.float32), rng.random(count) < 0.2,
        rng.random(count) < 0.2, flags, flags, index, index, index)


def td3(seed=0, **settings):
    return Td3(3, LOW, HIGH, Td3Config(**({'hidden': (16, 16), 'batch_size': 32,
                                           'buffer_size': 500, 'learning_starts': 1} | settings)),
               seed)


def ddpg(seed=0, **settings):
    return Ddpg(3, LOW, HIGH, DdpgConfig(**({'hidden': (16, 16), 'batch_size': 32,
                                             'buffer_size': 500, 'learning_starts': 1}
                                            | settings)), seed)


def next_draws(learner):
    """Return the sample and the smoothing noise that the next update will draw."""
    state = learner._generator.get_state()
    sample = learner.buffer.sample(32, learner._generator)
    sample = replace(sample, **{name: column.clone() for name, column in vars(sample).items()
                                if column is not None})
    noise = torch.zeros(32, 2).normal_(generator=learner._generator)
    learner._generator.set_state(state)
    return sample, noise


@pytest.mark.parametrize('make', [td3, ddpg])
def test_gradients_are_those_of_autograd(make):
    learner = make()
    learner.observe(transitions(200))
    for _ in range(3):
        learner.update()  # of TD3 the fourth moves the actor, too
    sample, noise = next_draws(learner)
    config, members = learner.config, learner.members
    normalize = learner.normalizer.frozen()
    actor, target_actor = learner.actor.member(0), learner.target_actor.member(0)
    critics = [learner.critics.member(i) for i in range(members)]
    targets = [learner.target_critics.member(i) for i in range(members)]
    o, following = normalize(sample.observation), normalize(sample.next_observation)
    with torch.no_grad():
        action = torch.tanh(target_actor(following))
        if make is td3:
            action = (action + (noise * 0.2).clamp(-0.5, 0.5)).clamp(-1.0, 1.0)
        value = torch.stack([target(torch.cat([following, action], 1)) for target in targets])
        y = sample.reward + config.discount * (1 - sample.terminated) * value.amin(0)[:, 0]
    loss = sum(0.5 * (critic(torch.cat([o, sample.action], 1))[:, 0] - y).square().mean()
               for critic in critics)
    wanted = torch.autograd.grad(loss, [p for critic in critics for p in critic.parameters()])
    actor_before, slow_before = learner.actor.flat.clone(), learner.target_critics.flat.clone()
    learner.update()
    per_member = len(wanted) // members
    for i in range(members):
        for k in range(3):
            torch.testing.assert_close(learner.critics.weight_gradients[k][i],
                                       wanted[i * per_member + 2 * k].T, atol=1e-6, rtol=1e-4)
    q = learner.critics.member(0)(torch.cat([o, torch.tanh(actor(o))], 1))
    for k, gradient in enumerate(torch.autograd.grad(-q.mean(), list(actor.parameters()))[::2]):
        torch.testing.assert_close(learner.actor.weight_gradients[k][0], gradient.T,
                                   atol=1e-6, rtol=1e-3)
    assert not torch.equal(learner.actor.flat, actor_before)
    torch.testing.assert_close(
        learner.target_critics.flat, 0.995 * slow_before + 0.005 * learner.critics.flat)


@pytest.mark.parametrize(('terminated', 'wanted'), [(0.0, -0.6), (1.0, 1.0)])
def test_target_by_hand_and_no_gradient_through_it(terminated, wanted):
    """Q = 2 and 3: y = 1 + 0.8 * 2 = 2.6, or 1 at the end; dL/db = Q - y of the first critic."""
    learner = td3(discount=0.8)
    batch = transitions(64)
    learner.observe(replace(batch, reward=np.ones(64, np.float32),
                            terminated=np.full(64, terminated, bool)))
    for critics in (learner.critics, learner.target_critics):
        critics.flat.zero_()
        critics.biases[-1][0], critics.biases[-1][1] = 2.0, 3.0
    learner.update()
    torch.testing.assert_close(learner.critics.bias_gradients[-1].flatten(),
                               torch.tensor([wanted, wanted + 1.0]), atol=1e-5, rtol=0)


def test_actor_and_slow_copies_wait():
    learner = td3(policy_delay=3)
    learner.observe(transitions(100))
    moved = []
    for _ in range(6):
        before = [learner.actor.flat.clone(), learner.target_actor.flat.clone(),
                  learner.target_critics.flat.clone()]
        learner.update()
        moved.append([not torch.equal(a, b) for a, b in zip(before, (
            learner.actor.flat, learner.target_actor.flat, learner.target_critics.flat))])
    assert moved == [[False] * 3, [False] * 3, [True] * 3] * 2


def test_smoothing_is_clipped():
    learner = td3(smoothing_std=2.0, smoothing_clip=0.3)
    learner.target_actor.flat.zero_()
    action = learner._target_action(torch.zeros(32, 3))
    assert action.abs().max().item() == pytest.approx(0.3)
    assert (action.abs() > 0.299).float().mean() > 0.7


@pytest.mark.parametrize(('noise', 'correlation'), [('normal', 0.0), ('ou', 0.9)])
def test_exploration_has_the_promised_spread_and_memory(noise, correlation):
    learner = ddpg(noise=noise, noise_correlation=0.9, noise_std=0.2)
    learner.observe(transitions(10))
    learner.actor.flat.zero_()
    x = np.array([learner.act(np.zeros((20, 3), np.float32))[:, 0] for _ in range(1500)]) / 2.0
    assert x.std() == pytest.approx(0.2, rel=0.04)
    assert np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1] == pytest.approx(correlation, abs=0.03)


def test_before_learning_actions_are_spread_over_the_range():
    learner = td3(learning_starts=1000)
    actions = np.concatenate([learner.act(np.zeros((50, 3), np.float32)) for _ in range(40)])
    scaled = (actions - LOW) / (HIGH - LOW)
    counts = np.stack([np.histogram(column, 5, (0, 1))[0] for column in scaled.T]) / len(actions)
    assert counts.min() > 0.12
    assert (actions >= LOW).all() and (actions <= HIGH).all()
    std = learner.policy_module()(torch.zeros(1, 3))[2]
    torch.testing.assert_close(std, torch.tensor([[2.0, 0.5]]))


def test_policy_module_is_the_policy_that_acts():
    learner = td3()
    learner.observe(transitions(100))
    for _ in range(6):
        learner.update()
    observation = transitions(9, seed=5).observation
    action, mean, std = (
        output.detach() for output in learner.policy_module()(torch.from_numpy(observation)))
    np.testing.assert_allclose(action, learner.act(observation, explore=False), atol=1e-6)
    np.testing.assert_allclose(np.clip(mean.numpy(), LOW, HIGH), action, rtol=1e-6)
    np.testing.assert_allclose(std[0].numpy(), 0.1 * (HIGH - LOW) / 2, rtol=1e-6)


def test_metrics_of_steps_with_and_without_the_actor():
    learner = td3()
    learner.observe(transitions(50))
    learner.update()
    assert set(learner.metrics()) == {'critic_loss', 'q_mean'}
    learner.update()
    values = learner.metrics()
    assert set(values) == {'critic_loss', 'q_mean', 'actor_loss'}
    assert math.isfinite(values['actor_loss'])
