# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The squashed Gaussian: a = tanh(u), u = m + s n, n ~ N(0, 1), per action element.

Legend: B batch, A action; m mean, l log standard deviation, s = exp(l), n noise.

    log pi(a) = sum_A [ -n^2/2 - l - log(2 pi)/2 - log(1 - tanh(u)^2) ]                      (1)
    log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u))           (stable for every u)        (2)

and, for a loss L(a, log pi) with dL/da = g and dL/dlog pi = c, at fixed noise (the pathwise or
reparameterised gradient; d log(1 - tanh(u)^2)/du = -2 a):

    dL/dm = g (1 - a^2) + 2 c a,      dL/dl = dL/dm s n - c                                  (3)
"""

import math

import torch
from torch.nn import functional

LOG_STD_MIN = -20.0
LOG_STD_MAX = 2.0
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def log_one_minus_tanh_squared(u: torch.Tensor) -> torch.Tensor:
    """Return log(1 - tanh(u)^2), eq. (2), element by element."""
    return (math.log(2.0) - u - functional.softplus(-2.0 * u)) * 2.0


def squash(mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor
           ) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return an action and its log-probability, eq. (1).

    :param mean: m, shape (B, A).
    :param log_std: l, already within [LOG_STD_MIN, LOG_STD_MAX], shape (B, A).
    :param noise: n, standard normal, shape (B, A).
    :return: action in (-1, 1), shape (B, A); log-probability [nat], shape (B,).
    """
    u = torch.addcmul(mean, log_std.exp(), noise)
    log_probability = noise.square().mul_(-0.5).sub_(log_std).sub_(_HALF_LOG_TWO_PI)
    log_probability.sub_(log_one_minus_tanh_squared(u))
    return torch.tanh(u), log_probability.sum(-1)


def squash_backward(action: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor,
                    action_gradient: torch.Tensor, log_probability_gradient: float | torch.Tensor
                    ) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return the gradients with respect to mean and log standard deviation, eq. (3).

    :param action: as :func:`squash` returned it, shape (B, A).
    :param action_gradient: g, shape (B, A).
    :param log_probability_gradient: c, a number or shape (B, 1).
    """
    mean_gradient = action_gradient * (1.0 - action.square())
    mean_gradient += action * (2.0 * log_probability_gradient)
    log_std_gradient = mean_gradient * noise * log_std.exp() - log_probability_gradient
    return mean_gradient, log_std_gradient


def log_probability_of(action: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
                       ) -> torch.Tensor:
    """
    Return the log-density of a given action [nat], shape (B,).

    :param action: strictly within (-1, 1), shape (B, A).
    """
    u = torch.atanh(action)
    noise = (u - mean) * torch.exp(-log_std)
    return (-0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
            - log_one_minus_tanh_squared(u)).sum(-1)
