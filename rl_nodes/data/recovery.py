# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Close the files of recorders that were killed, and save what a damaged file holds.

Everything up to the first incomplete or damaged record is copied to a new file, which is read
back and compared before it takes the place of the unfinished one. A file that is still being
written is locked and left alone; a damaged one that was complete once is kept under ``.damaged``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import fcntl
import os
from pathlib import Path
import struct
from typing import BinaryIO
import zlib

from rl_nodes.core.errors import RecordingError
from rl_nodes.data.episode_file import LockedFile, open_mcap, publish
from rl_nodes.data.mcap_format import (
    Channel,
    chunk_records,
    Message,
    Opcode,
    read_attachment,
    read_magic,
    read_metadata,
    read_records,
    Schema,
    unpack_chunk,
)
from rl_nodes.data.mcap_writer import McapWriter
from rl_nodes.data.reader import (
    CONTRACT_ATTACHMENT,
    METADATA,
    PARTIAL_SUFFIX,
    scan,
    START_METADATA,
)
from rl_nodes.data.schemas import MessageSchema

COPY_SUFFIX = '.recovering'
UNREADABLE_SUFFIX = '.unreadable'
DAMAGED_SUFFIX = '.damaged'


@dataclass(frozen=True)
class Recovery:
    """
    What became of one unfinished file.

    :param original: its name before.
    :param path: the closed episode; None where there is none.
    :param messages: number of messages saved.
    :param lost_bytes: bytes at its end that could not be read.
    :param note: what happened, for the log.
    """

    original: Path
    path: Path | None
    messages: int
    lost_bytes: int
    note: str


def recover(directory: str | Path) -> list[Recovery]:
    """
    Close every unfinished file in ``directory`` that no recorder writes any more.

    A file without a single message is set aside under ``.unreadable``, an empty one removed. A
    file that cannot be dealt with, as on a full disk, stays as it is and its note says why.
    """
    found = []
    for path in sorted(Path(directory).glob(f'*.mcap{PARTIAL_SUFFIX}')):
        try:
            with path.open('rb') as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(_recover_one(path, stream))
        except BlockingIOError:
            found.append(Recovery(path, None, 0, 0, 'still being recorded, left alone'))
        except FileNotFoundError:
            continue                        # finished or discarded meanwhile
        except (OSError, RecordingError) as error:
            found.append(Recovery(path, None, 0, 0, f'kept as it is: {error}'))
    return found


def repair(path: Path) -> Recovery:
    """
    Put what can be read of a damaged ``.mcap`` file in its place, and keep the original.

    The original is called ``<name>.damaged`` from the moment on at which its copy is verified.
    Where no message can be read, nothing is changed.
    """
    aside = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        with path.open('rb') as stream:
            copied = _copy(stream, os.fstat(stream.fileno()).st_size,
                           path.with_name(path.name + COPY_SUFFIX))
        if copied.path is None:
            return Recovery(path, None, 0, copied.lost_bytes, 'no message in it, kept as it is')
        if aside.exists():
            copied.path.unlink()
            raise RecordingError(f'{aside} exists already; move it away')
        path.rename(aside)
        publish(copied.path, path)
    except (OSError, RecordingError) as error:
        return Recovery(path, None, 0, 0, f'kept as it is: {error}')
    return Recovery(path, path, copied.messages, copied.lost_bytes,
                    f'repaired; {copied.note}; the original is {aside.name}')


def _recover_one(path: Path, stream: BinaryIO) -> Recovery:
    size = os.fstat(stream.fileno()).st_size
    final = path.with_name(path.name.removesuffix(PARTIAL_SUFFIX))
    if final.exists():
        if final.samefile(path):            # killed between its two names
            path.unlink()
            return Recovery(path, final, scan(final).message_count, 0, 'was complete')
        if scan(final).metadata.get('source_bytes') != str(size):
            raise RecordingError(f'{final} exists already; rename one of the two')
        path.unlink()                       # an earlier recovery was killed at its last step
        return Recovery(path, final, scan(final).message_count, 0, 'was recovered before')
    if not size:
        path.unlink()
        return Recovery(path, None, 0, 0, 'was empty, removed')
    try:
        messages = scan(path).message_count
    except RecordingError:
        copied = _copy(stream, size, path.with_name(final.name + COPY_SUFFIX))
    else:
        publish(path, final)
        return Recovery(path, final, messages, 0, 'was complete')
    if copied.path is None:
        aside = path.with_name(final.name + UNREADABLE_SUFFIX)
        publish(path, aside)
        return Recovery(path, None, 0, copied.lost_bytes,
                        f'no message in it, set aside as {aside.name}')
    publish(copied.path, final)
    path.unlink()
    return Recovery(path, final, copied.messages, copied.lost_bytes, f'recovered; {copied.note}')


def _copy(stream: BinaryIO, size: int, copy: Path) -> Recovery:
    """Write what can be read to ``copy`` and verify it; ``path`` is None where that is nothing."""
    prefix = _Prefix(stream, size)
    file = LockedFile(copy, replace=True)
    try:
        prefix.copy_to(open_mcap(file))
        file.sync()
    except (OSError, RecordingError):
        copy.unlink()
        raise
    finally:
        file.close()
    lost = size - prefix.good_bytes
    if not prefix.messages or not prefix.contract:
        copy.unlink()
        return Recovery(copy, None, 0, lost, prefix.reason)
    episode = scan(copy)
    crc = 0
    for message in episode.messages():
        crc = _message_crc(crc, message.topic, message.log_time_ns, message.publish_time_ns,
                           message.sequence, message.data)
    if (episode.message_count, crc) != (prefix.messages, prefix.crc):
        raise RecordingError(f'the copy {copy} differs from what was read')
    return Recovery(copy, copy, prefix.messages, lost, prefix.reason)


class _Prefix:
    """The readable beginning of a file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, tuple[str, int]] = {}     # topic and id in the copy
        self._metadata: dict[str, dict[str, str]] = {}
        self.contract = b''
        self.messages = 0
        self.crc = 0
        self.good_bytes = 0
        self.reason = ''

    def copy_to(self, mcap: McapWriter) -> None:
        """Write all that can be read, and a summary."""
        for entry in self._entries():
            if isinstance(entry, Schema):
                self._schemas[entry.id] = entry
            elif isinstance(entry, Channel):
                self._add_channel(mcap, entry)
            elif entry.channel in self._channels:
                topic, channel = self._channels[entry.channel]
                mcap.add_message(channel, entry.log_time_ns, entry.data, entry.publish_time_ns,
                                 entry.sequence)
                self.messages += 1
                self.crc = _message_crc(self.crc, topic, entry.log_time_ns,
                                        entry.publish_time_ns, entry.sequence, entry.data)
        mcap.flush()
        mcap.add_attachment(CONTRACT_ATTACHMENT, self.contract)
        known = {'reason': 'recovered', **self._metadata.get(START_METADATA, {}),
                 **self._metadata.get(METADATA, {})}
        mcap.add_metadata(METADATA, {
            **known, 'recovered': 'true', 'messages': str(self.messages),
            'source_bytes': str(self._size),
            'lost_bytes': str(self._size - self.good_bytes), 'damage': self.reason})
        mcap.finish()

    def _entries(self) -> Iterator[Message | Channel | Schema]:
        """Yield what chunks hold and keep the rest, until something is incomplete."""
        stream = self._stream
        try:
            stream.seek(0)
            read_magic(stream)
            for record in read_records(stream, self._size):
                if record.opcode == Opcode.DATA_END:
                    self.reason = 'only its summary is incomplete'
                    self.good_bytes = self._size
                    return
                if record.opcode == Opcode.CHUNK:
                    yield from list(chunk_records(unpack_chunk(record.body)))
                elif record.opcode == Opcode.METADATA:
                    name, content = read_metadata(record.body)
                    self._metadata[name] = content
                elif record.opcode == Opcode.ATTACHMENT:
                    name, data = read_attachment(record.body)
                    if name == CONTRACT_ATTACHMENT:
                        self.contract = data
                self.good_bytes = record.offset + len(record.head) + len(record.body)
        except RecordingError as error:
            self.reason = str(error)

    def _add_channel(self, mcap: McapWriter, channel: Channel) -> None:
        schema = self._schemas.get(channel.schema)
        if schema is None or channel.id in self._channels:
            return
        metadata = channel.metadata
        definition = MessageSchema(schema.name, schema.text.decode(errors='replace'),
                                   metadata.get('topic_type_hash', ''))
        self._channels[channel.id] = (channel.topic, mcap.add_channel(
            channel.topic, definition, metadata.get('offered_qos_profiles', '')))


def _message_crc(crc: int, topic: str, log_time_ns: int, publish_time_ns: int, sequence: int,
                 data: bytes) -> int:
    """Continue a CRC over everything that is recorded of a message."""
    head = struct.pack('<QQQ', log_time_ns, publish_time_ns, sequence)
    return zlib.crc32(data, zlib.crc32(head, zlib.crc32(topic.encode(), crc)))
