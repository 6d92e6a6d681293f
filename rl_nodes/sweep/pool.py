# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The runs of a sweep, some at a time; Ctrl-C ends them in good order."""

import asyncio
from collections.abc import Callable, Sequence
import signal
import sys

from rl_nodes.runs.tables import duration_text
from rl_nodes.sweep.engines import Engine
from rl_nodes.sweep.trials import Proposer, Trial

STOP_GRACE_S = 60.0  # for a run to write its checkpoint and report after SIGINT
LOG = 'output.log'
WATCH_S = 1.0  # between two looks at how a run does


def train_command(words: Sequence[str]) -> list[str]:
    """Return the command line of a run."""
    return [sys.executable, '-m', 'rl_nodes', 'train', *words]


class Pool:
    """
    Does what a proposer proposes.

    :param engine: where runs live.
    :param jobs: runs at a time.
    :param say: shows a line to a person.
    :param command: makes a run's command line from its arguments.
    """

    def __init__(self, proposer: Proposer, engine: Engine, jobs: int,
                 say: Callable[[str], None], command: Callable[[Sequence[str]], list[str]]
                 ) -> None:
        self._proposer, self._engine, self._jobs = proposer, engine, jobs
        self._say, self._command = say, command
        self._running = 0
        self._ending: set[asyncio.Task[None]] = set()
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
            for task in self._ending:
                task.cancel()
            await self._engine.kill()

    async def _work(self) -> None:
        while not self.stopped and (trial := self._proposer.next()) is not None:
            self._say(f'begins: {trial.folder.name}')
            trial.folder.mkdir(parents=True, exist_ok=True)
            self._running += 1
            status, hopeless = await self._watched(trial)
            self._running -= 1
            self._note_end(trial, status, self.stopped or hopeless)
            if not self.stopped:
                self._proposer.done(trial)

    async def _watched(self, trial: Trial) -> tuple[int, bool]:
        """Return the exit status of a run and whether it was interrupted as hopeless."""
        log, told = trial.folder / LOG, False
        doing = asyncio.ensure_future(self._engine.execute(self._command(trial.words()), log))
        while not (await asyncio.wait([doing], timeout=WATCH_S))[0]:
            if not told and (told := self._proposer.hopeless(trial)):
                self._say(f'pruned: {trial.folder.name}')
                await self._engine.interrupt(log)
        return doing.result(), told

    def _note_end(self, trial: Trial, status: int, asked: bool) -> None:
        """
        Say how a run ended, and write down what it could not write itself.

        :param asked: whether it was asked to end.
        """
        known = trial.known()
        ended = '' if known is None else known.record.state
        asked = asked or (status == 0 and ended == 'interrupted')
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
        """End all runs in good order; when asked again, at once."""
        if not self.stopped:
            self._say(f'stopping: {self._running} runs write checkpoint and report; Ctrl-C again '
                      'to quit at once')
        task = asyncio.get_running_loop().create_task(
            self._engine.kill() if self.stopped else self._interrupt())
        self._ending.add(task)
        self.stopped = True

    async def _interrupt(self) -> None:
        await self._engine.interrupt()
        await asyncio.sleep(STOP_GRACE_S)
        await self._engine.kill()


def _reason(trial: Trial, status: int) -> str:
    """Return why a run ended: what it said last, or the signal that killed it."""
    if status < 0:
        return f'killed by {signal.Signals(-status).name}'
    known = trial.known()
    if known is not None and known.record.state == 'failed':
        return known.record.reason
    lines = (trial.folder / LOG).read_text(encoding='utf-8', errors='replace').splitlines()
    said = [line for line in lines if line.strip()]
    errors = [line.removeprefix('error: ') for line in said if line.startswith('error: ')]
    if errors:
        return errors[-1]
    return f'exit status {status}' + (f', saying last: {said[-1]}' if said else '')
