# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""From a camera's message to what a policy sees: encodings, sizes, and bytes of bad will."""

from array import array
import io
import struct
import time

import numpy as np
from PIL import Image as Pillow
import pytest
from rclpy.serialization import serialize_message
from rl_nodes.core.cameras import CameraSensorConfig, COMPRESSED_IMAGE
from rl_nodes.core.errors import SpecError
from rl_nodes.core.pictures import PictureSpec, Sight
from rl_nodes.data.cdr import read_picture
from rl_nodes.nodes import conversions
from rl_nodes.nodes.picture_inbox import seen
from sensor_msgs.msg import CompressedImage, Image

WIDTH, HEIGHT, STAMP = 30, 20, 1_700_000_000_123_456_789
CAMERA = CameraSensorConfig('eye', 'tool', width=WIDTH, height=HEIGHT)
SIGHT = Sight(PictureSpec('eye', 6, 5), CAMERA, 1)
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def message(pixels: np.ndarray, encoding: str, frame: str = 'eye_optical_frame', padding: int = 0,
            **changes: int) -> bytes:
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    msg = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    msg.header.stamp, msg.header.frame_id = conversions.ns_to_stamp(STAMP), frame
    msg.data = array('B', rows.tobytes())
    for name, value in changes.items():
        setattr(msg, name, value)
    return serialize_message(msg)


def look(data: bytes) -> np.ndarray:
    picture = seen(data, SIGHT, SIGHT.reduction())
    assert picture.stamp_ns == STAMP
    assert picture.pixels.dtype == np.uint8 and picture.pixels.flags.c_contiguous
    assert not picture.pixels.flags.writeable
    SIGHT.spec.validate(picture.pixels)
    return picture.pixels


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('frame', ['', 'a', 'ab', 'abc', 'abcd', 'eye_optical_frame'])
def test_encodings_give_the_same_picture(padding: int, frame: str) -> None:
    expected = SIGHT.reduction()(RGB)
    np.testing.assert_array_equal(look(message(RGB, 'rgb8', frame, padding)), expected)
    np.testing.assert_array_equal(look(message(RGB[:, :, ::-1], 'bgr8', frame, padding)), expected)
    grey = look(message(RGB[:, :, :1], 'mono8', frame, padding))
    np.testing.assert_array_equal(grey, np.repeat(expected[:, :, :1], 3, 2))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_a_compressed_picture_is_the_same_picture(kind: str) -> None:
    """PNG to the bit, JPEG of an even picture nearly; always decoded whole, never scaled."""
    pixels = RGB if kind == 'PNG' else np.broadcast_to(np.uint8([200, 90, 20]), RGB.shape)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, kind)
    msg = CompressedImage(format=f'bgr8; {kind.lower()} compressed bgr8')
    msg.header.stamp = conversions.ns_to_stamp(STAMP)

    def look_at(data: bytes) -> np.ndarray:
        msg.data = array('B', data)
        picture = seen(serialize_message(msg), SIGHT, SIGHT.reduction(), COMPRESSED_IMAGE)
        assert picture.stamp_ns == STAMP and not picture.pixels.flags.writeable
        SIGHT.spec.validate(picture.pixels)
        return picture.pixels
    found, expected = look_at(file.getvalue()), SIGHT.reduction()(pixels)
    assert np.abs(found.astype(int) - expected).max() <= (0 if kind == 'PNG' else 3)
    with pytest.raises(SpecError, match='cannot be decoded'):
        look_at(file.getvalue()[:100])
    file = io.BytesIO()
    Pillow.fromarray(pixels[:10]).save(file, kind)
    with pytest.raises(SpecError, match='30 x 10 pixels, expected 30 x 20'):
        look_at(file.getvalue())


def test_the_pixels_are_looked_at_where_they_lie() -> None:
    data = message(RGB, 'rgb8')
    raw = read_picture(data)
    assert np.shares_memory(raw.pixels, np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(raw.pixels, RGB)


def test_the_other_byte_order() -> None:
    body = struct.pack('>iI', 7, 9) + struct.pack('>I', 1) + b'\0\0\0\0' + struct.pack('>II', 1, 2)
    body += struct.pack('>I', 6) + b'mono8\0' + b'\1\0' + struct.pack('>II', 2, 2) + b'\x05\x06'
    raw = read_picture(b'\0\0\0\0' + body)
    assert raw.stamp_ns == 7_000_000_009 and raw.pixels.tolist() == [[[5], [6]]]


@pytest.mark.parametrize(('data', 'word'), [
    (message(RGB, '16UC1'), "encoding '16UC1'; understood are rgb8, bgr8, mono8"),
    (message(RGB, 'rgba8'), "'rgba8'"), (message(RGB, ''), "encoding ''"),
    (message(RGB, 'bayer_rggb8'), 'bayer'), (message(RGB, 'x' * 10_000), 'encoding'),
    (message(RGB[:10], 'rgb8'), '30 x 10 pixels, expected 30 x 20'),
    (message(np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), 'rgb8'), '31 x 20 pixels, expected'),
    (message(RGB, 'rgb8', step=WIDTH * 3 - 1), 'in rows of 89 bytes'),
    (message(RGB, 'rgb8', height=2**32 - 1), '1800 in all'),
    (message(RGB, 'rgb8', width=0), '0 x 20'), (message(RGB, 'rgb8', height=0), '30 x 0'),
    (message(RGB, 'rgb8', width=2**31, step=2**32 - 1), 'pixels'),
    (message(RGB, 'mono8', width=2**32 - 1, height=1, step=2**32 - 1), '1800 in all'),
    (message(RGB, 'rgb8')[:-1], 'of which 1799 came'),
    (b'', '0 bytes are no sensor_msgs/Image'), (b'\0\1\0\0', 'no sensor_msgs/Image'),
    (b'\0\1\0\0' + b'\xff' * 64, 'no sensor_msgs/Image'),
    (b'\0\1\0\0' + bytes(64), 'no sensor_msgs/Image'),
])
def test_what_is_no_picture_of_the_camera_is_named(data: bytes, word: str) -> None:
    with pytest.raises(SpecError) as caught:
        look(data)
    assert word in str(caught.value) and len(str(caught.value)) < 300


def test_no_cut_and_no_flipped_byte_does_more_than_be_refused() -> None:
    data = message(RGB, 'rgb8')
    rng = np.random.default_rng(2)
    for size in [*range(80), *rng.integers(0, len(data), 50)]:
        with pytest.raises(SpecError):
            look(data[:size])
    for place in range(4, 80):
        for value in (0, 1, 127, 255):
            changed = data[:place] + bytes([value]) + data[place + 1:]
            try:
                seen(changed, SIGHT, SIGHT.reduction())
            except SpecError:
                pass


def test_a_large_picture_does_not_take_long() -> None:
    camera = CameraSensorConfig('eye', 'tool', width=640, height=480)
    sight = Sight(PictureSpec('eye', 64, 64), camera, 1)
    data, reduction = message(np.zeros((480, 640, 3), np.uint8), 'rgb8'), sight.reduction()
    begun = time.process_time()
    for _ in range(20):
        seen(data, sight, reduction)
    assert (time.process_time() - begun) / 20 < 0.01  # 1 ms where nothing else runs
