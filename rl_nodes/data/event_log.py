# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Write what the safety monitor saw around its interventions, one MCAP file per incident.

The files are like those of episodes, and as safe: ``event_000001.mcap.partial`` until they are
complete, bytes on their way to the operating system every 40 ms and on the disk every second. A
thread does all of it, some messages at a time with pauses, so that who decides never waits for
the interpreter; what does not fit into its bounded queue is dropped and counted. Where the disk
fails an incident stays as far as it was written, and the next one is tried again.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import logging
from pathlib import Path
import queue
import threading
import time

from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import steady_ns
from rl_nodes.data.episode_file import (
    create_partial,
    EpisodeStart,
    open_mcap,
    publish,
    require_space,
)
from rl_nodes.data.reader import CONTRACT_ATTACHMENT, METADATA, PARTIAL_SUFFIX, START_METADATA
from rl_nodes.data.schemas import message_schema, MessageSchema
from rl_nodes.data.writer import FLUSH_PERIOD_S, SYNC_PERIOD_S

_LOG = logging.getLogger(__name__)

EVENTS = 'safety events'    # in the metadata of each file, in the place of an episode's id
MOST_QUEUED = 50_000        # messages; what was seen before an incident counts as one
RESERVE_BYTES = 64 << 20    # of free disk space that is left to everything else
BATCH, PAUSE_S = 32, 0.0005  # messages that are packed at once, and the pause after them
Seen = tuple[str, int, bytes]   # topic, when it came or went on the steady clock [ns], bytes


class EventLog:
    """
    The files of one safety monitor; once it is made nothing here waits or raises.

    :param directory: where they go.
    :param contract: of robot and task.
    :param notes: whatever else belongs to every file.
    :param topics: type name by topic, as in ``{'joint_states': 'sensor_msgs/msg/JointState'}``.
    :ivar files: that are complete.
    :ivar dropped: messages that did not fit into the queue or that no file could be had for.
    :ivar error: why a file could not be written; empty while all is well.
    :raises RecordingError: a type is not installed.
    """

    def __init__(self, directory: Path, contract: Contract, notes: Mapping[str, str],
                 topics: Mapping[str, str]) -> None:
        self._directory = directory
        self._start = EpisodeStart(contract, EVENTS, notes=notes)
        self._schemas = {topic: message_schema(kind) for topic, kind in topics.items()}
        # The wall clock is for the files only: a step of it is no matter to the monitor.
        self._wall_ns = time.time_ns() - steady_ns()
        self._queue: queue.Queue[Sequence[Seen] | Seen | dict[str, int] | None] = queue.Queue(
            MOST_QUEUED)
        self._file: _EventFile | None = None
        self.files, self.dropped, self.error = 0, 0, ''
        self._thread = threading.Thread(target=self._run, name='event_log', daemon=True)
        self._thread.start()

    def begin(self, seen: Sequence[Seen]) -> None:
        """Begin a file with what was seen before."""
        self._put(seen)

    def write(self, seen: Seen) -> None:
        """Add a message to it."""
        self._put(seen)

    def end(self, counts: dict[str, int]) -> None:
        """Have the file completed, with counts for its metadata."""
        self._put(counts)

    def close(self, timeout_s: float) -> None:
        """Do what is queued; a file that is not complete in time can be repaired."""
        self._put(None)
        self._thread.join(timeout_s)

    def _put(self, item: Sequence[Seen] | Seen | dict[str, int] | None) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=FLUSH_PERIOD_S if self._file else None)
            except queue.Empty:
                self._try(self._flush)
                continue
            if item is None:
                break
            self._try(self._take, item)
        if self._file is not None:
            self._file.close()

    def _try(self, do: Callable[..., None], *arguments: object) -> None:
        """Do a part of the work; where it fails the file is left as it is."""
        try:
            do(*arguments)
        except Exception as error:  # a thread must not die silently; the traceback is logged
            if not isinstance(error, (OSError, RecordingError)):
                _LOG.exception('writing a safety event failed')
            if self._file is not None:
                self._file.close()
                self._file = None
            self.error = f'no safety event can be written to {self._directory}: {error}'
            _LOG.error('%s', self.error)

    def _flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def _take(self, item: Sequence[Seen] | Seen | dict[str, int]) -> None:
        if isinstance(item, dict):
            if self._file is not None:
                self._file.complete(item)
                self._file, self.error = None, ''
                self.files += 1
        elif isinstance(item, tuple):
            if self._file is None:
                self.dropped += 1
            else:
                self._file.add(item)
        else:
            if self._file is not None:  # its end did not fit into the queue
                self._file.close()
            self._file = _EventFile(self._directory, self._start, self._schemas, self._wall_ns)
            for seen in item:
                self._file.add(seen)


class _EventFile:
    """
    The file of one incident.

    :param wall_ns: of the steady clock's zero on the wall clock [ns].
    :raises OSError: it cannot be made.
    """

    def __init__(self, directory: Path, start: EpisodeStart,
                 schemas: Mapping[str, MessageSchema], wall_ns: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        require_space(directory, RESERVE_BYTES)
        self._directory, self._start, self._wall_ns = directory, start, wall_ns
        self._file = create_partial(directory, 'event')
        self._mcap = open_mcap(self._file)
        self._mcap.add_metadata(START_METADATA, start.metadata())
        self._mcap.add_attachment(CONTRACT_ATTACHMENT, start.contract.to_json().encode())
        self._channels = {topic: self._mcap.add_channel(topic, schema, '')
                          for topic, schema in schemas.items()}
        self._sequences = dict.fromkeys(schemas, 0)
        self._flushed = self._synced = time.monotonic()
        self._messages = 0

    def add(self, seen: Seen) -> None:
        """Add a message; now and then bytes go to the disk and the interpreter to others."""
        topic, at_ns, data = seen
        log_ns = at_ns + self._wall_ns
        self._mcap.add_message(self._channels[topic], log_ns, data, log_ns,
                               self._sequences[topic])
        self._sequences[topic] += 1
        self._messages += 1
        if self._messages % BATCH == 0:
            time.sleep(PAUSE_S)
        if time.monotonic() - self._flushed >= FLUSH_PERIOD_S:
            self.flush()

    def flush(self) -> None:
        """Give what there is to the operating system, every second to the disk."""
        self._mcap.flush()
        self._flushed = time.monotonic()
        if self._flushed - self._synced >= SYNC_PERIOD_S:
            self._file.sync_aside()
            require_space(self._directory, RESERVE_BYTES)
            self._synced = time.monotonic()

    def complete(self, counts: Mapping[str, int]) -> None:
        """Write the rest and give the file its name."""
        self._mcap.add_metadata(METADATA, {
            **self._start.metadata(), 'reason': 'void', 'void': 'event: interventions',
            'messages': str(self._messages),
            'interventions': json.dumps(dict(counts), sort_keys=True), 'recovered': 'false'})
        self._mcap.finish()
        self._file.sync()
        path = self._file.path
        publish(path, path.with_name(path.name.removesuffix(PARTIAL_SUFFIX)))
        self.close()

    def close(self) -> None:
        """Let go of the file, complete or not."""
        self._file.close()
