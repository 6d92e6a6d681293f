# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Off-policy methods besides SAC on problems whose answer is known, and every switch of DQN."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.resources import find_config
from rl_nodes.training.in_process import train, TrainOptions
from test_sac_known_answers import endless_task, GAMMA, looping
import torch

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
LEARNERS = {
    'sac_v': (Sac, SacConfig(variant='v_network', initial_temperature=1e-8, **CRITIC)),
    'sac_layer_norm': (Sac, SacConfig(critic_layer_norm=True, initial_temperature=1e-8,
                                      temperature_learning_rate=1e-12, **CRITIC)),
    'td3': (Td3, Td3Config(**CRITIC)), 'ddpg': (Ddpg, DdpgConfig(**CRITIC)),
    **{f'dqn_{name}': (Dqn, DqnConfig(**CHOICE, **switch)) for name, switch in SWITCHES.items()}}


@pytest.fixture(autouse=True)
def one_thread():
    """More of them only wait for each other in networks of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learned_value(kind, config, batch, updates=2000):
    """Return Q at the first observation, averaged over actions."""
    discrete = kind is Dqn
    low, high = (np.array([0]), np.array([1])) if discrete else (np.array([-1.0]), np.array([1.0]))
    learner = kind(5, low, high, config, 0)
    if discrete:
        batch = replace(batch, action=(batch.action > 0).astype(np.float32))
    # Rows of one episode follow each other, so that rewards of several steps can be added up.
    learner.observe(replace(batch, episode=np.arange(len(batch)) // 4))
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


def written(folder, base, **learner):
    """Return a copy of a shipped file with some settings of the learner changed."""
    text = Path(find_config('train', base)).read_text()
    lines = [line for line in text.splitlines() if line.strip().partition(':')[0] not in learner]
    place = lines.index('learner:') + 1
    lines[place:place] = [f'  {key}: {str(value).lower()}' for key, value in learner.items()]
    path = folder / f'{base}_changed.yaml'
    path.write_text('\n'.join(lines) + '\n')
    return str(path)


@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('algorithm', ['td3_pendulum', 'ddpg_pendulum'])
def test_the_pendulum_is_swung_up(tmp_path, algorithm):
    """The published figures are -152 ± 90 at 20 000 steps; a policy that fails gets -1200."""
    result = train(TrainOptions(env='Pendulum-v1', algorithm=algorithm, steps=20_000,
                                target=-200.0, run_dir=str(tmp_path / 'run')))
    assert result.evaluation.mean_return > -200.0


@pytest.mark.learning
@pytest.mark.timeout(1800)
def test_td3_finds_the_flag_of_the_mountain_car(tmp_path):
    result = train(TrainOptions(env='MountainCarContinuous-v0', algorithm='td3_mountaincar',
                                steps=50_000, target=85.0, run_dir=str(tmp_path / 'run')))
    assert result.evaluation.mean_return > 85.0


@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('switch', [*SWITCHES])
def test_every_switch_alone_balances_the_pole(tmp_path, switch):
    changed = {key: value for key, value in SWITCHES[switch].items()
               if key not in ('value_min', 'value_max')}
    if 'noisy' in changed:
        changed |= {'noise_scale': 0.2}
    base = 'rainbow' if switch == 'rainbow' else 'dqn'
    algorithm = base if switch in ('rainbow', 'plain') else written(tmp_path, base, **changed)
    result = train(TrainOptions(env='CartPole-v1', algorithm=algorithm, steps=50_000,
                                target=475.0, run_dir=str(tmp_path / 'run')))
    assert result.evaluation.mean_return >= 475.0
