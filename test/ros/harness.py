# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Real graphs as processes, an observer in this process, and policies to run them with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rl_nodes.core.contract import Contract
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.origin import split_label
from rl_nodes.core.resources import find_config, find_urdf
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.nodes import conversions
from rl_nodes.safety.supervisor import PRESS_S
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
import torch

START_S = 30.0  # two busy cores: imports take seconds, discovery up to three
HIDDEN = 16  # of what remembers
AGAIN_S = 2 * PRESS_S  # until a stop is cleared again that was cleared just now


class _Net(torch.nn.Module):
    """Tanh network of the exporter's signature; ``gain`` makes it bold enough to hit limits."""

    def __init__(self, observations: int, actions: int, gain: float) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(observations, 32), torch.nn.Tanh(),
                                        torch.nn.Linear(32, actions))
        with torch.no_grad():
            self.body[2].weight *= gain

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = self.body(observation)
        return torch.tanh(mean), mean, torch.full_like(mean, 0.3)


def make_bundle(contract: Contract, seed: int = 0, gain: float = 5.0,
                version: int = 1) -> PolicyBundle:
    """Return an untrained policy for a contract; the same seed gives the same policy."""
    torch.manual_seed(seed)
    net = _Net(len(contract.observation.elements), len(contract.action.elements), gain)
    return PolicyExporter(net, contract, 'untrained', 'none', 'squashed_gaussian').export(
        net, version, 0)


class _Lstm(torch.nn.Module):
    """A network with an LSTM, as it is exported: the observation and two states in and out."""

    def __init__(self, observations: int, actions: int, gain: float) -> None:
        super().__init__()
        self.memory = torch.nn.LSTM(observations, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, actions)
        with torch.no_grad():
            self.head.weight *= gain

    def forward(self, observation: torch.Tensor, h: torch.Tensor,
                c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, (h, c) = self.memory(observation[None], (h, c))
        return torch.tanh(self.head(x[0])), h, c


def make_recurrent_bundle(contract: Contract, seed: int = 0, gain: float = 5.0,
                          version: int = 1) -> PolicyBundle:
    """Return an untrained policy that remembers; the same seed gives the same policy."""
    torch.manual_seed(seed)
    net = _Lstm(len(contract.observation.elements), len(contract.action.elements), gain)
    return PolicyExporter(
        net, contract, 'recurrent', 'none', 'deterministic', memory=tuple(
            StateTensor(f'{name}_in', f'{name}_out', (1, 1, HIDDEN)) for name in 'hc')
    ).export(net, version, 0)


class _Seer(torch.nn.Module):
    """A network with a convolution of one picture beside the observation."""

    def __init__(self, contract: Contract, gain: float) -> None:
        super().__init__()
        planes = torch.zeros(1, 3, *contract.pictures[0].shape[:2])
        self.eye = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Tanh(),
                                       torch.nn.Flatten())
        self.head = torch.nn.Linear(
            self.eye(planes).shape[1] + len(contract.observation.elements),
            len(contract.action.elements))
        with torch.no_grad():
            self.head.weight *= gain

    def forward(self, observation: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        seen = self.eye(picture.permute(0, 3, 1, 2).float() / 255)
        return torch.tanh(self.head(torch.cat([observation, seen], 1)))


def make_seeing_bundle(contract: Contract, gain: float = 1.0, version: int = 1) -> PolicyBundle:
    """Return an untrained policy that sees one picture; always the same."""
    torch.manual_seed(0)
    net = _Seer(contract, gain)
    return PolicyExporter(net, contract, 'seer', 'none', 'deterministic').export(net, version, 0)


def sensing(folder: Path) -> tuple[str, str]:
    """Return the files of the arm with an IMU and a force-torque sensor, and of a task for it."""
    robot, task = find_config('robots', 'arm'), find_config('tasks', 'reach')
    urdf = find_urdf('arm.urdf', robot)
    (folder / 'sensing_arm.yaml').write_text(robot.read_text().replace(
        'urdf: arm.urdf', f'urdf: {urdf}') + (
        '\nimu: {link: tool}\nforce_torque: {joint: wrist_pitch}\n'))
    (folder / 'reach_sensing.yaml').write_text(task.read_text().replace(
        'goal_offset]', 'goal_offset, imu_angular_velocity, imu_linear_acceleration, '
        'wrench_force, wrench_torque]'))
    return str(folder / 'sensing_arm.yaml'), str(folder / 'reach_sensing.yaml')


def arm_file(folder: Path, *changes: tuple[str, str]) -> Path:
    """Return the file of the shipped arm with text that is in it once replaced."""
    text = find_config('robots', 'arm').read_text(encoding='utf-8')
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f'{old!r} is not once in arm.yaml')
        text = text.replace(old, new)
    path = folder / 'arm.yaml'
    path.write_text(text, encoding='utf-8')
    return path


def override(**values: object) -> list[Parameter]:
    """Return parameters of a node in this process."""
    return [Parameter(name, value=value) for name, value in values.items()]


def returning(folder: Path, task: str = 'reach', target: float = 20.0) -> str:
    """Return the file of a shipped task that observes its return to go, in units of 8, besides."""
    path = folder / f'{task}_returning.yaml'
    path.write_text(find_config('tasks', task).read_text().replace(
        'observation: [', 'observation: [return_to_go, ') + (
        f'\nreturn_to_go: {{target: {target}, scale: 8.0}}\nhistory: {{return_to_go: 2}}\n'))
    return str(path)


class _Spender(torch.nn.Module):
    """Moves each joint by what is left to be earned, and by nothing else."""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.place = contract.observation.elements.index('return_to_go/total@t')
        self.gain = torch.nn.Parameter(torch.linspace(
            0.3, 0.6, len(contract.action.elements))[None])

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        left = observation[:, self.place:self.place + 1]
        return torch.tanh(self.gain * torch.sin(4 * left))


def make_spending_bundle(contract: Contract) -> PolicyBundle:
    """Return a policy of which every action depends on the return to go."""
    net = _Spender(contract)
    return PolicyExporter(net, contract, 'spender', 'none', 'deterministic').export(net, 1, 0)


class GraphProcess:
    """``rl_nodes launch ...`` as a user runs it."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None,
                 within: Sequence[str] = ()) -> None:
        self.output = ''
        self._process = subprocess.Popen(
            [*within, sys.executable, '-m', 'rl_nodes', 'launch', *arguments], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def nodes(self) -> dict[str, int]:
        """Return pid by node name, with its namespace if any, of the children that are alive."""
        found = {}
        for entry in Path('/proc').iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / 'cmdline').read_bytes().split(b'\0')
                parent = int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            module = next((w.decode() for w in words if w.startswith(b'rl_nodes.nodes.')), '')
            if module and self._descends(parent):
                space = next((w.decode() for w in words if w.startswith(b'__ns:=/')), '')
                found[f'{space}/{module}'.removeprefix('__ns:=').lstrip('/').replace(
                    'rl_nodes.nodes.', '')] = int(entry.name)
        return found

    def _descends(self, pid: int) -> bool:
        while pid > 1:
            if pid == self.pid:
                return True
            try:
                pid = int(Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                return False
        return False

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; return the exit status and keep the output."""
        self.output += self._process.communicate(timeout=timeout_s)[0]
        return self._process.returncode

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.running:
            self.interrupt()
            try:
                self.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.wait(10)


@contextmanager
def graph(*arguments: str, env: dict[str, str] | None = None,
          within: Sequence[str] = ()) -> Iterator[GraphProcess]:
    """Run a graph for the duration of a block; ``within`` is a command that runs another."""
    process = GraphProcess(*arguments, env=env, within=within)
    try:
        yield process
    except AssertionError as error:
        process.end()
        error.add_note(process.output)
        raise
    finally:
        process.end()


class Observer:
    """A node of the test that remembers what it hears; everything waits with a time-out."""

    def __init__(self) -> None:
        self._context = Context()
        self._context.init(domain_id=int(os.environ['ROS_DOMAIN_ID']))
        self.node = Node('test_observer', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[tuple[float, Any]]] = {}

    def listen(self, kind: type, topic: str, profile: QoSProfile) -> None:
        self.heard[topic] = []
        self.node.create_subscription(
            kind, topic, lambda msg: self.heard[topic].append((time.monotonic(), msg)), profile)

    def last(self, topic: str) -> Any:
        return self.heard[topic][-1][1] if self.heard[topic] else None

    def values(self, topic: str) -> dict[str, str]:
        """Return the newest key-value pairs of a status topic."""
        message = self.last(topic)
        return {} if message is None else conversions.status_values(message)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        """Spin until a condition holds; fail with ``what`` was missing."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                heard = {topic: len(found) for topic, found in self.heard.items()}
                raise AssertionError(f'{timeout_s} s without: {what}; heard {heard}; ' + ', '.join(
                    f'{topic}: {self.values(topic)}'
                    for topic in ('safety/state', 'robot/status') if self.heard.get(topic)))
            self._executor.spin_once(timeout_sec=0.02)

    def call(self, service: str, timeout_s: float = 5.0) -> Trigger.Response:
        """Call a Trigger service."""
        client = self.node.create_client(Trigger, service)
        if not client.wait_for_service(timeout_sec=START_S):
            raise AssertionError(f'no service {service}')
        future = client.call_async(Trigger.Request())
        self.until(future.done, f'an answer of {service}', timeout_s)
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


@contextmanager
def observer() -> Iterator[Observer]:
    """An observer for the duration of a block."""
    found = Observer()
    try:
        yield found
    finally:
        found.close()




def refusal_of_policy_server(policy: Path, *parameters: str) -> str:
    """Start a policy server that must refuse its parameters; return what it says."""
    process = subprocess.run(
        [sys.executable, '-m', 'rl_nodes.nodes.policy_server', '--ros-args', '-p',
         f'policy:={policy}', *(word for given in parameters for word in ('-p', given))],
        capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2, process.stderr
    assert 'Traceback' not in process.stderr
    return process.stderr


def until_moving(seen: Observer, namespace: str = '') -> None:
    """
    Wait until 20 more commands have come to a robot that is not stopped.

    A machine that is too busy for a moment stops a robot, rightly: that is cleared, as an operator
    would.
    """
    state, commands = topic_in(namespace, 'safety/state'), topic_in(namespace, 'joint_command')
    count, asked = len(seen.heard[commands]), 0.0

    def moves() -> bool:
        nonlocal asked
        values = seen.values(state)
        if values.get('check', '').endswith('_silence') and time.monotonic() > asked + AGAIN_S:
            asked = time.monotonic()
            seen.call(topic_in(namespace, 'safety_monitor/clear_stop'))
        return values.get('mode') in ('OK', 'LIMITING') and len(seen.heard[commands]) > count + 20

    seen.until(moves, 'motion')


def source_of(command: JointState) -> str:
    """Return whose executed command a message is, whatever the monitor did about it."""
    return split_label(command.header.frame_id)[0]
