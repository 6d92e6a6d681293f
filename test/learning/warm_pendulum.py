# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Registers ``rl_nodes_test/WarmPendulum-v0``: Pendulum that says how warm its motor gets."""

import gymnasium
import numpy as np


class Warm(gymnasium.Wrapper):
    """Adds ``heat``, the square of the torque [N² m²], to every step's info."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        torque = np.clip(float(action[0]), self.action_space.low[0], self.action_space.high[0])
        return observation, reward, terminated, truncated, info | {'heat': float(torque) ** 2}


gymnasium.register('rl_nodes_test/WarmPendulum-v0', lambda: Warm(gymnasium.make('Pendulum-v1')))
