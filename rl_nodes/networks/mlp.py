# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Multi-layer perceptrons: one for export and autograd, one stacked and fast for training.

:class:`StackedMlp` computes E networks of the same shape at once, keeps all their parameters in
one flat vector (so that an optimiser step or a Polyak step is a few vector operations) and has a
hand-written backward pass into preallocated buffers. On a CPU that costs half of what autograd
costs, because nothing is allocated and no gradient is computed that nobody asked for.

Legend: E networks (members), B batch rows, I inputs, O outputs, H hidden units.

    h_0 = x,   h_k = f(h_{k-1} W_k + b_k),   y = h_{n-1} W_n + b_n                           (1)
    dL/dW_k = h_{k-1}^T g_k,   dL/db_k = sum_B g_k,   g_{k-1} = (g_k W_k^T) f'(h_{k-1})      (2)

with f' written as a function of f: 1[h > 0] for ReLU, 1 - h^2 for tanh. With ``layer_norm`` (Ba,
Kiros and Hinton 2016, arXiv:1607.06450) between product and f, for z = h_{k-1} W_k + b_k, mean and
deviation taken over the H units of a row:

    n = (z - mean(z)) r,   r = 1 / sqrt(var(z) + 1e-5),   h_k = f(n s_k + t_k)               (3)
    dL/ds_k = sum_B g n,   dL/dt_k = sum_B g,   with u = g s_k:
    dL/dz = r (u - mean(u) - n mean(u n))                                                    (4)

Without it, outputs change along a direction (V, c) of the parameters by j_n, where there is no f':

    j_k = (j_{k-1} W_k + h_{k-1} V_k + c_k) f'(h_k),   j_0 = 0                               (5)
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

Initialisation = Literal['orthogonal', 'default']

NARROW = 12  # outputs up to which products are turned: MKL takes up to a ninth of the time
NARROW_ROWS = 32  # below this, turning costs more than it saves
PROCESSOR = torch.device('cpu')
REDUCED_ROWS = 64  # below this, preparing a product in bfloat16 costs more than it saves
_ZERO = np.zeros((), np.float32)  # a number in Python is made into such an array at every call
ACTIVATIONS: dict[str, type[nn.Module]] = {'relu': nn.ReLU, 'tanh': nn.Tanh, 'elu': nn.ELU}


class Mlp(nn.Sequential):
    """Linear layers with an activation between them: a plain module for autograd and export."""

    def __init__(self, sizes: Sequence[int], activation: str = 'relu',
                 initialisation: Initialisation = 'orthogonal', last_gain: float = 1.0,
                 generator: torch.Generator | None = None) -> None:
        """
        Create the layers.

        :param sizes: widths from input to output, at least two.
        :param activation: ``relu``, ``tanh`` or ``elu``.
        :param initialisation: see :func:`initialise`.
        :param last_gain: factor on the last layer's weights.
        :param generator: source of the random weights; None takes torch's global one.
        """
        layers: list[nn.Module] = []
        last = len(sizes) - 2
        for k, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            layer = nn.Linear(inputs, outputs)
            gain = last_gain if k == last else hidden_gain(activation)
            with torch.no_grad():
                weight, bias = initialise(inputs, outputs, initialisation, gain, generator)
                layer.weight.copy_(weight.T)
                layer.bias.copy_(bias)
            layers.append(layer)
            if k < last:
                layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


class Workspace:
    """Activations and gradients of one batch size, allocated once."""

    def __init__(self, members: int, sizes: Sequence[int], batch: int,
                 device: torch.device) -> None:
        self.batch = batch
        self.given = self.input = torch.zeros(0)  # rows as they came, and seen by each member
        self.hidden, self.gradient = ([torch.zeros(members, batch, size, device=device)
                                       for size in sizes[1:]] for _ in range(2))
        self.ones = torch.ones(1, 1, batch, device=device).expand(members, 1, batch)
        self.normal: list[torch.Tensor] = []     # n of eq. (3), filled by forward()
        self.deviation: list[torch.Tensor] = []  # r of eq. (3)


class StackedMlp:
    """E perceptrons, evaluated and differentiated together; see the file's header."""

    def __init__(self, members: int, sizes: Sequence[int],
                 initialisation: Initialisation = 'orthogonal', last_gain: float = 1.0,
                 generator: torch.Generator | None = None,
                 reduced_precision: bool = False, layer_norm: bool = False,
                 activation: Literal['relu', 'tanh'] = 'relu',
                 storage: tuple[torch.Tensor, torch.Tensor] | None = None,
                 device: torch.device = PROCESSOR) -> None:
        """
        Create the networks.

        :param members: E, how many networks.
        :param sizes: widths from input to output, at least two.
        :param initialisation: see :func:`initialise`; each member is drawn on its own.
        :param last_gain: factor on the last layer's weights.
        :param generator: source of the random weights; None takes torch's global one.
        :param reduced_precision: let large hidden products round their factors to bfloat16
            (accumulated in float32) on processors that have it; others ignore this.
        :param layer_norm: normalise every hidden layer, eq. (3); such networks are for training
            only, :meth:`member` and :meth:`tangent` have no counterpart of it.
        :param activation: of the hidden layers.
        :param storage: zeros for ``flat`` and ``flat_gradient``, each of :func:`parameter_count`
            elements, where they are part of longer vectors; None makes them.
        :param device: where they are made and computed with; initial weights are the same.
        """
        self.members = members
        self.sizes = tuple(sizes)
        self.activation = activation
        pairs = list(zip(self.sizes, self.sizes[1:]))
        self._layer_norm = layer_norm
        count = parameter_count(self.sizes, members, layer_norm)
        self.flat, self.flat_gradient = storage or (
            torch.zeros(count, device=device), torch.zeros(count, device=device))
        self.weights, self.biases = self._views(self.flat)
        self.weight_gradients, self.bias_gradients = self._views(self.flat_gradient)
        self._transposed = [weight.transpose(1, 2) for weight in self.weights]
        here = device == PROCESSOR
        self._turned = [torch.zeros(members, outputs, inputs)
                        if 1 < outputs <= NARROW and here else None
                        for inputs, outputs in pairs]  # room for W_k^T and its gradient
        self._arrays = [(weight[0].numpy(), bias[0].numpy())
                        for weight, bias in zip(self.weights, self.biases) if here]
        reduced_precision &= here
        self._reduced = [reduced_precision and min(pair) >= 64 for pair in pairs]
        for k, (inputs, outputs) in enumerate(pairs):
            gain = last_gain if k == len(pairs) - 1 else hidden_gain(activation)
            for member in range(members):
                weight, bias = initialise(inputs, outputs, initialisation, gain, generator)
                self.weights[k][member].copy_(weight)
                self.biases[k][member, 0].copy_(bias)
        self.scales, self.shifts = self._affine_views(self.flat)
        self.scale_gradients, self.shift_gradients = self._affine_views(self.flat_gradient)
        for scale in self.scales:
            scale.fill_(1.0)

    def _views(self, flat: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        weights, biases, start = [], [], 0
        for inputs, outputs in zip(self.sizes, self.sizes[1:]):
            for rows, views in ((inputs, weights), (1, biases)):
                size = self.members * rows * outputs
                part = flat[start:start + size]
                # For one output the same memory, said so that MKL takes it for turned, see NARROW.
                views.append(part.view(self.members, rows, outputs) if outputs > 1 else
                             part.view(self.members, 1, rows).transpose(1, 2))
                start += size
        return weights, biases

    def _affine_views(self, flat: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return s_k and t_k of eq. (3), which lie at the end; empty lists without layer_norm."""
        widths = self.sizes[1:-1] if self._layer_norm else ()
        scales, shifts, start = [], [], len(flat) - 2 * self.members * sum(widths)
        for width in widths:
            for views in (scales, shifts):
                size = self.members * width
                views.append(flat[start:start + size].view(self.members, 1, width))
                start += size
        return scales, shifts

    @torch.inference_mode(False)  # or they could be written to in that mode only
    def workspace(self, batch: int) -> Workspace:
        """Return the buffers that passes over ``batch`` rows need."""
        return Workspace(self.members, self.sizes, batch, self.flat.device)

    def forward(self, x: torch.Tensor, work: Workspace) -> torch.Tensor:
        """
        Evaluate all members on the same rows, eq. (1).

        :param x: shape (B, I); must stay unchanged until :meth:`backward` is done.
        :param work: buffers for B rows.
        :return: shape (E, B, O), valid until the next pass through ``work``.
        """
        if work.given is not x:  # mostly the same rows with other values
            work.given, work.input = x, x.expand(self.members, -1, -1)
        h = work.input
        last = len(self.weights) - 1
        many = work.batch >= REDUCED_ROWS
        activate = torch.relu_ if self.activation == 'relu' else torch.tanh_
        for k, (weight, bias, out) in enumerate(zip(self.weights, self.biases, work.hidden)):
            turned = self._turned[k]
            if turned is not None and work.batch >= NARROW_ROWS:
                weight = turned.copy_(self._transposed[k]).transpose(1, 2)
            _multiply_add(bias, h, weight, out, many and self._reduced[k])
            if self._layer_norm and k < last:
                self._normalize(out, k, work)
            h = out if k == last else activate(out)
        return h

    def answer(self, x: np.ndarray) -> np.ndarray:
        """
        Evaluate the first member in NumPy, eq. (1), without layer_norm.

        That takes half the time of torch where there is one row. Products of several NumPy's
        library would share out among all cores.

        :param x: float32, shape (1, I).
        :return: shape (1, O).
        """
        h, last = x, len(self.weights) - 1
        for k, (weight, bias) in enumerate(self._arrays):
            h = np.dot(h, weight)
            np.add(h, bias, out=h)
            if k < last and self.activation == 'relu':
                np.maximum(h, _ZERO, out=h)
            elif k < last:
                np.tanh(h, out=h)
        return h

    def _normalize(self, z: torch.Tensor, layer: int, work: Workspace) -> None:
        """Replace z by n s + t, eq. (3), and keep n and r."""
        if layer == 0:
            work.normal, work.deviation = [], []
        normal, _, deviation = torch.native_layer_norm(z, z.shape[-1:], None, None, 1e-5)
        work.normal.append(normal)
        work.deviation.append(deviation)
        torch.addcmul(self.shifts[layer], normal, self.scales[layer], out=z)

    def _normalize_backward(self, g: torch.Tensor, layer: int, work: Workspace, rows: slice,
                            weights: bool) -> torch.Tensor:
        """Return dL/dz of eq. (4) for the gradient g of n s + t."""
        normal, deviation = work.normal[layer][:, rows], work.deviation[layer][:, rows]
        if weights:
            torch.sum(g * normal, 1, keepdim=True, out=self.scale_gradients[layer])
            torch.sum(g, 1, keepdim=True, out=self.shift_gradients[layer])
        u = g * self.scales[layer]
        mean, along = u.mean(-1, keepdim=True), (u * normal).mean(-1, keepdim=True)
        return u.sub_(mean).addcmul_(normal, along, value=-1.0).mul_(deviation)

    def backward(self, gradient: torch.Tensor, work: Workspace, weights: bool = True,
                 inputs: slice | None = None, rows: slice = slice(None)) -> torch.Tensor | None:
        """
        Propagate the gradient of a loss through the last forward pass, eq. (2).

        :param gradient: of the loss with respect to the outputs, shape (E, rows, O).
        :param work: the buffers of that forward pass.
        :param weights: write ``flat_gradient`` (the sum over the rows).
        :param inputs: columns of the input whose gradient is wanted, summed over the members.
        :param rows: rows of the forward pass that the loss depends on.
        :return: gradient with respect to those inputs, shape (rows, len(inputs)), or None.
        """
        g, whole = gradient, rows == slice(None)
        ones = work.ones if whole else work.ones[..., rows]
        for k in range(len(self.weights) - 1, -1, -1):
            below = work.hidden[k - 1] if k else work.input
            if not whole:
                below = below[:, rows]
            if self._layer_norm and k < len(self.weights) - 1:
                g = self._normalize_backward(g, k, work, rows, weights)
            if weights:
                self._weight_gradient(below, g, k)
                torch.bmm(ones, g, out=self.bias_gradients[k])
            if k:
                out = work.gradient[k - 1] if whole else work.gradient[k - 1][:, rows]
                _multiply(g, self._transposed[k], out, self._reduced[k])
                if self.activation == 'relu':
                    g = torch.ops.aten.threshold_backward.grad_input(out, below, 0, grad_input=out)
                else:
                    g = torch.ops.aten.tanh_backward.grad_input(out, below, grad_input=out)
        if inputs is None:
            return None
        return torch.bmm(g, self._transposed[0][:, :, inputs]).sum(0)

    def _weight_gradient(self, below: torch.Tensor, g: torch.Tensor, layer: int) -> None:
        """Write dL/dW_k of eq. (2)."""
        gradient, turned = self.weight_gradients[layer], self._turned[layer]
        if g.shape[2] == 1:
            torch.bmm(g.transpose(1, 2), below, out=gradient.transpose(1, 2))
        elif turned is None or g.shape[1] < NARROW_ROWS:
            _multiply(below.transpose(1, 2), g, gradient, self._reduced[layer])
        else:
            gradient.copy_(torch.bmm(g.transpose(1, 2), below, out=turned).transpose(1, 2))

    def tangent(self, direction: torch.Tensor, work: Workspace) -> torch.Tensor:
        """
        Return how the outputs of the last forward pass change along a direction, eq. (5).

        :param direction: of the parameters, laid out as ``flat``.
        :param work: the buffers of that forward pass.
        :return: Jacobian times direction, shape (E, B, O).
        """
        weights, biases = self._views(direction)
        h, last = work.input, len(weights) - 1
        change = torch.baddbmm(biases[0], h, weights[0])
        for k in range(1, last + 1):
            h = work.hidden[k - 1]
            change *= (h > 0) if self.activation == 'relu' else 1.0 - h.square()
            change = torch.baddbmm(torch.baddbmm(biases[k], h, weights[k]), change,
                                   self.weights[k])
        return change

    def member(self, index: int) -> Mlp:
        """Return a copy of one member as a plain module."""
        module = Mlp(self.sizes, self.activation, 'default')
        self.copy_to(module, index)
        return module

    @torch.no_grad()
    def copy_to(self, module: Mlp, index: int = 0) -> None:
        """Write the parameters of one member into a plain module of the same shape."""
        layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, self.weights, self.biases, strict=True):
            layer.weight.copy_(weight[index].T)
            layer.bias.copy_(bias[index, 0])


def parameter_count(sizes: Sequence[int], members: int = 1, layer_norm: bool = False) -> int:
    """Return how many parameters perceptrons of these widths have together."""
    affine = 2 * sum(sizes[1:-1]) if layer_norm else 0
    return members * (affine + sum((inputs + 1) * outputs
                                   for inputs, outputs in zip(sizes, sizes[1:])))


def hidden_gain(activation: str) -> float:
    """Return the gain that keeps the signal's scale through a hidden layer."""
    return nn.init.calculate_gain('tanh' if activation == 'tanh' else 'relu')


def initialise(inputs: int, outputs: int, kind: Initialisation, gain: float,
               generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Draw the parameters of one layer.

    :param kind: ``orthogonal`` (Saxe et al. 2013) with zero bias and this gain, or ``default``:
        torch's own, uniform within 1/sqrt(inputs) for both; there a gain below 1 scales weights
        and zeroes the bias, so that a small last layer is small in either kind.
    :return: weight of shape (inputs, outputs) and bias of shape (outputs,).
    """
    if kind == 'orthogonal':
        weight = torch.empty(inputs, outputs)
        nn.init.orthogonal_(weight, gain, generator=generator)
        return weight, torch.zeros(outputs)
    bound = inputs ** -0.5
    weight = torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
    return (weight * gain, torch.zeros(outputs)) if gain < 1.0 else (weight, bias)


def _multiply_add(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor,
                  reduced: bool) -> None:
    if reduced:
        torch.backends.mkldnn.matmul.fp32_precision = 'bf16'
        torch.baddbmm(bias, a, b, out=out)
        torch.backends.mkldnn.matmul.fp32_precision = 'ieee'
    else:
        torch.baddbmm(bias, a, b, out=out)


def _multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, reduced: bool) -> None:
    if reduced:
        torch.backends.mkldnn.matmul.fp32_precision = 'bf16'
        torch.bmm(a, b, out=out)
        torch.backends.mkldnn.matmul.fp32_precision = 'ieee'
    else:
        torch.bmm(a, b, out=out)
