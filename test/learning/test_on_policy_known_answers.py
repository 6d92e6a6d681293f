# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""On-policy methods on problems whose answer is known before learning starts."""

import threading

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
import numpy as np
import pytest
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.recurrent_ppo import RecurrentPpo, RecurrentPpoConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
from rl_nodes.algorithms.trpo import Trpo, TrpoConfig
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.sources import contract_of

GAMMA, LENGTH, COUNT = 0.8, 4, 8
SHARED = {'hidden': (32, 32), 'discount': GAMMA, 'normalize_observation': False,
          'initial_log_std': -1.0}  # wider ones are clipped, which moves the best mean outwards
CLIPPED = SHARED | {'rollout_steps': 16, 'batch_size': 64, 'learning_rate': 1e-2}
LEARNERS = {
    'a2c': (A2c, A2cConfig(**SHARED | {'learning_rate': 1e-2}), 250),
    'ppo': (Ppo, PpoConfig(**CLIPPED), 20),
    'ppo_kl_penalty': (Ppo, PpoConfig(variant='kl_penalty', **CLIPPED), 20),
    'ppo_state_dependent': (Ppo, PpoConfig(state_dependent_noise=2, **CLIPPED), 20),
    'recurrent_ppo': (RecurrentPpo, RecurrentPpoConfig(
        memory_size=16, **CLIPPED | {'learning_rate': 3e-3}), 40),
    'trpo': (Trpo, TrpoConfig(rollout_steps=16, critic_batch_size=64, **SHARED | {
        'learning_rate': 1e-2}), 30),
    'reinforce': (Reinforce, ReinforceConfig(
        episodes_per_rollout=2, critic_learning_rate=1e-2, **SHARED | {
            'learning_rate': 1e-2}), 100)}


class Cycle(gymnasium.Env):
    """
    Four states in a ring, of which it shows in which it is.

    :param reward: of a state and an action.
    :param over: how an episode ends on its return to the first state: cut, terminated or never.
    """

    def __init__(self, reward, over='cut', discrete=False):
        self.observation_space = spaces.Box(0.0, 1.0, (LENGTH,), np.float32)
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(
            -1.0, 1.0, (1,), np.float32)
        self._reward, self._over, self._step = reward, over, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._step = 0
        return self._shown(), {}

    def step(self, action):
        reward = self._reward(self._step, action)
        self._step = (self._step + 1) % LENGTH
        home = self._step == 0
        return (self._shown(), reward, home and self._over == 'terminated',
                home and self._over == 'cut', {})

    def _shown(self):
        return np.eye(LENGTH, dtype=np.float32)[self._step]


def taught(name, make):
    """Return a learner that has learned from an environment, and what it does there now."""
    kind, config, rounds = LEARNERS[name]
    env = make()
    learner = kind(contract_of(env, 'cycle'), config, 0)
    source = RolloutSource(
        SyncVectorEnv([make] * COUNT, autoreset_mode=AutoresetMode.SAME_STEP), learner, 0)
    for _ in range(rounds):
        learner.update(source.collect_rollout(threading.Event()))
    return learner, source.collect_rollout(threading.Event())


def value_of_the_first_state(name, over):
    learner, rollout = taught(name, lambda: Cycle(lambda state, action: 1.0, over))
    first = rollout.counted & (rollout.observation[..., 0] == 1.0)
    value = learner.prepare(rollout, rollout.reward).value.numpy()
    return value[first[rollout.counted]].mean()


@pytest.mark.parametrize('name', LEARNERS)
def test_constant_reward_for_ever_is_worth_one_over_one_minus_gamma(name):
    # What a memory holds at a cut it never acts from, so nobody taught it what that is worth.
    over = 'never' if name == 'recurrent_ppo' else 'cut'
    assert value_of_the_first_state(name, over) == pytest.approx(1 / (1 - GAMMA), rel=0.04)


@pytest.mark.parametrize('name', LEARNERS)
def test_where_episodes_end_so_does_what_is_earned(name):
    wanted = 1 + GAMMA + GAMMA ** 2 + GAMMA ** 3
    assert value_of_the_first_state(name, 'terminated') == pytest.approx(wanted, rel=0.04)


@pytest.mark.parametrize('discrete', [False, True], ids=['continuous', 'discrete'])
@pytest.mark.parametrize('name', LEARNERS)
def test_the_best_action_of_each_state_is_found(name, discrete):
    best = [2, 0, 1, 0] if discrete else [0.5, -0.5, 0.25, 0.0]

    def make():
        return Cycle(lambda state, action: -float(np.squeeze(action) - best[state]) ** 2,
                     discrete=discrete)

    learner, _ = taught(name, make)
    learner.forget(np.ones(LENGTH, bool))
    found = []
    for state in np.eye(LENGTH, dtype=np.float32):  # in order, for those that remember
        found.append(learner.act(state[None], explore=False)[0, 0])
    np.testing.assert_allclose(found, best, atol=0.5 if discrete else 0.15)
