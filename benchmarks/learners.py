# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Gradient steps per second of SAC, TD3 and DQN, against stable-baselines3.

Same observations (17) and actions (6, or 4 choices), same networks (two layers of 256), batch
(256; of DQN 64, as shipped) and threads (1), same random transitions. The two learn in turns of
some dozens of steps, so that whatever else the machine does hits both; ratios are of the medians.
Ours is measured with bfloat16 products in hidden layers, which is the default, and without.

    python -m benchmarks.learners [--quick]
"""

import argparse
from collections.abc import Callable
import importlib.util
import time
from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np
from rl_nodes.algorithms.base import OffPolicyLearner
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.types import TransitionBatch
import torch

from benchmarks.report import Metric, publish, table

OBSERVATIONS, ACTIONS, CHOICES = 17, 6, 4
ROWS, HIDDEN, TURN = 10_000, (256, 256), 40
BATCH = {'sac': 256, 'td3': 256, 'dqn': 64}
AIM = 2.0


def transitions(discrete: bool) -> TransitionBatch:
    """Return random transitions."""
    rng, flags, index = np.random.default_rng(0), np.zeros(ROWS, bool), np.arange(ROWS)
    action = rng.integers(0, CHOICES, (ROWS, 1)).astype(np.float32) if discrete else \
        rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32)
    observation = rng.normal(size=(2, ROWS, OBSERVATIONS)).astype(np.float32)
    return TransitionBatch(observation[0], action, action,
                           rng.normal(size=ROWS).astype(np.float32), observation[1],
                           rng.random(ROWS) < 0.01, flags, flags, flags, index, index, index)


def ours(name: str, reduced: bool) -> Callable[[int], None]:
    """Return what does so many gradient steps of our learner."""
    low, high = np.full(ACTIONS, -1.0), np.full(ACTIONS, 1.0)
    shared: dict[str, Any] = {'hidden': HIDDEN, 'batch_size': BATCH[name],
                              'buffer_size': ROWS}
    learner: OffPolicyLearner
    if name == 'dqn':
        learner = Dqn(OBSERVATIONS, np.array([0]), np.array([CHOICES - 1]),
                      DqnConfig(target_every=100, **shared), 0)
    elif name == 'sac':
        learner = Sac(OBSERVATIONS, low, high,
                      SacConfig(reduced_precision=reduced, **shared), 0)
    else:
        learner = Td3(OBSERVATIONS, low, high,
                      Td3Config(reduced_precision=reduced, **shared), 0)
    learner.observe(transitions(name == 'dqn'))

    def steps(count: int) -> None:
        with torch.inference_mode(not learner.autograd):  # as in training/off_policy.py
            for _ in range(count):
                learner.update()
    return steps


class Spaces(gymnasium.Env):
    """An environment that is never stepped."""

    def __init__(self, discrete: bool) -> None:
        self.observation_space = spaces.Box(-10, 10, (OBSERVATIONS,), np.float32)
        self.action_space = spaces.Discrete(CHOICES) if discrete else \
            spaces.Box(-1, 1, (ACTIONS,), np.float32)


def theirs(name: str) -> Callable[[int], None]:
    """Return what does so many gradient steps of stable-baselines3's learner."""
    import stable_baselines3
    from stable_baselines3.common.logger import configure

    model = getattr(stable_baselines3, name.upper())(
        'MlpPolicy', Spaces(name == 'dqn'), buffer_size=ROWS, batch_size=BATCH[name], seed=0,
        policy_kwargs={'net_arch': list(HIDDEN)}, device='cpu')
    model.set_logger(configure(None, []))
    batch = transitions(name == 'dqn')
    for i in range(ROWS):
        model.replay_buffer.add(batch.observation[i:i + 1], batch.next_observation[i:i + 1],
                                batch.action[i:i + 1], batch.reward[i:i + 1],
                                batch.terminated[i:i + 1], [{}])
    return lambda count: model.train(gradient_steps=count, batch_size=BATCH[name])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='under a minute')
    turns = 10 if parser.parse_args().quick else 60
    torch.set_num_threads(1)
    peer = importlib.util.find_spec('stable_baselines3') is not None
    metrics, rows = {}, []
    for name in BATCH:
        ways = {'ours': ours(name, True)}
        if name != 'dqn':
            ways['float32'] = ours(name, False)
        if peer:
            ways['peer'] = theirs(name)
        took: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(turns + 1):
            for way, steps in ways.items():
                start = time.perf_counter()
                steps(TURN)
                if turn:  # the first one warms up
                    took[way].append((time.perf_counter() - start) / TURN)
        median = {way: float(np.median(samples)) for way, samples in took.items()}
        rows.append([name, *(f'{1 / median[way]:.0f}' if way in median else '-'
                             for way in ('ours', 'float32', 'peer'))])
        metrics[f'{name}_updates'] = Metric(
            median['peer'] / median['ours'] if peer else None, f'>= {AIM:g}',
            'updates/s against stable-baselines3, same run' if peer else
            'stable-baselines3 is not installed (pip install stable-baselines3)')
    print(table(['updates/s', 'ours', 'ours, float32 only', 'stable-baselines3'], rows))
    publish(metrics)


if __name__ == '__main__':
    main()
