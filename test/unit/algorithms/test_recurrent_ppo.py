# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""PPO with a memory: what it is given when, and gradients through whole sequences by autograd."""

from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.algorithms.recurrent_ppo import RecurrentPpo, RecurrentPpoConfig
import torch
from torch import nn

EVERY = np.ones(4, bool)


@pytest.fixture(params=['gru', 'lstm'])
def make(request, contract):
    def learner(seed=0, **settings):
        return RecurrentPpo(contract(True), RecurrentPpoConfig(**({
            'hidden': (12,), 'memory': request.param, 'memory_size': 6, 'rollout_steps': 16,
            'batch_size': 20, 'normalize_observation': False} | settings)), seed)
    return learner


def step_by_step(learner, observations):
    """Return the state before each step and after the last one, of one episode."""
    state = torch.zeros(1, learner.networks.state_size)
    states = [state]
    for row in observations:
        state = learner.networks.remember(torch.from_numpy(row[None]), state)[1]
        states.append(state)
    return states


def test_what_was_given_while_acting_is_what_is_learned_from(make, live):
    """Two rollouts, so that the second begins within episodes; resets are in both."""
    learner = make()
    live(learner, seed=1)
    rollout = live(learner, seed=2)
    assert rollout.memory.any()
    batch = learner.prepare(rollout, rollout.reward)
    rows = sorted(row for rows, given in learner.minibatches(batch) for row in rows.tolist())
    assert rows == list(range(len(batch)))
    for rows, given in learner.minibatches(batch):
        torch.testing.assert_close(given, batch.observation[rows])
    torch.testing.assert_close(learner.given(batch), batch.observation)


def test_an_episode_begins_with_nothing_and_others_are_left_alone(make):
    learner = make()
    observation = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    for row in observation[:2]:
        learner.act(row)
    before = learner.remembered(4)
    learner.forget(np.array([False, True, False, False]))
    after = learner.remembered(4)
    assert not after[1].any()
    np.testing.assert_array_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    np.testing.assert_allclose(
        before[2], step_by_step(learner, observation[:2, 2])[-1][0], atol=1e-6)
    learner.act(observation[2, :1])  # one environment instead of four begins anew
    np.testing.assert_allclose(learner.remembered(1), step_by_step(
        learner, observation[2, :1])[-1], atol=1e-6)


def test_values_after_a_cut_and_after_the_last_step_know_what_came_before(make, live, monkeypatch):
    learner = make()
    rollout = live(learner, seed=3)
    t = 5
    flags = np.zeros_like(rollout.terminated)
    cut = flags.copy()
    cut[t, 2] = True
    ahead = np.random.default_rng(1).normal(size=(1, 3)).astype(np.float32)
    learner.forget(EVERY)
    rollout = replace(rollout, terminated=flags, truncated=cut, cut_observation=ahead,
                      memory=learner.remembered(4))
    seen = {}
    monkeypatch.setattr(learner, 'estimate', lambda reward, value, next_value, rollout: (
        seen.update(next_value=next_value), (value, value))[1])
    learner.prepare(rollout, rollout.reward)

    def value(observation, state):
        return learner.networks.value(learner.networks.remember(
            torch.from_numpy(observation[None]), state)[0]).item()

    wanted = value(ahead[0], step_by_step(learner, rollout.observation[:t + 1, 2])[-1])
    assert seen['next_value'][t, 2] == pytest.approx(wanted, abs=1e-5)
    wanted = value(rollout.last_observation[2],
                   step_by_step(learner, rollout.observation[t + 1:, 2])[-1])
    assert seen['next_value'][-1, 2] == pytest.approx(wanted, abs=1e-5)
    wanted = value(rollout.last_observation[0],
                   step_by_step(learner, rollout.observation[:, 0])[-1])
    assert seen['next_value'][-1, 0] == pytest.approx(wanted, abs=1e-5)


def test_gradient_agrees_with_autograd_through_whole_sequences(make, live):
    learner = make(clip_range=10.0, normalize_advantage=False, max_gradient_norm=1e9,
                   batch_size=10_000)
    live(learner, seed=1)
    rollout = live(learner, seed=2)
    batch = learner.prepare(rollout, rollout.reward)
    networks = learner.networks
    memory, actor, critic = networks.memory(), networks.actor.member(0), networks.critic.member(0)
    (rows, given), = learner.minibatches(batch)
    learner.policy_gradient(batch, rows, given)
    learner._value_gradient(given, batch.target[rows], batch.value[rows])

    total = 0.0
    for i in range(4):  # one environment after the other, step by step
        state = torch.from_numpy(rollout.memory[i:i + 1])
        for t in range(16):
            row = t * 4 + i
            x = torch.from_numpy(rollout.observation[t, i:i + 1])
            parts = tuple(part[None].contiguous() for part in state.split(6, 1))
            h, after = memory(x[None], parts if len(parts) > 1 else parts[0])
            state = after[0] if isinstance(memory, nn.GRU) else torch.cat(after, 2)[0]
            if rollout.ended[t, i]:
                state = torch.zeros_like(state)
            both = torch.cat((x, h[0]), 1)
            log_p = torch.log_softmax(actor(both), 1)[0, int(batch.action[row])]
            ratio = (log_p - batch.log_probability[row]).exp()
            error = critic(both)[0, 0] - batch.target[row]
            total = total - ratio * batch.advantage[row] + 0.5 * 0.5 * error.square()
    (total / len(batch)).backward()
    wanted = torch.cat([parameter.grad.flatten() for parameter in memory.parameters()])
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(networks.more_gradient, wanted, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(networks.critic.weight_gradients[0][0].T, critic[0].weight.grad,
                               atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(networks.actor.weight_gradients[0][0].T, actor[0].weight.grad,
                               atol=1e-5, rtol=1e-3)


def test_a_memory_that_is_not_finite_is_rolled_back(make, live):
    learner = make()
    healthy = learner.state_dict()
    learner.act(np.full((4, 3), np.nan, np.float32))
    assert np.isnan(learner.remembered(4)).all()
    learner.roll_back(healthy)
    assert np.isfinite(live(learner).memory).all() and np.isfinite(learner.remembered(4)).all()


def test_a_step_moves_the_memory(make, live):
    learner = make(epochs=2)
    before = learner.networks.more.clone()
    learner.update(live(learner))
    assert learner.is_finite() and not torch.equal(before, learner.networks.more)
