# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How an episode's file is named, locked, written and published.

While it is recorded the file is ``episode_000123.mcap.partial`` and locked by its writer; when it
is complete and on the disk it becomes ``episode_000123.mcap`` in one step that never replaces
another file. A ``.partial`` file that nobody locks was left by a writer that was killed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
import fcntl
from importlib.metadata import PackageNotFoundError, version
import json
import os
from pathlib import Path
import platform
import re
import threading
import time

from rl_nodes.core.contract import Contract
from rl_nodes.data.mcap_writer import McapWriter
from rl_nodes.data.reader import PARTIAL_SUFFIX

_NAME = re.compile(r'[a-z]+_(\d+)\.mcap')


@dataclass(frozen=True)
class EpisodeStart:
    """
    What is known when an episode begins.

    :param contract: robot and task.
    :param episode: id of the episode.
    :param seed: of the environment; None where there is none.
    :param software: versions beside those of Python, numpy, mcap and rl_nodes.
    :param notes: whatever else belongs to it, as in ``operator``.
    """

    contract: Contract
    episode: str
    seed: int | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Return it as texts."""
        return {
            'layout': '1', 'robot': self.contract.robot, 'task': self.contract.task,
            'contract': self.contract.fingerprint(), 'episode': self.episode,
            'seed': '' if self.seed is None else str(self.seed),
            'software': json.dumps({**_software(), **self.software}, sort_keys=True),
            'notes': json.dumps(dict(self.notes), sort_keys=True)}


@dataclass(frozen=True)
class EpisodeEnd:
    """
    What is known when an episode has ended.

    :param reason: why it ended, as in ``terminated``, ``truncated``, ``reset``, ``shutdown`` or
        ``void``: a fault cut it, nothing may be concluded from it.
    :param success: whether the task's success criterion held at the end.
    :param steps: number of transitions.
    :param return_undiscounted: sum of the rewards.
    :param return_discounted: sum of the rewards weighted with ``discount`` to the power of step.
    :param discount: per step.
    :param policy_versions: ``<name>@<version>`` of every policy that acted.
    :param counters: what the assembler counted.
    :param randomisation: what was drawn for the episode, by name; empty where nothing was.
    :param stalled_cameras: names of the cameras whose pictures failed to come.
    :param void: the fault, in words; empty where there was none.
    :param sources: number of executed commands by source, see ``core/origin.py``.
    :param faults: what else was wrong with the recording, in words.
    :param decisions: number of decisions of the safety monitor but PASS, by ``<level>/<check>``.
    :param judge: who said whether it was a success: ``reward`` or ``operator``.
    """

    reason: str
    success: bool
    steps: int
    return_undiscounted: float
    return_discounted: float
    discount: float
    policy_versions: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    randomisation: Mapping[str, float] = field(default_factory=dict)
    stalled_cameras: tuple[str, ...] = ()
    void: str = ''
    sources: Mapping[str, int] = field(default_factory=dict)
    decisions: Mapping[str, int] = field(default_factory=dict)
    judge: str = 'reward'
    faults: tuple[str, ...] = ()

    def metadata(self) -> dict[str, str]:
        """Return it as texts."""
        return {
            'reason': self.reason, 'success': str(self.success).lower(), 'steps': str(self.steps),
            'return_undiscounted': repr(float(self.return_undiscounted)),
            'return_discounted': repr(float(self.return_discounted)),
            'discount': repr(float(self.discount)),
            'policy_versions': json.dumps(list(self.policy_versions)),
            'counters': json.dumps(dict(self.counters), sort_keys=True),
            'randomisation': json.dumps(dict(self.randomisation)),
            'stalled_cameras': json.dumps(list(self.stalled_cameras)), 'void': self.void,
            'sources': json.dumps(dict(self.sources)),
            'decisions': json.dumps(dict(self.decisions)), 'judge': self.judge,
            'faults': json.dumps(list(self.faults)), 'recovered': 'false'}


class LockedFile:
    """
    A new file under an exclusive lock, written without a buffer of its own.

    :param path: must not exist unless ``replace`` is set.
    :ivar slowest_s: the longest that the disk has taken to write or to sync [s].
    """

    def __init__(self, path: Path, replace: bool = False) -> None:
        self._syncing: threading.Thread | None = None
        self._failure: OSError | None = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if replace else os.O_EXCL)
        self.path, self.slowest_s = path, 0.0
        self._descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lost = not os.fstat(self._descriptor).st_nlink
        except BlockingIOError:
            lost = True
        if lost:
            self.close()
            raise FileExistsError(f'{path} was taken by another process')

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        left, begin = memoryview(data), time.monotonic()
        while left:
            left = left[os.write(self._descriptor, left):]
        self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
        return len(data)

    def sync(self) -> None:
        """Wait until the content is on the disk; raise what :meth:`sync_aside` ran into, too."""
        if self._syncing is not None:
            self._syncing.join()
        self._to_disk()
        if self._failure is not None:
            raise self._failure

    def sync_aside(self) -> None:
        """
        Have a thread bring the content to the disk, unless it is at it; writing goes on meanwhile.

        :raises OSError: an earlier time failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = threading.Thread(target=self._sync, name='disk_sync', daemon=True)
            self._syncing.start()

    def close(self) -> None:
        """Close and unlock, once what is under way is on the disk; again does nothing."""
        if self._descriptor >= 0:
            if self._syncing is not None:
                self._syncing.join()
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self) -> None:
        try:
            self._to_disk()
        except OSError as error:
            self._failure = error

    def _to_disk(self) -> None:
        begin = time.monotonic()
        os.fdatasync(self._descriptor)
        self.slowest_s = max(self.slowest_s, time.monotonic() - begin)


def open_mcap(file: LockedFile) -> McapWriter:
    """Begin an MCAP file on an empty :class:`LockedFile`."""
    return McapWriter(file, f'rl_nodes {_version("rl_nodes")}')


def create_partial(directory: Path, stem: str = 'episode') -> LockedFile:
    """Create the file of the next episode, or of what else ``stem`` says, by number."""
    number = 1 + max((int(match[1]) for entry in os.listdir(directory)
                      if (match := _NAME.match(entry))), default=-1)
    while True:
        try:
            return LockedFile(directory / f'{stem}_{number:06d}.mcap{PARTIAL_SUFFIX}')
        except FileExistsError:     # another recorder or a recovery was faster
            number += 1


def require_space(directory: Path, reserve_bytes: int) -> int:
    """Return how much is free in a directory [bytes]; OSError where it is less than that."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    if free < reserve_bytes:
        raise OSError(f'{free >> 20} MiB free in {directory}, expected at least the reserve of '
                      f'{reserve_bytes >> 20} MiB; free some space')
    return free


def publish(source: Path, final: Path) -> None:
    """
    Give a complete, synced file its final name.

    :raises FileExistsError: the name is taken; both files are untouched.
    """
    try:
        os.link(source, final)
    except PermissionError:                     # a file system without hard links
        if final.exists():
            raise FileExistsError(f'{final} exists already') from None
        source.rename(final)
    else:
        source.unlink()
    sync_directory(final.parent)


def sync_directory(directory: Path) -> None:
    """Wait until names in ``directory`` are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'unknown'


def _software() -> dict[str, str]:
    return {'python': platform.python_version(),
            **{package: _version(package) for package in ('mcap', 'numpy', 'rl_nodes')}}
