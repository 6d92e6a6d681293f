# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Two processes that learn together do the steps of one process with the joined batch."""

import os
from pathlib import Path
import socket
import subprocess
import sys

import numpy as np
import pytest
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.partners import Partners
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.rollout import Rollout
import torch

STEPS, COUNT, ROUNDS = 8, 4, 3


def make(name, count):
    """Return a learner whose minibatches are whole rollouts of ``count`` environments."""
    contract = Contract(
        '', 'test', 0.0, 'effort', (),
        ArraySpec('observation', ('a', 'b', 'c'), ('1',) * 3, (None,) * 3, (None,) * 3, 'float32'),
        ArraySpec('action', ('x', 'y'), ('1',) * 2, (-1.0,) * 2, (1.0,) * 2, 'float32'),
        'environment')
    if name == 'a2c':
        return A2c(contract, A2cConfig(hidden=(8,), rollout_steps=STEPS,
                                       normalize_advantage=True), 3)
    return Ppo(contract, PpoConfig(
        hidden=(8,), rollout_steps=STEPS, batch_size=STEPS * count, epochs=4, kl_stop=0.05,
        variant='kl_penalty' if name == 'ppo_kl' else 'clip', max_gradient_norm=0.1), 3)


def rollout(learner, number, columns):
    """Return some columns of a made-up rollout of four environments."""
    rng = np.random.default_rng(number)
    observation = rng.normal(1.0, 2.0, (STEPS + 1, COUNT, 3)).astype(np.float32)[:, columns]
    action = rng.normal(size=(STEPS, COUNT, 2)).astype(np.float32)[:, columns]
    reward = rng.normal(size=(STEPS, COUNT)).astype(np.float32)[:, columns]
    terminated = (rng.random((STEPS, COUNT)) < 0.2)[:, columns]
    return Rollout(observation[:-1], action, reward, terminated, np.zeros_like(terminated),
                   np.ones_like(terminated), observation[-1], np.zeros((0, 3), np.float32),
                   learner.updates, learner.remembered(observation.shape[1]))


def learn(learner, columns):
    for number in range(ROUNDS):
        learner.update(rollout(learner, number, columns))
    return learner.state_dict()


def partner(name, folder):
    """Learn from half of the environments; the main part of a child process."""
    torch.set_num_threads(1)
    partners = Partners.of_environment()
    learner = make(name, COUNT // 2)
    learner.join(partners, 0)
    half = COUNT // 2
    state = learn(learner, slice(partners.rank * half, (partners.rank + 1) * half))
    torch.save({key: state[key] for key in ('weights', 'normalizer', 'updates', 'steps')},
               folder / f'{partners.rank}.pt')
    partners.close()


@pytest.mark.parametrize('name', ['ppo', 'ppo_kl', 'a2c'])
def test_two_halves_are_one_whole(tmp_path, name):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    children = [subprocess.Popen(
        [sys.executable, __file__, name, tmp_path], stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port),
             'WORLD_SIZE': '2', 'RANK': str(rank)}) for rank in range(2)]
    for child in children:
        assert child.wait(100) == 0, child.communicate()[1]
    first, second = (torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in range(2))
    whole = learn(make(name, COUNT), slice(None))
    begun = make(name, COUNT).state_dict()['weights']
    assert torch.equal(first['weights'], second['weights']), 'partners never drift apart'
    assert (whole['weights'] - begun).abs().max() > 1e-3
    torch.testing.assert_close(first['weights'], whole['weights'], rtol=1e-4, atol=1e-6)
    assert first['updates'] == whole['updates'] and first['steps'] == whole['steps']
    for key, value in whole['normalizer'].items():
        torch.testing.assert_close(torch.as_tensor(first['normalizer'][key]),
                                   torch.as_tensor(value))


def test_what_cannot_be_joined_says_so():
    learner = make('ppo', 1)
    learner.has_partners = False
    with pytest.raises(TrainingError, match='ppo: several processes'):
        learner.join(None, 0)
    learner = make('a2c', 1)
    learner.reward_scaler = object()
    with pytest.raises(TrainingError, match='without normalize_reward'):
        learner.join(None, 0)


if __name__ == '__main__':
    partner(sys.argv[1], Path(sys.argv[2]))
