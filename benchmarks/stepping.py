# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
SimEnv against bare physics: ``python -m benchmarks.stepping [--quick]``.

``simenv_vs_bare``: SimEnv is stepped with random actions. A twin robot in another physics client
gets the same resets and commands, so it moves identically, and of it only the ``stepSimulation``
calls are timed, less the cost of reading the clock. Both take turns in blocks of episodes; the
figure is the median over the blocks of SimEnv's step rate over the twin's. Four physics steps of a
cartpole last about 10 µs, less than any step() in Python can: there the ratio tells how dear
observation, checks and reward are, and the aim is out of reach without compiled code. Then the
vector environment: control steps a second with 1, 2 ... worker processes against one.

``panda_vs_panda_gym``: control steps a second of the same Panda with the same 20 physics steps of
2 ms. ``ours_vs_pybullet_envs``: its Ant (8 joints) and our quadruped (12 joints) do not have the
same physics, so what a step() costs beside ``stepSimulation`` is compared. Both in turns of blocks
of steps, by the median. The peers are no dependency of ours; without touching this environment:

    pip install --no-deps --target /tmp/peers panda-gym pybullet_envs_gymnasium scipy
    PYTHONPATH=/tmp/peers python -m benchmarks.stepping
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import importlib
import os
import time

import gymnasium
import numpy as np
import pybullet
from rl_nodes.backends import make_robot
from rl_nodes.envs import ENVIRONMENTS
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.envs.vector_env import SimVectorEnv

from benchmarks.report import Metric, publish, table

MEASURED = ('rl_nodes/Reach-v0', 'rl_nodes/CartpoleBalance-v0')
STEPS = 250  # of one block
ENVS = 16
PEERS = {  # metric -> package, its environment, ours
    'panda_vs_panda_gym': ('panda_gym', 'PandaReach-v3', ('panda', 'reach_panda')),
    'ours_vs_pybullet_envs': ('pybullet_envs_gymnasium', 'AntBulletEnv-v0',
                              ('quadruped', 'quadruped_stand'))}


class Stopwatch:
    """Adds up the time of ``pybullet.stepSimulation``, see :meth:`running`."""

    def __init__(self) -> None:
        clock = time.perf_counter_ns
        self._cost_ns = float(np.median([-clock() + clock() for _ in range(20_000)]))
        self.spent_ns = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time every call made within."""
        real, clock = pybullet.stepSimulation, time.perf_counter_ns

        def timed(*arguments: int, **others: int) -> None:
            begin = clock()
            real(*arguments, **others)
            self.spent_ns += clock() - begin - self._cost_ns

        pybullet.stepSimulation, self.spent_ns = timed, 0.0
        try:
            yield
        finally:
            pybullet.stepSimulation = real


def record(env: SimEnv) -> list[tuple[str, tuple]]:
    """Return the list that every later call of the environment's robot goes to."""
    calls: list[tuple[str, tuple]] = []

    def listen(name: str, real: Callable) -> Callable:
        def heard(*arguments: object) -> object:
            calls.append((name, arguments))
            return real(*arguments)
        return heard

    for name in ('reset', 'write', 'hold', 'step'):
        setattr(env._robot, name, listen(name, getattr(env._robot, name)))
    return calls


def play(env: gymnasium.Env, actions: np.ndarray) -> tuple[float, float]:
    """Return (ns in step(), ns in reset()) of some control steps."""
    clock, stepping, resetting = time.perf_counter_ns, 0, 0
    for action in actions:
        begin = clock()
        _, _, terminated, truncated, _ = env.step(action)
        stepping += clock() - begin
        if terminated or truncated:
            begin = clock()
            env.reset()
            resetting += clock() - begin
    return stepping, resetting


def single(robot: str, task: str, blocks: int) -> tuple[float, list[str]]:
    """Return (median of SimEnv's step rate over bare, a row for people)."""
    measured, told = SimEnv(robot, task), SimEnv(robot, task)
    twin, calls, watch = make_robot('pybullet', told.task.robot), record(told), Stopwatch()
    rng = np.random.default_rng(0)
    measured.reset(seed=0)
    told.reset(seed=0)
    ours, bare, resets = [], [], []
    for _ in range(blocks + 1):
        actions = rng.uniform(-1, 1, (STEPS, *measured.action_space.shape)).astype(np.float32)
        play(told, actions)
        stepping, resetting = play(measured, actions)
        with watch.running():
            for name, arguments in calls:
                getattr(twin, name)(*arguments)
        calls.clear()
        ours.append(stepping / STEPS)
        resets.append(resetting / STEPS)
        bare.append(watch.spent_ns / STEPS)
    same = twin.read().position.tobytes() == measured._robot.read().position.tobytes()
    for thing in (measured, told, twin):
        thing.close()
    if not same:
        raise SystemExit(f'{robot}: the twin did not move like the environment')
    ratio = float(np.median(np.array(bare[1:]) / np.array(ours[1:])))  # the first one warms up
    us = [float(np.median(values[1:])) / 1e3 for values in (ours, bare, resets)]
    return ratio, [f'{robot} {task}', f'{1e6 / us[0]:.0f}', f'{us[0]:.1f}', f'{us[1]:.1f}',
                   f'{us[2]:.1f}', f'{ratio:.3f}']


def race(envs: list[gymnasium.Env], blocks: int) -> np.ndarray:
    """
    Return what steps cost, with the environments taking turns.

    :return: µs of a step() and µs of it in ``stepSimulation``, shape (blocks, environments, 2).
    """
    rows = []
    for env in envs:
        env.reset(seed=0)
        env.action_space.seed(0)
    for _ in range(blocks + 1):
        row = []
        for env in envs:
            watch = Stopwatch()
            actions = np.array([env.action_space.sample() for _ in range(STEPS)])
            with watch.running():
                row.append((play(env, actions)[0] / STEPS / 1e3, watch.spent_ns / STEPS / 1e3))
        rows.append(row)
    return np.array(rows[1:])  # the first one warms up


def peers(blocks: int) -> tuple[dict[str, Metric], list[list[str]]]:
    """Return (metrics against other packages, rows for people)."""
    metrics, rows = {}, []
    for metric, (package, env_id, (robot, task)) in PEERS.items():
        try:
            importlib.import_module(package)
            theirs = gymnasium.make(env_id)
        except (ImportError, gymnasium.error.Error) as error:
            reason = f'{package} cannot be had here: {error}'.partition('\n')[0]
            metrics[metric] = Metric(None, '>= 1', reason)
            continue
        envs = [SimEnv(robot, task), theirs]
        cost = race(envs, blocks)
        beside = cost[..., 0] - cost[..., 1]
        compared = cost[..., 0] if metric == 'panda_vs_panda_gym' else beside
        metrics[metric] = Metric(float(np.median(compared[:, 1] / compared[:, 0])), '>= 1',
                                 f'{package} {env_id} against {robot} {task}')
        for k, name in enumerate((f'SimEnv {robot} {task}', f'{package} {env_id}')):
            step, other = np.median(cost[:, k, 0]), np.median(beside[:, k])
            rows.append([name, f'{1e6 / step:.0f}', f'{step:.1f}', f'{other:.1f}',
                         f'{1 - other / step:.3f}'])
            envs[k].close()
    return metrics, rows


def vector(counts: list[int], blocks: int) -> dict[int, float]:
    """Return the median control steps a second of all environments by number of workers."""
    forms = {count: SimVectorEnv(ENVS, *ENVIRONMENTS['rl_nodes/Reach-v0'], workers=count)
             for count in counts}
    rng, rates = np.random.default_rng(0), {count: [] for count in counts}
    for envs in forms.values():
        envs.reset(seed=0)
    for _ in range(blocks + 1):
        actions = rng.uniform(-1, 1, (50, *envs.action_space.shape)).astype(np.float32)
        for count, envs in forms.items():
            begin = time.perf_counter()
            for action in actions:
                envs.step(action)
            rates[count].append(ENVS * len(actions) / (time.perf_counter() - begin))
    for envs in forms.values():
        envs.close()
    return {count: float(np.median(values[1:])) for count, values in rates.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='some seconds')
    blocks = 15 if parser.parse_args().quick else 60
    pairs = [ENVIRONMENTS[env_id] for env_id in MEASURED]
    results = {robot: single(robot, task, blocks) for robot, task in pairs}
    print(table(['lone SimEnv', 'steps/s', 'step µs', 'bare µs', 'reset µs/step', 'bare/step'],
                [row for _, row in results.values()]))
    print()
    compared, rows = peers(blocks // 3)
    if rows:
        print(table(['', 'steps/s', 'step µs', 'beside physics µs', 'physics/step'], rows))
        print()
    cores = len(os.sched_getaffinity(0))
    rates = vector(sorted({1, *(n for n in (2, 4, 8, 16) if n <= cores)}), blocks)
    print(table([f'{ENVS} environments', 'steps/s', 'of linear'],
                [[f'{count} workers', f'{rate:.0f}', f'{rate / rates[1] / count:.2f}']
                 for count, rate in rates.items()]))
    print()
    most = max(rates)
    scaling = rates[most] / rates[1] / most if most > 1 else None
    publish({
        'simenv_vs_bare': Metric(
            min(ratio for ratio, _ in results.values()), '>= 0.85',
            'worst of ' + ', '.join(f'{robot} {ratio:.3f}' for robot, (ratio, _) in
                                    results.items()) + '; stepSimulation of a twin'),
        'vector_scaling': Metric(
            scaling, '>= 0.9', f'{most} workers against one, per worker, on {cores} cores'),
        **compared})


if __name__ == '__main__':
    main()
