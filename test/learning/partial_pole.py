# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""CartPole and Pendulum as ``rl_nodes_test/...Positions-v0``: nobody sees how fast they move."""

import gymnasium


class Positions(gymnasium.ObservationWrapper):
    """Shows some elements of an observation: what moves where, not how fast."""

    def __init__(self, env, shown):
        super().__init__(env)
        self._shown, space = shown, env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[shown], space.high[shown])

    def observation(self, observation):
        return observation[self._shown]


gymnasium.register('rl_nodes_test/CartPolePositions-v0',
                   lambda: Positions(gymnasium.make('CartPole-v1'), [0, 2]))
gymnasium.register('rl_nodes_test/PendulumPositions-v0',
                   lambda: Positions(gymnasium.make('Pendulum-v1'), [0, 1]))
