# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Inject every fault of ``faults.py`` many times and compare what happens with what is expected.

    python test/faults/campaign.py [--trials 300] [--only NAME ...] [--priority 80] [--together]
        [--steps 100000] [--learn STEPS]

A deployment of an untrained policy runs in real time with the simulated arm, and then with the
emulated ros2_control arm; ``--together`` runs both at once, each the load of the other. The two
main reaction times and stops by hand get all trials, what needs a process to be started again a
hundredth at least, the rest a thirtieth. Afterwards a random policy, and with ``--learn`` one that
learns, act with the safety monitor and without it.

The exit status is 1 where anything observed is not what is expected. A p99.9 needs 2,995 trials;
of fewer it is the greatest value.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from catalogue import FAULTS  # noqa: E402
from conftest import leased_domain  # noqa: E402
from faults import attempt, Fault, Outcome  # noqa: E402
import learning  # noqa: E402
from rl_nodes.core import ros_environment  # noqa: E402
from stage import Stage  # noqa: E402
import violations  # noqa: E402
from violations import WANDERERS  # noqa: E402

from benchmarks.report import Metric, percentile, publish, table  # noqa: E402

RESTARTS_SHARE, MAIN_RESTARTS_SHARE, OTHERS_SHARE, LEAST = 100, 15, 30, 3
LONGEST_PEACE_S = 60.0
SURE = 3.0  # of no events in N trials, the rate is below 3 / N with 95 % confidence
HEAD = ['fault', '', 'expected', 'observed', 'trials', 'p50 ms', 'p99 ms', 'p99.9 ms', 'max ms']


class Result(NamedTuple):
    """All trials of a fault."""

    fault: Fault
    outcomes: list[Outcome]

    @property
    def reactions(self) -> list[float]:
        return [outcome.reaction_ms for outcome in self.outcomes
                if outcome.reaction_ms is not None]

    @property
    def as_expected(self) -> bool:
        """Return whether every trial showed what is expected, and timed it where that counts."""
        return all(outcome.observed == self.fault.expected for outcome in self.outcomes) and (
            self.fault.bound is None or len(self.reactions) == len(self.outcomes))

    def row(self) -> list[str]:
        observed = Counter(outcome.observed for outcome in self.outcomes)
        words = 'as expected' if self.as_expected else 'OTHERWISE: ' + ', '.join(
            f'{count} x {what}' for what, count in observed.most_common())
        times = [f'{percentile(self.reactions, q):.1f}' for q in (50, 99, 99.9, 100)] \
            if self.reactions else ['-'] * 4
        return [self.fault.entry, self.fault.name, self.fault.expected, words,
                str(len(self.outcomes)), *times]


def trials_of(fault: Fault, trials: int) -> int:
    """Return how often a fault is injected."""
    if fault.bound and not fault.restarts:
        return trials
    share = OTHERS_SHARE if not fault.restarts else (
        MAIN_RESTARTS_SHARE if fault.bound else RESTARTS_SHARE)
    return max(LEAST, trials // share)


def inject(stage: Stage, fault: Fault, trials: int) -> list[Outcome]:
    """Inject a fault again and again."""
    begun = time.monotonic()
    outcomes = [attempt(stage, fault) for _ in range(trials)]
    sys.stderr.write(f'{fault.entry:4s} {fault.name}: {trials} trials in '
                     f'{time.monotonic() - begun:.0f} s\n')
    return outcomes


class Act(NamedTuple):
    """
    All that was seen on a stage; can be handed from process to process.

    :param outcomes: by the fault's place in ``FAULTS``.
    """

    outcomes: dict[int, list[Outcome]]
    nominal: int
    false_stops: int
    stalls: int
    restarts: int
    unsafe: Counter[str]


def run(backend: str, options: argparse.Namespace) -> Act:
    """Inject the chosen faults of a backend."""
    with leased_domain() as domain, tempfile.TemporaryDirectory() as folder:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        with Stage(Path(folder), backend, options.seed, options.priority) as stage:
            outcomes = {FAULTS.index(fault): inject(stage, fault, trials_of(fault, options.trials))
                        for fault in chosen(options.only) if fault.backend == backend}
            stage.ready()
            stage.live(min(options.trials / 10, LONGEST_PEACE_S))
    return Act(outcomes, stage.nominal, stage.false_stops, stage.stalls, stage.restarts,
               stage.unsafe)


def chosen(names: list[str]) -> list[Fault]:
    """Return the faults whose name contains one of these."""
    return [fault for fault in FAULTS if any(name in fault.name for name in names)]


def run_all(options: argparse.Namespace) -> list[Act]:
    """Run all backends, one after the other or together."""
    backends = list(dict.fromkeys(fault.backend for fault in chosen(options.only)))
    if not options.together:
        return [run(backend, options) for backend in backends]
    with ProcessPoolExecutor(len(backends), multiprocessing.get_context('spawn')) as pool:
        return list(pool.map(run, backends, [options] * len(backends)))


def reaction_metrics(results: list[Result]) -> dict[str, Metric]:
    """Return the reaction times for which a bound is stated."""
    found = {}
    for result in results:
        if result.fault.bound is None or not result.reactions:
            continue
        q, bound = result.fault.bound
        count = len(result.reactions)
        found[f'{result.fault.name.replace(" ", "_").replace(":", "")}_p{q:g}_ms'] = Metric(
            percentile(result.reactions, q), f'<= {bound:g}', f'fault to stop, N={count}'
            + ('' if count * (1 - q / 100) >= 1 else ', the greatest'))
    return found


def behaviour_metrics(results: list[Result], acts: list[Act]) -> dict[str, Metric]:
    """Return what must never happen, and how often it might have."""
    nominal = sum(act.nominal for act in acts)
    unsafe = sum((act.unsafe for act in acts), Counter())
    count = sum(len(result.outcomes) for result in results)
    return {
        'unexpected': Metric(sum(not result.as_expected for result in results), '= 0',
                             f'of {len(results)} kinds of faults, {count} injected'),
        'motion_without_clearance': Metric(sum(act.restarts for act in acts), '= 0',
                                           f'commands after a stop, in {count} trials'),
        'unsafe_at_the_robot': Metric(unsafe.total(), '= 0', 'commands not finite, too fast or '
                                      'out of range' + ''.join(
                                          f'; {name}: {n}' for name, n in unsafe.items())),
        'false_stops': Metric(sum(act.false_stops for act in acts), '= 0',
                              f'of {nominal} nominal ticks; none of these bounds the rate at '
                              f'{SURE / max(nominal, 1):.1g}; besides '
                              f'{sum(act.stalls for act in acts)} stops because the '
                              'machine had no time')}


def _told(found: Counter[str]) -> str:
    """Return violations in words."""
    return f'{found.total()}' + ''.join(f', {name}: {n}' for name, n in found.most_common())


def wandering_metrics(steps: int, learn: int) -> Iterator[tuple[str, Metric]]:
    """Yield the violations of policies that know nothing, with the monitor and without it."""
    for robot, task in WANDERERS.items() if steps else ():
        watched, free = (violations.wander(robot, task, steps, monitored)
                         for monitored in (True, False))
        yield f'violations_{robot}', Metric(
            watched.found.total(), '= 0', f'{steps} random steps, {watched.stops} stops; without '
            f'the monitor {_told(free.found)}')
    for robot in WANDERERS if learn else ():
        watched, free = learning.watched(robot, learn), learning.unwatched(robot, learn)
        yield f'violations_learning_{robot}', Metric(
            watched.found.total(), '= 0', f'{watched.commands} commands while learning, the '
            f'policy asked for {_told(watched.wanted)}; without the monitor '
            f'{_told(free.found)} in {free.commands} steps')


def main() -> int:
    """Run the campaign and print what it showed."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--trials', type=int, default=300, help='of the main reaction times')
    parser.add_argument('--only', nargs='+', default=[''], metavar='NAME',
                        help='faults whose name contains one of these')
    parser.add_argument('--priority', type=int, default=0, help='as the launch argument')
    parser.add_argument('--together', action='store_true', help='all backends at the same time')
    parser.add_argument('--steps', type=int, default=100_000, help='of a random policy; 0: none')
    parser.add_argument('--learn', type=int, default=0, help='steps of a policy that learns')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    os.environ[ros_environment.RANGE] = 'LOCALHOST'
    ros_environment.prepare(os.environ)
    acts = run_all(options)
    results = [Result(FAULTS[index], outcomes)
               for act in acts for index, outcomes in act.outcomes.items()]
    sys.stdout.write(table(HEAD, [result.row() for result in results]) + '\n')
    metrics = behaviour_metrics(results, acts) | reaction_metrics(results)
    for name, metric in wandering_metrics(options.steps, options.learn):
        sys.stderr.write(f'{name}: {metric.value}; {metric.peer}\n')
        metrics[name] = metric
    publish(metrics)
    return 0 if all(metric.reached for metric in metrics.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
