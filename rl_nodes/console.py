# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the nodes of a graph say, on one terminal.

Nobody who reads slowly may slow a robot down: a paused terminal or a full pipe would otherwise
fill the pipes of the nodes and block them in the middle of a log line. So lines go through a
bounded queue to a thread of their own, and are dropped and counted when nobody reads them.
"""

import os
import queue
import sys
import threading
import time

MAX_LINE = 1 << 16  # bytes of one line kept before it is passed on unfinished
QUEUE_LINES = 10_000
PROGRESS_PERIOD_S = 5.0  # a progress bar that rewrites its line is shown this often
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
_ERROR_COLOUR = 31


class LineSplitter:
    """
    Cut a byte stream into lines, with sense for progress bars.

    A carriage return means that the line so far is overwritten, so only the last version of a
    line counts; a long-running one is still shown every few seconds.
    """

    def __init__(self) -> None:
        self._rest = b''
        self._shown_s = -PROGRESS_PERIOD_S

    def feed(self, data: bytes, now_s: float) -> list[str]:
        """
        Return the lines that ``data`` completes.

        :param now_s: time on the steady clock [s].
        """
        *complete, self._rest = (self._rest + data).split(b'\n')
        lines = [_last_version(line) for line in complete]
        if b'\r' in self._rest:
            before, _, newest = self._rest.rpartition(b'\r')
            progress = before.rstrip(b'\r').rpartition(b'\r')[2]
            if progress.strip() and now_s - self._shown_s >= PROGRESS_PERIOD_S:
                self._shown_s = now_s
                lines.append(_last_version(progress))
            self._rest = newest or progress + b'\r'  # "\r" may be half of "\r\n"
        while len(self._rest) > MAX_LINE:
            lines.append(_last_version(self._rest[:MAX_LINE]))
            self._rest = self._rest[MAX_LINE:]
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished last line, if there is one."""
        rest, self._rest = _last_version(self._rest), b''
        return [rest] if rest else []


def _last_version(line: bytes) -> str:
    versions = [part for part in line.split(b'\r') if part]
    return versions[-1].decode(errors='replace') if versions else ''


class Console:
    """
    Write prefixed lines to a file descriptor without ever waiting for whoever reads them.

    :param file: file descriptor to write to, standard output by default.
    :param colour: whether prefixes are coloured; None: on a terminal that can, and
        without ``NO_COLOR``.
    """

    def __init__(self, file: int = 1, colour: bool | None = None) -> None:
        self._file = file
        wanted = os.isatty(file) and 'NO_COLOR' not in os.environ \
            and os.environ.get('TERM') != 'dumb'
        self.colour = wanted if colour is None else colour
        self.broken = False
        self._colours: dict[str, int] = {}
        self._dropped = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write_all, name='console', daemon=True)

    def start(self) -> None:
        """Start the writing thread; after all forks that must not inherit a thread."""
        sys.stdout.flush()
        self._thread.start()

    def line(self, source: str, line: str, alarm: bool = False) -> None:
        """
        Queue one line.

        :param source: who says it, as in ``trainer-6``.
        :param alarm: show the whole line in red.
        """
        prefix = f'[{source}]'
        if self.colour:
            code = self._colours.setdefault(source, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f'\033[{_ERROR_COLOUR if alarm else code}m{prefix}\033[0m'
            line = f'\033[{_ERROR_COLOUR}m{line}\033[0m' if alarm else line
        try:
            if self._dropped:
                note = f'[runner] {self._dropped} lines dropped: nobody reads the output\n'
                self._queue.put_nowait(note.encode())
                self._dropped = 0
            self._queue.put_nowait(f'{prefix} {line}\n'.encode(errors='replace'))
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 0.3) -> None:
        """Write what is queued, for at most ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            while item and not self.broken:
                try:
                    item = item[os.write(self._file, item):]
                except BlockingIOError:
                    time.sleep(0.01)  # a non-blocking descriptor inherited from the caller
                except OSError:
                    self.broken = True
