# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a camera costs the robot it sits on: ``python -m benchmarks.cameras``.

The same deployment of the arm runs without and with one camera of 640 x 480 pixels at 10 Hz, by
turns, because other load on the machine changes. In real time the time from a state to its command
is compared, in lockstep the steps per second. The bridge never waits for a camera; what is seen
here is that both want the same processors.

    realtime_p50_ratio   = p50 state to command, with a camera / without
    lockstep_rate_ratio  = steps per second, with a camera / without
"""

import argparse
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.resources import find_config
from rl_nodes.core.timing import NS
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.nodes import conversions, qos
from rl_nodes.tasks import load_task

from benchmarks._bare_graph import Waiter
from benchmarks.lockstep import UntrainedNet
from benchmarks.report import Metric, publish, table

DOMAIN = '95'
START_S = 120.0
CAMERA = ('cameras:\n  - {name: eye, link: base_link, xyz: [0.75, 0.35, 0.45], '
          'rpy: [0.0, 0.4, -2.7], width: 640, height: 480, rate_hz: 10, near_m: 0.05}\n')


class Run(NamedTuple):
    """One run: steps and pictures per second, state to command [ms]."""

    steps_per_s: float
    pictures_per_s: float
    p50_ms: float
    p99_ms: float


def run(node: Node, folder: Path, policy: Path, stepping: str, camera: bool,
        seconds: float) -> Run:
    """Run the deployment for some seconds after it is warm."""
    directory = tempfile.mkdtemp(dir=folder)
    waiter = Waiter(node)
    for topic in ('robot/status', 'camera/status'):
        waiter.add(topic, DiagnosticArray, qos.LATCHED, raw=False)
    graph = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes', 'launch', 'deploy', f'policy:={policy}', 'episodes:=0',
         f'robot:={folder / "arm.yaml"}', f'stepping:={stepping}', f'run_dir:={directory}/run',
         f'cameras:={str(camera).lower()}'], stdout=subprocess.DEVNULL)
    try:
        begin, deadline, drawn = None, time.monotonic() + START_S + seconds, [0, 0]
        while True:
            heard = waiter.wait(1.0)
            if graph.poll() is not None or time.monotonic() > deadline:
                raise SystemExit('the graph did not run; try "rl_nodes doctor"')
            if 'camera/status' in heard:
                drawn[1] = int(conversions.status_values(heard['camera/status'])['eye/pictures'])
            msg = heard.get('robot/status')
            if msg is None:
                continue
            now, values = conversions.stamp_to_ns(msg.header.stamp) / NS, \
                conversions.status_values(msg)
            steps = int(values['steps'])
            if begin is None and steps > 200 and (not camera or drawn[1]):
                begin, drawn[0] = (now, steps), drawn[1]
            elif begin is not None and now - begin[0] >= seconds:
                took = now - begin[0]
                return Run((steps - begin[1]) / took, (drawn[1] - drawn[0]) / took,
                           float(values['latency_p50_ms']), float(values['latency_p99_ms']))
    finally:
        graph.send_signal(signal.SIGINT)
        graph.wait(timeout=20)


def main() -> None:
    """Measure by turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute and a half')
    options = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    turns, seconds = (1, 8.0) if options.quick else (3, 15.0)
    contract = load_task('arm', 'reach').contract
    net = UntrainedNet(contract)
    rclpy.init()
    node = Node('cameras_benchmark')
    found: dict[tuple[str, bool], list[Run]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy = PolicyExporter(net, contract, 'benchmark', 'none', 'squashed_gaussian').export(
            net, 0, 0).save(folder / 'policy.onnx')
        head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
        (folder / 'arm.yaml').write_text(head + CAMERA + rest[rest.index('hardware:'):])
        for _ in range(turns):
            for stepping in ('realtime', 'lockstep'):
                for camera in (False, True):
                    found.setdefault((stepping, camera), []).append(
                        run(node, folder, policy, stepping, camera, seconds))
    node.destroy_node()
    rclpy.shutdown()
    medians = {key: Run(*np.median(runs, axis=0)) for key, runs in found.items()}
    print(table(['', 'steps/s', 'pictures/s', 'p50 ms', 'p99 ms', 'runs'],
                [[f'{stepping}, {"one camera" if camera else "no camera"}',
                  *(f'{value:.2f}' for value in medians[stepping, camera]), str(turns)]
                 for stepping, camera in medians]), '\n')
    processors = f'{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}'
    publish({
        'realtime_p50_ratio': Metric(
            medians['realtime', True].p50_ms / medians['realtime', False].p50_ms, '<= 1.5',
            f'the same without a camera; {processors}'),
        'lockstep_rate_ratio': Metric(
            medians['lockstep', True].steps_per_s / medians['lockstep', False].steps_per_s,
            '>= 0.6', f'the same without a camera; {processors}')})


if __name__ == '__main__':
    main()
