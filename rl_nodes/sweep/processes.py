# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs as child processes, some at a time; Ctrl-C ends them in good order."""

import asyncio
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import signal
import sys

import rl_nodes
from rl_nodes.orphan_guard import die_with_parent
from rl_nodes.runs.tables import duration_text
from rl_nodes.sweep.trials import Proposer, Trial

STOP_GRACE_S = 60.0  # for a run to write its checkpoint and report after SIGINT
LOG = 'output.log'


def train_command(words: Sequence[str]) -> list[str]:
    """Return the command line of a run."""
    return [sys.executable, '-m', 'rl_nodes', 'train', *words]


class Pool:
    """
    Does what a proposer proposes.

    :param jobs: runs at a time.
    :param say: shows a line to a person.
    :param command: makes a run's command line from its arguments.
    """

    def __init__(self, proposer: Proposer, jobs: int, say: Callable[[str], None],
                 command: Callable[[Sequence[str]], list[str]] = train_command) -> None:
        self._proposer, self._jobs, self._say, self._command = proposer, jobs, say, command
        self._children: set[asyncio.subprocess.Process] = set()
        self._grace: asyncio.TimerHandle | None = None
        self.stopped = False

    def run(self) -> None:
        """Return when everything has been done, or after Ctrl-C, when all children have ended."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        try:
            await asyncio.gather(*(self._work() for _ in range(self._jobs)))
        finally:
            if self._grace is not None:
                self._grace.cancel()
            self._kill()

    async def _work(self) -> None:
        while not self.stopped and (trial := self._proposer.next()) is not None:
            self._say(f'begins: {trial.folder.name}')
            self._note_end(trial, await self._execute(trial))
            if not self.stopped:
                self._proposer.done(trial)

    async def _execute(self, trial: Trial) -> int:
        """Run a trial as a process and return its exit status."""
        trial.folder.mkdir(parents=True, exist_ok=True)
        home = str(Path(rl_nodes.__file__).resolve().parents[1])
        paths = [home, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
        environ = {'OMP_NUM_THREADS': '1', **os.environ,
                   'PYTHONPATH': os.pathsep.join(filter(None, dict.fromkeys(paths)))}
        parent = os.getpid()
        with (trial.folder / LOG).open('ab') as log:
            child = await asyncio.create_subprocess_exec(
                *self._command(trial.words()), stdin=asyncio.subprocess.DEVNULL, stdout=log,
                stderr=log, env=environ, start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent))
        self._children.add(child)
        if self.stopped:
            child.send_signal(signal.SIGINT)
        try:
            return await child.wait()
        finally:
            self._children.discard(child)

    def _note_end(self, trial: Trial, status: int) -> None:
        """Say how a run ended, and write down what it could not write itself."""
        known = trial.known()
        ended = '' if known is None else known.record.state
        asked = self.stopped or (status == 0 and ended == 'interrupted')
        if known is None or status != 0 or ended != 'finished':
            if not asked:
                trial.fail(reason := _reason(trial, status))
                self._say(f'FAILED: {trial.folder.name}: {reason}')
            else:
                self._say(f'stopped: {trial.folder.name}')
            return
        results = [f'{name} {value:g}' for name in ('success_rate', 'return')
                   if (value := known.result(name)) is not None]
        self._say(f'done: {trial.folder.name}: {", ".join(results) or "not judged"}, '
                  f'{known.steps:,} steps, {duration_text(known.elapsed_s)}')

    def _stop(self) -> None:
        """End all children in good order; when asked again, at once."""
        if self.stopped:
            self._kill()
            return
        self.stopped = True
        self._say(f'stopping: {len(self._children)} runs write checkpoint and report; Ctrl-C '
                  'again to quit at once')
        for child in self._children:
            child.send_signal(signal.SIGINT)
        self._grace = asyncio.get_running_loop().call_later(STOP_GRACE_S, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _reason(trial: Trial, status: int) -> str:
    """Return why a run ended: what it said last, or the signal that killed it."""
    if status < 0:
        return f'killed by {signal.Signals(-status).name}'
    known = trial.known()
    if known is not None and known.record.state == 'failed':
        return known.record.reason
    lines = (trial.folder / LOG).read_text(encoding='utf-8', errors='replace').splitlines()
    said = [line for line in lines if line.strip()]
    return said[-1].removeprefix('error: ') if said else f'exit status {status}'
