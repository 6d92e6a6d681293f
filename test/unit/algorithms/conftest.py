# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Contracts and rollouts for the on-policy learners."""

import numpy as np
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.rollout import Rollout

OBSERVATION = 3


def spec(name, low, high, dtype='float32'):
    size = len(low)
    return ArraySpec(name, tuple(f'{name}/{i}' for i in range(size)), ('1',) * size, tuple(low),
                     tuple(high), dtype)


@pytest.fixture
def contract():
    """Return contracts: two continuous actions, or three choices from 5 to 7."""
    def make(discrete):
        action = spec('action', [5.0], [7.0], 'int64') if discrete else spec(
            'action', [-2.0, 0.0], [2.0, 1.0])
        return Contract('', 'test', 0.0, 'effort', (),
                        spec('observation', [None] * OBSERVATION, [None] * OBSERVATION), action,
                        'environment')
    return make


@pytest.fixture
def live():
    """Return a function that gives what a learner's present policy did in a made-up world."""
    def make(learner, seed=0, steps=16, count=4, reward=None):
        rng = np.random.default_rng(seed)
        observation = rng.normal(2.0, 3.0, (steps + 1, count, OBSERVATION)).astype(np.float32)
        terminated, truncated = rng.random((2, steps, count)) < 0.1
        if learner.whole_episodes:
            truncated[-1] = True
        cut = int((truncated & ~terminated).sum())
        drawn = rng.normal(size=(steps, count)).astype(np.float32)
        memory, actions = learner.remembered(count), []
        for row, ended in zip(observation, terminated | truncated):
            actions.append(learner.act(row))
            learner.forget(ended)
        return Rollout(
            observation[:-1], np.stack(actions),
            drawn if reward is None else np.full((steps, count), reward, np.float32), terminated,
            truncated, np.ones((steps, count), bool), observation[-1],
            rng.normal(2.0, 3.0, (cut, OBSERVATION)).astype(np.float32), learner.updates, memory)
    return make
