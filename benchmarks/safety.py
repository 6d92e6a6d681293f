# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the safety monitor's core costs per command, and whether anything unsafe passes it.

Robots with 6 and 12 joints are judged with the checks they ship with, and the arm with every
check there is. Each command is within its limits, so all checks run to their end; one in ten is
not, and is limited. The floor, timed by turns with it on the same commands, is np.clip to the
same limits. Times are those of the processor, so that what else runs here counts little.

    cpu_us_6, cpu_us_12           p99 of one command, shipped checks
    vs_clip_6, vs_clip_12         p50 / p50 of np.clip
    cpu_us_all                    p99 of one command, every check, 6 joints
    guard_cpu_us_6, guard_cpu_us_12  p99 of what a guard adds to a command: observation and score
    risk_us_6                     p99 of what a risk network adds besides, on the clock: it is
                                  asked in a thread of its own
    unsafe_passed                 violations among fuzzed commands, by the oracle of the tests

    python -m benchmarks.safety [--quick]
"""

import argparse
from pathlib import Path
import sys
import time

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.risk import Bounded, risk_contract
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.networks.mlp import Mlp
from rl_nodes.networks.normalizer import ObservationNormalizer
from rl_nodes.safety.distribution import fit
from rl_nodes.safety.gate import checks_for, Gate, Judgement
from rl_nodes.safety.guard import DistributionGuard, Eye
from rl_nodes.safety.guard_file import Calibrated, GuardFile
from rl_nodes.safety.verdict import Level
from rl_nodes.tasks import load_task
from rl_nodes.training.risk import HIDDEN, RiskModule

from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

sys.path.insert(0, str(Path(__file__).parents[1] / 'test' / 'unit' / 'safety'))

from conftest import make_robot  # noqa: E402
from fuzz import campaign  # noqa: E402

ROUND = 500
EVERYTHING = {
    'joints': {'acceleration': 20.0, 'jerk': 2000.0}, 'refuse': ['first_command'],
    'coupling': [{'name': 'cable', 'weights': {'elbow': 1.0, 'wrist_pitch': 1.0}, 'lower': -3.0,
                  'upper': 4.0}],
    'chatter': {'window_s': 1.0, 'reversals': 40}}


def drive(robot: RobotModel, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Let a robot wander about its home; return the times [ns] of the gate and of np.clip.

    :param rounds: of 500 commands each.
    """
    rng, gate = np.random.default_rng(0), Gate(robot)
    low, high = robot.limits('lower'), robot.limits('upper')
    step = robot.limits('velocity') / robot.config.rate_hz
    position, pull = robot.home.copy(), 0.05
    none = np.empty(0)
    ours, floor = [], []
    for tick in range(rounds * ROUND):
        state = RobotState(round(tick * 1e9 / robot.config.rate_hz), '1@0', position,
                           np.zeros(len(position)), none)
        size = 1.5 if tick % 10 == 0 else 0.5
        command = position + size * step * rng.uniform(-1, 1, len(step)) + pull * (
            robot.home - position)
        start = time.thread_time_ns()
        judged = gate.judge(command, state)
        if judged.allowed is not None:
            gate.executed(judged.allowed, state)
        middle = time.thread_time_ns()
        np.clip(command, np.maximum(position - step, low), np.minimum(position + step, high))
        floor.append(time.thread_time_ns() - middle)
        ours.append(middle - start)
        if judged.allowed is not None:
            position = judged.allowed
    return np.array(ours[ROUND:]), np.array(floor[ROUND:])


def guarded(robot: str, task_name: str, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the times [ns] of observing and scoring a state, and of asking a risk network.

    :param rounds: of 500 states each.
    """
    task, rng = load_task(robot, task_name), np.random.default_rng(0)
    contract, observer, eye = task.contract, task.observer(), Eye(1.0)
    size = len(contract.observation.elements)
    guard = DistributionGuard(GuardFile(
        robot=robot, task=task_name, contract=contract.fingerprint(), verdict='stop',
        distribution=fit(rng.normal(size=(1000, 2 * size))), calibration=Calibrated(1e9, 0.05, 19),
        fitted_episodes=10, policies=(), data={}, created=''), contract.observation.elements, eye,
        task.period_ns)
    wanted = risk_contract(contract)
    module = RiskModule(ObservationNormalizer(len(wanted.observation.elements)).frozen(),
                        Mlp((len(wanted.observation.elements), *HIDDEN, 1)))
    ask = Bounded(PolicyRuntime(PolicyExporter(module, wanted, 'risk', 'risk', 'deterministic')
                                .export(module, 1, 0)).act, 1.0)
    goal, judged = Goal(0, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), Judgement(
        Level.PASS, '', '', task.robot.home)
    base = BaseState(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3), np.zeros(3))
    ours, risk = [], []
    for tick in range(rounds * ROUND):
        state = RobotState(tick * task.period_ns, '1@0', task.robot.home, rng.normal(
            size=len(task.robot.home)), np.empty(0), base)
        start = time.thread_time_ns()
        guard.see(state, observer.observe(state, goal))
        guard.check(judged, task.robot.home, state, True)
        ours.append(time.thread_time_ns() - start)
        observer.acted(state, task.robot.home)
        asked = rng.normal(size=module.normalizer.mean.shape).astype(np.float32)
        start = time.monotonic_ns()
        ask(asked)
        risk.append(time.monotonic_ns() - start)
    ask.close()
    return np.array(ours[ROUND:]), np.array(risk[ROUND:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='under a minute')
    quick = parser.parse_args().quick
    took = {name: drive(robot, 20 if quick else 200) for name, robot in (
        ('6 joints, shipped', make_robot('arm')), ('12 joints, shipped', make_robot('quadruped')),
        ('6 joints, every check', make_robot('arm', **EVERYTHING)))}
    print(table(LATENCY_HEAD, [latency_row(label, samples) for name, (ours, floor) in took.items()
                               for label, samples in ((name, ours), ('  np.clip', floor))]))
    six, twelve, everything = took.values()
    guards = [guarded(robot, task, 4 if quick else 20) for robot, task in (
        ('arm', 'reach'), ('quadruped', 'quadruped_walk'))]
    print(table(LATENCY_HEAD, [latency_row(f'{joints} joints, {part}', samples) for joints, found
                               in zip((6, 12), guards) for part, samples in zip(
                                   ('guard', 'risk network (wall time)'), found)]))
    count = 20_000 if quick else 1_000_000
    bad: dict[str, int] = {}
    for name, share in (('arm', 0.4), ('quadruped', 0.3), ('rover', 0.2), ('cartpole', 0.1)):
        robot = make_robot(name)
        for violation, number in campaign(robot, checks_for(robot), int(count * share),
                                          seed=time.time_ns())[0].items():
            bad[f'{name}: {violation}'] = number
    publish({
        'cpu_us_6': Metric(percentile(six[0], 99) / 1e3, '<= 50', 'p99 of CPU time'),
        'cpu_us_12': Metric(percentile(twelve[0], 99) / 1e3, '<= 50', 'p99 of CPU time'),
        'cpu_us_all': Metric(percentile(everything[0], 99) / 1e3, '<= 250', 'p99 of CPU time'),
        'vs_clip_6': Metric(percentile(six[0], 50) / percentile(six[1], 50), '<= 10',
                            'p50 of np.clip to the same limits'),
        'vs_clip_12': Metric(percentile(twelve[0], 50) / percentile(twelve[1], 50), '<= 10',
                             'p50 of np.clip to the same limits'),
        'guard_cpu_us_6': Metric(percentile(guards[0][0], 99) / 1e3, '<= 150', 'p99 of CPU time'),
        'guard_cpu_us_12': Metric(percentile(guards[1][0], 99) / 1e3, '<= 250',
                                  'p99 of CPU time'),
        'risk_us_6': Metric(percentile(guards[0][1], 99) / 1e3, '<= 10000',
                            'p99 of wall time; half a period is waited'),
        'unsafe_passed': Metric(sum(bad.values()), '= 0', f'{count} fuzzed commands'
                                + ''.join(f'; {name}' for name in bad))})


if __name__ == '__main__':
    main()
