# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a run says of itself: ``run.json``, and the rows of its ``metrics.jsonl``.

The file is written when the run begins and again when it ends. Whoever trains holds a lock for as
long as the process lives, so that a run that was killed is told from one that goes on.
"""

from collections.abc import Sequence
import fcntl
import json
import logging
import os
from pathlib import Path
import time
from types import TracebackType
from typing import Any, Literal

import msgspec
from rl_nodes import __version__
from rl_nodes.core.errors import ConfigError

FILE = 'run.json'
_LOCK = 'run.lock'
_log = logging.getLogger(__name__)

State = Literal['running', 'finished', 'interrupted', 'failed']


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    The content of ``run.json``.

    :param task: what is learned: a task's name, or the id of an environment.
    :param robot: its name; empty where there is none.
    :param algorithm: method that learns.
    :param seed: of every random draw.
    :param settings: everything that decides how the run goes, ``learner.discount`` -> value.
    :param state: as the run knew it last; one that was killed still says ``running``.
    :param reason: why it ended: ``target``, ``steps``, ``time`` or ``stopped``, or an error's text.
    :param started: local time.
    :param evaluation: the policy that was left, on fresh episodes; None where none was judged.
    :param version: of rl_nodes.
    """

    task: str
    robot: str
    algorithm: str
    seed: int
    settings: dict[str, Any] = {}
    state: State = 'running'
    reason: str = ''
    started: str = ''
    evaluation: dict[str, float] | None = None
    version: str = __version__


class RunKeeper:
    """
    Keeps the record of a run in its folder from its beginning to its end.

    What escapes the ``with`` statement makes the run a failed one, Ctrl-C an interrupted one.

    :param folder: the run directory, made where it is missing.
    :param record: of the run that begins.
    :raises ConfigError: another process writes to this folder, or nobody can.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self._folder = folder
        self._record = msgspec.structs.replace(
            record, started=record.started or time.strftime('%Y-%m-%d %H:%M:%S'))
        try:
            self._lock = hold(folder)
            write_record(folder, self._record)
        except OSError as error:
            raise ConfigError(f'{folder}: cannot be written: {error.strerror}') from None

    def end(self, reason: str, evaluation: dict[str, float] | None) -> None:
        """
        Write down how the run ended.

        :param reason: ``target``, ``steps``, ``time`` or ``stopped``.
        :param evaluation: named means of the closing evaluation.
        """
        self._write('interrupted' if reason == 'stopped' else 'finished', reason, evaluation)

    def __enter__(self) -> 'RunKeeper':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._write('interrupted', 'stopped', None)
        elif error is not None:
            self._write('failed', str(error) or type(error).__name__, None)
        os.close(self._lock)

    def _write(self, state: State, reason: str, evaluation: dict[str, float] | None) -> None:
        self._record = msgspec.structs.replace(
            self._record, state=state, reason=reason, evaluation=evaluation)
        try:
            write_record(self._folder, self._record)
        except OSError as error:
            _log.error('%s: how the run ended cannot be written: %s', self._folder, error)


class Run(msgspec.Struct, frozen=True):
    """
    A run as its folder shows it now.

    :param folder: where it is.
    :param record: what it says of itself; a run whose process is gone is not ``running``.
    :param rows: of ``metrics.jsonl``.
    """

    folder: Path
    record: RunRecord
    rows: tuple[dict[str, Any], ...]

    @property
    def steps(self) -> int:
        """Return the control steps of the last row; for cloning, epochs."""
        return int(self.rows[-1]['step']) if self.rows else 0

    @property
    def elapsed_s(self) -> float:
        """Return the training time up to the last row [s]."""
        return float(self.rows[-1]['wall_s']) if self.rows else 0.0

    @property
    def evaluation(self) -> dict[str, float] | None:
        """Return the closing evaluation, or the best one where the run did not come that far."""
        if self.record.evaluation is not None:
            return self.record.evaluation
        return max((row for row in self.rows if row['kind'] == 'evaluation'), default=None,
                   key=lambda row: (_number(row.get('success_rate')), _number(row.get('return'))))

    def result(self, metric: str) -> float | None:
        """Return a quantity of the evaluation; None where it has none."""
        found = (self.evaluation or {}).get(metric)
        return None if found is None else float(found)


def folder_of(run_dir: str, name: str) -> Path:
    """Return the folder of a run; where none is given, one below ``runs`` with name and time."""
    return Path(run_dir).expanduser() if run_dir else Path(
        'runs', f'{name}_{time.strftime("%Y%m%d_%H%M%S")}')


def hold(folder: Path) -> int:
    """
    Return a file descriptor that keeps others from writing to a folder until it is closed.

    :param folder: made where it is missing.
    :raises ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(f'{folder}: another process is training into this folder; wait for its '
                          'end or name another folder') from None
    return lock


def write_record(folder: Path, record: RunRecord) -> None:
    """Replace ``run.json`` as a whole; OSError where that fails."""
    temporary = folder / f'.{FILE}.tmp'
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b'\n')
        temporary.replace(folder / FILE)
    finally:
        temporary.unlink(missing_ok=True)


def read_run(folder: Path) -> Run:
    """
    Return the run in a folder.

    :raises ConfigError: there is none, or its record is damaged.
    """
    path = folder / FILE
    try:
        record = msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f'{path}: not the record of a run: {error}') from None
    if record.state == 'running' and not _held(folder / _LOCK):
        record = msgspec.structs.replace(record, state='interrupted', reason='killed')
    return Run(folder, record, tuple(read_rows(folder / 'metrics.jsonl')))


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """
    Return the runs in folders and below, in the order in which they began.

    A run whose record is damaged is named in the log and left out.

    :raises ConfigError: no such folder, or none holds a run.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f'no folder {folder}; name one that holds runs')
        for path in folder.rglob(FILE):
            try:
                found[path.parent.resolve()] = read_run(path.parent)
            except ConfigError as error:
                _log.warning('%s; left out', error)
    if not found:
        raise ConfigError(f'no run in {", ".join(map(str, folders))}; "rl_nodes train" makes one')
    return sorted(found.values(), key=lambda run: (run.record.started, str(run.folder)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``; unfinished and damaged lines are left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    rows = [row for line in lines if (row := _row(line)) is not None]
    if dropped := len(lines) - len(rows):
        _log.warning('%s: dropped %d unfinished or damaged lines', path, dropped)
    return rows


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and isinstance(row.get('kind'), str) and all(
        isinstance(row.get(name), (int, float)) for name in ('step', 'wall_s'))
    return row if whole else None


def flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested settings as ``loop.key`` -> value."""
    rows: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            rows |= flat(value, f'{prefix}{key}.')
        else:
            rows[prefix + key] = value
    return rows


def _held(lock: Path) -> bool:
    """Return whether a process holds a lock."""
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _number(value: float | None) -> float:
    return -float('inf') if value is None else float(value)
