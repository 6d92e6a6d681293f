# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Nodes do not outlive their runner, however the runner ends.

Each node asks the kernel for SIGINT when its parent dies. That is enough for a node that listens.
For one that hangs, a small second process waits for the runner's death and escalates as the
runner itself would have done.
"""

import ctypes
import os
import signal
import time

SIGINT_GRACE_S = 1.8   # from SIGINT to SIGTERM; a healthy node needs about 0.2 s
SIGTERM_GRACE_S = 0.6  # from SIGTERM to SIGKILL; the sum stays under the 3 s promised for Ctrl-C

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """
    Ask the kernel for SIGINT on the parent's death; runs between fork and exec.

    :param parent: process id of the parent, to notice that it died in between.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class OrphanGuard:
    """A process that ends the registered process groups once its parent is gone."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writer)
            try:
                _watch(reader)
            finally:
                os._exit(0)
        os.close(reader)

    def add(self, pid: int) -> None:
        """Watch over a child that leads its own process group."""
        self._tell(f'+{pid}\n')

    def remove(self, pid: int) -> None:
        """Forget a child that has ended."""
        self._tell(f'-{pid}\n')

    def close(self) -> None:
        """End the guard; registered children that still live are ended by it."""
        os.close(self._writer)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass

    def _tell(self, message: str) -> None:
        try:
            os.write(self._writer, message.encode())
        except BrokenPipeError:
            pass  # the guard was killed; the kernel's signal remains


def _watch(reader: int) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # or a pipe behind the runner would never see its end
        os.dup2(nowhere, standard)
    born: dict[int, str] = {}
    with os.fdopen(reader) as messages:
        for message in messages:
            pid = int(message[1:])
            if message[0] == '+':
                born[pid] = _birth(pid)
            else:
                born.pop(pid, None)
    _escalate(born)


def _escalate(born: dict[int, str]) -> None:
    """End process groups; a recycled process id has another birth and is left alone."""
    for number, grace_s in ((signal.SIGTERM, SIGINT_GRACE_S), (signal.SIGKILL, SIGTERM_GRACE_S)):
        deadline = time.monotonic() + grace_s
        while alive := [pid for pid, birth in born.items() if birth and _birth(pid) == birth]:
            if time.monotonic() > deadline:
                for pid in alive:
                    _signal_group(pid, number)
                break
            time.sleep(0.02)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _birth(pid: int) -> str:
    """Return the start time of a living process in kernel ticks, empty where there is none."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            fields = file.read().rpartition(')')[2].split()
    except OSError:
        return ''
    return '' if fields[0] == 'Z' else fields[19]
