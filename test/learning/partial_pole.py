# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
CartPole and Pendulum as ``rl_nodes_test/...Positions-v0``: nobody sees how fast they move.

``PendulumPositions4-v0`` shows the last four observations at once, which tell the speed.
"""

import gymnasium
from gymnasium.wrappers import FlattenObservation, FrameStackObservation


class Positions(gymnasium.ObservationWrapper):
    """Shows some elements of an observation: what moves where, not how fast."""

    def __init__(self, env, shown):
        super().__init__(env)
        self._shown, space = shown, env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[shown], space.high[shown])

    def observation(self, observation):
        return observation[self._shown]


def pendulum():
    """Return Pendulum that shows cosine and sine of its angle alone."""
    return Positions(gymnasium.make('Pendulum-v1'), [0, 1])


gymnasium.register('rl_nodes_test/CartPolePositions-v0',
                   lambda: Positions(gymnasium.make('CartPole-v1'), [0, 2]))
gymnasium.register('rl_nodes_test/PendulumPositions-v0', pendulum)
gymnasium.register('rl_nodes_test/PendulumPositions4-v0',
                   lambda: FlattenObservation(FrameStackObservation(pendulum(), 4)))
