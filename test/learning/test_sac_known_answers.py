# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Problems whose answer is known before learning starts."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.core.types import TransitionBatch
import torch

GAMMA = 0.8


def endless_task(episode_length=4, count=2000):
    """Return transitions of a task that pays 1 for ever and is cut off every few steps."""
    rng = np.random.default_rng(0)
    step = np.arange(count) % episode_length
    flags = np.zeros(count, bool)
    action = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    observation = np.stack([step == i for i in range(episode_length + 1)], 1).astype(np.float32)
    following = np.roll(observation, 1, axis=1)
    return TransitionBatch(observation, action, action, np.ones(count, np.float32), following,
                           flags, step == episode_length - 1, flags, flags, step, step, step)


def learned_value(batch, observation):
    """Return Q of the trained critics at an observation, averaged over actions."""
    # A temperature near 0 that stays there: the entropy must not be paid.
    sac = Sac(5, np.array([-1.0]), np.array([1.0]), SacConfig(
        hidden=(32, 32), batch_size=64, buffer_size=2000, learning_starts=1, discount=GAMMA,
        initial_temperature=1e-8, temperature_learning_rate=1e-12, target_decay=0.98,
        critic_learning_rate=3e-3, normalize_observation=False), seed=0)
    sac.observe(batch)
    for _ in range(1200):
        sac.update()
    x = torch.zeros(64, 6)
    x[:, :5] = torch.from_numpy(observation)
    x[:, 5] = torch.linspace(-1, 1, 64)
    return sac.critics.forward(x, sac.critics.workspace(64)).mean().item()


def looping(batch):
    """Let what follows a cut-off be an observation that is acted from, so its value is known."""
    return replace(batch, next_observation=np.where(
        batch.truncated[:, None], batch.observation[:1], batch.next_observation))


def test_constant_reward_for_ever_is_worth_one_over_one_minus_gamma():
    batch = looping(endless_task())
    value = learned_value(batch, batch.observation[0])
    assert value == pytest.approx(1 / (1 - GAMMA), rel=0.02)


def test_taking_truncation_for_termination_misses_it():
    batch = looping(endless_task())
    value = learned_value(replace(batch, terminated=batch.truncated), batch.observation[0])
    # 1 + gamma + gamma^2 + gamma^3 = 2.952 instead of 5.
    assert value == pytest.approx(2.952, rel=0.03)


def test_no_gradient_flows_through_the_target():
    sac = Sac(5, np.array([-1.0]), np.array([1.0]), SacConfig(
        hidden=(8,), batch_size=64, buffer_size=64, learning_starts=1, discount=GAMMA,
        initial_temperature=1e-8, normalize_observation=False), seed=0)
    sac.observe(endless_task(count=64))
    for critics in (sac.critics, sac.target_critics):  # Q = 2 everywhere
        critics.flat.zero_()
        critics.biases[-1].fill_(2.0)
    sac.update()
    # Q - y = 2 - (1 + 0.8 * 2) = -0.6; through the target it would be (1 - 0.8) times that.
    torch.testing.assert_close(sac.critics.bias_gradients[-1].flatten(),
                               torch.tensor([-0.6, -0.6]), atol=1e-5, rtol=0)
