# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Eight robots at 100 Hz answered by one policy server: in one run of the policy, or one by one.

Both ways are asked by turns, in Python, with the states of all robots sent at once: an MLP of
2 x 256, one of 3 x 1024, and three convolutions of 64 x 64 pixels that the network makes of the
observation. What counts is the answer that comes last in a period. g++ compiles the client.

    last_p50_<network>, last_p99_<network>  of the last answer: in one run / one by one
    cpu_<network>                           processor time of the server: the same

    python -m benchmarks.batching [--quick]
"""

import argparse
import os
from pathlib import Path
import sys
import tempfile

import numpy as np
from rl_nodes.core import ros_environment
from rl_nodes.core.contract import Contract
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.tasks import load_task
import torch
from torch import nn

from benchmarks.latency import build, Peer, robot_of_twelve
from benchmarks.pictures import Convolutions
from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

RATE_HZ, ROBOTS, DOMAIN = 100, 8, 88
WAYS = {'one by one': 'batch:=false', 'in one run': 'batch:=true'}
AIMS = {'2x256': '<= 1.1', '3x1024': '<= 0.5', 'convolutions': '<= 1'}


def networks(contract: Contract) -> dict[str, nn.Module]:
    """Return what is compared, in the order of ``AIMS``."""
    torch.manual_seed(0)
    sizes = len(contract.observation.elements), len(contract.action.elements)

    def dense(width: int, layers: int) -> nn.Module:
        widths = [sizes[0], *[width] * layers]
        hidden = [part for wide in zip(widths, widths[1:]) for part in (nn.Linear(*wide),
                                                                        nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(width, sizes[1]), nn.Tanh())

    return dict(zip(AIMS, (dense(256, 2), dense(1024, 3), Convolutions(contract, False, True))))


def servers(folder: Path) -> dict[tuple[str, str], list[str]]:
    """Write robot, task and policies; return the command of each server by network and way."""
    robot, task = robot_of_twelve(folder)
    contract, found = load_task(str(robot), str(task)).contract, {}
    for name, net in networks(contract).items():
        policy = PolicyExporter(net, contract, 'benchmark', 'none', 'deterministic').export(
            net, 0, 0).save(folder / f'{name}.onnx')
        for way, batch in WAYS.items():
            given = (f'robot:={robot}', f'task:={task}', 'stepping:=realtime', batch,
                     f'policy:={policy}', 'control_path:=python', f'robots:={ROBOTS}')
            found[name, way] = [sys.executable, '-m', 'rl_nodes.nodes.policy_server',
                                '--ros-args', *(word for parameter in given
                                                for word in ('-p', parameter))]
    return found


def last_answers(latency: np.ndarray) -> np.ndarray:
    """Return the latency of each period's last answer [ns]; periods without one are left out."""
    periods = latency.reshape(-1, ROBOTS)
    return periods[(periods >= 0).all(1)].max(1)


def main() -> None:
    """Ask all of them in turns, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within two minutes')
    options = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    ros_environment.prepare(os.environ)
    rounds, seconds = (3, 4.0) if options.quick else (5, 20.0)
    prefixes = [f'robot_{number + 1}/' for number in range(ROBOTS)]
    last: dict[tuple[str, str], list[np.ndarray]] = {}
    spent: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        commands = servers(folder)
        peers: dict[tuple[str, str], Peer] = {}
        try:
            for index, (key, command) in enumerate(commands.items()):
                peers[key] = Peer(' '.join(key), command, DOMAIN + index, prefixes)
            for _ in range(rounds):
                for key, peer in peers.items():
                    before = peer.processor_s()
                    latency, _ = peer.ask(folder / 'client.so', RATE_HZ, seconds)
                    spent[key] = spent.get(key, 0.0) + peer.processor_s() - before
                    last.setdefault(key, []).append(last_answers(latency))
        finally:
            for peer in peers.values():
                peer.end()
    found = {key: np.concatenate(values) for key, values in last.items()}
    print(table([*LATENCY_HEAD, 'one core'], [
        [*latency_row(' '.join(key), values), f'{spent[key] / (rounds * seconds):.1%}']
        for key, values in found.items()]) + '\n')
    apart, together = WAYS
    where = f'one by one; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}'
    metrics = {}
    for name, aim in AIMS.items():
        one, all_ = (name, apart), (name, together)
        for q in (50, 99):
            metrics[f'last_p{q}_{name}'] = Metric(
                percentile(found[all_], q) / percentile(found[one], q), aim, where)
        metrics[f'cpu_{name}'] = Metric(spent[all_] / spent[one], aim, where)
    publish(metrics)


if __name__ == '__main__':
    main()
