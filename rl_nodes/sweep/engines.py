# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where the runs of a sweep live: child processes here, or on the machines of a Ray cluster.

On a cluster the run directories have to be on a file system that all machines share, and rl_nodes
installed in the same place. ``RAY_ADDRESS`` names the cluster; without it Ray starts here.
"""

import asyncio
from collections.abc import Sequence
import contextlib
import os
from pathlib import Path
import signal
from typing import Any, Protocol

import rl_nodes
from rl_nodes.cluster import require_ray
from rl_nodes.orphan_guard import die_with_parent


class Engine(Protocol):
    """Runs commands."""

    async def execute(self, command: Sequence[str], log: Path) -> int:
        """
        Return the exit status of a command, negative for the signal that killed it.

        :param log: what it says is appended there.
        """

    async def interrupt(self, log: Path | None = None) -> None:
        """Ask the command with this log, or every one, to end in good order."""

    async def kill(self) -> None:
        """End every command at once."""

    @property
    def cores(self) -> int:
        """Return how many commands can run side by side."""


class Processes:
    """Child processes, which end in good order should this process die."""

    def __init__(self) -> None:
        self._children: dict[Path, asyncio.subprocess.Process] = {}

    async def execute(self, command: Sequence[str], log: Path) -> int:
        """Run a command as a process that leads its own group."""
        home = str(Path(rl_nodes.__file__).resolve().parents[1])
        paths = [home, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
        environ = {'OMP_NUM_THREADS': '1', **os.environ,
                   'PYTHONPATH': os.pathsep.join(filter(None, dict.fromkeys(paths)))}
        parent = os.getpid()
        with log.open('ab') as stream:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream,
                env=environ, start_new_session=True, preexec_fn=lambda: _begin(parent))
        self._children[log] = child
        try:
            return await child.wait()
        finally:
            del self._children[log]

    async def interrupt(self, log: Path | None = None) -> None:
        """Send SIGINT to the child with this log, or to every one."""
        for child in [child for key, child in self._children.items() if log in (None, key)]:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                child.send_signal(signal.SIGINT)

    async def kill(self) -> None:
        """Send SIGKILL to every child and whatever it has started."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    @property
    def cores(self) -> int:
        """Return the cores that this process may use."""
        return len(os.sched_getaffinity(0))


def _begin(parent: int) -> None:
    """Hear signals, which a Ray actor's threads block, and the parent's end; before exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)


class RayProcesses:
    """
    Child processes of Ray actors, each of which takes one core of the cluster.

    :raises ConfigError: Ray is not installed.
    """

    def __init__(self) -> None:
        self._ray = require_ray()
        self._actor = self._ray.remote(Processes)
        self._actors: dict[Path, Any] = {}

    async def execute(self, command: Sequence[str], log: Path) -> int:
        """Run a command wherever a core is free."""
        actor = self._actor.options(num_cpus=1).remote()
        self._actors[log] = actor
        try:
            return int(await actor.execute.remote(list(command), log.resolve()))
        except self._ray.exceptions.RayError as error:
            with log.open('a', encoding='utf-8') as stream:
                stream.write(f'{type(error).__name__}: {str(error).splitlines()[0]}\n')
            return 1
        finally:
            del self._actors[log]
            self._ray.kill(actor)

    async def interrupt(self, log: Path | None = None) -> None:
        """Send SIGINT to the command with this log, or to every one."""
        await asyncio.gather(*(actor.interrupt.remote() for key, actor in self._actors.items()
                               if log in (None, key)))

    async def kill(self) -> None:
        """Send SIGKILL to every command."""
        await asyncio.gather(*(actor.kill.remote() for actor in self._actors.values()))

    @property
    def cores(self) -> int:
        """Return the cores of the cluster."""
        return int(self._ray.cluster_resources().get('CPU', 1))


ENGINES = {'processes': Processes, 'ray': RayProcesses}
