# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A small environment whose best policy is known, and small learners for it."""

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
from rl_nodes.algorithms.sac import Sac, SacConfig

TIME_LIMIT = 5


class PointEnv(gymnasium.Env):
    """A point on a line; the reward is minus its distance from 0; success within 0.2."""

    def __init__(self):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.resets = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets.append(seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self._observation(), {}

    def step(self, action):
        self.x += float(action[0])
        self.t += 1
        distance = abs(self.x)
        info = {'success': distance < 0.2, 'distance': distance}
        return (self._observation(), -distance, bool(distance > 3.0), self.t >= TIME_LIMIT, info)

    def _observation(self):
        return np.array([self.x, self.t], np.float32)


@pytest.fixture
def point_env():
    return PointEnv


@pytest.fixture
def small_sac():
    def make(seed=0, **settings):
        return Sac(2, np.array([-2.0]), np.array([2.0]), SacConfig(**({
            'hidden': (32, 32), 'batch_size': 32, 'buffer_size': 5000, 'learning_starts': 50}
            | settings)), seed)
    return make
