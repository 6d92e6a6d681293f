# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Count the stops of a robot with which nothing is wrong, on a machine that has other things to do.

    python test/faults/false_stops.py [--ticks 1000000] [--rate 500] [--priority 80] [--load 2]

Robot bridge, policy server and safety monitor of a deployment run in real time beside processes
that do nothing but take the processor. A nominal tick is a command that the monitor judged and let
through, by its own count; each stop counts as a false one, also where the machine had left a
process without time for as long as the watchdog.
"""

import argparse
from contextlib import ExitStack
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from actors import deployment  # noqa: E402
from conftest import leased_domain  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from harness import AGAIN_S, Observer, observer, START_S  # noqa: E402
from rl_nodes.core import ros_environment  # noqa: E402
from rl_nodes.core.scheduling import run_first  # noqa: E402
from rl_nodes.graph import FIRST  # noqa: E402
from rl_nodes.nodes import qos  # noqa: E402
from stage import Button, LISTENER_FIRST, SAFETY  # noqa: E402

from benchmarks.report import Metric, publish  # noqa: E402

SURE = 3.0  # of no events in N ticks, the rate is below 3 / N with 95 % confidence
MOVING = ('OK', 'LIMITING')
SHOWN_S = 60.0  # between lines of progress
LOAD = 'while True: pass'


def nominal(seen: Observer) -> int:
    """Return how many commands the monitor has let through."""
    values = seen.values(SAFETY)
    return sum(int(values.get(name, 0)) for name in ('pass', 'clamp'))


def stops(seen: Observer) -> int:
    """Return how often the monitor has stopped the robot while it was allowed to move."""
    return int(seen.values(SAFETY).get('stop', 0))


def move(seen: Observer) -> None:
    """Clear the stop until the robot moves."""
    begun = time.monotonic()

    def moves() -> bool:
        return seen.values(SAFETY)['mode'] in MOVING
    while not moves():
        if time.monotonic() > begun + 2 * START_S:
            raise RuntimeError(f'the robot does not move: {seen.values(SAFETY)}')
        seen.call('safety_monitor/clear_stop')
        asked = time.monotonic()
        seen.until(lambda: moves() or time.monotonic() > asked + AGAIN_S, 'motion')


def watch(seen: Observer, ticks: int) -> None:
    """Let the robot move for so many ticks, or until Ctrl-C."""
    begun = time.monotonic()
    try:
        while nominal(seen) < ticks:
            move(seen)
            count, shown = stops(seen), time.monotonic()
            seen.until(lambda: stops(seen) > count or nominal(seen) >= ticks or (
                time.monotonic() > shown + SHOWN_S), 'ticks', 2 * SHOWN_S)
            sys.stderr.write(f'{nominal(seen)} ticks, {stops(seen)} stops, '
                             f'{time.monotonic() - begun:.0f} s; '
                             f'{seen.values(SAFETY)["reason"]}\n')
    except KeyboardInterrupt:
        sys.stderr.write('ended early\n')


def main() -> int:
    """Run and print what it showed."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--ticks', type=int, default=1_000_000)
    parser.add_argument('--rate', type=int, default=500, help='of control [Hz]')
    parser.add_argument('--priority', type=int, default=0, help='as the launch argument')
    parser.add_argument('--load', type=int, default=2, help='processes that are always busy')
    options = parser.parse_args()
    os.environ[ros_environment.RANGE] = 'LOCALHOST'
    ros_environment.prepare(os.environ)
    with ExitStack() as stack:
        os.environ['ROS_DOMAIN_ID'] = str(stack.enter_context(leased_domain()))
        for _ in range(options.load):
            busy = subprocess.Popen([sys.executable, '-c', LOAD])  # noqa: S603
            stack.callback(busy.kill)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        actors = deployment(Path(folder), rate_hz=options.rate, priority=options.priority).actors
        seen = stack.enter_context(observer())
        seen.listen(DiagnosticArray, SAFETY, qos.LATCHED)
        if options.priority and (why := run_first(options.priority + LISTENER_FIRST)):
            raise RuntimeError(f'--priority {options.priority}: {why}')
        button = Button(seen.node)
        stack.callback(button.close)
        for name in FIRST:
            actors[name].start()
            stack.callback(actors[name].end)
        seen.until(lambda: 'mode' in seen.values(SAFETY), 'the monitor', 2 * START_S)
        watch(seen, options.ticks)
        values, ticks, count = seen.values(SAFETY), nominal(seen), stops(seen)
    why = ''.join(f'; {name}: {count}' for name, count in sorted(values.items())
                  if name.startswith(('stop/', 'hold/')))
    publish({'false_stops': Metric(
        count, '= 0', f'of {ticks} nominal ticks at {options.rate} Hz beside {options.load} busy '
        f'processes, priority {options.priority}; none bounds the rate at '
        f'{SURE / max(ticks, 1):.1g}{why}')})
    return 1 if count else 0


if __name__ == '__main__':
    sys.exit(main())
