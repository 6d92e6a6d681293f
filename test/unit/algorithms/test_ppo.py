# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""PPO's gradients against autograd, and the properties that make it PPO."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.schedules import Linear
import torch
from torch import distributions


@pytest.fixture(params=[False, True], ids=['continuous', 'discrete'])
def make(request, contract):
    def learner(seed=0, **settings):
        return Ppo(contract(request.param), PpoConfig(**({
            'hidden': (16, 16), 'rollout_steps': 16, 'batch_size': 32, 'epochs': 2,
            'normalize_observation': False} | settings)), seed)
    return learner


def ready(learner, rollout):
    """Return the rollout as a batch, the networks moved a little away from what acted."""
    batch = learner.prepare(rollout, rollout.reward)
    generator = torch.Generator().manual_seed(1)
    learner.networks.flat.add_(0.05 * torch.randn(learner.networks.flat.shape,
                                                  generator=generator))
    return batch


def autograd(learner, batch, loss_of):
    """Return (gradient of the policy, of the critic) of a loss written with autograd."""
    actor, critic = learner.networks.actor.member(0), learner.networks.critic.member(0)
    own = learner.networks.own.clone().requires_grad_()

    def policy(output, own):
        if learner.discrete:
            return distributions.Categorical(logits=output)
        return distributions.Independent(distributions.Normal(output, own.exp()), 1)

    actions = batch.action[:, 0] if learner.discrete else batch.action
    now, old = policy(actor(batch.observation), own), policy(batch.output, batch.own)
    loss_of(now, old, actions, critic(batch.observation)[:, 0]).backward()

    def flat(module):
        layers = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
        return torch.cat([part.flatten() for layer in layers
                          for part in (layer.weight.grad.T, layer.bias.grad)])

    ours = flat(actor) if own.grad is None else torch.cat([flat(actor), own.grad])
    return ours, flat(critic)


@pytest.mark.parametrize('variant', ['clip', 'kl_penalty'])
@pytest.mark.parametrize('value_clip', [None, 0.05])
def test_gradient_agrees_with_autograd(make, live, variant, value_clip):
    learner = make(variant=variant, value_clip_range=value_clip, entropy_coefficient=0.3,
                   clip_range=0.02, initial_kl_penalty=2.0, normalize_advantage=False)
    batch = ready(learner, live(learner))

    def loss_of(now, old, actions, value):
        ratio = (now.log_prob(actions) - old.log_prob(actions)).exp()
        gained = ratio * batch.advantage
        clipped = torch.minimum(gained, ratio.clamp(0.98, 1.02) * batch.advantage)
        penalty = distributions.kl_divergence(old, now).mean()
        surrogate = -clipped.mean() if variant == 'clip' else -gained.mean() + 2.0 * penalty
        error = (value - batch.target).square()
        if value_clip:
            near = batch.value + (value - batch.value).clamp(-value_clip, value_clip)
            error = torch.maximum(error, (near - batch.target).square())
        return surrogate - 0.3 * now.entropy().mean() + 0.5 * 0.5 * error.mean()

    wanted = autograd(learner, batch, loss_of)
    rows = torch.arange(len(batch))
    learner.policy_gradient(batch, rows, batch.observation)
    learner._value_gradient(batch.observation, batch.target, batch.value)
    torch.testing.assert_close(learner.networks.policy_gradient, wanted[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(learner.networks.critic.flat_gradient, wanted[1], atol=1e-5,
                               rtol=1e-4)


def test_first_gradient_is_the_policy_gradient(make, live):
    """At the policy that acted rho is 1, nothing is clipped, and eq. (1) has grad A log pi."""
    learner = make(normalize_advantage=False)
    rollout = live(learner)
    batch = learner.prepare(rollout, rollout.reward)
    wanted, _ = autograd(learner, batch, lambda now, old, actions, value: (
        -(now.log_prob(actions) * batch.advantage).mean() + value.sum()))
    divergence = learner.policy_gradient(batch, torch.arange(len(batch)), batch.observation)
    torch.testing.assert_close(learner.networks.policy_gradient, wanted, atol=1e-5, rtol=1e-4)
    assert divergence == pytest.approx(0.0, abs=1e-6)
    assert learner.metrics()['clip_fraction'] == 0.0


@pytest.mark.parametrize(('advantage', 'ratio', 'moves'), [
    (1.0, 1.5, False), (1.0, 0.5, True), (-1.0, 1.5, True), (-1.0, 0.5, False)])
def test_four_cases_of_the_clip(make, live, advantage, ratio, moves):
    """The gradient vanishes on the outer side only: a policy can always be pulled back."""
    learner = make(normalize_advantage=False)
    rollout = live(learner)
    batch = learner.prepare(rollout, rollout.reward)
    batch = replace(batch, advantage=torch.full_like(batch.advantage, advantage),
                    log_probability=batch.log_probability - np.log(ratio))
    learner.policy_gradient(batch, torch.arange(len(batch)), batch.observation)
    assert bool(learner.networks.policy_gradient.abs().sum() > 0) == moves
    assert learner.metrics()['clip_fraction'] == 1.0


def test_constant_reward_teaches_the_policy_nothing(make, live):
    """With a critic that knows it: V = r / (1 - gamma) everywhere leaves no advantage."""
    learner = make(discount=0.5, gae_lambda=0.9)
    learner.networks.critic.flat.zero_()
    learner.networks.critic.biases[-1].fill_(2.0)
    rollout = live(learner, reward=1.0)
    rollout = replace(rollout, terminated=np.zeros_like(rollout.terminated),
                      cut_observation=np.zeros((int(rollout.truncated.sum()), 3), np.float32))
    batch = learner.prepare(rollout, rollout.reward)
    assert batch.advantage.abs().max() < 1e-6
    torch.testing.assert_close(batch.target, torch.full_like(batch.target, 2.0))


def test_time_limit_counts_the_value_of_the_real_last_observation(make, live):
    learner = make(discount=0.5, gae_lambda=0.0, normalize_advantage=False)
    rollout = live(learner)
    value = learner.networks.critic.member(0)
    found = learner.prepare(rollout, rollout.reward).advantage.view(16, 4)
    with torch.no_grad():
        here = value(torch.from_numpy(rollout.observation))[..., 0]
        cut = value(torch.from_numpy(rollout.cut_observation))[:, 0]
    assert len(cut) > 0
    where = torch.from_numpy(rollout.cut)
    wanted = torch.from_numpy(rollout.reward)[where] + 0.5 * cut - here[where]
    torch.testing.assert_close(found[where], wanted)
    where = torch.from_numpy(rollout.terminated)
    torch.testing.assert_close(found[where], (torch.from_numpy(rollout.reward) - here)[where])


def test_epochs_end_when_the_policy_has_gone_far(make, live):
    learner = make(kl_stop=1e-9, epochs=5)
    learner.update(live(learner))
    assert learner.updates == 1  # the second minibatch sees a divergence and stops
    assert learner.metrics()['epochs'] == 0.0


def test_penalty_follows_the_divergence(make, live):
    shy = make(variant='kl_penalty', learning_rate=1e-7, epochs=1)
    shy.update(live(shy))
    assert shy.kl_penalty == 0.5
    bold = make(variant='kl_penalty', learning_rate=0.1, epochs=3)
    bold.update(live(bold))
    assert bold.kl_penalty == 2.0


def test_schedules_follow_the_steps(make, live):
    learner = make(learning_rate=Linear(1e-3, 0.0, 128), clip_range=Linear(0.2, 0.1, 64))
    learner.update(live(learner))  # 64 steps
    assert learner.metrics()['learning_rate'] == pytest.approx(5e-4)
    assert learner.now(learner.config.clip_range) == pytest.approx(0.1)
    learner.update(live(learner))
    learner.update(live(learner))
    assert learner.metrics()['learning_rate'] == 0.0


def test_advantages_have_mean_zero_and_spread_one(make):
    found = make().advantage_for(torch.tensor([1.0, 2.0, 6.0]))
    assert found.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert found.std().item() == pytest.approx(1.0)


def test_gradient_is_shortened_all_together(make):
    learner = make()
    learner.networks.gradient.fill_(1.0)
    norm = learner.clip_gradient(0.5)
    assert norm == pytest.approx(len(learner.networks.gradient) ** 0.5, rel=1e-5)
    assert learner.networks.gradient.norm().item() == pytest.approx(0.5, rel=1e-3)
    learner.networks.gradient.fill_(1e-6)
    learner.clip_gradient(0.5)
    assert (learner.networks.gradient == 1e-6).all()
