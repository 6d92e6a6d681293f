# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
State → command of a robot with 12 joints: the policy server against its floor and its peers.

A client in C++ publishes states at absolute deadlines and times the commands that come back. It
asks, one after the other and several times around: the policy server (C++, C++ with busy polling,
Python), a bare node on rcl with ONNX Runtime's C API (the floor), and a node as most people write
it with rclpy and torch. All compute the same network. g++ compiles client and floor.

    p50_vs_bare_<rate>hz, p99_...   the policy server (C++) / the bare node
    p50_below_stock_<rate>hz, ...   the node with rclpy and torch / the policy server (C++)
    busy_vs_bare_<rate>hz           p50 with busy polling / p50 of the bare node
    late_1000hz, late_loaded        share of answers later than 1 ms, less the share of the
                                    client's own wake-ups that late; idle, and beside a process
                                    that trains
    cpu_vs_stock                    processor time at 100 Hz: the policy server / the stock node
    robots_8                        p99 of 8 robots at 100 Hz / p99 of one

    python -m benchmarks.latency [--quick]
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
from rl_nodes.core import ros_environment
from rl_nodes.core.resources import find_config
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.realtime import onnxruntime_library
from rl_nodes.tasks import load_task

from benchmarks.lockstep import UntrainedNet
from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

HERE = Path(__file__).parent / 'native'
SOURCES = Path(__file__).parents[1] / 'rl_nodes' / 'realtime' / 'src'
JOINTS, RATES_HZ, ROBOTS = 12, (100, 500, 1000), 8
FIRST_DOMAIN = 70
TRAINING = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
torch.set_num_threads(1)
optimizer = torch.optim.Adam(net.parameters())
while True:
    optimizer.zero_grad()
    net(torch.randn(256, 256)).square().mean().backward()
    optimizer.step()
"""


def build(folder: Path) -> None:
    """Compile the client and the bare node; SystemExit where that cannot be done."""
    prefixes = [sys.prefix, *os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)]
    prefix = next((Path(p) for p in prefixes if p and (Path(p) / 'include/rcl').is_dir()), None)
    compiler = shutil.which('g++')
    if prefix is None or compiler is None:
        raise SystemExit('this benchmark needs g++ and the headers of ROS 2')
    includes = [f'-I{path}' for path in (prefix / 'include').iterdir() if path.is_dir()]
    libraries = ['-lrcl', '-lrcutils', '-lrosidl_runtime_c', '-ldl', '-lpthread', *(
        f'-l{name}__rosidl_{kind}_c' for name in ('sensor_msgs', 'geometry_msgs', 'std_msgs')
        for kind in ('typesupport', 'generator'))]
    for name, more in (('client', []), ('bare_node', [SOURCES / 'policy.cpp'])):
        subprocess.run(
            [compiler, '-std=c++17', '-O2', '-shared', '-fPIC', *includes, HERE / f'{name}.cpp',
             *more, '-o', folder / f'{name}.so', f'-L{prefix / "lib"}',
             f'-Wl,-rpath,{prefix / "lib"}', *libraries], check=True, timeout=300)


def native(library: Path, *arguments: object) -> list[str]:
    """
    Return the command that runs a compiled program.

    It is called within an interpreter that does nothing else, as ROS's wheels are linked for one.
    """
    call = ('import ctypes, sys; words = [word.encode() for word in sys.argv[1:]]; '
            'array = (ctypes.c_char_p * (len(words) + 1))(*words, None); '
            'sys.exit(ctypes.CDLL(words[0].decode()).program(len(words), array))')
    return [sys.executable, '-c', call, str(library), *map(str, arguments)]


def robot_of_twelve(folder: Path) -> tuple[Path, Path]:
    """Write a chain of 12 joints and a task for it; return (robot's YAML, task's YAML)."""
    links = ['<link name="base_link"/>']
    for i in range(1, JOINTS + 1):
        axis = ('0 0 1', '0 1 0', '1 0 0')[i % 3]
        parent = f'link_{i - 1}' if i > 1 else 'base_link'
        links.append(
            f'<link name="link_{i}"><inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" '
            f'izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial></link><joint name="joint_{i}" '
            f'type="revolute"><parent link="{parent}"/><child link="link_{i}"/><origin xyz="0 0 '
            f'0.05"/><axis xyz="{axis}"/><limit lower="-2" upper="2" effort="5" velocity="2"/>'
            '</joint>')
    (folder / 'chain.urdf').write_text(f'<robot name="chain">{"".join(links)}</robot>')
    robot = folder / 'chain.yaml'
    joints = '\n'.join(f'  - {{name: joint_{i}}}' for i in range(1, JOINTS + 1))
    robot.write_text('urdf: chain.urdf\ncontrol_mode: position\nrate_hz: 1000\n'
                     f'base_link: base_link\ntool_link: link_{JOINTS}\njoints:\n{joints}\n'
                     'safety: {watchdog_s: 0.1, command_timeout_s: 0.15}\n'
                     'simulation: {physics_hz: 1000}\n')
    task = folder / 'reach_chain.yaml'
    lines = find_config('tasks', 'reach').read_text().splitlines()
    task.write_text('\n'.join(
        'observation: [joint_position, joint_velocity, goal_position]'
        if line.startswith('observation:') else line for line in lines) + '\n')
    return robot, task


class Peer:
    """
    One of those who answer.

    :param name: in the table.
    :param command: that runs it.
    :param domain: ROS domain of its own.
    :param prefixes: of the topics of the robots that it serves.
    """

    def __init__(self, name: str, command: Sequence[str], domain: int,
                 prefixes: Sequence[str] = ('',)) -> None:
        self.name, self.prefixes = name, prefixes
        self._environment = os.environ | {'ROS_DOMAIN_ID': str(domain), 'OMP_NUM_THREADS': '1'}
        self._process = subprocess.Popen(command, env=self._environment,
                                         stdout=subprocess.DEVNULL)

    def ask(self, client: Path, rate_hz: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (latency of each answer, lateness of the client) [ns], each of shape (N,)."""
        path = client.parent / 'answers'
        subprocess.run(
            native(client, rate_hz, int(rate_hz * seconds), JOINTS, path, *self.prefixes),
            env=self._environment, check=True, timeout=60 + 2 * seconds)
        pairs = np.fromfile(path, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def processor_s(self) -> float:
        """Return the processor time used so far [s]."""
        fields = Path(f'/proc/{self._process.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def end(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)


@contextmanager
def peers(folder: Path) -> Iterator[dict[str, Peer]]:
    """Run everybody who is compared; each answers whenever it is asked."""
    robot, task = robot_of_twelve(folder)
    loaded = load_task(str(robot), str(task))
    net = UntrainedNet(loaded.contract)
    policy = PolicyExporter(net, loaded.contract, 'benchmark', 'none', 'squashed_gaussian').export(
        net, 0, 0).save(folder / 'policy.onnx')
    size = float(loaded.action_map.size[0])
    python = sys.executable

    def server(*parameters: str) -> list[str]:
        given = (f'robot:={robot}', f'task:={task}', 'stepping:=realtime', f'policy:={policy}',
                 *parameters)
        return [python, '-m', 'rl_nodes.nodes.policy_server', '--ros-args',
                *(word for parameter in given for word in ('-p', parameter))]

    commands = {
        'policy_server (C++)': [*server('control_path:=cpp')],
        'policy_server (C++, busy poll)': [*server('control_path:=cpp', 'busy_poll:=true')],
        'policy_server (Python)': [*server('control_path:=python')],
        'bare node, rcl and C': native(folder / 'bare_node.so', onnxruntime_library(), policy,
                                       JOINTS, size),
        'stock node, rclpy and torch': [python, str(HERE / 'stock_node.py'), str(JOINTS),
                                        str(size)],
        'policy_server (C++), 8 robots': [*server('control_path:=cpp', f'robots:={ROBOTS}')]}
    running: dict[str, Peer] = {}
    try:
        for index, (name, command) in enumerate(commands.items()):
            prefixes = [f'robot_{i + 1}/' for i in range(ROBOTS)] if '8' in name else ['']
            running[name] = Peer(name, command, FIRST_DOMAIN + index, prefixes)
        yield running
    finally:
        for peer in running.values():
            peer.end()


def main() -> None:
    """Ask everybody in turns, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within minutes')
    options = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    ros_environment.prepare(os.environ)  # the same transport for everybody
    rounds, seconds = (2, 5.0) if options.quick else (5, 20.0)
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        client = folder / 'client.so'
        with peers(folder) as running:
            ours, busy, _, bare, stock, fleet = running.values()
            for _ in range(rounds):
                for peer in running.values():
                    for rate in RATES_HZ if peer is not fleet else RATES_HZ[:1]:
                        before = peer.processor_s()
                        found.setdefault((peer.name, f'{rate}'), []).append(
                            peer.ask(client, rate, seconds))
                        if rate == RATES_HZ[0]:
                            spent[peer.name] = (spent.get(peer.name, 0.0)
                                                + peer.processor_s() - before)
                training = subprocess.Popen([sys.executable, '-c', TRAINING])
                try:
                    for peer in (ours, bare, stock):
                        found.setdefault((peer.name, '1000 loaded'), []).append(
                            peer.ask(client, 1000, seconds))
                finally:
                    training.kill()
                    training.wait(timeout=10)
    latency = {key: np.concatenate([pair[0] for pair in pairs]) for key, pairs in found.items()}
    late = {key: np.concatenate([pair[1] for pair in pairs]) for key, pairs in found.items()}
    print(table([*LATENCY_HEAD, 'unanswered'], [
        [*latency_row(f'{name}, {rate} Hz', values[values >= 0]), str((values < 0).sum())]
        for (name, rate), values in sorted(latency.items(), key=lambda item: item[0][1])]) + '\n')

    def quantile(peer: Peer, rate: object, q: float) -> float:
        values = latency[peer.name, str(rate)]
        return percentile(values[values >= 0], q)

    def excess(peer: Peer, rate: str) -> float:
        values = latency[peer.name, rate]
        missed = ((values < 0) | (values > 1_000_000)).mean()
        return float(missed - (late[peer.name, rate] > 1_000_000).mean())

    metrics = {}
    for rate in RATES_HZ:
        for q in (50, 99):
            metrics[f'p{q}_vs_bare_{rate}hz'] = Metric(
                quantile(ours, rate, q) / quantile(bare, rate, q), '<= 1.25', bare.name)
            metrics[f'p{q}_below_stock_{rate}hz'] = Metric(
                quantile(stock, rate, q) / quantile(ours, rate, q), '>= 2.2', stock.name)
        metrics[f'busy_vs_bare_{rate}hz'] = Metric(
            quantile(busy, rate, 50) / quantile(bare, rate, 50), '< 1', bare.name)
    for rate in ('1000', '1000 loaded'):
        metrics[f'late_{rate.replace("1000 ", "")}'.replace('late_1000', 'late_1000hz')] = Metric(
            excess(ours, rate), '<= 0.001', f'the same of {bare.name}: {excess(bare, rate):.4f}')
    metrics['cpu_vs_stock'] = Metric(
        spent[ours.name] / spent[stock.name], '<= 1', f'{stock.name}, '
        f'{100 * spent[stock.name] / (rounds * seconds):.1f} % of a core')
    metrics['robots_8'] = Metric(
        quantile(fleet, 100, 99) / quantile(ours, 100, 99), '<= 8', 'one robot')
    publish(metrics)


if __name__ == '__main__':
    main()
