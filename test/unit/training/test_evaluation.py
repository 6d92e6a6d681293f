# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, TrainingError
from rl_nodes.training.evaluation import evaluate


class Forgetful:
    """Has nothing to forget."""

    def reset(self):
        pass


class Home(Forgetful):
    """Goes straight to 0."""

    def act(self, observation):
        return np.clip(-observation[:1], -2, 2)


class Away(Forgetful):
    """Leaves: |x| > 3 after two steps of 2, at the latest."""

    def act(self, observation):
        return np.array([2.0 if observation[0] > 0 else -2.0], np.float32)


def test_the_perfect_policy(point_env):
    env = point_env()
    result = evaluate(env, Home(), [4, 5, 6], discount=0.5)
    assert env.resets == [4, 5, 6]
    assert result.success_rate == 1.0
    assert result.mean_return == pytest.approx(0.0, abs=1e-6)
    assert result.lengths == (5, 5, 5)
    assert result.summary()['final_distance'] == pytest.approx(0.0, abs=1e-6)
    assert 'success 100%' in result.text()


def test_discounted_and_undiscounted_returns(point_env):
    env = point_env()
    env.reset(seed=3)
    start = abs(env.x)
    result = evaluate(env, Away(), [3], discount=0.5)
    distances = [start + 2.0, start + 4.0] if start <= 1 else []
    assert result.returns[0] == pytest.approx(-sum(distances))
    assert result.discounted_returns[0] == pytest.approx(-(distances[0] + 0.5 * distances[1]))
    assert result.lengths == (2,)
    assert result.success_rate == 0.0


def test_rank_puts_success_first(point_env):
    good, bad = (evaluate(point_env(), policy, [1, 2]) for policy in (Home(), Away()))
    assert good.rank > bad.rank


def test_no_seeds(point_env):
    with pytest.raises(TrainingError, match='no seeds'):
        evaluate(point_env(), Home(), [])


def test_a_reward_that_is_no_number_ends_it(point_env):
    class Absurd(point_env):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float('nan'), *rest

    with pytest.raises(BackendError, match='rewarded step 1 of the episode of seed 4 with nan'):
        evaluate(Absurd(), Home(), [4])
