# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Values, or distributions of values, of every one of n actions.

Legend: B batch, O observation, n actions, N atoms (1 without distributions), p inputs and q
outputs of a layer, L a loss.

Dueling (Wang, Schaul, Hessel, van Hasselt, Lanctot and de Freitas 2016, arXiv:1511.06581, eq. 9):

    Q(o, a) = V(o) + A(o, a) - mean_a' A(o, a')                                              (1)
    dL/dV = sum_a dL/dQ_a,   dL/dA_a = dL/dQ_a - mean_a' dL/dQ_a'                            (2)

where V and A each have the last hidden layer to themselves; of distributions, atom by atom and
before the softmax. Noisy layers (Fortunato et al. 2018, arXiv:1706.10295), y = W x + b:

    W = mu_w + sigma_w e_w,   b = mu_b + sigma_b e_b                                         (3)
    dL/dmu = dL/dW,   dL/dsigma = dL/dW e                                                    (4)
    independent: e_w and e_b of p q + q standard normal numbers
    factorised: e_w = f(e_p) f(e_q)^T, e_b = f(e_q) of p + q, f(x) = sgn(x) sqrt|x|          (5)

Gradients are written out (``networks/mlp.py``) instead of taken by autograd: same numbers (tests
compare them), less than half the time on a CPU core.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from rl_nodes.networks.mlp import Mlp, parameter_count, StackedMlp, Workspace
import torch
from torch import nn

NoiseKind = Literal['none', 'independent', 'factorised']


class QNetwork:
    """
    Hidden layers, then one stream to the values or two, eq. (1), with written-out gradients.

    Without noise and dueling the one stream has all the layers; otherwise streams begin at the
    last hidden layer, and the layers before it are shared and free of noise.

    :ivar flat: all parameters, shape (P,): shared layers, means mu of the streams, sigma.
    :ivar gradient: theirs, written by :meth:`backward`.
    :ivar streams: of the advantages (or values), and with dueling of V; with the present noise.
    """

    def __init__(self, observation_size: int, actions: int, hidden: Sequence[int],
                 generator: torch.Generator, dueling: bool = False, noise: NoiseKind = 'none',
                 support: torch.Tensor | None = None, noise_scale: float = 1.0) -> None:
        """
        Create the layers as torch does, noisy ones as in section 3.2 of the paper.

        :param observation_size: O.
        :param actions: n.
        :param hidden: units of each hidden layer, at least one.
        :param generator: of the initial weights and of the first noise.
        :param dueling: two streams.
        :param noise: of the layers of the streams.
        :param support: values of the atoms, shape (N,); None for plain values.
        :param noise_scale: of the first sigma, relative to the paper's.
        """
        self.actions, self.atoms = actions, 1 if support is None else len(support)
        self.support, self.noise = support, noise
        sizes = (observation_size, *hidden)
        cut = len(hidden) - 1 if dueling or noise != 'none' else 0
        shapes = [(*sizes[cut:], outputs * self.atoms)
                  for outputs in ((actions, 1) if dueling else (actions,))]
        counts = [parameter_count(shape) for shape in shapes]
        of_trunk, of_streams = parameter_count(sizes[:cut + 1]), sum(counts)
        noisy = noise != 'none'
        self.flat = torch.zeros(of_trunk + (1 + noisy) * of_streams)
        self.gradient = torch.zeros_like(self.flat)
        parts = [of_trunk, of_streams, noisy * of_streams]
        trunk, self._mean, self._spread = self.flat.split(parts)
        trunk_gradient, self._mean_gradient, self._spread_gradient = self.gradient.split(parts)
        self._epsilon = torch.zeros(len(self._spread))
        self._noised = torch.zeros_like(self._mean) if noisy else self._mean
        self._trunk = StackedMlp(1, sizes[:cut + 1], 'default', 1.0, generator,
                                 storage=(trunk, trunk_gradient)) if cut else None
        self.streams = [
            StackedMlp(1, shape, 'default', 1.0, generator, storage=storage)
            for shape, storage in zip(shapes, zip(self._noised.split(counts),
                                                  self._mean_gradient.split(counts)))]
        self._layers = [pair for shape in shapes for pair in zip(shape, shape[1:])]
        self._works: dict[int, list[Workspace]] = {}
        self._outputs: dict[int, list[torch.Tensor]] = {}  # of the streams, each (B, n or 1, N)
        self._last: list[Workspace] = []
        if noisy:
            self._begin_noise(noise_scale)
            self.draw(generator)

    def _begin_noise(self, scale: float) -> None:
        """Take over what the streams begin with as means, and set the spreads."""
        self._mean.copy_(self._noised)
        if self.noise == 'independent':
            self._mean.mul_(3.0 ** 0.5)
            self._spread.fill_(0.017 * scale)
            return
        start = 0
        for inputs, outputs in self._layers:
            end = start + (inputs + 1) * outputs
            self._spread[start:end] = 0.5 * scale * inputs ** -0.5
            start = end

    # Noise -----------------------------------------------------------------------------------

    @property
    def noise_count(self) -> int:
        """Return how many random numbers one draw takes."""
        if self.noise == 'factorised':
            return sum(inputs + outputs for inputs, outputs in self._layers)
        return len(self._epsilon)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise that holds until the next draw, eq. (3) and (5); none where no noise."""
        if self.noise == 'none':
            return
        numbers = torch.randn(self.noise_count, generator=generator)
        if self.noise == 'independent':
            self._epsilon.copy_(numbers)
        else:
            numbers = torch.sign(numbers) * numbers.abs().sqrt()
            start = used = 0
            for inputs, outputs in self._layers:
                first, second = numbers[used:used + inputs + outputs].split([inputs, outputs])
                weight = self._epsilon[start:start + inputs * outputs].view(inputs, outputs)
                torch.outer(first, second, out=weight)
                start += (inputs + 1) * outputs
                self._epsilon[start - outputs:start] = second
                used += inputs + outputs
        torch.addcmul(self._mean, self._spread, self._epsilon, out=self._noised)

    def silence(self) -> None:
        """Let there be no noise until the next draw."""
        if self.noise != 'none':
            self._epsilon.zero_()
            self._noised.copy_(self._mean)

    # Passes ----------------------------------------------------------------------------------

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Return values, or logits of the atoms, shape (B, n, N), valid until the next pass.

        After ``flat`` has changed :meth:`draw` or :meth:`silence` comes first.

        :param x: shape (B, O); must stay unchanged until :meth:`backward` is done.
        """
        rows = x.shape[0]
        if rows not in self._works:
            self._works[rows] = works = [part.workspace(rows) for part in self._parts()]
            self._outputs[rows] = [work.hidden[-1].view(rows, -1, self.atoms)
                                   for work in works[-len(self.streams):]]
        self._last = works = self._works[rows]
        if self._trunk is not None:
            x = torch.relu_(self._trunk.forward(x, works[0])[0])
        for stream, work in zip(self.streams, works[-len(self.streams):]):
            stream.forward(x, work)
        return joined(self._outputs[rows])

    def answer(self, x: np.ndarray) -> np.ndarray:
        """
        Return values as :meth:`forward` and :meth:`values_of` do, shape (1, n).

        :param x: one row, float32, shape (1, O); in NumPy that takes half the time.
        """
        if self._trunk is not None:
            x = self._trunk.answer(x)
            np.maximum(x, 0.0, out=x)
        outputs = [stream.answer(x) for stream in self.streams]
        if len(outputs) == 1 and self.support is None:
            return outputs[0]
        logits = joined([torch.from_numpy(output).view(1, -1, self.atoms) for output in outputs])
        return self.values_of(logits).numpy()

    def backward(self, gradient: torch.Tensor) -> None:
        """
        Write ``gradient`` for the last forward pass, eq. (2) and (4).

        :param gradient: of the loss with respect to the logits of the first B rows of that pass,
            on which alone it depends, shape (B, n, N).
        """
        rows = slice(None) if len(gradient) == self._last[0].batch else slice(len(gradient))
        sent = [gradient]
        if len(self.streams) == 2:
            sent = [gradient - gradient.mean(1, keepdim=True), gradient.sum(1)]
        below: list[torch.Tensor] = []
        for stream, work, part in zip(self.streams, self._last[-len(self.streams):], sent):
            returned = stream.backward(part.reshape(1, len(gradient), -1), work, rows=rows,
                                       inputs=None if self._trunk is None else slice(None))
            if returned is not None:
                below.append(returned)
        if self._trunk is not None:
            g = below[0] if len(below) == 1 else below[0].add_(below[1])
            h = self._last[0].hidden[-1][0, rows]
            torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
            self._trunk.backward(g.unsqueeze(0), self._last[0], rows=rows)
        if self.noise != 'none':
            torch.mul(self._mean_gradient, self._epsilon, out=self._spread_gradient)

    def values_of(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the values that logits stand for, shape (B, n)."""
        return values_of(logits, self.support)

    def _parts(self) -> list[StackedMlp]:
        return self.streams if self._trunk is None else [self._trunk, *self.streams]

    def module(self) -> 'QModule':
        """Return a copy as a plain module, with the noise that holds now."""
        return QModule(None if self._trunk is None else self._trunk.member(0),
                       [stream.member(0) for stream in self.streams], self.support)


class QModule(nn.Module):
    """The same as a plain module, for autograd and export; its answer are the values, (B, n)."""

    support: torch.Tensor | None

    def __init__(self, shared: Mlp | None, streams: Sequence[Mlp],
                 support: torch.Tensor | None) -> None:
        """
        Put the parts together.

        :param shared: layers before the streams, the last one without its activation; None where
            there are none.
        :param streams: to the advantages (or values), and where there are two to V.
        :param support: values of the atoms; None for plain values.
        """
        super().__init__()
        self.shared = None if shared is None else nn.Sequential(*shared, nn.ReLU())
        self.streams = nn.ModuleList(streams)
        self.register_buffer('support', None if support is None else support.clone())

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return values, or logits of the atoms, shape (B, n, N)."""
        h = x if self.shared is None else self.shared(x)
        atoms = 1 if self.support is None else len(self.support)
        return joined([stream(h).view(len(x), -1, atoms) for stream in self.streams])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values, of distributions their means, shape (B, n)."""
        return values_of(self.logits(x), self.support)


def joined(streams: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what one stream says, or two, eq. (1): advantages (B, n, N), then V (B, 1, N)."""
    if len(streams) == 1:
        return streams[0]
    advantage, value = streams
    return advantage + (value - advantage.mean(1, keepdim=True))


def values_of(logits: torch.Tensor, support: torch.Tensor | None) -> torch.Tensor:
    """Return the values that logits (B, n, N) stand for, shape (B, n)."""
    if support is None:
        return logits.squeeze(2)
    return (torch.softmax(logits, -1) * support).sum(-1)
