# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The shipped files learn what they are for, judged through the exported policy."""

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
                                run_directory=str(tmp_path)))
    assert result.evaluation.mean_return >= least
