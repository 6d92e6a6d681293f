# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
``sensor_msgs/JointState`` to and from its bytes.

States, commands and rewards are all such messages, and rclpy spends several times longer on
turning one into a Python object and back than everything else that a node does with it.

The layout is that of CDR, little-endian: after four bytes of header come the stamp, ``frame_id``,
``name``, ``position``, ``velocity`` and ``effort``; a text or sequence starts with its length, a
number is aligned to its size, counted from behind the header.
"""

from functools import lru_cache
from struct import error as StructError
from struct import Struct, unpack_from
from typing import Any, NamedTuple

import numpy as np
from rclpy.serialization import deserialize_message
from rl_nodes.core.errors import SpecError
from rl_nodes.core.timing import NS
from sensor_msgs.msg import JointState

LITTLE_ENDIAN = b'\x00\x01\x00\x00'
_START, _STAMP, _LENGTH = Struct('<iII'), Struct('<iI'), Struct('<I')
_DOUBLE = 8
# The names in the newest message with that many of them, as bytes and as texts.
_known_names: dict[int, tuple[bytes, tuple[str, ...]]] = {}


class _Stamp(NamedTuple):
    sec: int
    nanosec: int


class _Header(NamedTuple):
    stamp: _Stamp
    frame_id: str


class JointStateView(NamedTuple):
    """
    A message that was read; the fields are called as in the message.

    :param header: ``stamp`` and ``frame_id``.
    :param name: of each value.
    :param position: float64, empty where there are none; read-only, as the two after it.
    :param velocity: as position.
    :param effort: as position.
    """

    header: _Header
    name: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray


NOTHING = np.empty(0)
NOTHING.flags.writeable = False


def encode(stamp_ns: int, frame_id: str, names: tuple[str, ...], position: np.ndarray,
           velocity: np.ndarray = NOTHING, effort: np.ndarray = NOTHING) -> bytes:
    """Return the bytes of a message; the values are float64."""
    head = _head(frame_id, names, len(position))
    parts = [LITTLE_ENDIAN, _STAMP.pack(stamp_ns // NS, stamp_ns % NS), head, position.tobytes()]
    at = _STAMP.size + len(head) + _DOUBLE * len(position)
    for values in (velocity, effort):
        count = _count(at, len(values))
        parts += (count, values.tobytes())
        at += len(count) + _DOUBLE * len(values)
    return b''.join(parts)


def decode(data: bytes) -> JointStateView:
    """
    Return the message in some bytes.

    :raises SpecError: they are cut short, or no such message.
    """
    if data[:4] != LITTLE_ENDIAN:
        return _foreign(data)
    try:
        sec, nanosec, length = _START.unpack_from(data, 4)
        frame_id = data[16:15 + length].decode()
        names, at = _names(data, _aligned(16 + length, 4))
        values = []
        for _ in range(3):
            count, = _LENGTH.unpack_from(data, at)
            at = _aligned(at + 4, _DOUBLE, 4) if count else at + 4
            values.append(np.frombuffer(data, '<f8', count, at) if count else NOTHING)
            at += _DOUBLE * count
    except (StructError, ValueError) as error:
        raise SpecError(f'{len(data)} bytes are no sensor_msgs/JointState: {error}') from None
    return JointStateView(_Header(_Stamp(sec, nanosec), frame_id), names, *values)


def deserialize(data: bytes, kind: type) -> Any:
    """Return a message of any type; a JointState as a view. SpecError as :func:`decode`."""
    return decode(data) if kind is JointState else deserialize_message(data, kind)


def _aligned(at: int, size: int, origin: int = 0) -> int:
    """Return the next position whose distance from ``origin`` is a multiple of ``size``."""
    return at + (origin - at) % size


def _names(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
    """Return (names, where the count of what follows them lies)."""
    count, = _LENGTH.unpack_from(data, at)
    known = _known_names.get(count)
    if known is not None and data.startswith(known[0], at):
        return known[1], at + len(known[0])
    begin, at = at, at + 4
    found = []
    for _ in range(count):
        length, = unpack_from('<I', data, at)
        if at + 4 + length > len(data):
            raise ValueError(f'a name of {length} bytes at {at}')
        found.append(data[at + 4:at + 3 + length].decode())
        at = _aligned(at + 4 + length, 4)
    _known_names[count] = data[begin:at], tuple(found)
    return tuple(found), at


def _text(text: str) -> bytes:
    """Return a text as it lies at a multiple of 4, filled up to the next one."""
    data = text.encode() + b'\0'
    return _LENGTH.pack(len(data)) + data.ljust(_aligned(len(data), 4), b'\0')


def _count(at: int, count: int) -> bytes:
    """Return the length of a sequence of doubles, up to its first one, at position ``at``."""
    packed = _LENGTH.pack(count)
    return packed.ljust(_aligned(at + 4, _DOUBLE) - at, b'\0') if count else packed


@lru_cache(maxsize=64)  # a frame_id lasts for an episode or for the life of a policy
def _head(frame_id: str, names: tuple[str, ...], count: int) -> bytes:
    """Return what lies between the stamp and the first position."""
    head = b''.join([_text(frame_id), _LENGTH.pack(len(names)), *map(_text, names)])
    return head + _count(_STAMP.size + len(head), count)


def _foreign(data: bytes) -> JointStateView:
    """Return a message of another byte order or encoding."""
    try:
        msg = deserialize_message(data, JointState)
    except Exception as error:  # whatever the middleware makes of bytes that nobody understands
        raise SpecError(f'{len(data)} bytes are no sensor_msgs/JointState: {error}') from None
    stamp = msg.header.stamp
    return JointStateView(
        _Header(_Stamp(stamp.sec, stamp.nanosec), msg.header.frame_id), tuple(msg.name),
        *(np.array(values) for values in (msg.position, msg.velocity, msg.effort)))
