# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every formula of the heads against torch.distributions and autograd."""

import numpy as np
import pytest
from rl_nodes.networks.policy_heads import CategoricalHead, CensoredGaussianHead, GaussianHead
from rl_nodes.networks.state_dependent_head import StateDependentHead
import torch
from torch import distributions

ROWS = 7


def gaussian(output, own):
    return distributions.Independent(distributions.Normal(output, own.exp()), 1)


def categorical(output, own):
    return distributions.Categorical(logits=output)


def state_dependent(output, own):
    """Means, then hidden units, of which the spread is made; the latter are given."""
    mean, hidden = output[:, :3], output[:, 3:].detach()
    variance = hidden.square() @ (2.0 * own.view(5, 3)).exp() + 1e-6
    return distributions.Independent(distributions.Normal(mean, variance.sqrt()), 1)


@pytest.fixture(params=['gaussian', 'categorical', 'state_dependent'])
def case(request):
    """Return (head, reference, output, own, old output, old own, actions)."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if request.param == 'gaussian':
        return (GaussianHead(3), gaussian, normal(ROWS, 3), 0.3 * normal(3), normal(ROWS, 3),
                0.3 * normal(3), normal(ROWS, 3))
    if request.param == 'state_dependent':
        return (StateDependentHead(3, 5, 1), state_dependent, normal(ROWS, 8), 0.3 * normal(15),
                normal(ROWS, 8), 0.3 * normal(15), normal(ROWS, 3))
    actions = torch.arange(ROWS).remainder(4).double().unsqueeze(1)
    return (CategoricalHead(4), categorical, normal(ROWS, 4), torch.zeros(0, dtype=torch.float64),
            normal(ROWS, 4), torch.zeros(0, dtype=torch.float64), actions)


def density(reference, output, own, actions):
    at = actions[:, 0] if reference is categorical else actions
    return reference(output, own).log_prob(at)


def check(found, loss, output, own):
    wanted = torch.autograd.grad(loss, [output, own], allow_unused=True)
    of_output = torch.zeros_like(output) if wanted[0] is None else wanted[0]
    torch.testing.assert_close(found[0], of_output[:, :found[0].shape[1]])
    assert not of_output[:, found[0].shape[1]:].any()  # nothing goes back to hidden units
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
    change[0][:, head.outputs:] = 0.0

    def slope(x, y):
        old = reference(output, own)
        loss = distributions.kl_divergence(old, reference(x, y)).sum()
        return torch.autograd.grad(loss, [x, y], create_graph=True, allow_unused=True,
                                   materialize_grads=True)

    _, wanted = torch.autograd.functional.jvp(slope, (output, own), tuple(change))
    found = head.fisher(output, own, change[0][:, :head.outputs], change[1])
    torch.testing.assert_close(found[0], wanted[0][:, :head.outputs])
    torch.testing.assert_close(found[1], wanted[1])


def test_censored_gaussian_counts_a_tail_as_a_value_of_its_own():
    """Against torch.distributions in between, their tails at the bounds, and autograd."""
    head, generator = CensoredGaussianHead(3), torch.Generator().manual_seed(4)
    output = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    own = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    drawn = output + own.exp() * torch.randn(output.shape, generator=generator).double()
    assert all((drawn < -1).any(0)) and all((drawn > 1).any(0)) and all((drawn.abs() < 1).any(0))

    def reference(x, y):
        normal = distributions.Normal(x, y.exp())
        one = torch.ones((), dtype=torch.float64)
        tail = torch.where(drawn > 0, 1.0 - normal.cdf(one), normal.cdf(-one)).log()
        return torch.where(drawn.abs() < 1, normal.log_prob(drawn), tail).sum(1)

    weight = torch.linspace(-1, 2, 40, dtype=torch.float64)
    x, y = output.clone().requires_grad_(), own.clone().requires_grad_()
    for action in (drawn, drawn.clamp(-1, 1), (drawn.clamp(-1, 1) * (1 - 1e-7))):
        tolerance = {'rtol': 1e-5, 'atol': 1e-5} if action is not drawn else {}
        torch.testing.assert_close(head.log_probability(output, own, action),
                                   reference(output, own), **tolerance)
        found = head.log_probability_gradient(output, own, action, weight.unsqueeze(1))
        wanted = torch.autograd.grad((reference(x, y) * weight).sum(), [x, y])
        torch.testing.assert_close(found[0], wanted[0], **tolerance)
        torch.testing.assert_close(found[1], wanted[1], **tolerance)


def test_censored_gaussian_stays_finite_far_out():
    """A bound thirty deviations from the mean, in float32."""
    head = CensoredGaussianHead(1)
    output, own = torch.tensor([[4.0], [-4.0]]), torch.tensor([-2.0])
    for at in (1.0, -1.0):
        action = torch.full((2, 1), at)
        assert head.log_probability(output, own, action).isfinite().all()
        for part in head.log_probability_gradient(output, own, action, torch.ones(2, 1)):
            assert part.isfinite().all()


def test_censored_gaussian_has_a_score_of_mean_zero():
    """What a policy gradient without bias needs, though all that is beyond is one value."""
    head, generator = CensoredGaussianHead(2), torch.Generator().manual_seed(0)
    output, own = torch.tensor([[0.9, -0.2]]).expand(400_000, 2), torch.tensor([0.0, 1.0])
    action = torch.from_numpy(head.draw(output.numpy(), own.numpy(), generator)).clamp(-1, 1)
    weight = torch.full((len(output), 1), 1.0 / len(output))
    of_output, of_own = head.log_probability_gradient(output, own, action, weight)
    assert of_output.sum(0).abs().max() < 0.01 and of_own.abs().max() < 0.01


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


def test_state_dependent_draws_have_the_variance_of_the_formula():
    head, generator = StateDependentHead(2, 3, 1), torch.Generator().manual_seed(0)
    hidden, sigma = np.array([0.5, -1.0, 2.0]), np.array([[0.1, 1.0], [0.3, 0.2], [0.2, 0.0001]])
    output = np.tile(np.array([1.0, -2.0, *hidden], np.float32), (40_000, 1))
    own = np.log(sigma).astype(np.float32).ravel()
    drawn = head.draw(output, own, generator)
    wanted = np.sqrt((sigma ** 2 * hidden[:, None] ** 2).sum(0))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.mean(0), [1.0, -2.0], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), wanted, rtol=0.02)
    spread = head.spread(torch.from_numpy(output[:1]), torch.from_numpy(own))[0]
    np.testing.assert_allclose(spread, wanted, rtol=1e-4)
    np.testing.assert_array_equal(head.best(output), output[:, :2])


def test_state_dependent_noise_is_a_function_of_the_state_until_it_is_drawn_anew():
    head, generator = StateDependentHead(2, 3, 4), torch.Generator().manual_seed(0)
    own = np.zeros(6, np.float32)
    one, other = (np.random.default_rng(i).normal(size=(5, 5)).astype(np.float32) for i in (0, 1))

    def noise(output):
        return head.draw(output, own, generator) - head.best(output)

    first = noise(one)
    assert not np.allclose(noise(other), first)
    np.testing.assert_array_equal(noise(one), first)
    # Linear in the hidden units, a matrix of its own in each environment.
    double = np.concatenate((one[:, :2], 2.0 * one[:, 2:]), 1)
    np.testing.assert_allclose(noise(double), 2.0 * first, rtol=1e-5)
    second = noise(one)  # the fifth step
    assert not np.allclose(second, first)
    np.testing.assert_array_equal(noise(one), second)
    head.renew()
    assert not np.allclose(noise(one), second)
    assert noise(one[:3]).shape == (3, 2)  # another number of environments
