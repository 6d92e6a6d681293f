# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The stacked perceptrons against autograd on the same weights."""

import pytest
from rl_nodes.networks.mlp import Mlp, parameter_count, StackedMlp
import torch
from torch import nn


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize('rows', [7, 40], ids=['few rows', 'narrow products turned'])
@pytest.mark.parametrize('activation', ['relu', 'tanh'])
@pytest.mark.parametrize('members', [1, 2, 3])
@pytest.mark.parametrize('sizes', [(4, 2), (5, 16, 1), (3, 32, 16, 4), (3, 8, 12, 13)])
def test_passes_agree_with_autograd(members, sizes, activation, rows, generator):
    net = StackedMlp(members, sizes, generator=generator, activation=activation)
    work = net.workspace(rows)
    x = torch.randn(rows, sizes[0], generator=generator)
    gradient = torch.randn(members, rows, sizes[-1], generator=generator)
    modules = [net.member(i) for i in range(members)]
    reference_x = x.clone().requires_grad_()
    outputs = torch.stack([module(reference_x) for module in modules])
    (outputs * gradient).sum().backward()

    torch.testing.assert_close(net.forward(x, work), outputs.detach())
    inputs = net.backward(gradient, work, inputs=slice(0, sizes[0]))
    torch.testing.assert_close(inputs, reference_x.grad, atol=1e-5, rtol=1e-5)
    for i, module in enumerate(modules):
        layers = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
        for k, layer in enumerate(layers):
            torch.testing.assert_close(net.weight_gradients[k][i], layer.weight.grad.T,
                                       atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(net.bias_gradients[k][i, 0], layer.bias.grad,
                                       atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('activation', ['relu', 'tanh'])
@pytest.mark.parametrize('sizes', [(4, 2), (5, 16, 1), (3, 32, 16, 4)])
def test_one_row_by_numpy_is_the_same(sizes, activation, generator):
    net = StackedMlp(1, sizes, generator=generator, activation=activation)
    x = torch.randn(1, sizes[0], generator=generator)
    for _ in range(2):
        wanted = net.forward(x, net.workspace(1))[0]
        torch.testing.assert_close(torch.from_numpy(net.answer(x.numpy())), wanted)
        net.flat.mul_(0.5)  # the weights are those of now


@pytest.mark.parametrize('activation', ['relu', 'tanh'])
@pytest.mark.parametrize('sizes', [(4, 2), (5, 16, 1), (3, 32, 16, 4)])
def test_tangent_agrees_with_forward_differentiation(sizes, activation, generator):
    net = StackedMlp(2, sizes, generator=generator, activation=activation)
    x = torch.randn(7, sizes[0], generator=generator)
    direction = torch.randn(net.flat.shape, generator=generator)
    net.forward(x, work := net.workspace(7))
    found = net.tangent(direction, work)
    modules = [net.member(i) for i in range(2)]
    weights, biases = net._views(direction)
    for i, module in enumerate(modules):
        layers = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
        changes = {}
        for k in range(len(layers)):
            changes[f'{2 * k}.weight'] = weights[k][i].T
            changes[f'{2 * k}.bias'] = biases[k][i, 0]
        parameters = dict(module.named_parameters())
        _, wanted = torch.func.jvp(
            lambda p, module=module: torch.func.functional_call(module, p, x),
            (parameters,), (changes,))
        torch.testing.assert_close(found[i], wanted)


def test_networks_may_share_one_vector(generator):
    size = parameter_count((3, 4, 1))
    flat, gradient = torch.zeros(2 * size + 1), torch.zeros(2 * size + 1)
    for part in (slice(0, size), slice(size, 2 * size)):
        StackedMlp(1, (3, 4, 1), generator=generator, storage=(flat[part], gradient[part]))
    alone = StackedMlp(1, (3, 4, 1), generator=generator.manual_seed(3))
    assert torch.equal(flat[:size], alone.flat)
    assert flat[size:].any() and not flat[-1]


@pytest.mark.parametrize('rows', [2, 40])
def test_backward_over_some_rows_is_the_gradient_of_those_rows(rows, generator):
    net = StackedMlp(1, (3, 8, 2), generator=generator)
    x = torch.randn(3 * rows, 3, generator=generator)
    gradient = torch.randn(1, rows, 2, generator=generator)
    small = net.workspace(rows)
    net.forward(x[:rows], small)
    net.backward(gradient, small)
    wanted = net.flat_gradient.clone()
    large = net.workspace(3 * rows)
    net.forward(x, large)
    net.backward(gradient, large, rows=slice(0, rows))
    torch.testing.assert_close(net.flat_gradient, wanted)


def test_backward_to_inputs_only_leaves_the_weight_gradients(generator):
    net = StackedMlp(2, (3, 8, 1), generator=generator)
    work = net.workspace(4)
    net.forward(torch.randn(4, 3, generator=generator), work)
    net.flat_gradient.fill_(7.0)
    result = net.backward(torch.ones(2, 4, 1), work, weights=False, inputs=slice(1, 3))
    assert result.shape == (4, 2)
    assert (net.flat_gradient == 7.0).all()


def test_flat_vector_is_the_weights():
    net = StackedMlp(2, (3, 4, 1))
    net.flat.zero_()
    assert all((weight == 0).all() for weight in [*net.weights, *net.biases])
    assert net.flat.numel() == 2 * (3 * 4 + 4 + 4 + 1)


def test_reduced_precision_is_close(generator):
    exact = StackedMlp(2, (3, 128, 128, 1), generator=torch.Generator().manual_seed(0))
    reduced = StackedMlp(2, (3, 128, 128, 1), generator=torch.Generator().manual_seed(0),
                         reduced_precision=True)
    x = torch.randn(128, 3, generator=generator)
    wanted = exact.forward(x, exact.workspace(128))
    got = reduced.forward(x, reduced.workspace(128))
    assert (got - wanted).abs().max() < 0.02 * wanted.abs().max()
    assert torch.backends.mkldnn.matmul.fp32_precision != 'bf16'


def test_orthogonal_columns_and_zero_bias(generator):
    layer = Mlp((16, 16), initialisation='orthogonal', generator=generator)[0]
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(16), atol=1e-5, rtol=0)
    assert (layer.bias == 0).all()


@pytest.mark.parametrize('kind', ['orthogonal', 'default'])
def test_small_last_layer_gives_small_outputs(kind, generator):
    net = Mlp((3, 64, 2), initialisation=kind, last_gain=0.01, generator=generator)
    assert net(torch.randn(50, 3, generator=generator)).abs().max() < 0.1


def test_layer_norm_is_that_of_torch_with_its_gradients():
    generator = torch.Generator().manual_seed(0)
    network = StackedMlp(2, (5, 8, 6, 3), 'default', generator=generator, layer_norm=True)
    for views in (network.scales, network.shifts):
        for view in views:
            view.add_(torch.randn(view.shape, generator=generator), alpha=0.3)
    x = torch.randn(40, 5, generator=generator)
    gradient = torch.randn(2, 40, 3, generator=generator)
    work = network.workspace(40)
    answer = network.forward(x, work).clone()
    back = network.backward(gradient, work, inputs=slice(1, 4))
    inputs = x.clone().requires_grad_()
    for member in range(2):
        flat = [[part[member].clone().requires_grad_() for part in parts] for parts in (
            network.weights, network.biases, network.scales, network.shifts)]
        h = inputs
        for k in range(3):
            h = h @ flat[0][k] + flat[1][k]
            if k < 2:
                h = nn.functional.layer_norm(h, h.shape[-1:], flat[2][k][0], flat[3][k][0])
                h = torch.relu(h)
        torch.testing.assert_close(answer[member], h)
        h.backward(gradient[member])
        for ours, theirs in zip((network.weight_gradients, network.bias_gradients,
                                 network.scale_gradients, network.shift_gradients), flat):
            for a, b in zip(ours, theirs):
                torch.testing.assert_close(a[member], b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(back, inputs.grad[:, 1:4], atol=1e-5, rtol=1e-4)
