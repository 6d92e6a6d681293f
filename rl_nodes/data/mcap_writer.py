# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
An MCAP file as rosbag2 writes it, for the one shape of file that recordings have.

Rare records are those of the ``mcap`` package. Messages and their index are packed here, in one
step each: the package's own writer takes three times as long for them, with the interpreter lock
held, in a process that has messages to receive.
"""

import struct
from typing import Any, Protocol
import zlib

from mcap.data_stream import RecordBuilder
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from rl_nodes.data.mcap_format import MAGIC, Opcode
from rl_nodes.data.schemas import ENCODING, MessageSchema
import zstandard

CHUNK_BYTES = 1 << 20

_MESSAGE = struct.Struct('<BQHIQQ')
_INDEX = struct.Struct('<BQHI')
_INDEX_ENTRY = struct.Struct('<QQ')


class Sink(Protocol):
    """Where the bytes go; ``write`` takes all of them or raises OSError."""

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""


class McapWriter:
    """
    Write header, chunks, attachments, metadata and, at the end, the summary.

    :param sink: empty.
    :param library: who writes, for the header.
    """

    def __init__(self, sink: Sink, library: str) -> None:
        self._sink = sink
        self._compressor = zstandard.ZstdCompressor()
        self._position = 0
        self._crc = 0
        self._chunk = bytearray()
        self._entries: dict[int, bytearray] = {}    # packed index of the open chunk, by channel
        self._first_ns = self._last_ns = 0          # least and greatest log time in the open chunk
        self._schemas: dict[str, Schema] = {}
        self._channels: list[Channel] = []
        self._chunks: list[ChunkIndex] = []
        self._attachments: list[AttachmentIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        self._emit(MAGIC + _bytes(Header('ros2', library)))

    def add_channel(self, topic: str, schema: MessageSchema, qos: str) -> int:
        """Return the id of a new channel; it is written with its first message."""
        if schema.name not in self._schemas:
            record = Schema(id=len(self._schemas) + 1, name=schema.name, encoding=ENCODING,
                            data=schema.text.encode())
            self._schemas[schema.name] = record
            self._chunk += _bytes(record)
        channel = Channel(
            id=len(self._channels) + 1, topic=topic, message_encoding='cdr',
            metadata={'offered_qos_profiles': qos, 'topic_type_hash': schema.type_hash},
            schema_id=self._schemas[schema.name].id)
        self._channels.append(channel)
        self._counts[channel.id] = 0
        self._chunk += _bytes(channel)
        return channel.id

    def add_message(self, channel: int, log_time_ns: int, data: bytes, publish_time_ns: int,
                    sequence: int) -> None:
        """Add a serialized message; it is written when its chunk is full or flushed."""
        chunk = self._chunk
        entry = _INDEX_ENTRY.pack(log_time_ns, len(chunk))
        if not self._entries:
            self._first_ns = self._last_ns = log_time_ns
        elif log_time_ns > self._last_ns:
            self._last_ns = log_time_ns
        elif log_time_ns < self._first_ns:
            self._first_ns = log_time_ns
        try:
            self._entries[channel] += entry
        except KeyError:
            self._entries[channel] = bytearray(entry)
        chunk += _MESSAGE.pack(Opcode.MESSAGE, 22 + len(data), channel, sequence, log_time_ns,
                               publish_time_ns)
        chunk += data
        if len(chunk) > CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Close the open chunk and write it; nothing where it has no messages."""
        if not self._entries:
            return
        packed = self._compressor.compress(self._chunk)
        offset = self._position
        chunk = _bytes(Chunk(
            compression='zstd', data=packed, message_start_time=self._first_ns,
            message_end_time=self._last_ns, uncompressed_crc=zlib.crc32(self._chunk),
            uncompressed_size=len(self._chunk)))
        index = bytearray()
        offsets = {}
        for channel, entries in self._entries.items():
            offsets[channel] = offset + len(chunk) + len(index)
            index += _INDEX.pack(Opcode.MESSAGE_INDEX, 6 + len(entries), channel, len(entries))
            index += entries
            self._counts[channel] += len(entries) // _INDEX_ENTRY.size
        self._chunks.append(ChunkIndex(
            chunk_length=len(chunk), chunk_start_offset=offset, compression='zstd',
            compressed_size=len(packed), message_end_time=self._last_ns,
            message_index_length=len(index), message_index_offsets=offsets,
            message_start_time=self._first_ns, uncompressed_size=len(self._chunk)))
        self._chunk = bytearray()
        self._entries = {}
        self._emit(chunk + index)

    def add_attachment(self, name: str, data: bytes) -> None:
        """Add a JSON file."""
        record = Attachment(create_time=0, log_time=0, name=name, media_type='application/json',
                            data=data)
        offset, length = self._emit(_bytes(record))
        self._attachments.append(AttachmentIndex(
            offset=offset, length=length, create_time=0, log_time=0, data_size=len(data),
            name=name, media_type=record.media_type))

    def add_metadata(self, name: str, content: dict[str, str]) -> None:
        """Add a record of texts."""
        offset, length = self._emit(_bytes(Metadata(name=name, metadata=content)))
        self._metadata.append(MetadataIndex(offset=offset, length=length, name=name))

    def finish(self) -> None:
        """Write all that is left; the file is complete then."""
        self.flush()
        self._emit(_bytes(DataEnd(self._crc)))
        start = self._position
        groups: list[tuple[Opcode | int, list[Any]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())), (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [self._statistics()]), (0x08, self._chunks),
            (0x0A, self._attachments), (0x0D, self._metadata)]
        summary = b''
        offsets = b''
        for opcode, records in groups:
            group = b''.join(map(_bytes, records))
            if group:
                offsets += _bytes(SummaryOffset(
                    group_opcode=opcode, group_start=start + len(summary),
                    group_length=len(group)))
            summary += group
        offset_start = start + len(summary)
        footer = struct.pack('<BQQQ', Opcode.FOOTER, 20, start, offset_start)
        crc = zlib.crc32(footer, zlib.crc32(summary + offsets))
        self._emit(summary + offsets + _bytes(Footer(
            summary_start=start, summary_offset_start=offset_start, summary_crc=crc)) + MAGIC)

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=len(self._attachments), channel_count=len(self._channels),
            channel_message_counts=self._counts, chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_start_time=min((c.message_start_time for c in self._chunks), default=0),
            message_end_time=max((c.message_end_time for c in self._chunks), default=0),
            metadata_count=len(self._metadata), schema_count=len(self._schemas))

    def _emit(self, data: bytes) -> tuple[int, int]:
        """Write whole records; return where they start and how long they are."""
        start = self._position
        self._crc = zlib.crc32(data, self._crc)
        self._sink.write(data)
        self._position += len(data)
        return start, len(data)


def _bytes(record: Any) -> bytes:
    """Return a record of the ``mcap`` package as it lies in a file."""
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())
