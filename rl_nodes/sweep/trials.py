# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The runs of a sweep: which is next, and what is known of each from its folder."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import FILE, read_run, Run, RunRecord, write_record
from rl_nodes.sweep.plan import Plan, run_name

PRUNED = 'pruned'  # why a run was interrupted for good


class Trial(msgspec.Struct, frozen=True):
    """
    One run to do.

    :param folder: its run directory.
    :param arguments: of ``rl_nodes train``, name -> text, without the run directory.
    """

    folder: Path
    arguments: dict[str, str]

    def known(self) -> Run | None:
        """Return the run as its folder shows it; None where it has not begun."""
        return read_run(self.folder) if (self.folder / FILE).is_file() else None

    def words(self) -> list[str]:
        """Return the arguments of the command line; what has a checkpoint goes on from it."""
        saved = any((self.folder / 'checkpoints').glob('checkpoint_*.pt'))
        given = self.arguments | {'run_dir': str(self.folder)}
        return [f'{name}:={text}' for name, text in given.items()] + ['resume:=true'] * saved

    def prune(self) -> None:
        """Write down why a run that was interrupted does not go on."""
        known = self.known()
        if known is not None and known.record.state == 'interrupted':
            write_record(self.folder, msgspec.structs.replace(known.record, reason=PRUNED))

    def fail(self, reason: str) -> None:
        """Write down that the run failed, also where it did not come to write a record itself."""
        known = self.known()
        record = RunRecord(
            task=self.arguments.get('env', ''), robot='', seed=int(self.arguments['seed']),
            algorithm=self.arguments.get('algorithm', '')) if known is None else known.record
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder, msgspec.structs.replace(record, state='failed', reason=reason))


class Proposer(Protocol):
    """
    Says what to run next.

    :ivar total: runs in all.
    """

    total: int

    def next(self) -> Trial | None:
        """Return a run to do; None where there is no more."""

    def hopeless(self, trial: Trial) -> bool:
        """Return whether a run that is under way need not go on."""

    def done(self, trial: Trial) -> None:
        """Learn that a run has ended, whatever came of it; its folder says what."""

    def close(self) -> None:
        """Release what is held."""


def unfinished(trials: Iterable[Trial], retry: bool) -> list[Trial]:
    """
    Return the runs that have not ended.

    :param retry: those that failed count as such.
    :raises ConfigError: one of them is running just now.
    """
    left = []
    for trial in trials:
        known = trial.known()
        state = 'interrupted' if known is None else known.record.state
        if state == 'running':
            raise ConfigError(f'{trial.folder} is still running; wait for its end')
        if state == 'interrupted' or (state == 'failed' and retry):
            left.append(trial)
    return left


class Grid:
    """
    Every combination of the choices with every seed.

    :param folder: of the sweep.
    :param retry: runs that failed are tried again.
    """

    def __init__(self, plan: Plan, folder: Path, retry: bool) -> None:
        trials = [
            Trial(folder / run_name(settings, seed), {**plan.fixed, **settings, 'seed': seed})
            for seed in plan.seeds for settings in plan.grid()]
        self.total = len(trials)
        self._waiting = deque(unfinished(trials, retry))

    def next(self) -> Trial | None:
        """Return the next run, seed by seed, so that early results are of all settings."""
        return self._waiting.popleft() if self._waiting else None

    def hopeless(self, trial: Trial) -> bool:
        """Return False: every run of a grid is wanted."""
        return False

    def done(self, trial: Trial) -> None:
        """Learn nothing: what comes next is decided."""

    def close(self) -> None:
        """Nothing to release."""
