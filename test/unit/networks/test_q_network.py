# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Values of actions: noise, streams, and gradients against autograd."""

import math

import pytest
from rl_nodes.networks.q_network import QNetwork
import torch

SHAPES = [(dueling, noise, hidden, atoms) for dueling in (False, True)
          for noise in ('none', 'independent', 'factorised')
          for hidden in ((8,), (8, 6), (8, 7, 6)) for atoms in (1, 5)]


def made(dueling=False, noise='none', hidden=(8, 6), atoms=1, seed=1):
    support = torch.linspace(-1.0, 2.0, atoms) if atoms > 1 else None
    return QNetwork(4, 3, hidden, torch.Generator().manual_seed(seed), dueling, noise, support)


def of_streams(vector, network):
    """Return the parts of a vector laid out as the streams of a module are."""
    start, parts = 0, []
    for inputs, outputs in network._layers:
        parts.append(vector[start:start + inputs * outputs].view(inputs, outputs).T)
        start += inputs * outputs
        parts.append(vector[start:start + outputs])
        start += outputs
    assert start == len(vector)
    return parts


@pytest.mark.parametrize(('dueling', 'noise', 'hidden', 'atoms'), SHAPES)
def test_values_and_gradients_are_those_of_autograd(dueling, noise, hidden, atoms):
    """A loss of the first rows of a pass, as where the others choose the next action."""
    network = made(dueling, noise, hidden, atoms)
    module = network.module()
    x, weight = torch.randn(9, 4), torch.randn(5, 3, atoms)
    wanted = module.logits(x)
    torch.testing.assert_close(network.forward(x), wanted)
    torch.testing.assert_close(network.values_of(network.forward(x)), module(x))
    torch.testing.assert_close(torch.from_numpy(network.answer(x[:1].numpy())), module(x[:1]))
    (wanted[:5] * weight).sum().backward()
    network.backward(weight)
    if network._trunk is not None:
        layers = [layer for layer in module.shared if isinstance(layer, torch.nn.Linear)]
        for layer, of_weight, of_bias in zip(layers, network._trunk.weight_gradients,
                                             network._trunk.bias_gradients, strict=True):
            torch.testing.assert_close(of_weight[0].T, layer.weight.grad)
            torch.testing.assert_close(of_bias[0, 0], layer.bias.grad)
    found = [parameter.grad for parameter in module.streams.parameters()]
    for part, gradient in zip(of_streams(network._mean_gradient, network), found, strict=True):
        torch.testing.assert_close(part, gradient)
    if noise != 'none':  # W = mu + sigma e, so that dL/dsigma = dL/dW e
        for part, gradient, e in zip(
                of_streams(network._spread_gradient, network), found,
                of_streams(network._epsilon, network), strict=True):
            torch.testing.assert_close(part, gradient * e)


def test_dueling_subtracts_the_mean_advantage():
    network = made(dueling=True)
    network.flat.zero_()
    network.streams[0].biases[-1].copy_(torch.tensor([1.0, 2.0, 6.0]))
    network.streams[1].biases[-1].fill_(10.0)
    torch.testing.assert_close(network.forward(torch.ones(1, 4))[:, :, 0],
                               torch.tensor([[8.0, 9.0, 13.0]]))


@pytest.mark.parametrize(('kind', 'count'), [
    ('independent', (8 * 6 + 6) + (6 * 3 + 3)), ('factorised', (8 + 6) + (6 + 3))])
def test_noise_counts_and_holds_until_the_next_draw(kind, count):
    network, generator = made(noise=kind), torch.Generator().manual_seed(1)
    assert network.noise_count == count
    x = torch.ones(1, 4)
    first = network.forward(x).clone()
    assert torch.equal(network.forward(x), first)
    network.draw(generator)
    assert not torch.equal(network.forward(x), first)
    network.silence()
    module = network.module()
    torch.testing.assert_close(network.forward(x), module.logits(x))
    network.draw(generator)
    network.silence()
    torch.testing.assert_close(network.forward(x), module.logits(x))


def test_spread_of_noise_at_the_beginning():
    network, generator = made(noise='independent'), torch.Generator().manual_seed(1)
    draws = []
    for _ in range(2000):
        network.draw(generator)
        draws.append(network._noised - network._mean)
    assert torch.stack(draws).std().item() == pytest.approx(0.017, rel=0.01)
    network = QNetwork(4, 3, (8, 6), generator, noise='factorised', noise_scale=0.2)
    spreads = of_streams(network._spread, network)
    for spread, inputs in zip(spreads, (8, 8, 6, 6), strict=True):
        torch.testing.assert_close(spread, torch.full_like(spread, 0.1 / math.sqrt(inputs)))


def test_factorised_noise_is_a_product_and_that_of_a_bias_is_its_factor():
    network = made(noise='factorised')
    weight, bias = of_streams(network._epsilon, network)[:2]
    ratio = weight / bias[:, None]  # f(e_q) f(e_p)^T over f(e_q): the same row everywhere
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


@pytest.mark.parametrize(('kind', 'bound'), [
    ('none', 8 ** -0.5), ('factorised', 8 ** -0.5), ('independent', (3 / 8) ** 0.5)])
def test_initial_weights_are_within_the_bounds_of_the_paper(kind, bound):
    network = made(noise=kind)
    network.silence()
    weight = network.module().streams[0][-3].weight  # of 8 inputs
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.1)
    assert weight.abs().max().item() <= bound
