# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Generalised state-dependent exploration: noise that is a function of the state for a while.

Citation: Raffin, Kober and Stulp 2021, "Smooth Exploration for Robotic Reinforcement Learning",
arXiv:2005.05719, section 4.

Legend: B rows, H hidden units, A action elements; z(o) the actor's last hidden layer (B, H), m(o)
its mean, sigma = exp(w) (H, A) learned, e of standard normal numbers (H, A), held for n steps.

    u = m(o) + z(o) (sigma e),   l_j(o) = 1/2 log(sum_i sigma_ij^2 z_i(o)^2 + c)             (1)
    pi(.|o) = N(m(o), exp(2 l(o)))                                                           (2)
    dl_j/dw_ij = sigma_ij^2 z_i^2 exp(-2 l_j)                                                (3)

c = 1e-6 keeps the logarithm finite. As in the authors' code nothing flows through z into the
layers below: they learn m alone.
"""

from rl_nodes.networks.mlp import Mlp
import torch
from torch import nn

FLOOR = 1e-6  # c, of a variance


def log_spread(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """
    Return l, eq. (1), shape (B, A).

    :param hidden: z, shape (B, H).
    :param weight: w, shape (H, A).
    """
    return torch.mm(hidden.square(), torch.exp(2.0 * weight)).add_(FLOOR).log_().mul_(0.5)


def log_spread_backward(hidden: torch.Tensor, weight: torch.Tensor, spread: torch.Tensor,
                        gradient: torch.Tensor) -> torch.Tensor:
    """
    Return the gradient with respect to w, eq. (3), shape (H, A).

    :param spread: l, as :func:`log_spread` returned it, shape (B, A).
    :param gradient: of a loss with respect to l, shape (B, A).
    """
    inner = torch.mm(hidden.square().T, gradient * torch.exp(-2.0 * spread))
    return inner.mul_(torch.exp(2.0 * weight))


class HeldNoise:
    """e of every environment, drawn anew for all of them every n steps."""

    def __init__(self, every: int) -> None:
        """
        Draw nothing yet.

        :param every: n, at least 1.
        """
        self._every = every
        self._drawn, self._steps = torch.zeros(0, 0, 0), 0

    def __call__(self, hidden: torch.Tensor, weight: torch.Tensor,
                 generator: torch.Generator) -> torch.Tensor:
        """
        Return z (sigma e) of one step, shape (N, A); another N draws anew.

        :param hidden: z of every environment, shape (N, H).
        :param weight: w, shape (H, A).
        """
        shape = (len(hidden), *weight.shape)
        if self._drawn.shape != shape or self._steps == self._every:
            self._drawn, self._steps = torch.randn(shape, generator=generator), 0
        self._steps += 1
        return torch.bmm(hidden.unsqueeze(1), self._drawn * torch.exp(weight)).squeeze(1)

    def renew(self) -> None:
        """Let the next step draw anew."""
        self._steps = self._every

    def state_dict(self) -> dict[str, torch.Tensor | int]:
        """Return a copy of what is held and for how long it has been."""
        return {'drawn': self._drawn.clone(), 'steps': self._steps}

    def load_state_dict(self, state: dict) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._drawn, self._steps = torch.as_tensor(state['drawn']).clone(), int(state['steps'])


class WithSpread(nn.Module):
    """An actor that gives means, and l beside them, (B, 2 A): a plain module for export."""

    weight: torch.Tensor

    def __init__(self, actor: Mlp, weight: torch.Tensor) -> None:
        """
        Put the parts together.

        :param actor: from (B, O) to the means, (B, A).
        :param weight: w, shape (H, A).
        """
        super().__init__()
        *below, self.last = actor
        self.below = nn.Sequential(*below)
        self.register_buffer('weight', weight.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return means, then logarithms of standard deviations."""
        hidden = self.below(x)
        variance = torch.mm(hidden.square(), torch.exp(2.0 * self.weight)) + FLOOR
        return torch.cat((self.last(hidden), 0.5 * torch.log(variance)), 1)
