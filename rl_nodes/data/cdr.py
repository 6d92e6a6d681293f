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
    :param encoding: rgb8, bgr8 or mono8.
    :param pixels: shape (H, W, C), uint8, read-only, in the order of the encoding.
    """

    stamp_ns: int
    encoding: str
    pixels: np.ndarray


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
        _, at = _text(data, _HEAD_BYTES, order)
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
    return RawPicture(seconds * NS + nanoseconds, encoding,
                      rows[:, :row].reshape(height, width, channels))


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
