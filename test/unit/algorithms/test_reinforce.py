# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""REINFORCE and A2C: their gradients, baselines and relations to each other."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
import torch

SMALL = {'hidden': (16, 16), 'normalize_observation': False, 'normalize_advantage': False}


@pytest.fixture(params=[False, True], ids=['continuous', 'discrete'])
def make(request, contract):
    def learner(kind=Reinforce, seed=0, **settings):
        config = {Reinforce: ReinforceConfig, A2c: A2cConfig, Ppo: PpoConfig}[kind]
        return kind(contract(request.param), config(**(SMALL | settings)), seed)
    return learner


def policy_gradient(learner, rollout):
    """Return the gradient of one batch update, before Adam."""
    learner.update(rollout)
    return learner.networks.policy_gradient.clone()


def without_time_limits(rollout):
    """Return the same, every episode terminated instead of cut off."""
    return replace(rollout, terminated=rollout.ended, truncated=np.zeros_like(rollout.truncated),
                   cut_observation=rollout.cut_observation[:0])


def with_reward(rollout, offset):
    return replace(rollout, reward=rollout.reward + np.float32(offset))


@pytest.mark.parametrize(('baseline', 'estimator', 'moved'), [
    ('none', 'full_return', True), ('mean', 'full_return', False),
    ('none', 'reward_to_go', True)])
def test_constant_offset_of_returns(make, live, baseline, estimator, moved):
    """One-step episodes: an offset of rewards is one of returns, which a baseline takes away."""
    gradients = []
    for offset in (0.0, 10.0):
        learner = make(baseline=baseline, estimator=estimator)
        rollout = live(learner)
        ended = np.ones_like(rollout.terminated)
        rollout = replace(rollout, terminated=ended, truncated=~ended,
                          cut_observation=rollout.cut_observation[:0])
        gradients.append(policy_gradient(learner, with_reward(rollout, offset)))
    same = torch.allclose(*gradients, atol=1e-5)
    assert same != moved


def test_baseline_leaves_the_expected_gradient(contract):
    """E[b grad log pi] = 0: over all actions of a state the baseline's part cancels."""
    learner = Reinforce(contract(True), ReinforceConfig(**SMALL), 0)
    output = learner.networks.act(torch.randn(5, 3)).clone()
    p = torch.softmax(output, 1)
    total = sum(learner.head.log_probability_gradient(
        output, learner.networks.own, torch.full((5, 1), float(k)), 7.0 * p[:, k:k + 1])[0]
        for k in range(3))
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-6, rtol=0)


def test_dynamics_drop_out_of_the_gradient(make, live):
    """Ours is the gradient of the log-density of whole episodes, whatever P(o'|o, a) is in it."""
    learner = make(baseline='none', estimator='full_return')
    rollout = without_time_limits(live(learner))
    batch = learner.prepare(rollout, rollout.reward)
    actor = learner.networks.actor.member(0)
    own = learner.networks.own.clone().requires_grad_()
    output = actor(batch.observation)
    following = torch.from_numpy(np.concatenate(
        [rollout.observation[1:], rollout.last_observation[None]]).reshape(len(batch), -1))
    guess = batch.observation + batch.action.sum(1, keepdim=True)
    dynamics = torch.distributions.Normal(guess, 0.5).log_prob(following).sum(1)
    density = learner.head.log_probability(output, own, batch.action) + dynamics
    (-(batch.advantage * density).mean()).backward()
    layers = [layer for layer in actor if isinstance(layer, torch.nn.Linear)]
    wanted = [part.flatten() for layer in layers
              for part in (layer.weight.grad.T, layer.bias.grad)]
    found = policy_gradient(learner, rollout)
    torch.testing.assert_close(found, torch.cat(
        [*wanted, *([] if own.grad is None else [own.grad])]), atol=1e-5, rtol=1e-4)


def test_value_baseline_is_subtracted_and_fitted(make, live):
    learner = make(baseline='value', critic_steps=300, critic_learning_rate=0.01)
    learner.networks.critic.flat.zero_()
    learner.networks.critic.biases[-1].fill_(3.0)
    rollout = without_time_limits(live(learner))
    batch = learner.prepare(rollout, rollout.reward)
    torch.testing.assert_close(batch.advantage, batch.target - 3.0)
    before = (batch.value - batch.target).square().mean()
    learner.learn(batch)
    after = (learner.networks.value(batch.observation) - batch.target).square().mean()
    assert after < 0.5 * before


def test_full_return_and_reward_to_go_agree_at_the_first_step(make, live):
    batches = []
    for estimator in ('full_return', 'reward_to_go'):
        learner = make(baseline='none', estimator=estimator)
        rollout = without_time_limits(live(learner))
        batches.append((rollout, learner.prepare(rollout, rollout.reward)))
    (rollout, full), (_, to_go) = batches
    first = np.vstack([np.ones((1, 4), bool), rollout.ended[:-1]])
    first = torch.from_numpy(first.flatten())
    torch.testing.assert_close(full.advantage[first], to_go.advantage[first])
    assert not torch.allclose(full.advantage, to_go.advantage)


def test_per_step_takes_a_step_for_each_row_and_batch_takes_one(make, live):
    one, many = make(update='batch'), make(update='per_step')
    one.update(live(one))
    many.update(live(many))
    assert (one.updates, many.updates) == (1, 64)


def test_per_step_gradients_add_up_to_the_batch_gradient(make, live):
    """As long as the policy stands still, the mean of the steps' gradients is the batch's."""
    batch_wise = make(update='batch', baseline='mean')
    wanted = policy_gradient(batch_wise, live(batch_wise))
    step_wise = make(update='per_step', baseline='mean', learning_rate=0.0)
    seen = []
    step_wise._adam.step = lambda gradient: seen.append(gradient.clone())
    step_wise.update(live(step_wise))
    torch.testing.assert_close(torch.stack(seen).mean(0), wanted, atol=1e-5, rtol=1e-4)


def test_rows_after_the_last_whole_episode_do_not_count(make, live):
    learner = make(baseline='mean')
    rollout = without_time_limits(live(learner))
    counted = rollout.counted.copy()
    counted[8:, 2:] = False
    batch = learner.prepare(replace(rollout, counted=counted), rollout.reward)
    assert len(batch) == counted.sum()
    np.testing.assert_array_equal(
        batch.observation.numpy(), rollout.observation[counted])
    assert abs(batch.advantage.mean().item()) < 1e-6  # b is the mean of what counts


def test_a2c_is_ppo_with_one_epoch_of_one_minibatch(make, live):
    a2c = make(A2c, entropy_coefficient=0.1, learning_rate=1e-3, gae_lambda=0.9)
    ppo = make(Ppo, entropy_coefficient=0.1, learning_rate=1e-3, gae_lambda=0.9, epochs=1,
               batch_size=64, rollout_steps=16)
    assert torch.equal(a2c.networks.flat, ppo.networks.flat)
    rollout = live(a2c)
    a2c.update(rollout)
    ppo.update(rollout)
    torch.testing.assert_close(a2c.networks.gradient, ppo.networks.gradient, atol=1e-6, rtol=1e-4)
