# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The shipped files learn what they are for, judged through the exported policy."""

import gymnasium
import pytest
from rl_nodes.training.in_process import train, TrainOptions


@pytest.mark.learning
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(('algorithm', 'env', 'steps', 'least'), [
    ('ppo_cartpole', 'CartPole-v1', 100_000, 475.0),  # the environment's own mark of success
    ('trpo', 'CartPole-v1', 100_000, 475.0),
    ('reinforce', 'CartPole-v1', 200_000, 475.0),
    ('a2c_cartpole', 'CartPole-v1', 300_000, 475.0),
    ('ppo_pendulum', 'Pendulum-v1', 100_000, -250.0),  # published: -172 ± 104, -175 ± 128
    ('trpo_pendulum', 'Pendulum-v1', 100_000, -250.0)])
def test_learns(tmp_path, algorithm, env, steps, least):
    result = train(TrainOptions(env=env, algorithm=algorithm, steps=steps,
                                run_dir=str(tmp_path)))
    assert result.evaluation.mean_return >= least


class Positions(gymnasium.ObservationWrapper):
    """Shows elements 0 and 2 of an observation: of CartPole what moves, not how fast."""

    def __init__(self, env):
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[[0, 2]], space.high[[0, 2]])

    def observation(self, observation):
        return observation[[0, 2]]


@pytest.mark.learning
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(('algorithm', 'steps'), [
    ('recurrent_ppo', 100_000), ('ppo_cartpole', 50_000)])
def test_a_pole_whose_speed_is_not_seen_needs_a_memory(tmp_path, algorithm, steps):
    env_id = 'rl_nodes_test/CartPolePositions-v0'
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, lambda: Positions(gymnasium.make('CartPole-v1')))
    result = train(TrainOptions(env=env_id, algorithm=algorithm, steps=steps, target=475.0,
                                run_dir=str(tmp_path)))
    if algorithm == 'recurrent_ppo':
        assert result.evaluation.mean_return >= 475.0
    else:
        assert result.evaluation.mean_return < 200.0
