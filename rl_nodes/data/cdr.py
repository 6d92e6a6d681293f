# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What can be told of serialized messages without a ROS installation."""

import struct
from typing import NamedTuple

import numpy as np
from rl_nodes.core.errors import RecordingError, SpecError
from rl_nodes.core.timing import NS

_HEAD_BYTES = 12  # 4 of CDR, then seconds and nanoseconds
_ENCAPSULATION = 4
_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'mono8': 1}  # encodings of pictures that are understood


class RawPicture(NamedTuple):
    """
    A ``sensor_msgs/Image`` as it lies in its bytes.

    :param stamp_ns: of its header [ns].
    :param frame_id: of its header.
    :param encoding: rgb8, bgr8 or mono8.
    :param pixels: shape (H, W, C), uint8, read-only, in the order of the encoding.
    """

    stamp_ns: int
    frame_id: str
    encoding: str
    pixels: np.ndarray


class CompressedPicture(NamedTuple):
    """
    A ``sensor_msgs/CompressedImage``.

    :param stamp_ns: of its header [ns].
    :param frame_id: of its header.
    :param format: as in ``rgb8; jpeg compressed bgr8``.
    :param data: a JPEG or PNG file.
    """

    stamp_ns: int
    frame_id: str
    format: str
    data: bytes


def header_stamp_ns(data: bytes) -> int:
    """
    Return the stamp [ns] of a serialized message that begins with a header.

    :raises RecordingError: it is too short for one.
    """
    if len(data) < _HEAD_BYTES:
        raise RecordingError(f'a message has {len(data)} bytes, expected a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds * NS + nanoseconds)


def read_picture(data: bytes) -> RawPicture:
    """
    Return the picture in a serialized ``sensor_msgs/Image``; its pixels are not copied.

    :raises SpecError: no such message, cut short, or of an encoding that is not understood.
    """
    order = '<' if len(data) > 1 and data[1] & 1 else '>'
    try:
        seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, _ENCAPSULATION)
        frame_id, at = _text(data, _HEAD_BYTES, order)
        at = _aligned(at)
        height, width = struct.unpack_from(f'{order}II', data, at)
        encoding, at = _text(data, at + 8, order)
        at = _aligned(at + 1)  # behind is_bigendian, which does not matter to single bytes
        step, size = struct.unpack_from(f'{order}II', data, at)
        begin = at + 8
    except (struct.error, UnicodeDecodeError) as error:
        raise SpecError(f'{len(data)} bytes are no sensor_msgs/Image: {error}') from None
    channels = _CHANNELS.get(encoding)
    if channels is None:
        raise SpecError(f'a picture with the encoding {encoding[:40]!r}; understood are '
                        f'{", ".join(_CHANNELS)}')
    row = width * channels
    if not (height > 0 and 0 < row <= step and step * height == size <= len(data) - begin):
        raise SpecError(f'a picture of {width} x {height} pixels, {encoding}, in rows of {step} '
                        f'bytes, {size} in all, of which {max(0, len(data) - begin)} came')
    rows = np.frombuffer(data, np.uint8, size, begin).reshape(height, step)
    return RawPicture(seconds * NS + nanoseconds, frame_id, encoding,
                      rows[:, :row].reshape(height, width, channels))


def read_compressed(data: bytes) -> CompressedPicture:
    """
    Return what is in a serialized ``sensor_msgs/CompressedImage``.

    :raises SpecError: no such message, or cut short.
    """
    order = '<' if len(data) > 1 and data[1] & 1 else '>'
    try:
        seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, _ENCAPSULATION)
        frame_id, at = _text(data, _HEAD_BYTES, order)
        coding, at = _text(data, _aligned(at), order)
        at = _aligned(at)
        size, = struct.unpack_from(f'{order}I', data, at)
        if size > len(data) - at - 4:
            raise struct.error(f'{size} bytes at {at}')
    except (struct.error, UnicodeDecodeError) as error:
        raise SpecError(f'{len(data)} bytes are no sensor_msgs/CompressedImage: '
                        f'{error}') from None
    return CompressedPicture(seconds * NS + nanoseconds, frame_id, coding,
                             data[at + 4:at + 4 + size])


def read_text(data: bytes) -> str:
    """
    Return the text in a serialized ``std_msgs/String``.

    :raises SpecError: no such message, or cut short.
    """
    try:
        return _text(data, _ENCAPSULATION, '<' if len(data) > 1 and data[1] & 1 else '>')[0]
    except (struct.error, UnicodeDecodeError) as error:
        raise SpecError(f'{len(data)} bytes are no std_msgs/String: {error}') from None


def write_compressed(picture: CompressedPicture) -> bytes:
    """Return a serialized ``sensor_msgs/CompressedImage``."""
    message = bytearray(b'\0\1\0\0')  # little endian
    message += struct.pack('<iI', *divmod(picture.stamp_ns, NS))
    for text in (picture.frame_id.encode(), picture.format.encode()):
        message += struct.pack('<I', len(text) + 1) + text + b'\0'
        message += bytes(-len(message) % 4)
    return bytes(message + struct.pack('<I', len(picture.data)) + picture.data)


def _text(data: bytes, at: int, order: str) -> tuple[str, int]:
    """Return (text, where it ends)."""
    length, = struct.unpack_from(f'{order}I', data, at)
    end = at + 4 + length
    if not 0 < length <= len(data) - at - 4:
        raise struct.error(f'a text of {length} bytes at {at}')
    return data[at + 4:end - 1].decode(), end


def _aligned(at: int) -> int:
    """Return the next position of a number of four bytes."""
    return at + -at % 4
