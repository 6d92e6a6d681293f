# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Registers ``rl_nodes_test/HastyCartpole-v0``: balancing costs, falling ends that."""

import gymnasium
import rl_nodes.envs  # noqa: F401 (registers its environments)

COST = 2.0  # per step; a step well balanced is paid 1


class Hasty(gymnasium.Wrapper):
    """Takes off more per step than balancing earns; ``failed`` says that the pole has fallen."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        failed = float(terminated and not info['success'])
        return observation, reward - COST, terminated, truncated, info | {'failed': failed}


gymnasium.register('rl_nodes_test/HastyCartpole-v0',
                   lambda: Hasty(gymnasium.make('rl_nodes/CartpoleBalance-v0')))
