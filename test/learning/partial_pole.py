# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Registers ``rl_nodes_test/CartPolePositions-v0``: CartPole whose speeds are not observed."""

import gymnasium


class Positions(gymnasium.ObservationWrapper):
    """Shows elements 0 and 2 of an observation: of CartPole what moves, not how fast."""

    def __init__(self, env):
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[[0, 2]], space.high[[0, 2]])

    def observation(self, observation):
        return observation[[0, 2]]


gymnasium.register('rl_nodes_test/CartPolePositions-v0',
                   lambda: Positions(gymnasium.make('CartPole-v1')))
