# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Off-policy methods, with every switch of DQN, on problems whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.types import TransitionBatch
import torch

GAMMA = 0.8
SHARED = {'hidden': (32, 32), 'batch_size': 64, 'buffer_size': 2000, 'learning_starts': 1,
          'discount': GAMMA, 'normalize_observation': False}
CRITIC = SHARED | {'target_decay': 0.98, 'critic_learning_rate': 3e-3}
CHOICE = SHARED | {'target_every': 20, 'learning_rate': 3e-3}
RAINBOW = {'double': True, 'dueling': True, 'n_step': 3, 'prioritized': True, 'categorical': True,
           'value_min': 0.0, 'value_max': 10.0, 'noisy': 'factorised'}
SWITCHES = {'plain': {}, 'double': {'double': True}, 'dueling': {'dueling': True},
            'n_step': {'n_step': 3}, 'prioritized': {'prioritized': True},
            'categorical': {'categorical': True, 'value_min': 0.0, 'value_max': 10.0},
            'noisy': {'noisy': 'factorised'}, 'noisy_independent': {'noisy': 'independent'},
            'rainbow': RAINBOW}
# A temperature near 0 that stays there: the entropy must not be paid.
COLD = CRITIC | {'initial_temperature': 1e-8, 'temperature_learning_rate': 1e-12}
LEARNERS = {
    'sac': (Sac, SacConfig(**COLD)), 'sac_v': (Sac, SacConfig(variant='v_network', **COLD)),
    'sac_layer_norm': (Sac, SacConfig(critic_layer_norm=True, **COLD)),
    'td3': (Td3, Td3Config(**CRITIC)), 'ddpg': (Ddpg, DdpgConfig(**CRITIC)),
    **{f'dqn_{name}': (Dqn, DqnConfig(**CHOICE, **switch)) for name, switch in SWITCHES.items()}}


def endless_task(episode_length=4, count=2000):
    """Return transitions of a task that pays 1 for ever and is cut off every few steps."""
    rng = np.random.default_rng(0)
    episode, step = np.divmod(np.arange(count), episode_length)
    flags = np.zeros(count, bool)
    action = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    observation = np.stack([step == i for i in range(episode_length + 1)], 1).astype(np.float32)
    following = np.roll(observation, 1, axis=1)
    return TransitionBatch(observation, action, action, np.ones(count, np.float32), following,
                           flags, step == episode_length - 1, flags, flags, step, episode, step)


def looping(batch):
    """Let what follows a cut-off be an observation that is acted from, so its value is known."""
    return replace(batch, next_observation=np.where(
        batch.truncated[:, None], batch.observation[:1], batch.next_observation))


def learned_value(kind, config, batch, updates=2000):
    """Return Q at the first observation, averaged over actions."""
    discrete = kind is Dqn
    low, high = (np.array([0]), np.array([1])) if discrete else (np.array([-1.0]), np.array([1.0]))
    learner = kind(5, low, high, config, 0)
    if discrete:
        batch = replace(batch, action=(batch.action > 0).astype(np.float32))
    learner.observe(batch)
    for _ in range(updates):
        learner.update()
    observation = torch.from_numpy(batch.observation[:1])
    if discrete:
        return learner.policy_module().values(observation).mean().item()
    x = torch.cat([observation.expand(64, -1), torch.linspace(-1, 1, 64)[:, None]], 1)
    return learner.critics.forward(x, learner.critics.workspace(64)).mean().item()


def tolerance(name, bare):
    """The greatest of several noisy values is above the greatest value."""
    return 0.15 if name.startswith('dqn_noisy') else bare


@pytest.mark.parametrize('name', LEARNERS)
def test_constant_reward_for_ever_is_worth_one_over_one_minus_gamma(name):
    kind, config = LEARNERS[name]
    value = learned_value(kind, config, looping(endless_task()))
    assert value == pytest.approx(1 / (1 - GAMMA), rel=tolerance(name, 0.04))


@pytest.mark.parametrize('name', LEARNERS)
def test_taking_truncation_for_termination_misses_it(name):
    kind, config = LEARNERS[name]
    batch = looping(endless_task())
    value = learned_value(kind, config, replace(batch, terminated=batch.truncated))
    wanted = 1 + GAMMA + GAMMA ** 2 + GAMMA ** 3
    assert value == pytest.approx(wanted, rel=tolerance(name, 0.05))


def test_no_gradient_flows_through_the_target():
    sac = Sac(5, np.array([-1.0]), np.array([1.0]), SacConfig(**COLD | {'hidden': (8,)}), seed=0)
    sac.observe(endless_task(count=64))
    for critics in (sac.critics, sac.target_critics):  # Q = 2 everywhere
        critics.flat.zero_()
        critics.biases[-1].fill_(2.0)
    sac.update()
    # Q - y = 2 - (1 + 0.8 * 2) = -0.6; through the target it would be (1 - 0.8) times that.
    torch.testing.assert_close(sac.critics.bias_gradients[-1].flatten(),
                               torch.tensor([-0.6, -0.6]), atol=1e-5, rtol=0)
