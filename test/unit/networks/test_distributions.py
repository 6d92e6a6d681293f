# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The squashed Gaussian against torch.distributions, integration and autograd."""

import pytest
from rl_nodes.networks.distributions import log_probability_of, squash, squash_backward
import torch
from torch import distributions


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(40, 3, generator=generator, dtype=torch.float64) for _ in range(3)]


def test_log_probability_agrees_with_torch(draw):
    mean, log_std, noise = draw
    action, log_probability = squash(mean, 0.3 * log_std, noise)
    reference = distributions.TransformedDistribution(
        distributions.Normal(mean, (0.3 * log_std).exp()),
        [distributions.TanhTransform(cache_size=1)])
    torch.testing.assert_close(log_probability, reference.log_prob(action).sum(-1))
    torch.testing.assert_close(log_probability_of(action, mean, 0.3 * log_std), log_probability)


@pytest.mark.parametrize(('mean', 'std'), [(0.0, 1.0), (0.7, 0.3), (-1.5, 0.8)])
def test_density_integrates_to_one(mean, std):
    # Midpoint rule in u = atanh(a), where da = (1 - a^2) du keeps the ends harmless.
    u = torch.linspace(mean - 9 * std, mean + 9 * std, 20001, dtype=torch.float64)[:, None]
    a = torch.tanh(u)
    inside = a.abs().squeeze() < 1.0
    density = log_probability_of(a[inside], torch.full_like(a[inside], mean),
                                 torch.full_like(a[inside], std).log()).exp()
    step = (u[1] - u[0]).item()
    total = (density * (1 - a[inside].squeeze() ** 2)).sum().item() * step
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize('mean', [-40.0, 40.0])
def test_far_from_zero_everything_stays_finite(mean):
    action, log_probability = squash(torch.tensor([[mean]]), torch.tensor([[0.0]]),
                                     torch.tensor([[0.3]]))
    assert action.abs().item() == 1.0
    assert torch.isfinite(log_probability).all()


def test_gradients_agree_with_autograd(draw):
    mean, log_std, noise = (0.5 * tensor for tensor in draw)
    mean.requires_grad_()
    log_std.requires_grad_()
    weight = torch.linspace(-1, 1, 120, dtype=torch.float64).view(40, 3)
    u = mean + log_std.exp() * noise
    action = torch.tanh(u)
    # Written with log_prob of torch, so that nothing of ours is on this side.
    log_probability = (distributions.Normal(mean, log_std.exp()).log_prob(u)
                       - torch.log1p(-action.square())).sum()
    ((action * weight).sum() + 0.37 * log_probability).backward()
    mean_gradient, log_std_gradient = squash_backward(
        action.detach(), log_std.detach(), noise, weight, 0.37)
    torch.testing.assert_close(mean_gradient, mean.grad, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(log_std_gradient, log_std.grad, atol=1e-9, rtol=1e-6)
