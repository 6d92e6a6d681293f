# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
An emergency-stop button behind a file or character device, see ``EstopLineConfig``.

It is read in a thread of its own, so that a device that hangs is a silent one and delays nobody.
What is heard is only noted here; what follows from it is decided by ``safety/estop.py``.
"""

from collections import deque
from collections.abc import Callable
import contextlib
import errno
import os
import stat
import threading
from typing import NamedTuple

from rl_nodes.core.safety_config import EstopLineConfig
from rl_nodes.core.timing import elapsed_ns

MOST_BYTES = 4096   # taken at once; a longer line is no answer of a button
MOST_READS = 64     # at once; a terminal gives one line each
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Line:
    """
    What a file or device says.

    :param path: of it; opened when it is read, and again after an error.
    :param released: the text while nobody presses.
    """

    def __init__(self, path: str, released: str) -> None:
        self._path, self._released = path, released.strip().encode()
        self._descriptor = -1
        self._rest = b''

    def read(self) -> bool | None:
        """
        Return whether it is pressed; None where nothing has been said since the last time.

        :raises OSError: it cannot be read.
        """
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, _FLAGS)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                return self._streamed()
            said = os.read(self._descriptor, MOST_BYTES)
            self.close()  # the next one may be another file, or the device may have come back
            return said.strip() != self._released
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; it is opened again when it is read."""
        self._rest = b''
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _streamed(self) -> bool | None:
        """Return whether any line that has come says pressed; None where none has."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(MOST_READS):
                said = os.read(self._descriptor, MOST_BYTES)
                if not said:
                    if self._hung_up():
                        raise OSError(errno.EIO, 'it has been unplugged')
                    break
                self._rest += said
        *lines, self._rest = self._rest.split(b'\n')
        if len(self._rest) > MOST_BYTES:
            self._rest = b''
            return True
        heard = [line.strip() for line in lines if line.strip()]
        return any(line != self._released for line in heard) if heard else None

    def _hung_up(self) -> bool:
        """Return whether a device has ended for good; whoever writes into a pipe may come back."""
        return stat.S_ISCHR(os.fstat(self._descriptor).st_mode) and not os.isatty(
            self._descriptor)


class Reading(NamedTuple):
    """Whether it was pressed, when on the steady clock [ns], and what was wrong if anything."""

    pressed: bool
    steady_ns: int
    error: str = ''


class EstopLine:
    """
    Reads a line at a steady rate, in a thread.

    :param config: which, and how.
    :param wake: called in that thread when something new has been noted.
    """

    def __init__(self, config: EstopLineConfig, wake: Callable[[], None]) -> None:
        self._line = Line(config.path, config.released)
        self._path, self._period_s = config.path, 1.0 / config.rate_hz
        self._wake = wake
        self._noted: deque[Reading] = deque(maxlen=1000)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name='estop_line', daemon=True)
        self._thread.start()

    def readings(self) -> list[Reading]:
        """Return what has been noted since the last call, oldest first."""
        found = []
        while self._noted:
            found.append(self._noted.popleft())
        return found

    def close(self) -> None:
        """End the thread, unless the device hangs; then it ends with the process."""
        self._ending.set()
        self._thread.join(2 * self._period_s)

    def _run(self) -> None:
        while not self._ending.wait(self._period_s):
            at = elapsed_ns()
            try:
                pressed = self._line.read()
            except OSError as error:
                self._noted.append(Reading(True, at, f'{self._path}: {error.strerror}'))
            else:
                if pressed is None:
                    continue
                self._noted.append(Reading(pressed, at))
            self._wake()
        self._line.close()
