# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Try a policy out in a process of its own before it runs in one that a robot depends on.

The rules of ``graph_check.py`` keep loops, files and unknown operators out. What they cannot tell
is how long a run takes, how much memory ONNX Runtime needs for it, and whether a malformed graph
brings the library down. So a policy of a structure that has not been seen is parsed, checked and
run elsewhere first, under limits of memory and time.

Skipped is that process, and nothing else, for a policy that differs from one already tried out
in float weights and metadata only (``structure.py``). Its runs take the same operators, sizes and
memory, so there is nothing left that only a trial could find. A trainer that sends a newer policy
every second therefore pays for a process once; hash, manifest, graph, speed, golden vectors and
finite answers are checked every time, in this process, in some milliseconds.
"""

from collections.abc import Callable
import signal
import subprocess
import sys
import threading

from rl_nodes.core.errors import BundleError
from rl_nodes.inference.bundle import check, PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.structure import structure

LIMIT_S = 10.0  # of processor time; imports take half a second of it
PATIENCE = 3    # wall time of a trial, in parts of that: a busy machine is not the policy's fault
MEMORY_BYTES = 1 << 30  # beside what the libraries take
KNOWN = 64  # structures remembered
REFUSED = 3  # exit status of the process; its output says why
LENGTH_BYTES = 8


class PolicyTrial:
    """
    Admits policies to this process; from any thread, several at once.

    :param limit_s: processor time of a trial, start of the process included [s].
    :param make: makes a runtime of a policy in this process.
    :param rows: how many robots it is to answer in one run; 1 for each by itself.
    """

    def __init__(self, limit_s: float = LIMIT_S,
                 make: Callable[[PolicyBundle], PolicyRuntime] = PolicyRuntime,
                 rows: int = 1) -> None:
        self._make, self._rows = make, rows
        self._limit_s = limit_s
        self._known: dict[str, None] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def admit(self, bundle: PolicyBundle) -> PolicyRuntime:
        """
        Return a policy that may act; seconds for a new structure, milliseconds for a known one.

        :param bundle: of :func:`rl_nodes.inference.bundle.identify`: its hash is right, its graph
            has not been looked at.
        :raises BundleError: says what is wrong and what to do.
        """
        try:
            found = structure(bundle.onnx)
        except BundleError as error:
            raise BundleError(f'{bundle.label}: {error}') from None
        if found not in self._known:
            self._try_out(bundle)
        check(bundle)
        policy = self._make(bundle)
        with self._lock:
            self._known[found] = None
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
        return policy

    def close(self) -> None:
        """End a trial that is under way, which refuses its policy; from any thread."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()

    def _try_out(self, bundle: PolicyBundle) -> None:
        manifest = bundle.manifest_json().encode()
        with self._lock:
            if self._closed:
                raise BundleError(f'{bundle.label}: not tried out, the node is about to end')
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, '-m', 'rl_nodes.inference.trial_process', str(self._limit_s),
                 str(MEMORY_BYTES), str(self._rows)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self._running.add(process)
        try:
            output, _ = process.communicate(
                len(manifest).to_bytes(LENGTH_BYTES) + manifest + bundle.onnx,
                self._limit_s * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise self._endless(bundle) from None
        finally:
            with self._lock:
                self._running.remove(process)
        status = process.returncode
        if status == REFUSED:
            raise BundleError(output.decode(errors='replace').strip())
        if -status in (signal.SIGALRM, signal.SIGXCPU):
            raise self._endless(bundle)
        if status:
            raise BundleError(f'{bundle.label}: {_why(status)}')

    def _endless(self, bundle: PolicyBundle) -> BundleError:
        return BundleError(f'{bundle.label}: was not ready within {self._limit_s:g} s of '
                           'processor time in the process that tried it out; use a smaller '
                           'network')


def _why(status: int) -> str:
    what = signal.Signals(-status).name if status < 0 else f'exit status {status}'
    return (f'ended the process that tried it out ({what}); it needs more than '
            f'{MEMORY_BYTES >> 20} MiB of memory or brings ONNX Runtime down; use another policy')
