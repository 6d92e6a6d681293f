# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One graph, and one node of a name, per ROS domain and namespace.

ROS 2 lets two nodes of the same name run side by side, and both answer. A lock file makes the
second one refuse at once. The kernel drops an ``flock`` with its holder, however that ended, so
neither stale files nor recycled process ids matter.
"""

import fcntl
import json
import os
from pathlib import Path
import stat
import time
from types import TracebackType

from rl_nodes.core.errors import GraphError


class RunLock:
    """
    A lock held from :meth:`acquire` until :meth:`release` or the end of the process.

    :param role: what may run only once: ``graph``, or a node's name.
    :param domain_id: ROS domain.
    :param namespace: ROS namespace, ``/`` or empty for the root.
    :param description: what the holder runs, shown to whoever is refused.
    """

    def __init__(self, role: str, domain_id: int, namespace: str, description: str) -> None:
        self._role = role
        self._domain_id = domain_id
        self._namespace = '/' + namespace.strip('/')
        self._description = description
        self._file: int | None = None

    def acquire(self) -> 'RunLock':
        """
        Take the lock or refuse, without waiting.

        :raises GraphError: somebody has it (names the holder), or no file can be made.
        """
        place = self._namespace.strip('/').replace('/', '.')
        path = run_directory() / f'{self._role}-domain{self._domain_id}-{place}.lock'
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            file = os.open(path, flags, 0o600)
        except OSError as error:
            raise GraphError(f'cannot open the lock file {path}: {error.strerror}') from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(file)
            os.close(file)
            raise GraphError(self._refusal(holder)) from None
        self._file = file
        holder = {'pid': os.getpid(), 'runs': self._description, 'since': time.strftime(
            '%Y-%m-%d %H:%M:%S')}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        return self

    def release(self) -> None:
        """Give the lock back; the file stays, since deleting it would race with the next one."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> 'RunLock':
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()

    def _refusal(self, holder: dict[str, object]) -> str:
        who = (f'process {holder["pid"]} runs "{holder["runs"]}" there since {holder["since"]}'
               if holder else 'its process does not say who it is')
        return (f'another {self._role} is already running in ROS domain {self._domain_id}, '
                f'namespace {self._namespace!r}: {who}. Stop that one first, or start this one '
                'apart from it with another ROS_DOMAIN_ID (export ROS_DOMAIN_ID=7) or another '
                'namespace (namespace:=second).')


def run_directory() -> Path:
    """
    Return the folder for lock files, made where it is missing.

    ``$XDG_RUNTIME_DIR/rl_nodes`` where the system gives one, else ``/tmp/rl_nodes-<uid>``.

    :raises GraphError: it cannot be made, or it belongs to somebody else.
    """
    runtime = os.environ.get('XDG_RUNTIME_DIR', '')
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        folder = Path(runtime) / 'rl_nodes'
    else:
        folder = Path('/tmp') / f'rl_nodes-{os.getuid()}'  # noqa: S108 - owner checked below
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise GraphError(f'cannot make the folder for lock files {folder}: '
                         f'{error.strerror}') from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise GraphError(f'{folder} is not a folder of this user, so its lock files cannot be '
                         'trusted; remove it or set XDG_RUNTIME_DIR')
    return folder


def _read_holder(file: int) -> dict[str, object]:
    """Return what the holder wrote, or nothing while it is just writing it."""
    try:
        holder = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    complete = isinstance(holder, dict) and {'pid', 'runs', 'since'} <= holder.keys()
    return holder if complete else {}
