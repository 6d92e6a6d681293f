# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One update against the same equations written with autograd, and the edges of the learner."""

from dataclasses import replace
import math

import numpy as np
import pytest
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.core.errors import SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
import torch
from torch import distributions

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])


def transitions(count, seed=0):
    rng = np.random.default_rng(seed)
    flags = np.zeros(count, bool)
    index = np.arange(count)
    action = rng.uniform(LOW, HIGH, (count, 2)).astype(np.float32)
    return TransitionBatch(
        observation=rng.normal(3.0, 2.0, (count, 3)).astype(np.float32), action=action,
        wanted=action, reward=rng.normal(size=count).astype(np.float32),
        next_observation=rng.normal(3.0, 2.0, (count, 3)).astype(np.float32),
        terminated=rng.random(count) < 0.2, truncated=rng.random(count) < 0.2, success=flags,
        limited=flags, policy_version=index, episode=index, step=index,
        privileged=rng.normal(-1.0, 0.5, (count, 4)).astype(np.float32),
        next_privileged=rng.normal(-1.0, 0.5, (count, 4)).astype(np.float32))


def learner(seed=0, **settings):
    config = SacConfig(**({'hidden': (16, 16), 'batch_size': 32, 'buffer_size': 500,
                           'learning_starts': 1} | settings))
    return Sac(3, LOW, HIGH, config, seed, privileged_size=4)


def autograd_update(sac, sample, noise):
    """Return the critics' gradients and a function for the actor's, by autograd."""
    size = sac.config.batch_size
    normalize = sac.normalizer.frozen()
    actor = sac.actor.member(0)
    critics = [sac.critics.member(i) for i in range(2)]
    targets = [sac.target_critics.member(i) for i in range(2)]
    alpha = sac.log_temperature.exp().item()

    def draw(observation, eps):
        mean, log_std = actor(observation).chunk(2, -1)
        u = mean + log_std.exp() * eps
        density = distributions.Normal(mean, log_std.exp()).log_prob(u)
        action = torch.tanh(u)
        return action, (density - torch.log1p(-action.square())).sum(-1)

    def seen(observation, privileged, action):
        if sac.config.critic_observation == 'observation':
            return torch.cat([observation, action], -1)
        return torch.cat([observation, sac.privileged_normalizer.frozen()(privileged), action], -1)

    def smaller(networks, observation, privileged, action):
        x = seen(observation, privileged, action)
        return torch.minimum(networks[0](x), networks[1](x))[:, 0]

    observation, following = normalize(sample.observation), normalize(sample.next_observation)
    next_action, next_density = draw(following, noise[size:])
    y = sample.reward + sac.config.discount * (1 - sample.terminated) * (
        smaller(targets, following, sample.next_privileged, next_action) - alpha * next_density)
    y = y.detach()
    x = seen(observation, sample.privileged, sample.action)
    loss = sum(0.5 * (critic(x)[:, 0] - y).square().mean() for critic in critics)
    parameters = [list(critic.parameters()) for critic in critics]
    gradients = torch.autograd.grad(loss, sum(parameters, []))
    half = len(gradients) // 2
    critic_gradient = [gradients[:half], gradients[half:]]

    def actor_gradient():
        fresh = [sac.critics.member(i) for i in range(2)]
        action, density = draw(observation, noise[:size])
        value = (alpha * density - smaller(fresh, observation, sample.privileged, action)).mean()
        return torch.autograd.grad(value, list(actor.parameters()))

    return critic_gradient, actor_gradient


@pytest.mark.parametrize(('normalize', 'critics'), [
    (True, 'observation'), (False, 'observation'), (True, 'privileged'), (False, 'privileged')])
def test_gradients_are_those_of_autograd(normalize, critics):
    sac = learner(normalize_observation=normalize, critic_observation=critics)
    sac.observe(transitions(200))
    for _ in range(3):
        sac.update()
    # The same draws again: the generator's state is read, used, and put back.
    state = sac._generator.get_state()
    sample = sac.buffer.sample(32, sac._generator)
    sample = replace(sample, **{
        name: tensor.clone() for name, tensor in vars(sample).items() if tensor is not None})
    noise = torch.zeros(64, 2).normal_(generator=sac._generator)
    sac._generator.set_state(state)
    critic_gradient, actor_gradient = autograd_update(sac, sample, noise)
    actor_before = sac.actor.flat.clone()
    sac.update()

    for i, member in enumerate(critic_gradient):
        for k in range(3):
            torch.testing.assert_close(sac.critics.weight_gradients[k][i], member[2 * k].T,
                                       atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(sac.critics.bias_gradients[k][i, 0], member[2 * k + 1],
                                       atol=1e-6, rtol=1e-4)
    after = sac.actor.flat.clone()
    sac.actor.flat.copy_(actor_before)  # the actor's loss saw the updated critics, not this actor
    for k, gradient in enumerate(actor_gradient()[::2]):
        torch.testing.assert_close(sac.actor.weight_gradients[k][0], gradient.T,
                                   atol=1e-6, rtol=1e-3)
    sac.actor.flat.copy_(after)


def test_gradients_with_state_dependent_noise_are_those_of_autograd():
    sac = learner(state_dependent_noise=4, normalize_observation=False)
    sac.observe(transitions(200))
    for _ in range(3):
        sac.update()
    state = sac._generator.get_state()
    observation = sac.buffer.sample(32, sac._generator).observation.clone()
    noise = torch.zeros(64, 2).normal_(generator=sac._generator)[:32]
    sac._generator.set_state(state)
    alpha, actor = sac.log_temperature.exp().item(), sac.actor.member(0)
    weight = sac.spread.clone()
    given = []
    step, sac._spread_adam.step = sac._spread_adam.step, lambda gradient: (
        given.append(gradient.clone()), step(gradient))
    sac.update()

    weight.requires_grad_()
    hidden = torch.nn.Sequential(*list(actor)[:-1])(observation)
    mean = actor[-1](hidden)
    std = (hidden.detach().square() @ (2.0 * weight).exp() + 1e-6).sqrt()
    u = mean + std * noise
    action = torch.tanh(u)
    density = (distributions.Normal(mean, std).log_prob(u)
               - torch.log1p(-action.square())).sum(-1)
    x = torch.cat([observation, action], -1)
    fresh = [sac.critics.member(i) for i in range(2)]
    value = torch.minimum(fresh[0](x), fresh[1](x))[:, 0]
    (alpha * density - value).mean().backward()
    torch.testing.assert_close(given[0], weight.grad, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(sac.actor.weight_gradients[0][0], actor[0].weight.grad.T,
                               atol=1e-6, rtol=1e-3)


def test_state_dependent_noise_is_held_while_acting_and_has_the_exported_spread():
    sac = learner(state_dependent_noise=4)
    rows = np.random.default_rng(0).normal(size=(1, 3)).astype(np.float32)
    drawn = [sac.act(rows)[0] for _ in range(4000)]
    assert all(np.array_equal(drawn[i], drawn[i - i % 4]) for i in range(4000))
    assert len(np.unique(np.array(drawn), axis=0)) == 1000
    _, mean, std = (x.detach() for x in sac.policy_module()(torch.from_numpy(rows)))
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    u = np.arctanh((np.array(drawn)[::4] - middle) / half)
    np.testing.assert_allclose(u.mean(0), mean[0].numpy(), atol=0.1)
    np.testing.assert_allclose(u.std(0), std[0].numpy(), rtol=0.1)


def test_targets_follow_slowly():
    sac = learner(target_decay=0.9)
    sac.observe(transitions(100))
    before = sac.target_critics.flat.clone()
    sac.update()
    torch.testing.assert_close(sac.target_critics.flat,
                               0.9 * before + 0.1 * sac.critics.flat)


def test_temperature_moves_towards_the_target_entropy():
    low, high = learner(target_entropy_per_action=-5.0), learner(target_entropy_per_action=0.6)
    for sac in (low, high):
        sac.actor.biases[-1][..., 2:] = -2.0  # a narrow policy: far below 0.6 nat, far above -5
        sac.observe(transitions(100))
        for _ in range(20):
            sac.update()
    assert low.log_temperature.item() < 0.0 < high.log_temperature.item()


def test_untrained_policy_explores_nearly_uniformly():
    sac = learner(hidden=(256, 256))
    rng = np.random.default_rng(0)
    actions = sac.act(rng.normal(size=(4000, 3)).astype(np.float32))
    scaled = (actions - LOW) / (HIGH - LOW)
    assert (np.abs(scaled.mean(0) - 0.5) < 0.03).all()
    counts = np.stack([np.histogram(column, 5, (0, 1))[0] for column in scaled.T]) / 4000
    assert counts.min() > 0.14
    assert counts.max() < 0.27


def test_actions_are_within_bounds_and_deterministic_without_exploration():
    sac = learner()
    observation = np.ones((5, 3), np.float32) * 100
    actions = np.concatenate([sac.act(observation) for _ in range(50)])
    assert (actions >= LOW).all()
    assert (actions <= HIGH).all()
    assert np.array_equal(sac.act(observation, explore=False),
                          sac.act(observation, explore=False))


def test_policy_module_is_the_policy_that_acts():
    sac = learner()
    sac.observe(transitions(100))
    for _ in range(5):
        sac.update()
    observation = transitions(9, seed=5).observation
    action, mean, std = sac.policy_module()(torch.from_numpy(observation))
    np.testing.assert_allclose(action.detach(), sac.act(observation, explore=False), atol=1e-6)
    middle, half = 0.5 * (LOW + HIGH), 0.5 * (HIGH - LOW)
    np.testing.assert_allclose(action.detach(), middle + half * np.tanh(mean.detach().numpy()),
                               atol=1e-6)
    assert (std > 0).all()


def test_divergence_raises_and_can_be_rolled_back():
    sac = learner()
    sac.observe(transitions(100))
    sac.update()
    good = sac.state_dict()
    sac.critics.flat[3] = math.nan
    with pytest.raises(TrainingError, match='diverged'):
        sac.update()
    assert not sac.is_finite()
    sac.roll_back(good)
    assert sac.is_finite()
    assert sac.updates == 2
    sac.update()


def test_rows_that_are_not_finite_reach_neither_buffer_nor_normalizer():
    sac = learner()
    batch = transitions(10)
    batch.observation[4] = np.nan
    assert sac.observe(batch) == 9
    assert torch.isfinite(sac.normalizer.mean).all()


def test_actions_of_another_robot_are_refused():
    batch = transitions(4)
    with pytest.raises(SpecError, match=r'\[4, 3\], expected \[4, 2\]'):
        learner().observe(replace(batch, action=np.zeros((4, 3), np.float32)))


@pytest.mark.parametrize(('low', 'high'), [([0.0], [np.inf]), ([1.0], [1.0]), ([np.nan], [1.0])])
def test_bounds_without_a_range_are_refused(low, high):
    with pytest.raises(TrainingError, match='finite lower bound'):
        Sac(3, np.array(low), np.array(high), SacConfig(buffer_size=10), 0)


def test_metrics_are_means_since_the_last_call():
    sac = learner()
    sac.observe(transitions(50))
    assert sac.metrics() == {}
    sac.update()
    values = sac.metrics()
    assert set(values) == {'critic_loss', 'actor_loss', 'entropy', 'temperature', 'q_mean'}
    assert values['temperature'] == pytest.approx(1.0)
    assert sac.metrics() == {}


def test_critics_with_privileged_signals_need_them_and_the_policy_never_does():
    sac = learner(critic_observation='privileged')
    with pytest.raises(SpecError, match="'privileged' is missing"):
        sac.observe(replace(transitions(20), privileged=None, next_privileged=None))
    sac.observe(transitions(60))
    for _ in range(3):
        sac.update()
    other = learner(seed=1, critic_observation='privileged')
    other.load_state_dict(sac.state_dict())
    assert torch.equal(other.privileged_normalizer.frozen().mean,
                       sac.privileged_normalizer.frozen().mean)
    observation = torch.from_numpy(transitions(5).observation)
    assert sac.policy_module()(observation)[0].shape == (5, 2)
    with pytest.raises(TrainingError, match='lists no privileged signals'):
        Sac(3, LOW, HIGH, SacConfig(critic_observation='privileged'), 0)


def test_what_the_critics_do_not_see_is_not_stored_and_changes_nothing():
    bare, given = learner(), learner()
    bare.observe(replace(transitions(60), privileged=None, next_privileged=None))
    given.observe(transitions(60))
    for sac in (bare, given):
        sac.update()
    assert torch.equal(bare.actor.flat, given.actor.flat)
    assert bare.buffer.state_dict().keys() == given.buffer.state_dict().keys()


def test_v_network_gradients_are_those_of_autograd():
    """Equations (6) and (7): V towards the smaller critic, critics towards the slow V."""
    sac = learner(variant='v_network', initial_temperature=0.3)
    sac.observe(transitions(200))
    for _ in range(3):
        sac.update()
    state = sac._generator.get_state()
    sample = sac.buffer.sample(32, sac._generator)
    sample = replace(sample, **{
        name: tensor.clone() for name, tensor in vars(sample).items() if tensor is not None})
    noise = torch.zeros(64, 2).normal_(generator=sac._generator)
    sac._generator.set_state(state)
    normalize = sac.normalizer.frozen()
    observation, following = normalize(sample.observation), normalize(sample.next_observation)
    critics = [sac.critics.member(i) for i in range(2)]
    value, slow = sac.value.member(0), sac.target_value.member(0)
    with torch.no_grad():
        mean, log_std = sac.actor.member(0)(observation).chunk(2, -1)
        u = mean + log_std.exp() * noise[:32]
        density = distributions.Normal(mean, log_std.exp()).log_prob(u)
        density = (density - torch.log1p(-torch.tanh(u).square())).sum(-1)
        x = torch.cat([observation, torch.tanh(u)], 1)
        wanted_value = torch.minimum(critics[0](x), critics[1](x))[:, 0] - 0.3 * density
        y = sample.reward + 0.99 * (1 - sample.terminated) * slow(following)[:, 0]
    loss = 0.5 * (value(observation)[:, 0] - wanted_value).square().mean()
    value_gradient = torch.autograd.grad(loss, list(value.parameters()))
    x = torch.cat([observation, sample.action], 1)
    loss = sum(0.5 * (critic(x)[:, 0] - y).square().mean() for critic in critics)
    critic_gradient = torch.autograd.grad(loss, list(critics[1].parameters()))
    slow_before = sac.target_value.flat.clone()
    sac.update()
    for k in range(3):
        torch.testing.assert_close(sac.value.weight_gradients[k][0], value_gradient[2 * k].T,
                                   atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(sac.critics.weight_gradients[k][1], critic_gradient[2 * k].T,
                                   atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(sac.target_value.flat,
                               0.995 * slow_before + 0.005 * sac.value.flat)
    assert sac.metrics()['temperature'] == pytest.approx(0.3)
