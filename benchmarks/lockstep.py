# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The lockstep graph against the messages it cannot do without: ``python -m benchmarks.lockstep``.

One lockstep step is a chain of three hops from process to process: a state from the bridge to the
policy server, its command to the safety monitor, the allowed command back to the bridge. (The
reward travels beside them, in two hops.) Physics, inference, checks, conversions and the other
processes of a deployment (rewards, evaluator, a recorder that keeps every episode) come on top.

A bare hop is half of a round trip: one process publishes a JointState with the arm's six joints,
another one answers each with a message of the same size; both with rclpy, reliable, depth 1, on a
wait set built once and driven by hand, nothing computed. Bare hops are measured before and after
the graph, and the two medians are averaged, because other load on the machine changes.

    lockstep_vs_hops = steps per second of the graph * 3 * seconds per bare hop
"""

import argparse
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rl_nodes.core.timing import NS
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.nodes import conversions, qos
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
import torch

from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

HOPS = 3
DOMAIN = '96'
START_S = 60.0


class Waiter:
    """One subscription on a wait set that is kept."""

    def __init__(self, node: Node, topic: str, kind: type, profile: QoSProfile) -> None:
        self._subscription = node.create_subscription(kind, topic, lambda _: None, profile)
        self._wait_set = rclpy_implementation.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)

    def take(self, timeout_s: float):
        """Return the next message, or None after ``timeout_s``."""
        self._wait_set.clear_entities()
        self._wait_set.add_subscription(self._subscription.handle)
        self._wait_set.wait(int(timeout_s * NS))
        taken = self._subscription.handle.take_message(self._subscription.msg_type, False)
        return None if taken is None else taken[0]


def answer() -> None:
    """Answer every message until the process is ended; this is the other end of a bare hop."""
    rclpy.init()
    node = Node('hop_answer')
    waiter = Waiter(node, 'there', JointState, qos.COMMAND)
    publisher = node.create_publisher(JointState, 'back', qos.COMMAND)
    while True:
        msg = waiter.take(1.0)
        if msg is not None:
            publisher.publish(msg)


def bare_hops(node: Node, count: int) -> list[float]:
    """Return durations of bare hops [ns]: half of each round trip to another process."""
    model = load_task('arm', 'reach').robot
    zeros = [0.0] * len(model.joint_names)
    msg = JointState(name=list(model.joint_names), position=zeros, velocity=zeros, effort=zeros)
    msg.header.frame_id = '1@1700000000000000000'
    publisher = node.create_publisher(JointState, 'there', qos.COMMAND)
    waiter = Waiter(node, 'back', JointState, qos.COMMAND)
    other = subprocess.Popen([sys.executable, '-m', 'benchmarks.lockstep', '--answer'])
    try:
        deadline = time.monotonic() + START_S
        publisher.publish(msg)
        while waiter.take(0.2) is None:
            if time.monotonic() > deadline:
                raise SystemExit(f'the other end of a bare hop did not answer in {START_S} s')
            publisher.publish(msg)
        while waiter.take(0.2) is not None:
            pass  # answers to what was asked twice
        durations = []
        for k in range(count + 200):
            begin = time.monotonic_ns()
            publisher.publish(msg)
            if waiter.take(1.0) is not None and k >= 200:
                durations.append((time.monotonic_ns() - begin) / 2)
        return durations
    finally:
        other.kill()
        other.wait()


def graph_rate(node: Node, seconds: float, folder: Path) -> float:
    """Return the steps per second of a lockstep deployment with an untrained policy."""
    contract = load_task('arm', 'reach').contract
    net = _Net(contract)
    path = PolicyExporter(net, contract, 'benchmark', 'none', 'squashed_gaussian').export(
        net, 0, 0).save(folder / 'policy.onnx')
    waiter = Waiter(node, 'robot/status', DiagnosticArray, qos.LATCHED)
    graph = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes', 'launch', 'deploy', f'policy:={path}', 'episodes:=0',
         'stepping:=lockstep', f'run_dir:={folder / "run"}'], stdout=subprocess.DEVNULL)
    try:
        begin, deadline = (0.0, 0), time.monotonic() + START_S
        while True:
            msg = waiter.take(1.0)
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


class _Net(torch.nn.Module):
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
    """Measure hops, graph, hops again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute')
    parser.add_argument('--answer', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    count, seconds = (2000, 10.0) if options.quick else (10_000, 60.0)
    rclpy.init()
    node = Node('lockstep_benchmark')
    with tempfile.TemporaryDirectory() as folder:
        before = bare_hops(node, count)
        rate = graph_rate(node, seconds, Path(folder))
        after = bare_hops(node, count)
    node.destroy_node()
    rclpy.shutdown()
    hop_s = (percentile(before, 50) + percentile(after, 50)) / 2 / NS
    print(table(LATENCY_HEAD, [latency_row('bare hop, before', before),
                               latency_row('bare hop, after', after)]))
    print(f'lockstep graph: {rate:.0f} steps/s; {HOPS} bare hops: {1 / (HOPS * hop_s):.0f}/s\n')
    publish({'lockstep_vs_hops': Metric(
        rate * HOPS * hop_s, '>= 0.6', f'{HOPS} bare rclpy hops of {hop_s * 1e6:.0f} µs')})


if __name__ == '__main__':
    main()
