# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Deadlines of the robot bridge in real time against a loop that does nothing.

A whole deployment runs in real time, its simulated robot at 100, 200 and 500 Hz; the stamps of
the states are the times of the bridge's ticks. Beside it, at the same time and rate, a process
sleeps until absolute deadlines and does nothing else: what it misses, the machine has missed.

A deadline is missed when a period passes without a tick, and lateness counts from the deadline.
The deadlines are those that the ticks themselves keep to: a grid of the period through the
earliest of them.

    missed_<rate>hz = share of deadlines missed by the bridge - share missed by the empty loop

    python -m benchmarks.deadline [--quick]
"""

import argparse
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.timing import NS
from rl_nodes.nodes import joint_state, qos
from rl_nodes.nodes.conversions import stamp_to_ns
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState

from benchmarks._bare_graph import START_S, Waiter
from benchmarks.lockstep import untrained
from benchmarks.report import LATENCY_HEAD, latency_row, Metric, publish, table

RATES_HZ = (100, 200, 500)
DOMAIN = '97'
EARLY = 0.05  # periods before its deadline that a tick may seem to come, by the clock's rounding


def empty_loop(period_ns: int, count: int, path: Path) -> None:
    """Write the steady times [ns] of ticks at absolute deadlines; a missed one is skipped."""
    ticks = np.zeros(count, np.int64)
    deadline = time.monotonic_ns()
    for k in range(count):
        now = time.monotonic_ns()
        deadline += period_ns * max(1, -(-(now - deadline) // period_ns))
        time.sleep((deadline - now) / NS)
        ticks[k] = time.monotonic_ns()
    np.save(path, ticks, allow_pickle=False)


def judge(ticks_ns: np.ndarray, period_ns: int) -> tuple[np.ndarray, float]:
    """
    Return (lateness of each tick [ns], share of deadlines that passed without one).

    :param ticks_ns: times of the ticks [ns], shape (N,), int64.
    :param period_ns: between two deadlines.
    """
    turns = ticks_ns % period_ns / period_ns
    mean = np.angle(np.exp(2j * np.pi * turns).mean()) / (2 * np.pi)
    around = (turns - mean + 0.5) % 1.0 - 0.5
    anchor = (mean + np.percentile(around, 1)) * period_ns
    periods = (ticks_ns - anchor) / period_ns
    deadlines = np.floor(periods + EARLY)
    wanted = deadlines[-1] - deadlines[0] + 1
    return (periods - deadlines) * period_ns, 1.0 - len(np.unique(deadlines)) / wanted


def bridge_ticks(node: Node, policy: Path, rate_hz: int, count: int,
                 folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of ticks [ns] of (a deployment's bridge, the empty loop beside it)."""
    contract = load_task('arm', 'reach').contract
    factor = rate_hz / contract.rate_hz
    waiter = Waiter(node)
    waiter.add('joint_states', JointState, qos.STREAM)
    graph = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes', 'launch', 'deploy', f'policy:={policy}', 'episodes:=0',
         'stepping:=realtime', f'real_time_factor:={factor}', f'run_dir:={folder / "run"}'],
        stdout=subprocess.DEVNULL)
    empty, stamps = None, []
    try:
        deadline = time.monotonic() + START_S
        while len(stamps) < count:
            if graph.poll() is not None or time.monotonic() > deadline + count / rate_hz:
                raise SystemExit('the deployment did not run; try "rl_nodes doctor"')
            data = waiter.wait(1.0).get('joint_states')
            if data is None:
                continue
            msg = joint_state.decode(data)
            stamps.append(stamp_to_ns(msg.header.stamp))
            if empty is None and len(stamps) == 3 * rate_hz:  # every node has settled
                stamps.clear()
                empty = subprocess.Popen(
                    [sys.executable, '-m', 'benchmarks.deadline', '--empty',
                     str(NS // rate_hz), str(count), str(folder / 'empty.npy')])
        if empty is None or empty.wait(timeout=START_S):
            raise SystemExit('the empty loop failed')
    finally:
        for process, number in ((graph, signal.SIGINT), (empty, signal.SIGKILL)):
            if process is not None:
                process.send_signal(number)
                process.wait(timeout=20)
    return np.array(stamps), np.load(folder / 'empty.npy', allow_pickle=False)


def main() -> None:
    """Measure every rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute')
    parser.add_argument('--empty', nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.empty:
        period_ns, count, path = options.empty
        empty_loop(int(period_ns), int(count), Path(path))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    seconds = 5 if options.quick else 60
    rclpy.init()
    node = Node('deadline_benchmark')
    rows, metrics = [], {}
    with tempfile.TemporaryDirectory() as name:
        for rate in RATES_HZ:
            folder = Path(name) / str(rate)
            folder.mkdir()
            policy = untrained(folder)
            found = bridge_ticks(node, policy, rate, seconds * rate, folder)
            shares = []
            for what, ticks in zip(('bridge', 'empty loop'), found):
                late, missed = judge(ticks, NS // rate)
                shares.append(missed)
                rows.append([*latency_row(f'{what}, {rate} Hz', late), f'{100 * missed:.3f}'])
            metrics[f'missed_{rate}hz'] = Metric(
                shares[0] - shares[1], '<= 0.001', f'an empty loop, {shares[1]:.4f} missed')
    node.destroy_node()
    rclpy.shutdown()
    print(table([*LATENCY_HEAD[:1], *(f'late {head}' for head in LATENCY_HEAD[1:-1]), 'N',
                 'missed %'], rows) + '\n')
    publish(metrics)


if __name__ == '__main__':
    main()
