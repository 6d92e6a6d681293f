# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whole training runs against the scripts of CleanRL, which are no package: name a checkout of them.

SAC, TD3 and PPO learn Pendulum-v1, DQN and PPO CartPole-v1, as ``rl_nodes train`` and as a script
of CleanRL, each a process of its own on one thread: the same networks, batches, environments at a
time, rollouts, and gradient steps per environment step. Both take a short run and a long one, by
turns; the processor time by which the long one takes more, which what else runs here hardly
changes, gives environment steps per second without start and end. Neither is evaluated meanwhile,
and ours at the end for one episode twice. Random actions, for which DQN needs no network, become
rarer over the short run and over as many steps of the long one, so that what is measured is acting
by the network in all but 5 % of the steps, for both.

    <method>_vs_cleanrl    steps/s over theirs

The scripts want ``gymnasium==0.29.1 tyro`` and ``numpy<2``, an environment apart from this one.

    python -m benchmarks.cleanrl --scripts cleanrl --python cleanrl/.venv/bin/python [--quick]
"""

import argparse
import json
import os
from pathlib import Path
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from benchmarks.report import Metric, publish, table

AIM = '>= 2'
ROOT = Path(__file__).resolve().parents[1]
NEVER = 1_000_000_000
LIMIT_S = 3600.0


class Method(NamedTuple):
    """
    What both do.

    :param env: id in Gymnasium.
    :param algorithm: file of settings in ``config/train``.
    :param script: of CleanRL.
    :param steps: of the short and of the long run, in environment steps.
    :param ours: settings that hold for ``rl_nodes train``.
    :param theirs: arguments of the script.
    :param exploration: steps over which random actions become rarer; 0 where there are none.
    """

    env: str
    algorithm: str
    script: str
    steps: tuple[int, int]
    ours: dict[str, object]
    theirs: dict[str, object]
    exploration: int = 0


OFF_POLICY = {'learner.hidden': [256, 256], 'learner.batch_size': 256,
              'learner.learning_starts': 1000, 'learner.normalize_observation': False,
              'loop.updates_per_step': 1.0}
METHODS = {
    'sac': Method('Pendulum-v1', 'sac', 'sac_continuous_action', (2000, 10_000), OFF_POLICY,
                  {'learning-starts': 1000}),
    'td3': Method('Pendulum-v1', 'td3', 'td3_continuous_action', (2000, 10_000), OFF_POLICY,
                  {'learning-starts': 1000}),
    'dqn': Method('CartPole-v1', 'dqn', 'dqn', (10_000, 50_000), {
        'learner.hidden': [120, 84], 'learner.batch_size': 128, 'learner.learning_starts': 1000,
        'learner.learning_rate': 2.5e-4, 'learner.buffer_size': 10_000,
        'learner.epsilon_end': 0.05, 'learner.exploration_steps': 10_000,
        'loop.updates_per_step': 0.1, 'learner.target_every': 50},
        {'learning-starts': 1000, 'end-e': 0.05}, 10_000),
    'ppo': Method('CartPole-v1', 'ppo', 'ppo', (20_480, 102_400), {
        'learner.rollout_steps': 128, 'learner.epochs': 4, 'learner.batch_size': 128,
        'learner.normalize_observation': False, 'learner.normalize_reward': False,
        'loop.n_envs': 4}, {}),
    'ppo_continuous': Method('Pendulum-v1', 'ppo', 'ppo_continuous_action', (20_480, 102_400), {
        'learner.rollout_steps': 2048, 'learner.epochs': 10, 'learner.batch_size': 64,
        'loop.n_envs': 1}, {})}


def processor_s(command: list[str], imports: Path) -> float:
    """
    Return the processor time [s] that a command takes with all its children.

    :param imports: what its imports begin with.
    :raises SystemExit: it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, timeout=LIMIT_S, capture_output=True, text=True, check=False,
            env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(imports)})
    if done.returncode:
        raise SystemExit(f'{" ".join(command)} ended with {done.returncode}:\n'
                         f'{done.stderr[-2000:]}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(method: Method, steps: int) -> list[str]:
    """Return the command of a run of ours, in a folder of its own."""
    changes = {**method.ours, 'loop.evaluate_every_steps': NEVER, 'loop.evaluate_every_s': NEVER,
               'loop.evaluation_episodes': 1, 'loop.confirmation_episodes': 1}
    return [sys.executable, '-m', 'rl_nodes', 'train', f'env:={method.env}',
            f'algorithm:={method.algorithm}', f'steps:={steps}', 'film:=false',
            *(f'{key}:={json.dumps(value)}' for key, value in changes.items())]


def theirs(method: Method, steps: int, scripts: Path, python: str) -> list[str]:
    """Return the command of a run of theirs."""
    given = {'env-id': method.env, 'total-timesteps': steps, **method.theirs}
    if method.exploration:
        given['exploration-fraction'] = method.exploration / steps
    return [python, str(scripts / 'cleanrl' / f'{method.script}.py'), '--no-cuda',
            *(word for key, value in given.items() for word in (f'--{key}', str(value)))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().splitlines()[0])
    parser.add_argument('--scripts', type=Path, help='checkout of CleanRL')
    parser.add_argument('--python', default=sys.executable, help='interpreter for them')
    parser.add_argument('--only', nargs='+', choices=METHODS, default=list(METHODS),
                        help='methods to measure')
    parser.add_argument('--quick', action='store_true', help='one turn instead of three')
    options = parser.parse_args()
    if options.scripts is None:
        publish({f'{key}_vs_cleanrl': Metric(None, AIM, 'needs --scripts, a checkout of CleanRL')
                 for key in METHODS})
        return
    scripts = options.scripts.resolve()
    metrics, rows = {}, []
    for key in options.only:
        method = METHODS[key]
        short, long = method.steps
        rates: dict[str, list[float]] = {'ours': [], 'theirs': []}
        for _ in range(1 if options.quick else 3):
            took = [(processor_s(ours(method, steps), ROOT),
                     processor_s(theirs(method, steps, scripts, options.python), scripts))
                    for steps in method.steps]
            for rate, less, more in zip(rates.values(), *took, strict=True):
                rate.append((long - short) / (more - less))
        median = [statistics.median(values) for values in rates.values()]
        rows.append([key, method.env, *(f'{rate:.0f}' for rate in median)])
        metrics[f'{key}_vs_cleanrl'] = Metric(
            median[0] / median[1], AIM,
            f'{method.script}.py on {method.env}, steps per second of processor time')
    print(table(['steps/s', 'environment', 'ours', 'CleanRL'], rows))
    publish(metrics)


if __name__ == '__main__':
    main()
