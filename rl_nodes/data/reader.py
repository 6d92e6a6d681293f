# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Recorded episodes, validated before the first message is handed out.

Opening a file reads it once from end to end: the CRC over its data, the CRC over its summary and
the fingerprint of its contract have to fit, so that no flipped bit is met later. Messages are
then read chunk by chunk, in the order in which they were recorded.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import BinaryIO, NamedTuple
import zlib

from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import period_ns
from rl_nodes.data.mcap_format import (
    Channel,
    check_chunk,
    chunk_records,
    Cursor,
    MAGIC,
    Message,
    Opcode,
    read_attachment,
    read_channel,
    read_magic,
    read_metadata,
    read_records,
    read_schema,
    Schema,
    unpack_chunk,
)
from rl_nodes.data.schemas import ENCODING, MessageSchema

METADATA = 'rl_nodes/episode'
START_METADATA = 'rl_nodes/episode_start'
CONTRACT_ATTACHMENT = 'contract.json'
PARTIAL_SUFFIX = '.partial'


class RecordedMessage(NamedTuple):
    """
    One message as it was recorded.

    :param topic: where it was published.
    :param type_name: as in ``sensor_msgs/msg/JointState``.
    :param log_time_ns: when the recorder got it [ns].
    :param publish_time_ns: when it was sent [ns].
    :param data: the serialized message (CDR).
    :param sequence: number of the message on its topic; a jump shows a message that was dropped.
    """

    topic: str
    type_name: str
    log_time_ns: int
    publish_time_ns: int
    data: bytes
    sequence: int


class _Chunk(NamedTuple):
    offset: int
    length: int
    messages: int


@dataclass(frozen=True)
class Episode:
    """
    One validated recording.

    :param path: the file.
    :param metadata: provenance and result, see ``EpisodeStart`` and ``EpisodeEnd``.
    :param contract_json: the contract it was recorded under.
    :param topics: type name by topic.
    :param message_count: number of messages.
    :param definitions: (definition of its type, offered QoS profiles) by topic.
    """

    path: Path
    metadata: dict[str, str]
    contract_json: str
    topics: dict[str, str]
    message_count: int
    definitions: dict[str, tuple[MessageSchema, str]]
    _channels: dict[int, tuple[str, str]]
    _chunks: tuple[_Chunk, ...]

    @property
    def contract(self) -> Contract:
        """Return the contract; ContractError where it is of another version of rl_nodes."""
        return Contract.from_json(self.contract_json)

    @property
    def period_ns(self) -> int:
        """
        Return the time between two states on the clock of their stamps [ns].

        A simulation in real time at another pace stamps by the clock on the wall.
        """
        notes = self._notes
        factor = float(notes.get('real_time_factor') or 0) or 1.0
        return round(period_ns(self.contract.rate_hz)
                     / (1.0 if notes.get('stepping') == 'lockstep' else factor))

    @cached_property
    def unstamped(self) -> frozenset[str]:
        """Return the topics whose messages have no header; these belong where they lie."""
        return frozenset(topic for topic, (schema, _) in self.definitions.items()
                         if not schema.stamped)

    @property
    def target_return(self) -> float | None:
        """Return what the episode was to earn; None where that was not observed."""
        noted = self._notes.get('target_return')
        return None if noted is None else float(noted)

    @property
    def _notes(self) -> dict[str, str]:
        notes: dict[str, str] = json.loads(self.metadata.get('notes') or '{}')
        return notes

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RecordedMessage]:
        """
        Read the messages in the order in which they were recorded.

        :param topics: the ones to read; None for all.
        :raises RecordingError: the file changed since it was opened, or cannot be read.
        """
        try:
            with self.path.open('rb') as stream:
                for chunk in self._chunks:
                    yield from self._chunk_messages(stream, chunk, topics)
        except OSError as error:
            raise RecordingError(f'{self.path} cannot be read: {error}') from error

    def _chunk_messages(self, stream: BinaryIO, chunk: _Chunk,
                        topics: Collection[str] | None) -> Iterator[RecordedMessage]:
        stream.seek(chunk.offset)
        left = chunk.messages
        try:
            for entry in chunk_records(unpack_chunk(stream.read(chunk.length))):
                if not isinstance(entry, Message):
                    continue
                left -= 1
                if left < 0:
                    raise RecordingError('a chunk holds more messages than its index says')
                if entry.channel not in self._channels:
                    raise RecordingError(f'a message is on unknown channel {entry.channel}')
                topic, type_name = self._channels[entry.channel]
                if topics is None or topic in topics:
                    yield RecordedMessage(topic, type_name, entry.log_time_ns,
                                          entry.publish_time_ns, entry.data, entry.sequence)
        except RecordingError as error:
            raise RecordingError(f'{self.path} is damaged: {error}') from None
        if left:
            raise RecordingError(f'{self.path} is damaged: a chunk holds {left} messages less '
                                 'than its index says')


def episode_files(inputs: Iterable[str | Path]) -> list[Path]:
    """
    Return the files that are meant, in order.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :raises RecordingError: a folder without one.
    """
    found: list[Path] = []
    for given in map(Path, inputs):
        files = sorted(given.glob('*.mcap')) if given.is_dir() else [given]
        if not files:
            raise RecordingError(f'{given} holds no .mcap file')
        found += files
    return found


def read_episode(path: str | Path) -> Episode:
    """
    Open and validate a recorded episode.

    :raises RecordingError: it is unfinished, damaged, or was not written by rl_nodes.
    """
    path = Path(path)
    if path.name.endswith(PARTIAL_SUFFIX):
        raise RecordingError(f'{path} is unfinished: its recorder still runs or was killed; '
                             '"rl_nodes dataset repair" closes such files')
    return scan(path)


def scan(path: Path) -> Episode:
    """Do what :func:`read_episode` does for a file of any name."""
    try:
        size = path.stat().st_size
        with path.open('rb') as stream:
            return _Scan(path, size).run(stream)
    except OSError as error:
        raise RecordingError(f'{path} cannot be read: {error}') from error
    except RecordingError as error:
        raise RecordingError(
            f'{path} is not a complete, undamaged episode of rl_nodes: {error}. If its recorder '
            'was killed, "rl_nodes dataset repair" saves what it holds') from None


class _Scan:
    """What is gathered while a file is read from end to end."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._metadata: dict[str, dict[str, str]] = {}
        self._contract: bytes | None = None
        self._chunks: list[_Chunk] = []
        self._channels: dict[int, Channel] = {}
        self._types: dict[int, Schema] = {}
        self._stated_messages = -1

    def run(self, stream: BinaryIO) -> Episode:
        read_magic(stream)
        crc = zlib.crc32(MAGIC)
        in_summary = False
        for record in read_records(stream, self._size):
            if record.opcode == Opcode.FOOTER:
                if not in_summary:
                    raise RecordingError('there is no summary before its footer')
                crc = zlib.crc32(record.body[:16], zlib.crc32(record.head, crc))
                if len(record.body) != 20 or crc != int.from_bytes(record.body[16:], 'little'):
                    raise RecordingError('the CRC of its summary does not fit')
            elif in_summary:
                self._summary(record.opcode, record.body)
                crc = zlib.crc32(record.body, zlib.crc32(record.head, crc))
            elif record.opcode == Opcode.DATA_END:
                if len(record.body) != 4 or crc != int.from_bytes(record.body, 'little'):
                    raise RecordingError('the CRC of its data does not fit or was not written')
                in_summary, crc = True, 0
            else:
                self._data(record.opcode, record.offset + len(record.head), record.body)
                crc = zlib.crc32(record.body, zlib.crc32(record.head, crc))
        rest = stream.read(len(MAGIC) + 1)
        if rest != MAGIC:
            raise RecordingError(f'after its footer comes {rest!r}, expected the magic alone')
        return self._episode()

    def _data(self, opcode: int, offset: int, body: bytes) -> None:
        if opcode == Opcode.HEADER:
            profile = Cursor(body).text()
            if profile != 'ros2':
                raise RecordingError(f'its profile is {profile!r}, expected ros2')
        elif opcode == Opcode.CHUNK:
            check_chunk(body)
            self._chunks.append(_Chunk(offset, len(body), 0))
        elif opcode == Opcode.MESSAGE_INDEX:
            # 16 bytes each in the file: what a chunk may hold is bounded by the file's own size.
            cursor = Cursor(body)
            cursor.take(2)
            count = len(cursor.take(cursor.number(4))) // 16
            if not self._chunks:
                raise RecordingError('an index comes before its chunk')
            last = self._chunks[-1]
            self._chunks[-1] = last._replace(messages=last.messages + count)
        elif opcode == Opcode.METADATA:
            name, content = read_metadata(body)
            self._metadata[name] = content
        elif opcode == Opcode.ATTACHMENT:
            name, data = read_attachment(body)
            if name == CONTRACT_ATTACHMENT:
                self._contract = data
        elif opcode == Opcode.MESSAGE:
            raise RecordingError('it has messages outside of chunks')

    def _summary(self, opcode: int, body: bytes) -> None:
        if opcode == Opcode.SCHEMA:
            schema = read_schema(body)
            if schema.encoding != ENCODING:
                raise RecordingError(f'{schema.name} is described as {schema.encoding!r}, '
                                     f'expected {ENCODING}')
            self._types[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = read_channel(body)
            if channel.encoding != 'cdr' or channel.schema not in self._types:
                raise RecordingError(f'{channel.topic} is encoded as {channel.encoding!r} of '
                                     f'schema {channel.schema}, expected cdr of a known schema')
            self._channels[channel.id] = channel
        elif opcode == Opcode.STATISTICS:
            self._stated_messages = Cursor(body).number(8)

    def _episode(self) -> Episode:
        if METADATA not in self._metadata or self._contract is None:
            raise RecordingError(f'it lacks the metadata {METADATA} or the attachment '
                                 f'{CONTRACT_ATTACHMENT}; another program wrote it')
        metadata = self._metadata[METADATA]
        fingerprint = hashlib.sha256(self._contract).hexdigest()
        if metadata.get('contract') != fingerprint:
            raise RecordingError(f'its contract has the fingerprint {fingerprint}, its metadata '
                                 f'say {metadata.get("contract")}')
        count = sum(chunk.messages for chunk in self._chunks)
        if count != self._stated_messages:
            raise RecordingError(f'its chunks hold {count} messages, its summary says '
                                 f'{self._stated_messages}')
        channels = {channel.id: (channel.topic, self._types[channel.schema].name)
                    for channel in self._channels.values()}
        definitions = {channel.topic: self._definition(channel)
                       for channel in self._channels.values()}
        return Episode(self._path, metadata, self._contract.decode(errors='replace'),
                       dict(channels.values()), count, definitions, channels,
                       tuple(self._chunks))

    def _definition(self, channel: Channel) -> tuple[MessageSchema, str]:
        schema, noted = self._types[channel.schema], channel.metadata
        return (MessageSchema(schema.name, schema.text.decode(errors='replace'),
                              noted.get('topic_type_hash', '')),
                noted.get('offered_qos_profiles', ''))
