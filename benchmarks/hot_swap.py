# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a robot in motion notices when its policy is exchanged: ``python -m benchmarks.hot_swap``.

A whole deployment runs in real time at 50 and 200 Hz, by each control path. Seconds in which
``policy/update`` brings a policy ten times alternate with seconds in which it brings none. Every
state must be answered exactly once, and no command may ask for a larger step than the joints'
speed limits allow.

    gap_<path>_<rate>hz = longest gap between two commands in a second with swaps, in one without
    unanswered_<path>_<rate>hz = states answered not at all, or twice

Gaps are means over all seconds of a kind, as this machine's own stalls come in both.
"""

import argparse
from collections import Counter
import os
from pathlib import Path
import signal
from statistics import fmean
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
import rclpy
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.nodes import conversions, joint_state, qos
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
import torch

from benchmarks._bare_graph import START_S, Waiter
from benchmarks.lockstep import UntrainedNet
from benchmarks.report import Metric, publish, table

DOMAIN = '95'
RATES_HZ = (50, 200)
PATHS = ('cpp', 'python')
VERSIONS = 4
SWAP_S = 0.1
STATE, WANTED, ALLOWED = 'joint_states', 'policy/joint_command', 'joint_command'


class Found(NamedTuple):
    """
    What one deployment showed.

    :param gaps: longest gap between two commands [ns] in each second without, with swaps.
    :param unanswered: states that were not answered exactly once.
    :param versions: changes of the version that answered.
    :param step: largest step that reached the robot, as a share of what the limits allow.
    """

    gaps: tuple[list[float], list[float]]
    unanswered: int
    versions: int
    step: float


def policies(folder: Path) -> tuple[Path, list[UInt8MultiArray]]:
    """Return (file of a policy, messages that bring versions of it which differ a little)."""
    contract = load_task('arm', 'reach').contract
    torch.manual_seed(0)
    net = UntrainedNet(contract)
    messages = []
    for version in range(VERSIONS):
        with torch.no_grad():
            net.body[-1].weight *= 1.01
        bundle = PolicyExporter(net, contract, 'benchmark', 'none', 'squashed_gaussian').export(
            net, version, 0)
        messages.append(conversions.bundle_to_msg(bundle))
    return bundle.save(folder / 'policy.onnx'), messages


def deployment(node: Node, path: str, rate_hz: int, seconds: int, folder: Path) -> Found:
    """Run a deployment for so many seconds of each kind and return what it showed."""
    folder.mkdir()
    file, messages = policies(folder)
    updates = node.create_publisher(UInt8MultiArray, 'policy/update', qos.LATCHED)
    waiter = Waiter(node)
    for topic, profile in ((STATE, qos.STREAM), (WANTED, qos.STREAM), (ALLOWED, qos.EXECUTED)):
        waiter.add(topic, JointState, profile)
    factor = rate_hz / load_task('arm', 'reach').contract.rate_hz
    graph = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes', 'launch', 'deploy', f'policy:={file}', 'episodes:=0',
         'stepping:=realtime', f'real_time_factor:={factor}', f'control_path:={path}',
         f'run_dir:={folder / "run"}'], stdout=subprocess.DEVNULL)
    heard: list[tuple[int, str, bytes]] = []
    marks: list[int] = []  # where each second begins [ns]
    try:
        begun = deadline = time.monotonic() + START_S
        swaps = 0
        while time.monotonic() < begun + 2 * seconds:
            found = waiter.wait(0.02)
            now = time.monotonic()
            if graph.poll() is not None or (not heard and now > deadline):
                raise SystemExit('the deployment did not run; try "rl_nodes doctor"')
            heard += [(steady_ns(), topic, data) for topic, data in found.items()]
            if begun == deadline and ALLOWED in found:
                begun = now + 3.0  # every node has settled
            if now >= begun + len(marks):
                marks.append(steady_ns())
            if now >= begun + swaps * SWAP_S:
                swaps += 1
                if len(marks) % 2 == 0:
                    updates.publish(messages[swaps % VERSIONS])
    finally:
        graph.send_signal(signal.SIGINT)
        graph.wait(timeout=20)
        node.destroy_publisher(updates)
        for subscription in list(node.subscriptions):
            node.destroy_subscription(subscription)
    return judge(heard, marks)


def judge(heard: list[tuple[int, str, bytes]], marks: list[int]) -> Found:
    """Return what messages show: (steady time [ns], topic, bytes), with the seconds' begins."""
    task = load_task('arm', 'reach')
    limit = task.robot.limits('velocity') / task.contract.rate_hz
    times: list[int] = []
    answers: Counter[int] = Counter()
    position: dict[int, np.ndarray] = {}
    labels, steps = [], []
    for at, topic, data in heard:
        msg = joint_state.decode(data)
        stamp = conversions.stamp_to_ns(msg.header.stamp)
        if topic == STATE:
            position[stamp] = msg.position
        elif topic == WANTED:
            answers[stamp] += 1
            times.append(at)
            labels.append(msg.header.frame_id)
        elif stamp in position:
            steps.append(float((np.abs(msg.position - position[stamp]) / limit).max()))
    # The last states may have been answered after the end.
    asked = [stamp for stamp in sorted(position) if stamp >= min(answers)][:-20]
    gaps: tuple[list[float], list[float]] = ([], [])
    sent = np.array(times)
    for k, (begin, end) in enumerate(zip(marks, [*marks[1:], marks[-1] + NS])):
        inside = sent[(sent >= begin) & (sent < end)]
        if len(inside) > 1:
            gaps[k % 2].append(float(np.diff(inside).max()))
    return Found(gaps, sum(answers[stamp] != 1 for stamp in asked),
                 sum(a != b for a, b in zip(labels, labels[1:])), max(steps))


def main() -> None:
    """Measure each path at each rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute or two')
    options = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    seconds = 4 if options.quick else 20
    rclpy.init()
    node = Node('hot_swap_benchmark')
    rows, metrics = [], {}
    with tempfile.TemporaryDirectory() as name:
        for path in PATHS:
            for rate in RATES_HZ:
                found = deployment(node, path, rate, seconds, Path(name) / f'{path}_{rate}')
                without, swapped = (fmean(gaps) for gaps in found.gaps)
                key = f'{path}_{rate}hz'
                rows.append([f'{path}, {rate} Hz', *(f'{x / 1e6:.1f}' for x in (
                    without, swapped, max(found.gaps[0]), max(found.gaps[1]))),
                    str(found.versions), str(found.unanswered), f'{found.step:.3f}'])
                metrics[f'gap_{key}'] = Metric(
                    swapped / without, '<= 1.25', f'seconds without swaps, {without / 1e6:.1f} ms')
                metrics[f'unanswered_{key}'] = Metric(
                    found.unanswered, '= 0', f'{found.versions} changes of version')
                metrics[f'step_{key}'] = Metric(found.step, '<= 1.001', 'the speed limits')
    node.destroy_node()
    rclpy.shutdown()
    print(table(['longest gap [ms]', 'without', 'with swaps', 'worst', 'worst with', 'versions',
                 'unanswered', 'step'], rows) + '\n')
    publish(metrics)


if __name__ == '__main__':
    main()
