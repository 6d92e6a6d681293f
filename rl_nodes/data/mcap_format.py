# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The frame of an MCAP file, read with every length checked before it is believed.

A file is the magic, then records (opcode, length, body) and the magic again. General readers
believe lengths and sizes that a damaged or hostile file states: they allocate what it asks for.
Here a record may not be longer than the file or :data:`MAX_RECORD_BYTES`, and a chunk has to state
an acceptable size, outside and inside its compressed data, before it is decompressed.
"""

from collections.abc import Iterator
from enum import IntEnum
import struct
from typing import BinaryIO, NamedTuple
import zlib

from rl_nodes.core.errors import RecordingError
import zstandard

MAGIC = b'\x89MCAP0\r\n'
MAX_CHUNK_BYTES = 64 << 20      # uncompressed; the writer closes its chunks at 1 MiB
MAX_MESSAGE_BYTES = 60 << 20    # about a 5000 x 4000 colour image
MAX_RECORD_BYTES = MAX_CHUNK_BYTES + (1 << 20)
MAX_RATIO = 1000                # of chunks above MAX_DENSE_BYTES; a black 4K image is below that
MAX_DENSE_BYTES = 32 << 20

_HEAD = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
_CHUNK = struct.Struct('<QQQI')


class Opcode(IntEnum):
    """Kinds of records that are looked into."""

    HEADER = 0x01
    FOOTER = 0x02
    SCHEMA = 0x03
    CHANNEL = 0x04
    MESSAGE = 0x05
    CHUNK = 0x06
    MESSAGE_INDEX = 0x07
    ATTACHMENT = 0x09
    STATISTICS = 0x0B
    METADATA = 0x0C
    DATA_END = 0x0F


class Record(NamedTuple):
    """
    One record as it lies in the file.

    :param offset: where it starts [bytes].
    :param opcode: what it is.
    :param head: opcode and length as bytes.
    :param body: its content.
    """

    offset: int
    opcode: int
    head: bytes
    body: bytes


class Message(NamedTuple):
    """One message in a chunk; times in ns."""

    channel: int
    sequence: int
    log_time_ns: int
    publish_time_ns: int
    data: bytes


class Channel(NamedTuple):
    """One topic; ``schema`` is the id of its type's definition."""

    id: int
    schema: int
    topic: str
    encoding: str
    metadata: dict[str, str]


class Schema(NamedTuple):
    """One message type."""

    id: int
    name: str
    encoding: str
    text: bytes


class Cursor:
    """Read fields from bytes; RecordingError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise RecordingError(f'a field of {size} bytes ends after its record of '
                                 f'{len(self._data)} bytes')
        part = self._data[self._position:end]
        self._position = end
        return part

    def number(self, size: int) -> int:
        """Return the next unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), 'little')

    def text(self) -> str:
        """Return the next text."""
        try:
            return self.take(self.number(4)).decode()
        except UnicodeDecodeError:
            raise RecordingError('a text in a record is not UTF-8') from None

    def mapping(self) -> dict[str, str]:
        """Return the next map of texts."""
        end = self.number(4) + self._position
        found = {}
        while self._position < end:
            key = self.text()
            found[key] = self.text()
        return found


def read_magic(stream: BinaryIO) -> None:
    """Read the magic at the start; RecordingError where it is another one."""
    came = stream.read(len(MAGIC))
    if came != MAGIC:
        raise RecordingError(f'it starts with {came!r}, expected the magic of an MCAP file')


def read_records(stream: BinaryIO, size: int) -> Iterator[Record]:
    """
    Read record after record from where ``stream`` stands, up to and including the footer.

    :param size: length of the file [bytes].
    :raises RecordingError: the file ends inside a record or before the footer.
    """
    offset = stream.tell()
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise RecordingError(f'it ends after {size} bytes without a footer')
        opcode, length = _HEAD.unpack(head)
        if length > MAX_RECORD_BYTES or offset + len(head) + length > size:
            raise RecordingError(
                f'the record at byte {offset} states a length of {length}, expected at most '
                f'{min(MAX_RECORD_BYTES, max(0, size - offset - len(head)))}')
        body = stream.read(length)
        if len(body) < length:
            raise RecordingError(f'it ends inside the record at byte {offset}')
        yield Record(offset, opcode, head, body)
        offset += len(head) + length
        if opcode == Opcode.FOOTER:
            return


def check_chunk(body: bytes) -> tuple[int, int, str, bytes]:
    """
    Return size and CRC of the content, compression and packed content of a chunk.

    :raises RecordingError: sizes that are not acceptable, or another compression.
    """
    cursor = Cursor(body)
    _, _, size, crc = _CHUNK.unpack(cursor.take(_CHUNK.size))
    compression = cursor.text()
    packed = cursor.take(cursor.number(8))
    if compression not in ('', 'zstd'):
        raise RecordingError(f'a chunk is compressed with {compression!r}, expected zstd or none')
    if size > MAX_CHUNK_BYTES or (size > MAX_DENSE_BYTES and size > MAX_RATIO * len(packed)):
        raise RecordingError(f'a chunk of {len(packed)} bytes states {size} bytes uncompressed, '
                             f'expected at most {MAX_CHUNK_BYTES} and {MAX_RATIO}:1')
    return size, crc, compression, packed


def unpack_chunk(body: bytes) -> bytes:
    """
    Return the checked, uncompressed content of a chunk.

    :raises RecordingError: as :func:`check_chunk`, or the content does not fit size and CRC.
    """
    size, crc, compression, packed = check_chunk(body)
    data = _decompress(packed, size) if compression else packed
    if len(data) != size or zlib.crc32(data) != crc:
        raise RecordingError('a chunk does not have the size and CRC it states')
    return data


def _decompress(packed: bytes, size: int) -> bytes:
    """Decompress; the library trusts the size inside the data, so that is compared first."""
    try:
        inside = zstandard.frame_content_size(packed)
        if inside not in (-1, size):
            raise RecordingError(f'compressed data of a chunk states {inside} bytes, its record '
                                 f'{size}')
        if not size:
            return b''
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError as error:
        raise RecordingError(f'a chunk cannot be decompressed: {error}') from None


def chunk_records(data: bytes) -> Iterator[Message | Channel | Schema]:
    """Split the content of a chunk; RecordingError where it does not consist of records."""
    position, end = 0, len(data)
    while position < end:
        if end - position < _HEAD.size:
            raise RecordingError('a chunk ends inside a record')
        opcode, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if length > end - position:
            raise RecordingError(f'a record in a chunk states a length of {length}, expected at '
                                 f'most {end - position}')
        if opcode == Opcode.MESSAGE:
            if length < _MESSAGE.size:
                raise RecordingError(f'a message record has {length} bytes')
            channel, sequence, log_time_ns, publish_time_ns = _MESSAGE.unpack_from(data, position)
            yield Message(channel, sequence, log_time_ns, publish_time_ns,
                          data[position + _MESSAGE.size:position + length])
        elif opcode == Opcode.CHANNEL:
            yield read_channel(data[position:position + length])
        elif opcode == Opcode.SCHEMA:
            yield read_schema(data[position:position + length])
        position += length


def read_channel(body: bytes) -> Channel:
    """Return the channel in a record's body."""
    cursor = Cursor(body)
    return Channel(cursor.number(2), cursor.number(2), cursor.text(), cursor.text(),
                   cursor.mapping())


def read_schema(body: bytes) -> Schema:
    """Return the schema in a record's body."""
    cursor = Cursor(body)
    return Schema(cursor.number(2), cursor.text(), cursor.text(), cursor.take(cursor.number(4)))


def read_metadata(body: bytes) -> tuple[str, dict[str, str]]:
    """Return name and content of a metadata record's body."""
    cursor = Cursor(body)
    return cursor.text(), cursor.mapping()


def read_attachment(body: bytes) -> tuple[str, bytes]:
    """Return name and content of an attachment record's body."""
    cursor = Cursor(body)
    cursor.take(16)                                 # log and creation time
    name, _ = cursor.text(), cursor.text()
    return name, cursor.take(cursor.number(8))
