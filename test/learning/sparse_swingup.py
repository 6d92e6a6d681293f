# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Registers ``rl_nodes_test/SparseSwingUp-v0``: nothing is earned but 1 per step of success."""

import gymnasium
import rl_nodes.envs  # noqa: F401 (registers its environments)


class Sparse(gymnasium.Wrapper):
    """Pays for success alone."""

    def step(self, action):
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, float(info['success']), terminated, truncated, info


gymnasium.register('rl_nodes_test/SparseSwingUp-v0',
                   lambda: Sparse(gymnasium.make('rl_nodes/CartpoleSwingUp-v0')))
