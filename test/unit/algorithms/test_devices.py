# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Gradient steps on an accelerator: found or refused, and nothing of them left on the processor.

Where there is none, torch's device ``meta`` stands for it: its tensors have shapes and no values,
and most operations that mix it with the processor fail as they would with a real accelerator.
"""

import numpy as np
import pytest
from rl_nodes.algorithms import actor_critic
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.recurrent_sac import RecurrentSac, RecurrentSacConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.networks import devices
from rl_nodes.networks.devices import device_called
import torch

OBSERVATION, ACTION, PRIVILEGED = 3, 2, 4
HERE = torch.accelerator.is_available()
LEARNERS = {
    'sac': (Sac, SacConfig, {}), 'sac_v': (Sac, SacConfig, {'variant': 'v_network'}),
    'sac_noise': (Sac, SacConfig, {'state_dependent_noise': 4}),
    'sac_privileged': (Sac, SacConfig, {'critic_observation': 'privileged',
                                        'critic_layer_norm': True}),
    'td3': (Td3, Td3Config, {}), 'ddpg': (Ddpg, DdpgConfig, {'noise': 'ou'}),
    'ddpg_plain': (Ddpg, DdpgConfig, {'normalize_observation': False})}


def lived(count: int = 200) -> TransitionBatch:
    rng = np.random.default_rng(3)

    def normal(size: int) -> np.ndarray:
        return rng.normal(size=(count, size)).astype(np.float32)

    flags, index = np.zeros(count, bool), np.arange(count)
    action = np.tanh(normal(ACTION))
    return TransitionBatch(
        normal(OBSERVATION), action, action, normal(1)[:, 0], normal(OBSERVATION), index % 7 == 0,
        flags, flags, flags, index, index // 10, index % 10, normal(PRIVILEGED),
        normal(PRIVILEGED))


def make(kind: str, device: str = 'cpu'):
    learner, config, changes = LEARNERS[kind]
    bounds = np.full(ACTION, -1.0), np.full(ACTION, 1.0)
    return learner(OBSERVATION, *bounds, config(**({
        'hidden': (64, 64), 'batch_size': 64, 'buffer_size': 500, 'learning_starts': 100,
        'device': device, 'reduced_precision': False} | changes)), 0, PRIVILEGED)


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(TrainingError, match='learner.device = cuda:99: torch .* finds cpu'):
        make('sac', 'cuda:99')
    with pytest.raises(TrainingError, match='learner.device = gpu'):
        make('td3', 'gpu')
    with pytest.raises(TrainingError, match='its memories are run step by step'):
        RecurrentSac(OBSERVATION, np.full(1, -1.0), np.full(1, 1.0),
                     RecurrentSacConfig(device='auto'), 0)


@pytest.mark.skipif(HERE, reason='this machine has an accelerator')
def test_without_an_accelerator_auto_is_the_processor() -> None:
    assert device_called('auto') == device_called('cpu') == torch.device('cpu')


def test_an_accelerator_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: True)
    monkeypatch.setattr(torch.accelerator, 'current_accelerator', lambda: torch.device('cuda'))
    monkeypatch.setattr(torch.accelerator, 'device_count', lambda: 2)
    assert devices.device_called('auto').type == 'cuda'
    assert devices.device_called('cuda:1') == torch.device('cuda', 1)
    with pytest.raises(TrainingError, match='finds cpu, cuda:0, cuda:1'):
        devices.device_called('cuda:2')


@pytest.mark.parametrize('kind', LEARNERS)
def test_a_gradient_step_mixes_no_devices(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    item, copy, cpu = torch.Tensor.item, torch.Tensor.copy_, torch.Tensor.cpu
    monkeypatch.setattr(actor_critic, 'device_called', lambda name: torch.device('meta'))
    monkeypatch.setattr(torch.Tensor, 'item',
                        lambda self: 0.5 if self.is_meta else item(self))
    monkeypatch.setattr(torch.Tensor, 'copy_', lambda self, source, *more: self.zero_()
                        if source.is_meta and not self.is_meta else copy(self, source, *more))
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda self: torch.zeros(self.shape)
                        if self.is_meta else cpu(self))
    learner = make(kind)
    assert learner.observe(lived()) == 200
    for _ in range(3):
        learner.update()
    assert all(vector.is_meta for name, vector in learner._vectors().items()
               if name != 'log_temperature')
    action = learner.act(np.zeros((2, OBSERVATION), np.float32))
    assert action.shape == (2, ACTION) and np.isfinite(action).all()
    with pytest.raises(TrainingError, match='on the processor'):
        learner.join(None, 0)


@pytest.mark.skipif(not HERE, reason='no accelerator here')
@pytest.mark.parametrize('kind', LEARNERS)
def test_an_accelerator_learns_what_the_processor_learns(kind: str) -> None:
    """Same draws, so the same weights but for rounding; and a state that the other can take."""
    learners = [make(kind), make(kind, 'auto')]
    for learner in learners:
        learner.observe(lived())
        for _ in range(50):
            learner.update()
    here, there = (learner.state_dict() for learner in learners)
    for name, weights in here['weights'].items():
        assert not there['weights'][name].is_cuda
        torch.testing.assert_close(there['weights'][name], weights, rtol=1e-2, atol=1e-3)
    learners[0].load_state_dict(there)
    seen = np.ones((3, OBSERVATION), np.float32)
    np.testing.assert_allclose(learners[0].act(seen, explore=False),
                               learners[1].act(seen, explore=False), atol=1e-4)
    learners[1].policy_module()
