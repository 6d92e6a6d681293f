# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
PPO against stable-baselines3: ``python -m benchmarks.ppo [--quick]``.

``ppo_vs_sb3``: environment steps a second of our PPO over those of stable-baselines3's, both with
collecting and learning: the same Gymnasium environments, stepped in turn in one process, the same
networks (two layers of 64 tanh units, for actor and critic each), rollouts, epochs and
minibatches, observations as they are, float32, one thread. They take turns in blocks; the figure
is the least over the measured settings of the median over the blocks. How the time of ours divides
is shown beside it. No returns are compared here, docs/algorithms/ppo.md has those.
"""

import argparse
from collections.abc import Callable
import threading
import time
from typing import NamedTuple

import gymnasium
import numpy as np
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.sources import contract_of, make_envs
import torch

from benchmarks.report import Metric, publish, table

AIM = '>= 2'


class Setting(NamedTuple):
    """What both do."""

    env: str
    n_envs: int
    rollout_steps: int
    epochs: int
    batch_size: int


SETTINGS = (Setting('CartPole-v1', 8, 32, 20, 256), Setting('Pendulum-v1', 4, 1024, 10, 64))


def ours(setting: Setting) -> tuple[Callable[[], None], dict[str, float]]:
    """Return (a function that collects and learns one rollout, seconds by part)."""
    env = gymnasium.make(setting.env)
    contract = contract_of(env, setting.env)
    env.close()
    learner = Ppo(contract, PpoConfig(
        rollout_steps=setting.rollout_steps, epochs=setting.epochs, batch_size=setting.batch_size,
        normalize_observation=False), seed=0)
    envs = make_envs(lambda: gymnasium.make(setting.env), setting.n_envs)
    spent = {'environments': 0.0, 'acting': 0.0, 'learning': 0.0}
    envs.step = _timed(envs.step, spent, 'environments')
    learner.act = _timed(learner.act, spent, 'acting')
    learner.update = _timed(learner.update, spent, 'learning')
    source, never = RolloutSource(envs, learner, 0), threading.Event()

    def round_() -> None:
        rollout = source.collect_rollout(never)
        learner.update(rollout)

    return round_, spent


def _timed(function: Callable, spent: dict[str, float], name: str) -> Callable:
    def timed(*arguments: object) -> object:
        begin = time.perf_counter()
        result = function(*arguments)
        spent[name] += time.perf_counter() - begin
        return result
    return timed


def theirs(setting: Setting) -> Callable[[], None]:
    """Return a function that collects and learns one rollout; ImportError without the peer."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO('MlpPolicy', make_vec_env(setting.env, setting.n_envs, seed=0), device='cpu',
                n_steps=setting.rollout_steps, n_epochs=setting.epochs,
                batch_size=setting.batch_size, seed=0)
    rows = setting.n_envs * setting.rollout_steps
    model.learn(rows)  # makes its buffers
    return lambda: model.learn(rows, reset_num_timesteps=False)


def race(setting: Setting, blocks: int, seconds: float) -> tuple[float, list[str], list[str]]:
    """Return (median of our speed over theirs, a row on speeds, a row on where time goes)."""
    our_round, spent = ours(setting)
    rounds = {'ours': our_round, 'theirs': theirs(setting)}
    rows, counts, rates = setting.n_envs * setting.rollout_steps, {}, {name: [] for name in rounds}
    for name, round_ in rounds.items():  # warms up, and says how many rounds a block has
        round_()
        begin = time.perf_counter()
        round_()
        counts[name] = max(1, round(seconds / (time.perf_counter() - begin)))
    spent.update(dict.fromkeys(spent, 0.0))
    ours_s = 0.0
    for _ in range(blocks):
        for name, round_ in rounds.items():
            begin = time.perf_counter()
            for _ in range(counts[name]):
                round_()
            passed = time.perf_counter() - begin
            rates[name].append(counts[name] * rows / passed)
            ours_s += passed * (name == 'ours')
    ratio = float(np.median(np.array(rates['ours']) / np.array(rates['theirs'])))
    speeds = [f'{np.median(rates[name]):.0f}' for name in rounds]
    parts = {**spent, 'rest': ours_s - sum(spent.values())}
    return (ratio, [setting.env, *speeds, f'{ratio:.2f}'],
            [setting.env, *(f'{part / ours_s:.0%}' for part in parts.values())])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='end within a minute')
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    try:
        found = [race(setting, 3 if quick else 9, 2.0 if quick else 5.0) for setting in SETTINGS]
    except ImportError as error:
        publish({'ppo_vs_sb3': Metric(None, AIM, f'stable-baselines3 cannot be had here: {error}; '
                                                 'pip install stable-baselines3')})
        return
    print(table(['environment', 'ours steps/s', 'SB3 steps/s', 'ratio'],
                [speeds for _, speeds, _ in found]))
    print()
    print(table(['ours, part of the time', 'environments', 'acting', 'learning', 'rest'],
                [parts for _, _, parts in found]))
    print()
    publish({'ppo_vs_sb3': Metric(min(ratio for ratio, _, _ in found), AIM,
                                  'stable-baselines3 PPO, same work, one thread each')})


if __name__ == '__main__':
    main()
