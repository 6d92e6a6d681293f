# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every formula of the heads against torch.distributions and autograd."""

import numpy as np
import pytest
from rl_nodes.networks.policy_heads import CategoricalHead, GaussianHead
import torch
from torch import distributions

ROWS = 7


def gaussian(output, own):
    return distributions.Independent(distributions.Normal(output, own.exp()), 1)


def categorical(output, own):
    return distributions.Categorical(logits=output)


@pytest.fixture(params=['gaussian', 'categorical'])
def case(request):
    """Return (head, reference, output, own, old output, old own, actions)."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if request.param == 'gaussian':
        return (GaussianHead(3), gaussian, normal(ROWS, 3), 0.3 * normal(3), normal(ROWS, 3),
                0.3 * normal(3), normal(ROWS, 3))
    actions = torch.arange(ROWS).remainder(4).double().unsqueeze(1)
    return (CategoricalHead(4), categorical, normal(ROWS, 4), torch.zeros(0, dtype=torch.float64),
            normal(ROWS, 4), torch.zeros(0, dtype=torch.float64), actions)


def density(reference, output, own, actions):
    at = actions if reference is gaussian else actions[:, 0]
    return reference(output, own).log_prob(at)


def check(found, loss, output, own):
    wanted = torch.autograd.grad(loss, [output, own], allow_unused=True)
    torch.testing.assert_close(found[0], wanted[0] if wanted[0] is not None
                               else torch.zeros_like(output))
    torch.testing.assert_close(found[1], wanted[1] if wanted[1] is not None
                               else torch.zeros_like(own))


def test_log_probability(case):
    head, reference, output, own, _, _, actions = case
    weight = torch.linspace(-1, 2, ROWS, dtype=torch.float64)
    torch.testing.assert_close(head.log_probability(output, own, actions),
                               density(reference, output, own, actions))
    found = head.log_probability_gradient(output, own, actions, weight.unsqueeze(1))
    x, y = output.clone().requires_grad_(), own.clone().requires_grad_()
    check(found, (density(reference, x, y, actions) * weight).sum(), x, y)


def test_entropy(case):
    head, reference, output, own, _, _, _ = case
    torch.testing.assert_close(head.entropy(output, own), reference(output, own).entropy())
    x, y = output.clone().requires_grad_(), own.clone().requires_grad_()
    check(head.entropy_gradient(output, own, 0.7), 0.7 * reference(x, y).entropy().sum(), x, y)


def test_divergence_has_the_old_policy_first(case):
    head, reference, output, own, old_output, old_own, _ = case
    old = reference(old_output, old_own)
    torch.testing.assert_close(head.kl(old_output, old_own, output, own),
                               distributions.kl_divergence(old, reference(output, own)))
    x, y = output.clone().requires_grad_(), own.clone().requires_grad_()
    loss = 0.7 * distributions.kl_divergence(old, reference(x, y)).sum()
    check(head.kl_gradient(old_output, old_own, output, own, 0.7), loss, x, y)


def test_fisher_information_is_the_divergence_s_second_derivative(case):
    head, reference, output, own, _, _, _ = case
    generator = torch.Generator().manual_seed(9)
    change = [torch.randn(part.shape, generator=generator, dtype=torch.float64)
              for part in (output, own)]

    def slope(x, y):
        old = reference(output, own)
        loss = distributions.kl_divergence(old, reference(x, y)).sum()
        return torch.autograd.grad(loss, [x, y], create_graph=True, allow_unused=True,
                                   materialize_grads=True)

    _, wanted = torch.autograd.functional.jvp(slope, (output, own), tuple(change))
    found = head.fisher(output, own, *change)
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])


def test_gaussian_draws_have_its_moments():
    head, generator = GaussianHead(2), torch.Generator().manual_seed(0)
    output = np.tile(np.array([[1.0, -2.0]], np.float32), (20_000, 1))
    drawn = head.draw(output, np.log(np.array([0.5, 2.0], np.float32)), generator)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.mean(0), [1.0, -2.0], atol=0.05)
    np.testing.assert_allclose(drawn.std(0), [0.5, 2.0], rtol=0.02)
    np.testing.assert_array_equal(head.best(output), output)


def test_categorical_draws_have_its_frequencies():
    head, generator = CategoricalHead(3), torch.Generator().manual_seed(0)
    p = np.array([0.2, 0.5, 0.3], np.float32)
    output = np.tile(np.log(p)[np.newaxis], (20_000, 1))
    drawn = head.draw(output, np.zeros(0, np.float32), generator)
    assert drawn.shape == (20_000, 1) and drawn.dtype == np.float32
    np.testing.assert_allclose(np.bincount(drawn[:, 0].astype(int)) / 20_000, p, atol=0.015)
    assert (head.best(output) == 1.0).all()
