# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Values, or distributions of values, of every one of n actions.

Legend: B batch, O observation, n actions, N atoms (1 without distributions), p inputs and q
outputs of a layer.

Dueling (Wang, Schaul, Hessel, van Hasselt, Lanctot and de Freitas 2016, arXiv:1511.06581, eq. 9):

    Q(o, a) = V(o) + A(o, a) - mean_a' A(o, a')                                              (1)

where V and A each have the last hidden layer to themselves; of distributions, atom by atom and
before the softmax. Noisy layers (Fortunato et al. 2018, arXiv:1706.10295), y = W x + b:

    W = mu_w + sigma_w e_w,   b = mu_b + sigma_b e_b                                         (2)
    independent: e_w and e_b of p q + q standard normal numbers
    factorised: e_w = f(e_q) f(e_p)^T, e_b = f(e_q) of p + q, f(x) = sgn(x) sqrt|x|          (3)
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

NoiseKind = Literal['none', 'independent', 'factorised']


class NoisyLinear(nn.Module):
    """A linear layer whose noise is drawn on demand and absent in ``eval()`` mode, eq. (2)."""

    def __init__(self, inputs: int, outputs: int, kind: NoiseKind,
                 generator: torch.Generator) -> None:
        """
        Create the layer as in section 3.2 of the paper.

        :param inputs: p.
        :param outputs: q.
        :param kind: ``independent`` or ``factorised``.
        :param generator: of the initial weights.
        """
        super().__init__()
        factorised = kind == 'factorised'
        self._sizes = (inputs, outputs) if factorised else (inputs * outputs, outputs)
        bound = inputs ** -0.5 if factorised else (3.0 / inputs) ** 0.5
        spread = 0.5 * inputs ** -0.5 if factorised else 0.017
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(
            -bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(
            -bound, bound, generator=generator))
        self.weight_spread = nn.Parameter(torch.full((outputs, inputs), spread))
        self.bias_spread = nn.Parameter(torch.full((outputs,), spread))
        self._factorised = factorised
        self._weight_noise = torch.zeros(outputs, inputs)
        self._bias_noise = torch.zeros(outputs)

    @property
    def noise_count(self) -> int:
        """Return how many random numbers one draw takes."""
        return sum(self._sizes)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise that holds until the next draw, eq. (3)."""
        first, second = torch.randn(self.noise_count, generator=generator).split(self._sizes)
        if self._factorised:
            first, second = (torch.sign(x) * x.abs().sqrt() for x in (first, second))
            self._weight_noise = torch.outer(second, first)
        else:
            self._weight_noise = first.view_as(self.weight)
        self._bias_noise = second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's answer, shape (B, q)."""
        if not self.training:
            return functional.linear(x, self.weight, self.bias)
        return functional.linear(x, self.weight + self.weight_spread * self._weight_noise,
                                 self.bias + self.bias_spread * self._bias_noise)


class QNetwork(nn.Module):
    """Hidden layers, then one stream to the values or two, eq. (1)."""

    support: torch.Tensor

    def __init__(self, observation_size: int, actions: int, hidden: Sequence[int],
                 generator: torch.Generator, dueling: bool = False, noise: NoiseKind = 'none',
                 support: torch.Tensor | None = None) -> None:
        """
        Create the layers; all but the last hidden one are shared and free of noise.

        :param observation_size: O.
        :param actions: n.
        :param hidden: units of each hidden layer, at least one.
        :param generator: of the initial weights and of the first noise.
        :param dueling: two streams.
        :param noise: of the layers of the streams.
        :param support: values of the atoms, shape (N,); None for plain values.
        """
        super().__init__()
        self.actions, self.atoms = actions, 1 if support is None else len(support)
        self.register_buffer('support', torch.ones(1) if support is None else support.clone())

        def layer(inputs: int, outputs: int, noisy: bool) -> nn.Module:
            if noisy and noise != 'none':
                return NoisyLinear(inputs, outputs, noise, generator)
            plain = nn.Linear(inputs, outputs)
            bound = inputs ** -0.5  # torch's own way, from our generator
            for parameter in plain.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            return plain

        def stream(outputs: int) -> nn.Sequential:
            return nn.Sequential(layer(sizes[-2], sizes[-1], True), nn.ReLU(),
                                 layer(sizes[-1], outputs * self.atoms, True))

        sizes = (observation_size, *hidden)
        shared = [module for pair in zip(sizes[:-2], sizes[1:-1])
                  for module in (layer(*pair, False), nn.ReLU())]
        self.shared = nn.Sequential(*shared)
        self.advantage = stream(actions)
        self.value = stream(1) if dueling else None
        self._noisy = [m for m in self.modules() if isinstance(m, NoisyLinear)]
        self.draw(generator)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise of every noisy layer."""
        for module in self._noisy:
            module.draw(generator)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return values, or logits of the atoms, shape (B, n, N)."""
        h = self.shared(x)
        advantage = self.advantage(h).view(-1, self.actions, self.atoms)
        if self.value is None:
            return advantage
        value = self.value(h).view(-1, 1, self.atoms)
        return value + advantage - advantage.mean(1, keepdim=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values, of distributions their means, shape (B, n)."""
        return self.values_of(self.logits(x))

    def values_of(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the values that logits stand for, shape (B, n)."""
        if self.atoms == 1:
            return logits[:, :, 0]
        return (torch.softmax(logits, -1) * self.support).sum(-1)


def flatten(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Move all parameters of a module, and their gradients, into one vector each.

    :return: (parameters, gradients); ``backward()`` adds to the latter.
    """
    parameters = list(module.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradient = torch.zeros_like(flat)
    start = 0
    for parameter in parameters:
        part = slice(start, start + parameter.numel())
        parameter.data = flat[part].view_as(parameter)
        parameter.grad = gradient[part].view_as(parameter)
        start = part.stop
    return flat, gradient
