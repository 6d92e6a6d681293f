# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The processes of a deployment, each for itself, and the robot that they move."""

import os
from pathlib import Path
import signal
import subprocess
import sys

from rl_nodes.orphan_guard import die_with_parent

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'test'), str(ROOT / 'test' / 'ros')]

from emulators import controller_manager  # noqa: E402
from harness import arm_file  # noqa: E402

RATE_HZ, WATCHDOG_S, COMMAND_TIMEOUT_S, ESTOP_TIMEOUT_S = 100, 0.05, 0.1, 1.0


def robot_file(folder: Path) -> Path:
    """
    Return the shipped arm at 100 Hz with the time-outs that reactions are stated for.

    A stop may be cleared after 0.1 s instead of a second, so that many trials fit; the physical
    arm begins where it stands.
    """
    path = arm_file(
        folder, ('rate_hz: 50\n', f'rate_hz: {RATE_HZ}\n'),
        ('watchdog_s: 0.1 ', f'watchdog_s: {WATCHDOG_S} '),
        ('command_timeout_s: 0.15', f'command_timeout_s: {COMMAND_TIMEOUT_S}\n  healthy_s: 0.1\n'
         f'  estop: {{topic: true, timeout_s: {ESTOP_TIMEOUT_S}}}'),
        ('reset: home ', 'reset: none '))
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
    def said(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace')

    def start(self) -> None:
        parent = os.getpid()
        with self._log.open('ab') as log:
            self._process = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=lambda: die_with_parent(parent))

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
