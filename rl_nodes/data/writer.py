# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Write one episode as a rosbag2-compatible MCAP file, from serialized messages.

The caller only queues: a thread does everything on the disk. Bytes reach the operating system
every 40 ms, so a killed process loses less than 100 ms unless it had to wait for a processor, and
every second a thread aside, which nothing waits for, brings them to the disk, so a power cut loses
somewhat more than a second. What does not fit into the bounded queue is dropped and counted. When
the disk fails, recording ends with the reason in :attr:`EpisodeWriter.error`; nothing is raised
into the control path, and what was written so far stays for ``recover()``.
"""

from collections import deque
import contextlib
import logging
from pathlib import Path
import threading
import time

from rl_nodes.core.errors import RecordingError
from rl_nodes.data.episode_file import (
    create_partial,
    EpisodeEnd,
    EpisodeStart,
    open_mcap,
    publish,
    require_space,
)
from rl_nodes.data.mcap_format import MAX_MESSAGE_BYTES
from rl_nodes.data.mcap_writer import McapWriter
from rl_nodes.data.reader import CONTRACT_ATTACHMENT, METADATA, PARTIAL_SUFFIX, START_METADATA
from rl_nodes.data.schemas import message_schema, MessageSchema

_LOG = logging.getLogger(__name__)

FLUSH_PERIOD_S = 0.04
SYNC_PERIOD_S = 1.0


class _Channel:
    __slots__ = ('id', 'qos', 'schema', 'sequence', 'topic')

    def __init__(self, topic: str, schema: MessageSchema, qos: str) -> None:
        self.topic = topic
        self.schema = schema
        self.qos = qos
        self.sequence = 0           # counts dropped messages too, so that a reader sees the gap
        self.id = 0                 # given by the thread with the first message


_Queued = tuple[_Channel, int, int, int, bytes]     # sequence, log and publish time [ns], data


class EpisodeWriter:
    """
    The recording of one episode.

    :param directory: where episodes lie; created where missing.
    :param start: provenance.
    :param most_messages: bound of the queue.
    :param most_bytes: bound of the bytes in the queue.
    :param reserve_bytes: free disk space that recording leaves to everything else.
    :raises RecordingError: nothing can be written there; refuse to move before this is solved.
    """

    def __init__(self, directory: str | Path, start: EpisodeStart, *,
                 most_messages: int = 50_000, most_bytes: int = 256 << 20,
                 reserve_bytes: int = 64 << 20) -> None:
        self._directory = Path(directory)
        self._start = start
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._channels: dict[str, _Channel] = {}
        self._end: EpisodeEnd | None = None
        self._closing = threading.Event()
        self._closed = threading.Event()
        self.written = 0
        self.dropped = 0
        self.error = ''
        self.path: Path | None = None           # of the finished file
        self.free_bytes = 0                     # of the disk, as of a second ago
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self.free_bytes = require_space(self._directory, self._reserve_bytes)
            self._file = create_partial(self._directory)
        except OSError as error:
            raise RecordingError(f'cannot record in {self._directory}: {error}') from error
        self._thread = threading.Thread(target=self._run, name='episode_writer', daemon=True)
        self._thread.start()

    @property
    def partial(self) -> Path:
        """Return the file's name until it is finished."""
        return self._file.path

    @property
    def queued(self) -> int:
        """Return the number of messages that wait for the disk."""
        return len(self._queue)

    @property
    def slowest_s(self) -> float:
        """Return the longest that the disk has taken to write or to sync [s]."""
        return self._file.slowest_s

    @property
    def closed(self) -> bool:
        """Say whether the thread is done: ``path`` or ``error`` is final."""
        return self._closed.is_set()

    def add_channel(self, topic: str, type_name: str, qos: str = '') -> None:
        """
        Announce a topic.

        :param type_name: as in ``sensor_msgs/msg/JointState``.
        :param qos: the offered profiles as rosbag2 writes them (YAML), may be empty.
        :raises RecordingError: the type is not installed, or the topic has another type already.
        """
        schema = message_schema(type_name)
        with self._lock:
            known = self._channels.setdefault(topic, _Channel(topic, schema, qos))
        if known.schema != schema:
            raise RecordingError(f'{topic} is recorded as {known.schema.name}, not {type_name}')

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int) -> bool:
        """
        Queue one serialized message; never waits for the disk.

        :param log_time_ns: when it arrived [ns].
        :param publish_time_ns: when it was sent [ns].
        :return: False where it was dropped, which is counted.
        :raises RecordingError: the topic was not announced, a mistake of the caller.
        """
        size = len(data)
        with self._lock:
            channel = self._channels.get(topic)
            if channel is None:
                raise RecordingError(f'topic {topic} is not announced; call add_channel first '
                                     f'(known: {", ".join(self._channels) or "none"})')
            sequence = channel.sequence
            channel.sequence = sequence + 1
            if (self._closing.is_set() or self.error or size > MAX_MESSAGE_BYTES
                    or len(self._queue) >= self._most_messages
                    or self._queued_bytes + size > self._most_bytes):
                self.dropped += 1
                return False
            self._queued_bytes += size
            self._queue.append((channel, sequence, log_time_ns, publish_time_ns, data))
        return True

    def finish(self, end: EpisodeEnd) -> None:
        """Have the file completed; returns at once, see :meth:`wait`."""
        with self._lock:
            if not self._closing.is_set():
                self._end = end
                self._closing.set()

    def discard(self) -> None:
        """Have the file removed; returns at once, see :meth:`wait`."""
        with self._lock:
            self._closing.set()
        if self._closed.is_set() and self.error:
            with contextlib.suppress(OSError):      # a failed disk; the file stays recognisable
                self._file.path.unlink(missing_ok=True)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the thread after ``finish``, ``discard`` or an error."""
        return self._closed.wait(timeout_s)

    def _run(self) -> None:
        try:
            mcap = self._begin()
            self._record(mcap)
            if self._end is None:
                self._file.path.unlink()
            else:
                self._complete(mcap, self._end)
        except OSError as error:
            self._fail(str(error))
        except Exception as error:  # a thread must not die silently; the traceback is logged
            _LOG.exception('recording of %s failed', self._file.path)
            self._fail(repr(error))
        finally:
            self._file.close()
            self._closed.set()

    def _begin(self) -> McapWriter:
        mcap = open_mcap(self._file)
        mcap.add_metadata(START_METADATA, self._start.metadata())
        mcap.add_attachment(CONTRACT_ATTACHMENT, self._start.contract.to_json().encode())
        mcap.flush()
        return mcap

    def _record(self, mcap: McapWriter) -> None:
        """Write what comes until the end is asked for and the queue is empty."""
        synced = time.monotonic()
        while True:
            closing = self._closing.wait(FLUSH_PERIOD_S)
            if closing and self._end is None:
                return
            while not self._drain(mcap, time.monotonic() + FLUSH_PERIOD_S):
                mcap.flush()
            mcap.flush()
            if closing:
                return
            if time.monotonic() - synced >= SYNC_PERIOD_S:
                self._file.sync_aside()
                self.free_bytes = require_space(self._directory, self._reserve_bytes)
                synced = time.monotonic()

    def _drain(self, mcap: McapWriter, until: float) -> bool:
        """Write queued messages; False where time was up before the queue was empty."""
        queue = self._queue
        while queue:
            size = 0
            for _ in range(min(len(queue), 64)):
                channel, sequence, log_time_ns, publish_time_ns, data = queue.popleft()
                if not channel.id:
                    channel.id = mcap.add_channel(channel.topic, channel.schema, channel.qos)
                mcap.add_message(channel.id, log_time_ns, data, publish_time_ns,
                                 sequence & 0xFFFFFFFF)
                size += len(data)
                self.written += 1
            with self._lock:
                self._queued_bytes -= size
            if time.monotonic() > until:
                return not queue
        return True

    def _complete(self, mcap: McapWriter, end: EpisodeEnd) -> None:
        mcap.add_metadata(METADATA, {
            **self._start.metadata(), **end.metadata(),
            'messages': str(self.written), 'dropped': str(self.dropped)})
        mcap.finish()
        self._file.sync()
        final = self._file.path.with_name(self._file.path.name.removesuffix(PARTIAL_SUFFIX))
        publish(self._file.path, final)
        self.path = final

    def _fail(self, reason: str) -> None:
        with self._lock:
            self.error = (f'recording of {self._file.path} ended: {reason}. What was written is '
                          'kept; "rl_nodes dataset repair" closes it')
            self.dropped += len(self._queue)
            self._queue.clear()
        _LOG.error('%s', self.error)
