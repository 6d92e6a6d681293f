# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What it costs a policy's answers to see: state → command with a picture and without.

Three policy servers in Python answer the same client, at 100 Hz and by turns: one whose network
sees 64 x 64 pixels of a camera of 640 x 480 at 30 Hz; one with the same network, which makes its
picture of the observation, so all the computing and nothing of the camera; and one without the
convolutions. Beside each of them a process sends the camera's pictures. g++ compiles the client.

    p50_seeing, p99_seeing      with the camera's pictures / the same network without them
    p50_network, p99_network    the same network without them / without its convolutions

    python -m benchmarks.pictures [--quick]
"""

import argparse
import os
from pathlib import Path
import subprocess
import sys
import tempfile

import msgspec
import numpy as np
from rl_nodes.core import ros_environment
from rl_nodes.core.contract import Contract
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.tasks import load_task
import torch
from torch import nn

from benchmarks._camera import CAMERA
from benchmarks.latency import build, Peer, robot_of_twelve
from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

RATE_HZ, SIDE, DOMAIN = 100, 64, 84
SEES, MAKES, BLIND = 'sees the camera', 'makes its own picture', 'without convolutions'


class Convolutions(nn.Module):
    """Three convolutions and two layers; the picture comes from outside, from inside, or not."""

    def __init__(self, contract: Contract, sees: bool, convolves: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sees, self.convolves = sees, convolves
        width = len(contract.observation.elements)
        self.eye = nn.Sequential(
            nn.Conv2d(3, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 1), nn.ReLU(), nn.Flatten())
        seen = self.eye(torch.zeros(1, 3, SIDE, SIDE)).shape[1] if convolves else 0
        self.body = nn.Sequential(nn.Linear(width + seen, 128), nn.ReLU(),
                                  nn.Linear(128, len(contract.action.elements)), nn.Tanh())

    def forward(self, observation: torch.Tensor, *pictures: torch.Tensor) -> torch.Tensor:
        if not self.convolves:
            return self.body(observation)
        planes = pictures[0].permute(0, 3, 1, 2).float() / 255 if self.sees else \
            observation[:, :1, None, None].expand(-1, 3, SIDE, SIDE) * 0.1
        return self.body(torch.cat([observation, self.eye(planes)], 1))


def servers(folder: Path) -> dict[str, list[str]]:
    """Write robot, tasks and policies; return the command of each server."""
    robot, blind = robot_of_twelve(folder)
    lens = msgspec.to_builtins(CAMERA)
    robot.write_text(robot.read_text() + 'cameras:\n  - ' + msgspec.json.encode(lens).decode())
    task = folder / 'see.yaml'
    task.write_text(blind.read_text()
                    + f'pictures: [{{camera: eye, width: {SIDE}, height: {SIDE}}}]\n')
    found = {}
    for name, about in ((SEES, task), (MAKES, blind), (BLIND, blind)):
        contract = load_task(str(robot), str(about)).contract
        net = Convolutions(contract, name == SEES, name != BLIND)
        policy = PolicyExporter(net, contract, 'benchmark', 'none', 'deterministic').export(
            net, 0, 0).save(folder / f'{len(found)}.onnx')
        given = (f'robot:={robot}', f'task:={about}', 'stepping:=realtime', f'policy:={policy}',
                 'control_path:=python')
        found[name] = [sys.executable, '-m', 'rl_nodes.nodes.policy_server', '--ros-args', *(
            word for parameter in given for word in ('-p', parameter))]
    return found


def main() -> None:
    """Ask all of them in turns, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within two minutes')
    options = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    ros_environment.prepare(os.environ)
    rounds, seconds = (2, 5.0) if options.quick else (5, 20.0)
    latency: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        commands = servers(folder)
        peers = {who: Peer(who, command, DOMAIN + index)
                 for index, (who, command) in enumerate(commands.items())}
        try:
            for _ in range(rounds):
                for index, (who, peer) in enumerate(peers.items()):
                    eye = subprocess.Popen(
                        [sys.executable, '-m', 'benchmarks._camera'],
                        env=os.environ | {'ROS_DOMAIN_ID': str(DOMAIN + index)})
                    try:
                        latency.setdefault(who, []).append(
                            peer.ask(folder / 'client.so', RATE_HZ, seconds)[0])
                    finally:
                        eye.kill()
                        eye.wait(timeout=10)
        finally:
            for peer in peers.values():
                peer.end()
    found = {who: np.concatenate(values) for who, values in latency.items()}
    print(table([*LATENCY_HEAD, 'unanswered'], [
        [*latency_row(who, values[values >= 0]), str((values < 0).sum())]
        for who, values in found.items()]) + '\n')

    def ratio(one: str, other: str, q: float) -> float:
        first, second = (percentile(found[who][found[who] >= 0], q) for who in (one, other))
        return first / second

    processors = f'{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}'
    publish({f'p{q}_{what}': Metric(ratio(one, other, q), aim, f'{other}; {processors}')
             for what, one, other, aims in (('seeing', SEES, MAKES, ('<= 1.2', '<= 2')),
                                            ('network', MAKES, BLIND, ('<= 2', '<= 2')))
             for q, aim in zip((50, 99), aims)})


if __name__ == '__main__':
    main()
