# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Rewards in units of the spread of returns, for learning only.

Citation: Engstrom, Ilyas, Santurkar, Tsipras, Janoos, Rudolph and Madry 2020, "Implementation
Matters in Deep Policy Gradients", arXiv:2005.12729, appendix A.2 ("reward scaling").

    R_t = gamma (1 - e_{t-1}) R_{t-1} + r_t,    r'_t = clip(r_t / std(R), -10, 10)           (1)
"""

import numpy as np
from rl_nodes.networks.normalizer import ObservationNormalizer
import torch

CLIP = 10.0  # standard deviations of the return


class RewardScaler:
    """The running spread of discounted returns, eq. (1); rewards are not centred."""

    def __init__(self, discount: float) -> None:
        self._discount = discount
        self._statistics = ObservationNormalizer(1)
        self._running = np.zeros(0)

    def scale(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """
        Merge a rollout into the statistics and return its scaled rewards.

        :param reward: raw, shape (T, N).
        :param ended: shape (T, N), bool.
        :return: shape (T, N), float32.
        """
        running = self._running
        if running.shape != reward.shape[1:]:
            running = np.zeros(reward.shape[1])
        returns = np.empty(reward.shape)
        for t, row in enumerate(reward):
            returns[t] = running = self._discount * running + row
            running = np.where(ended[t], 0.0, running)
        self._running = running
        self._statistics.update(torch.from_numpy(returns.reshape(-1, 1)))
        spread = float(self._statistics.variance[0]) ** 0.5
        return np.clip(reward / max(spread, 1e-4), -CLIP, CLIP).astype(np.float32)

    def state_dict(self) -> dict:
        """Return copies of the statistics and of what the unfinished episodes have earned."""
        return {'statistics': self._statistics.state_dict(), 'running': self._running.copy()}

    def load_state_dict(self, state: dict) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._statistics.load_state_dict(state['statistics'])
        self._running = torch.as_tensor(state['running']).numpy().copy()
