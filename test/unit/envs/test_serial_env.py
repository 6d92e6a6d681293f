# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What Gymnasium's own form refuses is refused here, too.

That both give the same bits: test/contract/test_vector_env.py.
"""

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
import numpy as np
import pytest
from rl_nodes.envs.serial_env import SerialVectorEnv


class Teller(gymnasium.Env):
    """Returns what it is told to."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(3)
    answer: object = (0.5, 0.25)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert isinstance(action, np.integer)
        return self.answer, 1, False, np.False_, {'asked': int(action)}


def test_answers_of_any_number_type_are_taken_as_declared():
    ours = SerialVectorEnv([Teller] * 2)
    theirs = SyncVectorEnv([Teller] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    both = []
    for envs in (ours, theirs):
        envs.reset(seed=0)
        both.append(envs.step(np.array([0, 2])))
    for mine, other in zip(both[0][:4], both[1][:4]):
        assert mine.dtype == other.dtype
        assert mine.tolist() == other.tolist()
    assert both[0][4]['asked'].tolist() == both[1][4]['asked'].tolist() == [0, 2]


def test_what_was_returned_stays():
    envs = SerialVectorEnv([Teller])
    envs.reset(seed=0)
    observation, reward, *_ = envs.step(np.array([1]))
    envs.envs[0].answer = (0.0, 0.0)
    envs.step(np.array([1]))
    assert observation.tolist() == [[0.5, 0.25]]


def test_as_many_actions_as_environments():
    envs = SerialVectorEnv([Teller] * 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match='shorter'):
        envs.step(np.array([1]))
