# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What can be told of serialized messages without a ROS installation."""

import struct

from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS

_HEAD_BYTES = 12  # 4 of CDR, then seconds and nanoseconds


def header_stamp_ns(data: bytes) -> int:
    """
    Return the stamp [ns] of a serialized message that begins with a header.

    :raises RecordingError: it is too short for one.
    """
    if len(data) < _HEAD_BYTES:
        raise RecordingError(f'a message has {len(data)} bytes, expected a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds * NS + nanoseconds)
