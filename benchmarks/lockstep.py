# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The lockstep graph against the messages it is made of: ``python -m benchmarks.lockstep``.

One lockstep step is thirteen deliveries from process to process: a state goes to four processes,
what the policy wants to two, the allowed command to three and the reward to three (one more state
waits for it in the evaluator of a deployment). Three of them lie in a row: state, wanted command,
allowed command; the reward travels beside the third.

The peer sends exactly these messages and computes nothing: as many processes, the same topics,
quality of service and sizes, each on a wait set that is kept and driven by hand, bytes in and
bytes out. What the graph adds is physics, inference, checks, rewards, conversions, recording and
the services and diagnostics of a node. Both run in turns, because other load on the machine
changes.

    lockstep_vs_hops = steps per second of the graph / steps per second of its bare messages

The rate of the three hops in a row, with nobody else on the machine's cores, is shown beside it:
it cannot be reached by a graph that has thirteen deliveries to make on the same cores.
"""

import argparse
import os
from pathlib import Path
import signal
from statistics import fmean
import subprocess
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.timing import NS
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.nodes import conversions, qos
from rl_nodes.tasks import load_task
import torch

from benchmarks._bare_graph import bare_rate, ROLES, START_S, Waiter
from benchmarks.report import Metric, publish, table

DOMAIN = '96'


def untrained(folder: Path) -> Path:
    """Save a policy of the usual size for the arm that reaches; return its file."""
    contract = load_task('arm', 'reach').contract
    net = UntrainedNet(contract)
    return PolicyExporter(net, contract, 'benchmark', 'none', 'squashed_gaussian').export(
        net, 0, 0).save(folder / 'policy.onnx')


def graph_rate(node: Node, seconds: float, folder: Path) -> float:
    """Return the steps per second of a lockstep deployment with an untrained policy."""
    path = untrained(folder)
    waiter = Waiter(node)
    waiter.add('robot/status', DiagnosticArray, qos.LATCHED, raw=False)
    graph = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes', 'launch', 'deploy', f'policy:={path}', 'episodes:=0',
         'stepping:=lockstep', f'run_dir:={folder / "run"}'], stdout=subprocess.DEVNULL)
    try:
        begin, deadline = (0.0, 0), time.monotonic() + START_S
        while True:
            msg = waiter.wait(1.0).get('robot/status')
            if graph.poll() is not None or time.monotonic() > deadline + seconds:
                raise SystemExit('the lockstep graph did not run; try "rl_nodes doctor"')
            if msg is None:
                continue
            now = conversions.stamp_to_ns(msg.header.stamp) / NS
            steps = int(conversions.status_values(msg)['steps'])
            if not begin[1] and steps > 500:  # warm
                begin = (now, steps)
            elif begin[1] and now - begin[0] >= seconds:
                return (steps - begin[1]) / (now - begin[0])
    finally:
        graph.send_signal(signal.SIGINT)
        graph.wait(timeout=20)


class UntrainedNet(torch.nn.Module):
    """A network of the usual size, untrained."""

    def __init__(self, contract) -> None:
        super().__init__()
        sizes = (contract.observation.shape[0], 256, 256, contract.action.shape[0])
        layers: list[torch.nn.Module] = []
        for before, after in zip(sizes, sizes[1:]):
            layers += [torch.nn.Linear(before, after), torch.nn.Tanh()]
        self.body = torch.nn.Sequential(*layers[:-1])

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = self.body(observation)
        return torch.tanh(mean), mean, torch.full_like(mean, 0.3)


def main() -> None:
    """Measure bare messages and the graph in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute')
    options = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    rclpy.init()
    rounds, seconds = (1, 5.0) if options.quick else (3, 20.0)
    bare, graph = [bare_rate(tuple(ROLES), seconds)], []
    chain = bare_rate(('policy', 'monitor'), seconds)
    node = Node('lockstep_benchmark')
    with tempfile.TemporaryDirectory() as folder:
        for k in range(rounds):
            graph.append(graph_rate(node, 2 * seconds, Path(folder) / str(k)))
            bare.append(bare_rate(tuple(ROLES), seconds))
    node.destroy_node()
    rclpy.shutdown()
    rows = [['three hops in a row, nobody else', [chain]],
            [f'all messages of {len(ROLES) + 1} processes, bare', bare], ['lockstep graph', graph]]
    print(table(['', 'steps/s', 'min', 'max', 'runs'], [
        [name, f'{fmean(rates):.0f}', f'{min(rates):.0f}', f'{max(rates):.0f}', str(len(rates))]
        for name, rates in rows]) + '\n')
    publish({'lockstep_vs_hops': Metric(
        fmean(graph) / fmean(bare), '>= 0.6',
        f'the same messages with nothing computed, {fmean(bare):.0f} steps/s')})


if __name__ == '__main__':
    main()
