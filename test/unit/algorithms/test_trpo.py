# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""TRPO's parts against autograd, and its promise: inside the trust region, or nowhere."""

import pytest
from rl_nodes.algorithms.trpo import conjugate_gradient, Trpo, TrpoConfig
import torch
from torch import distributions


@pytest.fixture(params=[False, True], ids=['continuous', 'discrete'])
def make(request, contract):
    def learner(seed=0, **settings):
        return Trpo(contract(request.param), TrpoConfig(**({
            'hidden': (8,), 'rollout_steps': 16, 'critic_epochs': 1,
            'normalize_observation': False} | settings)), seed)
    return learner


def ready(learner, live):
    """Return a batch of a policy that is not the same in every state."""
    generator = torch.Generator().manual_seed(1)
    learner.networks.policy.add_(0.3 * torch.randn(learner.networks.policy.shape,
                                                   generator=generator))
    rollout = live(learner)
    return learner.prepare(rollout, rollout.reward)


def test_conjugate_gradients_solve():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator)
    matrix, target = root @ root.T + torch.eye(6), torch.randn(6, generator=generator)
    x, residual = conjugate_gradient(lambda v: matrix @ v, target, 20)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, target), atol=1e-4, rtol=1e-3)
    assert residual < 1e-6


def test_conjugate_gradients_of_nothing_are_nothing():
    x, residual = conjugate_gradient(lambda v: v, torch.zeros(3), 5)
    assert not x.any() and residual == 0.0


def test_fisher_product_is_the_hessian_of_the_divergence(make, live):
    learner = make(damping=0.25)
    batch = ready(learner, live)
    actor = learner.networks.actor.member(0)
    names = [name for name, _ in actor.named_parameters()]
    shapes = [parameter.shape for parameter in actor.parameters()]

    def divergence(flat):
        parts, start = {}, 0
        for name, shape in zip(names, shapes):  # stored as (inputs, outputs), torch has (o, i)
            size = shape.numel()
            part = flat[start:start + size]
            parts[name] = part.view(shape[::-1]).T if len(shape) == 2 else part
            start += size
        output = torch.func.functional_call(actor, parts, batch.observation)
        own = flat[start:]
        if learner.discrete:
            now, old = (distributions.Categorical(logits=z) for z in (output, batch.output))
        else:
            now, old = (distributions.Independent(distributions.Normal(m, s.exp()), 1)
                        for m, s in ((output, own), (batch.output, batch.own)))
        return distributions.kl_divergence(old, now).mean()

    flat = learner.networks.policy.clone()
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(2))
    hessian = torch.autograd.functional.hessian(divergence, flat)
    learner.networks.act(batch.observation)
    torch.testing.assert_close(learner.fisher_product(batch, direction),
                               hessian @ direction + 0.25 * direction, atol=1e-5, rtol=1e-3)


def test_step_stays_in_the_trust_region_and_improves(make, live):
    learner = make(max_kl=0.01)
    for seed in range(5):
        learner.update(live(learner, seed))
        values = learner.metrics()
        assert 0.0 < values['kl'] <= 0.01
        assert values['surrogate_gain'] > 0.0
        assert values['kl'] > 0.002  # it uses the room that it has


def test_no_acceptable_step_leaves_the_policy(make, live):
    learner = make(line_search_steps=1, damping=1e-6)
    batch = ready(learner, live)
    before = learner.networks.policy.clone()
    found = learner._search(batch, -batch.advantage, before.clone(),
                            1e-3 * learner.surrogate_gradient(batch, batch.advantage))
    assert found == (1, 0.0, 0.0)
    assert torch.equal(learner.networks.policy, before)


def test_surrogate_gradient_is_the_policy_gradient(make, live):
    """A small step along it gains as much as its length promises."""
    learner = make()
    batch = ready(learner, live)
    gradient = learner.surrogate_gradient(batch, batch.advantage)
    start, size = learner.networks.policy.clone(), 1e-3 / gradient.norm()
    gains = []
    for sign in (-1.0, 1.0):
        learner.networks.policy.copy_(start + sign * size * gradient)
        output = learner.networks.act(batch.observation)
        ratio = torch.exp(learner.head.log_probability(output, learner.networks.own, batch.action)
                          - batch.log_probability)
        gains.append((ratio * batch.advantage).mean().item())
    slope = (gains[1] - gains[0]) / 2e-3
    assert slope == pytest.approx(gradient.norm().item(), rel=0.02)
