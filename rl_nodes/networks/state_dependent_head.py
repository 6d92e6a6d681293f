# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A Gaussian over actions whose standard deviation is that of noise which hangs on the state.

Formulas (1) to (4) of ``policy_heads.py`` hold with l(o) of ``state_dependent.py`` for l, and

    Fisher information of w: dw -> J^T 2 J dw, J = dl/dw                                     (1)
"""

import math

import numpy as np
from rl_nodes.networks.policy_heads import Gradient, PolicyHead
from rl_nodes.networks.state_dependent import HeldNoise, log_spread, log_spread_backward
import torch

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class StateDependentHead(PolicyHead):
    """The actor gives the means and its last hidden layer z; ``own`` is w, (H, A) as a vector."""

    def __init__(self, action_size: int, hidden_size: int, every: int) -> None:
        """
        Draw nothing yet.

        :param every: steps over which a draw is held.
        """
        self.outputs = self.action_size = action_size
        self.hidden_size = hidden_size
        self.own_size = hidden_size * action_size
        self._noise = HeldNoise(every)

    def _parts(self, output: torch.Tensor, own: torch.Tensor
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return m, z, w and l."""
        mean, hidden = output.split([self.action_size, self.hidden_size], 1)
        weight = own.view(self.hidden_size, self.action_size)
        return mean, hidden, weight, log_spread(hidden, weight)

    def _back(self, output: torch.Tensor, own: torch.Tensor,
              gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``own`` from that of l, (B, A)."""
        _, hidden, weight, spread = self._parts(output, own)
        return log_spread_backward(hidden, weight, spread, gradient).flatten()

    def draw(self, output: np.ndarray, own: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return m + z (sigma e), e drawn every so many calls."""
        mean, hidden, weight, _ = self._parts(torch.from_numpy(output), torch.from_numpy(own))
        drawn: np.ndarray = (mean + self._noise(hidden, weight, generator)).numpy()
        return drawn

    def renew(self) -> None:
        """Let the next draw draw e anew."""
        self._noise.renew()

    def best(self, output: np.ndarray) -> np.ndarray:
        """Return m."""
        return output[:, :self.action_size].copy()

    def spread(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return exp(l), shape (B, A)."""
        return self._parts(output, own)[3].exp()

    def log_probability(self, output: torch.Tensor, own: torch.Tensor,
                        action: torch.Tensor) -> torch.Tensor:
        """Return eq. (1) of the heads."""
        mean, _, _, spread = self._parts(output, own)
        noise = (action - mean) * torch.exp(-spread)
        return (-0.5 * noise.square() - spread - _HALF_LOG_TWO_PI).sum(1)

    def log_probability_gradient(self, output: torch.Tensor, own: torch.Tensor,
                                 action: torch.Tensor, weight: torch.Tensor) -> Gradient:
        """Return eq. (2) of the heads."""
        mean, _, _, spread = self._parts(output, own)
        inverse = torch.exp(-spread)
        noise = (action - mean) * inverse
        return noise * inverse * weight, self._back(output, own, (noise.square() - 1.0) * weight)

    def entropy(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return eq. (3) of the heads."""
        return (self._parts(output, own)[3] + (_HALF_LOG_TWO_PI + 0.5)).sum(1)

    def entropy_gradient(self, output: torch.Tensor, own: torch.Tensor,
                         weight: float) -> Gradient:
        """Return the derivative of eq. (3) of the heads: 1 of each l."""
        mean = output[:, :self.action_size]
        return torch.zeros_like(mean), self._back(output, own, torch.full_like(mean, weight))

    def kl(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
           own: torch.Tensor) -> torch.Tensor:
        """Return eq. (4) of the heads."""
        old_mean, _, _, old = self._parts(old_output, old_own)
        mean, _, _, new = self._parts(output, own)
        square = torch.exp(2.0 * old) + (old_mean - mean).square()
        return (new - old + 0.5 * square * torch.exp(-2.0 * new) - 0.5).sum(1)

    def kl_gradient(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
                    own: torch.Tensor, weight: float) -> Gradient:
        """Return the derivative of eq. (4) of the heads."""
        old_mean, _, _, old = self._parts(old_output, old_own)
        mean, _, _, new = self._parts(output, own)
        precision = torch.exp(-2.0 * new)
        square = torch.exp(2.0 * old) + (old_mean - mean).square()
        return ((mean - old_mean) * (precision * weight),
                self._back(output, own, (1.0 - square * precision) * weight))

    def fisher(self, output: torch.Tensor, own: torch.Tensor, output_change: torch.Tensor,
               own_change: torch.Tensor) -> Gradient:
        """Return 1/s^2 times the change of m, and eq. (1) of that of w."""
        _, hidden, weight, spread = self._parts(output, own)
        precision = torch.exp(-2.0 * spread)
        change = torch.mm(hidden.square(), torch.exp(2.0 * weight)
                          * own_change.view_as(weight)) * precision
        return output_change * precision, self._back(output, own, 2.0 * change)
