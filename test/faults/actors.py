# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The processes of a deployment, each for itself, and the robot that they move."""

import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import NamedTuple

from rl_nodes.core.scheduling import run_as_usual
from rl_nodes.graph import build
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.orphan_guard import die_with_parent
from rl_nodes.runner import node_command, node_environment, prepare
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'test'), str(ROOT / 'test' / 'ros')]

from emulators import controller_manager  # noqa: E402
from harness import arm_file, make_bundle  # noqa: E402

# What faults need of the deployment beyond what it always is, by name.
SETUPS = {'pybullet': {}, 'ros2_control': {'backend': 'ros2_control'},
          'teleop': {'teleop': 'joy'}, 'lossy_network': {}}
RATE_HZ, WATCHDOG_S, COMMAND_TIMEOUT_S, ESTOP_TIMEOUT_S = 100, 0.05, 0.1, 1.0


def robot_file(folder: Path, rate_hz: int) -> Path:
    """
    Return the shipped arm at another rate with the time-outs that reactions are stated for.

    A stop may be cleared after 20 ms instead of a second, so that many trials fit; the physical
    arm begins where it stands.
    """
    path = arm_file(
        folder, ('rate_hz: 50\n', f'rate_hz: {rate_hz}\n'),
        ('watchdog_s: 0.1 ', f'watchdog_s: {WATCHDOG_S} '),
        ('command_timeout_s: 0.15', f'command_timeout_s: {COMMAND_TIMEOUT_S}\n  healthy_s: 0.02\n'
         f'  estop: {{topic: true, timeout_s: {ESTOP_TIMEOUT_S}}}'),
        ('physics_hz: 200', f'physics_hz: {max(200, rate_hz)}'), ('reset: home ', 'reset: none '))
    with path.open('a', encoding='utf-8') as file:
        file.write(controller_manager.SECTION)
    return path


class Actor:
    """One process of the deployment."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str],
                 folder: Path) -> None:
        self.name, self.command, self.environ = name, command, environ
        self._log = folder / f'{name}.log'
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace')

    def start(self) -> None:
        parent = os.getpid()
        with self._log.open('ab') as log:
            self._process = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=lambda: self._begin(parent))

    @staticmethod
    def _begin(parent: int) -> None:
        """Take no priority over from a parent that has one; runs between fork and exec."""
        run_as_usual()
        die_with_parent(parent)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        """End it in good order where it can, at once where it cannot."""
        if not self.alive:
            return
        for number in (signal.SIGCONT, signal.SIGTERM):
            os.kill(self._process.pid, number)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)


class Deployment(NamedTuple):
    """What ``rl_nodes launch deploy`` would run: nobody ends it when a process dies."""

    task: Task
    bundle: PolicyBundle
    actors: dict[str, Actor]


def deployment(folder: Path, backend: str = 'pybullet', rate_hz: int = RATE_HZ,
               priority: int = 0) -> Deployment:
    """
    Return a deployment of an untrained policy for the arm, not started.

    :param folder: for its files; empty.
    :param backend: one of ``SETUPS``.
    :param priority: as the launch argument.
    """
    robot = robot_file(folder, rate_hz)
    task = load_task(str(robot), 'reach')
    bundle = make_bundle(task.contract, gain=0.5)
    graph = build('deploy', {
        'policy': str(bundle.save(folder / 'policy.onnx')), 'robot': str(robot),
        'backend': 'pybullet', 'run_dir': str(folder / 'run'), 'episodes': '0',
        'stepping': 'realtime', 'arm_on_start': 'false', 'priority': str(priority),
        **SETUPS[backend]})
    prepare(graph)
    environ = node_environment(os.environ, graph, False)
    return Deployment(task, bundle, {
        spec.name: Actor(spec.name, node_command(spec, graph.namespace), environ, folder)
        for spec in graph.nodes})
