# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Returns and advantages, as pure functions of time-major arrays.

Legend: T steps, N environments; d terminated, e ended (terminated or truncated), V' the value of
what really followed: of the last observation where an episode was cut off, 0 where it terminated.

    delta_t = r_t + gamma V'_t - V_t                                                         (1)
    A_t = delta_t + gamma lambda (1 - e_t) A_{t+1}                                           (2)
    G_t = r_t + gamma [(1 - e_t) G_{t+1} + e_t V'_t]                                         (3)
    G(tau) = G of the episode's first step, the same for each of its steps                   (4)

Citations: (2) Schulman, Moritz, Levine, Jordan and Abbeel 2016, "High-Dimensional Continuous
Control Using Generalized Advantage Estimation", arXiv:1506.02438, eq. (16); bootstrapping at time
limits: Pardo, Tavakoli, Levdik and Kormushev 2018, arXiv:1712.00378.
"""

import numpy as np


def advantages(reward: np.ndarray, value: np.ndarray, next_value: np.ndarray, ended: np.ndarray,
               discount: float, gae_lambda: float) -> np.ndarray:
    """
    Return generalised advantage estimates, eq. (1) and (2).

    :param reward: shape (T, N).
    :param value: V of the observation acted from, shape (T, N).
    :param next_value: V', shape (T, N).
    :param ended: shape (T, N), bool.
    :param gae_lambda: 0 trusts the critic after one step, 1 only where experience ends.
    :return: shape (T, N), of the type of ``value``.
    """
    result = reward + discount * next_value - value
    carried = (discount * gae_lambda * ~ended).astype(result.dtype)
    for t in range(len(result) - 2, -1, -1):
        result[t] += carried[t] * result[t + 1]
    return result


def rewards_to_go(reward: np.ndarray, next_value: np.ndarray, ended: np.ndarray,
                  discount: float) -> np.ndarray:
    """
    Return the discounted rewards from each step on, eq. (3), shape (T, N).

    :param next_value: V', shape (T, N); counts where an episode ended and after the last row.
    """
    result = reward + discount * next_value * ended
    result[-1] = reward[-1] + discount * next_value[-1]
    going_on = (discount * ~ended).astype(result.dtype)
    for t in range(len(result) - 2, -1, -1):
        result[t] += going_on[t] * result[t + 1]
    return result


def full_returns(reward: np.ndarray, next_value: np.ndarray, ended: np.ndarray,
                 discount: float) -> np.ndarray:
    """Return the whole episode's discounted return at each of its steps, eq. (4), (T, N)."""
    result = rewards_to_go(reward, next_value, ended, discount)
    for t in range(1, len(result)):
        result[t] = np.where(ended[t - 1], result[t], result[t - 1])
    return result


def explained_variance(estimate: np.ndarray, target: np.ndarray) -> float:
    """Return 1 - Var(target - estimate) / Var(target): 1 is perfect, 0 as good as a constant."""
    variance = float(np.var(target))
    return 1.0 - float(np.var(target - estimate)) / variance if variance > 0.0 else 0.0
