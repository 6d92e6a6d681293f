# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The last seconds of everything heard, in bounded memory, written to a file when asked for."""

from collections import deque
from pathlib import Path
import threading

from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.writer import EpisodeWriter

EVENTS_FOLDER = 'events'    # below the recorder's
MOST_BYTES = 256 << 20
OVERHEAD_BYTES = 200     # of what is kept beside the bytes of a message
RESERVE_BYTES = 256 << 20   # of the disk, for episodes, which matter more

_Kept = tuple[str, bytes, int, int]     # topic, data, log and publish time [ns]


class EventRing:
    """
    Keeps serialized messages and writes them, as a file that enters no data set.

    Any thread may call. Writing happens in a thread of its own, one event at a time.

    :param directory: where files of events go.
    :param start: provenance of these files.
    :param keep_s: how far back they reach [s].
    :param most_bytes: of messages kept; the oldest are forgotten beyond half of it, as much may
        be on its way to a file at the same time.
    :ivar written: files that are complete.
    :ivar error: why the newest event was not written; empty where it was.
    """

    def __init__(self, directory: Path, start: EpisodeStart, keep_s: float,
                 most_bytes: int = MOST_BYTES) -> None:
        self._directory, self._start = directory, start
        self._keep_ns, self._most_bytes = round(keep_s * NS), most_bytes // 2
        self._lock = threading.Lock()
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._topics: dict[str, tuple[str, str]] = {}
        self._thread: threading.Thread | None = None
        self.written, self.error = 0, ''

    @property
    def kept_bytes(self) -> int:
        """Return the size of what is kept."""
        return self._bytes

    def add_topic(self, topic: str, type_name: str, qos: str) -> None:
        """Announce a topic; as :meth:`EpisodeWriter.add_channel`."""
        with self._lock:
            self._topics[topic] = type_name, qos

    def add(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """Keep a message of an announced topic, and forget what is too old or too much."""
        with self._lock:
            kept = self._kept
            kept.append((topic, data, log_time_ns, publish_time_ns))
            self._bytes += len(data) + OVERHEAD_BYTES
            oldest_ns = log_time_ns - self._keep_ns
            while kept and (self._bytes > self._most_bytes or kept[0][2] < oldest_ns):
                self._bytes -= len(kept.popleft()[1]) + OVERHEAD_BYTES

    def write(self, why: str) -> tuple[bool, str]:
        """
        Have all that is kept written; returns at once.

        :param why: for the metadata.
        :return: whether that is done, and what is done.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False, 'the event before is still being written'
            kept, topics = list(self._kept), dict(self._topics)
            if not kept:
                return False, 'nothing has been heard yet'
            self._thread = threading.Thread(target=self._run, args=(kept, topics, why),
                                            name='event_writer', daemon=True)
            self._thread.start()
        return True, f'{len(kept)} messages are being written to {self._directory}: {why}'

    def close(self, timeout_s: float) -> None:
        """Wait for what is being written."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, kept: list[_Kept], topics: dict[str, tuple[str, str]], why: str) -> None:
        try:
            writer = EpisodeWriter(self._directory, self._start, most_messages=len(kept),
                                   most_bytes=self._most_bytes,
                                   reserve_bytes=RESERVE_BYTES)
            for topic, (type_name, qos) in topics.items():
                writer.add_channel(topic, type_name, qos)
            for message in kept:
                writer.write(*message)
            writer.finish(EpisodeEnd('void', False, 0, 0.0, 0.0, 1.0, void=f'event: {why}'))
            while not writer.wait(60):
                pass
        except RecordingError as error:
            self.error = str(error)
        else:
            self.error = writer.error
            self.written += not writer.error
