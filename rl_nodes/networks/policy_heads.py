# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the numbers of an actor mean: a Gaussian over vectors or a categorical over indices.

Legend: B rows, K outputs of the actor, A elements of an action; m mean, l log standard deviation
(a parameter of its own, the same in every state), s = exp(l), a action, n = (a - m) / s; z logits,
p = softmax(z), e_a the unit vector of index a.

    Gaussian      log pi = sum_A [-n^2/2 - l - log(2 pi)/2]                                  (1)
                  d log pi/dm = n / s,   d log pi/dl = n^2 - 1                               (2)
                  H = sum_A [l + log(2 pi e)/2]                                              (3)
                  KL(old||new) = sum_A [l - l' + (s'^2 + (m' - m)^2) / (2 s^2) - 1/2]        (4)
                  Fisher information: 1/s^2 of m, 2 of l                                     (5)
    categorical   log pi = z_a - log sum exp z,   d log pi/dz = e_a - p                      (6)
                  H = -sum_K p log p,   dH/dz = -p (log p + H)                               (7)
                  KL(old||new) = sum_K p' (log p' - log p),   dKL/dz = p - p'                (8)
                  Fisher information of z: diag(p) - p p^T                                   (9)

    censored      u ~ Gaussian, a = u clipped to [-1, 1]; at a bound b = 1 or -1, z = b (m - b)/s:
                  log pi = sum_A log Phi(z),   d/dm = b phi(z) / (s Phi(z)),   d/dl = -z phi/Phi,
                  in between eq. (1) and (2)                                               (10)

Phi and phi are the distribution and density of the standard normal; eq. (10) is of Y. Fujita and
S. Maeda 2018, "Clipped Action Policy Gradient", arXiv:1802.07564.

A prime marks the old policy. Gradients are written out instead of taken by autograd: same numbers
(tests compare them), a quarter of the time for networks of this size.
"""

from abc import ABC, abstractmethod
import math

import numpy as np
import torch
from torch.nn import functional

_AT_BOUND = 1.0 - 1e-5  # of an action that has become a command and an action again
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
Gradient = tuple[torch.Tensor, torch.Tensor]


class PolicyHead(ABC):
    """
    A distribution over actions, as pure functions of an actor's outputs.

    Where not said otherwise ``output`` is (B, K), ``own`` the parameters that do not depend on the
    state, (P,), ``action`` (B, A) float32. Gradients come as (of the output (B, K), of ``own``
    (P,)), the latter summed over rows, for a loss whose derivative with respect to the named
    quantity is ``weight``: shape (B, 1) or a number.

    :ivar outputs: K.
    :ivar own_size: P.
    :ivar action_size: A.
    :ivar hidden_size: H, where ``output`` is the actor's K outputs and, behind them, its last
        hidden layer, which no gradient goes back to; 0 where it is not needed.
    """

    outputs: int
    own_size: int
    action_size: int
    hidden_size: int = 0

    @abstractmethod
    def draw(self, output: np.ndarray, own: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return actions drawn from the distribution, shape (N, A), float32."""

    @abstractmethod
    def best(self, output: np.ndarray) -> np.ndarray:
        """Return the most probable actions, shape (N, A), float32."""

    @abstractmethod
    def log_probability(self, output: torch.Tensor, own: torch.Tensor,
                        action: torch.Tensor) -> torch.Tensor:
        """Return log pi [nat], shape (B,)."""

    @abstractmethod
    def log_probability_gradient(self, output: torch.Tensor, own: torch.Tensor,
                                 action: torch.Tensor, weight: torch.Tensor) -> Gradient:
        """Return the gradient of a loss through log pi."""

    @abstractmethod
    def entropy(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return H [nat], shape (B,)."""

    @abstractmethod
    def entropy_gradient(self, output: torch.Tensor, own: torch.Tensor,
                         weight: float) -> Gradient:
        """Return the gradient of a loss through H."""

    @abstractmethod
    def kl(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
           own: torch.Tensor) -> torch.Tensor:
        """Return KL(old||new) [nat], shape (B,)."""

    @abstractmethod
    def kl_gradient(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
                    own: torch.Tensor, weight: float) -> Gradient:
        """Return the gradient of a loss through KL(old||new), by the new policy."""

    @abstractmethod
    def fisher(self, output: torch.Tensor, own: torch.Tensor, output_change: torch.Tensor,
               own_change: torch.Tensor) -> Gradient:
        """Return the Fisher information times a change of output and ``own``."""

    def spread(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor | None:
        """Return the standard deviations of a continuous action, broadcast to (B, A)."""
        return None


class GaussianHead(PolicyHead):
    """Eq. (1) to (5): the actor gives the means, the log standard deviations are ``own``."""

    def __init__(self, action_size: int) -> None:
        self.outputs = self.own_size = self.action_size = action_size

    def draw(self, output: np.ndarray, own: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return m + s n."""
        noise: np.ndarray = torch.randn(output.shape, generator=generator).numpy()
        return output + np.exp(own) * noise

    def best(self, output: np.ndarray) -> np.ndarray:
        """Return m."""
        return output.copy()

    def log_probability(self, output: torch.Tensor, own: torch.Tensor,
                        action: torch.Tensor) -> torch.Tensor:
        """Return eq. (1)."""
        noise = (action - output) * torch.exp(-own)
        constant = own.sum() + self.action_size * _HALF_LOG_TWO_PI
        return noise.square().sum(1).mul_(-0.5).sub_(constant)

    def log_probability_gradient(self, output: torch.Tensor, own: torch.Tensor,
                                 action: torch.Tensor, weight: torch.Tensor) -> Gradient:
        """Return eq. (2)."""
        inverse = torch.exp(-own)
        noise = (action - output) * inverse
        weighted = noise * weight
        return weighted * inverse, (weighted * noise).sum(0) - weight.sum()

    def entropy(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return eq. (3)."""
        value = own.sum() + self.action_size * (_HALF_LOG_TWO_PI + 0.5)
        return value.expand(len(output))

    def entropy_gradient(self, output: torch.Tensor, own: torch.Tensor,
                         weight: float) -> Gradient:
        """Return the derivative of eq. (3): one per row and element of ``own``."""
        return torch.zeros_like(output), torch.full_like(own, weight * len(output))

    def kl(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
           own: torch.Tensor) -> torch.Tensor:
        """Return eq. (4)."""
        square = torch.exp(2.0 * old_own) + (old_output - output).square()
        return (own - old_own + 0.5 * square * torch.exp(-2.0 * own) - 0.5).sum(1)

    def kl_gradient(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
                    own: torch.Tensor, weight: float) -> Gradient:
        """Return the derivative of eq. (4)."""
        precision = torch.exp(-2.0 * own)
        difference = output - old_output
        square = torch.exp(2.0 * old_own) + difference.square()
        return difference * (precision * weight), (1.0 - square * precision).sum(0) * weight

    def fisher(self, output: torch.Tensor, own: torch.Tensor, output_change: torch.Tensor,
               own_change: torch.Tensor) -> Gradient:
        """Return eq. (5) times the change."""
        return output_change * torch.exp(-2.0 * own), own_change * (2.0 * len(output))

    def spread(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return s."""
        return own.exp()


class CensoredGaussianHead(GaussianHead):
    """
    A Gaussian of which only what is left after clipping to [-1, 1] is known, eq. (10).

    Entropy, divergence and Fisher information stay those of the Gaussian before; clipping makes
    no two of them differ more.
    """

    def log_probability(self, output: torch.Tensor, own: torch.Tensor,
                        action: torch.Tensor) -> torch.Tensor:
        """Return log pi of what is left, eq. (10)."""
        noise = (action.clamp(-1.0, 1.0) - output) * torch.exp(-own)
        bound = _bounds_reached(action)
        inside = -0.5 * noise.square() - own - _HALF_LOG_TWO_PI
        tail = torch.special.log_ndtr(-bound * noise)
        return torch.where(bound == 0.0, inside, tail).sum(1)

    def log_probability_gradient(self, output: torch.Tensor, own: torch.Tensor,
                                 action: torch.Tensor, weight: torch.Tensor) -> Gradient:
        """Return the derivatives of eq. (10)."""
        inverse = torch.exp(-own)
        noise = (action.clamp(-1.0, 1.0) - output) * inverse
        bound = _bounds_reached(action)
        beyond = -bound * noise  # z
        hazard = torch.exp(-0.5 * beyond.square() - _HALF_LOG_TWO_PI
                           - torch.special.log_ndtr(beyond))
        of_mean = torch.where(bound == 0.0, noise, bound * hazard) * inverse
        of_log_std = torch.where(bound == 0.0, noise.square() - 1.0, -beyond * hazard)
        return of_mean * weight, (of_log_std * weight).sum(0)


def _bounds_reached(action: torch.Tensor) -> torch.Tensor:
    """Return 1 and -1 where an action is at its bounds, 0 in between, shape (B, A)."""
    return torch.where(action.abs() >= _AT_BOUND, action.sign(), 0.0)


class CategoricalHead(PolicyHead):
    """Eq. (6) to (9): the actor gives logits; an action is an index, kept as a float32."""

    own_size = 0
    action_size = 1

    def __init__(self, choices: int) -> None:
        self.outputs = choices

    def draw(self, output: np.ndarray, own: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return argmax(z - log e), e exponential: the Gumbel-max way to draw from p."""
        waits = torch.empty(output.shape).exponential_(generator=generator).numpy()
        return self.best(output - np.log(waits))

    def best(self, output: np.ndarray) -> np.ndarray:
        """Return the index of the greatest logit."""
        return output.argmax(1)[:, np.newaxis].astype(np.float32)

    def log_probability(self, output: torch.Tensor, own: torch.Tensor,
                        action: torch.Tensor) -> torch.Tensor:
        """Return eq. (6)."""
        return functional.log_softmax(output, 1).gather(1, action.long()).squeeze(1)

    def log_probability_gradient(self, output: torch.Tensor, own: torch.Tensor,
                                 action: torch.Tensor, weight: torch.Tensor) -> Gradient:
        """Return eq. (6)."""
        gradient = torch.softmax(output, 1).mul_(-weight)
        return gradient.scatter_add_(1, action.long(), weight), own

    def entropy(self, output: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return eq. (7)."""
        log_p = functional.log_softmax(output, 1)
        return -(log_p.exp() * log_p).sum(1)

    def entropy_gradient(self, output: torch.Tensor, own: torch.Tensor,
                         weight: float) -> Gradient:
        """Return eq. (7)."""
        log_p = functional.log_softmax(output, 1)
        p = log_p.exp()
        entropy = -(p * log_p).sum(1, keepdim=True)
        return p.mul_(log_p.add_(entropy)).mul_(-weight), own

    def kl(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
           own: torch.Tensor) -> torch.Tensor:
        """Return eq. (8)."""
        old = functional.log_softmax(old_output, 1)
        return (old.exp() * (old - functional.log_softmax(output, 1))).sum(1)

    def kl_gradient(self, old_output: torch.Tensor, old_own: torch.Tensor, output: torch.Tensor,
                    own: torch.Tensor, weight: float) -> Gradient:
        """Return eq. (8)."""
        return (torch.softmax(output, 1) - torch.softmax(old_output, 1)).mul_(weight), own

    def fisher(self, output: torch.Tensor, own: torch.Tensor, output_change: torch.Tensor,
               own_change: torch.Tensor) -> Gradient:
        """Return eq. (9) times the change."""
        p = torch.softmax(output, 1)
        weighted = p * output_change
        return weighted - p * weighted.sum(1, keepdim=True), own_change
