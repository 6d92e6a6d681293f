# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures as JPEG, encoded on the side.

A serialized ``sensor_msgs/Image`` becomes a serialized ``sensor_msgs/CompressedImage``, its format
in the words of ``compressed_image_transport``. Encoding has a thread of its own, and most of its
time it runs without the interpreter lock.
"""

from collections import Counter, deque
from collections.abc import Iterable
import io
import logging
import os
import threading

import numpy as np
from PIL import Image
from rl_nodes.core.cameras import COMPRESSED, COMPRESSED_IMAGE
from rl_nodes.core.errors import SpecError
from rl_nodes.data.cdr import (
    CompressedPicture,
    RawPicture,
    read_compressed,
    read_picture,
    write_compressed,
)

_LOG = logging.getLogger(__name__)

MOST_WAITING = 4        # pictures of one camera

_Kept = tuple[str, int, bytes]  # topic, stamp [ns], serialized message


class PictureCompressor:
    """
    Compresses pictures in a thread of its own; what it cannot follow is dropped and counted.

    :param topics: of the pictures; what is made of them is on ``<topic>/compressed``.
    :param quality: of JPEG, 1 to 95.
    :ivar encoded: pictures, by topic.
    :ivar dropped: pictures that came while :data:`MOST_WAITING` waited, by topic.
    :ivar refused: pictures that are none, or of an encoding that is not understood, by topic.
    """

    def __init__(self, topics: Iterable[str], quality: int) -> None:
        self.topics = frozenset(topics)
        self._quality = quality
        self._condition = threading.Condition()
        self._waiting: deque[_Kept] = deque()
        self._queued: Counter[str] = Counter()
        self._done: deque[_Kept] = deque()
        self._closing = False
        self.encoded, self.dropped, self.refused = (
            dict.fromkeys(sorted(self.topics), 0) for _ in range(3))
        self._thread = threading.Thread(target=self._run, name='pictures', daemon=True)
        self._thread.start()

    def put(self, topic: str, stamp_ns: int, data: bytes) -> bool:
        """Have a picture compressed; returns at once, False where it was dropped."""
        with self._condition:
            if self._closing or self._queued[topic] >= MOST_WAITING:
                self.dropped[topic] += 1
                return False
            self._queued[topic] += 1
            self._waiting.append((topic, stamp_ns, data))
            self._condition.notify()
        return True

    def take(self) -> list[_Kept]:
        """Return (topic, stamp [ns], serialized message) of what is done, in order."""
        done = self._done
        return [done.popleft() for _ in range(len(done))]

    def values(self) -> dict[str, int]:
        """Return the counts for a status topic."""
        return {f'{topic}/{what}': count for what, counts in (
            ('encoded', self.encoded), ('dropped', self.dropped), ('refused', self.refused))
            for topic, count in counts.items()}

    def close(self, timeout_s: float) -> None:
        """Finish what waits; what is not done in time is lost."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                topic, stamp_ns, data = self._waiting.popleft()
            try:
                self._done.append((topic + COMPRESSED, stamp_ns, compress(data, self._quality)))
                self.encoded[topic] += 1
            except Exception as error:  # the thread goes on with the other cameras
                if not self.refused[topic]:
                    _LOG.error('%s is not compressed: %s', topic, error)
                self.refused[topic] += 1
            with self._condition:
                self._queued[topic] -= 1


def compress(data: bytes, quality: int) -> bytes:
    """
    Return the serialized ``sensor_msgs/CompressedImage`` of a serialized ``sensor_msgs/Image``.

    :param quality: of JPEG, 1 to 95.
    :raises SpecError: no such message, or of an encoding that is not understood.
    """
    raw = read_picture(data)
    colour = raw.encoding != 'mono8'
    pixels = to_rgb(raw) if colour else np.ascontiguousarray(raw.pixels[:, :, 0])
    # Pillow lets go of the interpreter lock only where it writes to a file itself.
    with os.fdopen(os.memfd_create('picture'), 'w+b') as file:
        Image.fromarray(pixels).save(file, 'JPEG', quality=quality)
        file.seek(0)
        jpeg = file.read()
    return write_compressed(CompressedPicture(
        raw.stamp_ns, raw.frame_id,
        f'{raw.encoding}; jpeg compressed {"bgr8" if colour else ""}', jpeg))


def read_any_picture(data: bytes, type_name: str) -> tuple[int, np.ndarray]:
    """
    Return (stamp [ns], picture (H, W, 3), uint8, red first) of a serialized message.

    :param type_name: ``sensor_msgs/msg/Image`` or, of JPEG and PNG, ``CompressedImage``.
    :raises SpecError: no such message, cut short, or of an encoding that is not understood.
    """
    if type_name != COMPRESSED_IMAGE:
        raw = read_picture(data)
        return raw.stamp_ns, to_rgb(raw)
    compressed = read_compressed(data)
    try:
        with Image.open(io.BytesIO(compressed.data), formats=('JPEG', 'PNG')) as image:
            return compressed.stamp_ns, np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SpecError(f'a picture, {compressed.format[:40]!r}, of {len(compressed.data)} bytes '
                        f'cannot be decoded: {error}') from None


def to_rgb(raw: RawPicture) -> np.ndarray:
    """Return the pixels (H, W, 3), red first."""
    if raw.encoding == 'mono8':
        return np.repeat(raw.pixels, 3, axis=2)
    return np.ascontiguousarray(
        raw.pixels[:, :, ::-1] if raw.encoding == 'bgr8' else raw.pixels)
