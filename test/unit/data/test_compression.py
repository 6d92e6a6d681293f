# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as JPEG: what stock tools read, what is lost, and that nobody waits."""

import io
import threading
import time

import numpy as np
from PIL import Image
import pytest
from rl_nodes.core.cameras import COMPRESSED_IMAGE
from rl_nodes.core.errors import SpecError
from rl_nodes.data import compression
from rl_nodes.data.cdr import read_compressed
from rl_nodes.data.compression import compress, MOST_WAITING, PictureCompressor, read_any_picture

rclpy_serialization = pytest.importorskip('rclpy.serialization')
messages = pytest.importorskip('sensor_msgs.msg')

STAMP_NS = 1_700_000_000_123_456_789
IMAGE = 'sensor_msgs/msg/Image'
TOPIC = 'camera/wrist/image_raw'


def scene(height=48, width=64):
    """Return a picture with a red left and a blue right half on a slope."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 1] = np.linspace(0, 120, width)
    pixels[:, :width // 2, 0] = 200
    pixels[:, width // 2:, 2] = 200
    return pixels


def image(pixels, encoding='rgb8', frame_id='wrist_optical_frame'):
    msg = messages.Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                         step=pixels.nbytes // len(pixels), data=pixels.tobytes())
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(STAMP_NS, 1_000_000_000)
    msg.header.frame_id = frame_id
    return rclpy_serialization.serialize_message(msg)


@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc', 'wrist_optical_frame'])
def test_ros_reads_it_and_what_ros_writes_is_read(frame_id):
    data = compress(image(scene(), frame_id=frame_id), 90)
    msg = rclpy_serialization.deserialize_message(data, messages.CompressedImage)
    assert (msg.header.frame_id, msg.format) == (frame_id, 'rgb8; jpeg compressed bgr8')
    assert msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec == STAMP_NS
    with Image.open(io.BytesIO(bytes(msg.data))) as decoded:
        assert (decoded.format, decoded.size, decoded.mode) == ('JPEG', (64, 48), 'RGB')
    again = rclpy_serialization.serialize_message(msg)
    assert len(again) - len(data) in range(4) and read_compressed(again) == read_compressed(data)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8'])
def test_colours_stay_what_they_are(encoding):
    pixels = {'rgb8': scene(), 'bgr8': np.ascontiguousarray(scene()[..., ::-1]),
              'mono8': np.ascontiguousarray(scene()[..., 1])}[encoding]
    raw = image(pixels, encoding)
    expected = scene() if encoding != 'mono8' else np.repeat(scene()[..., 1:2], 3, axis=2)
    stamp_ns, read = read_any_picture(raw, IMAGE)
    assert stamp_ns == STAMP_NS and (read == expected).all()
    stamp_ns, read = read_any_picture(compress(raw, 90), COMPRESSED_IMAGE)
    assert stamp_ns == STAMP_NS and read.shape == expected.shape
    assert abs(read.astype(int) - expected).mean() < 4


def test_quality_costs_bytes():
    noisy = scene() + np.random.default_rng(0).integers(0, 40, (48, 64, 3), np.uint8)
    sizes = [len(compress(image(noisy), quality)) for quality in (30, 60, 90)]
    assert sizes == sorted(sizes) and sizes[2] < noisy.nbytes


@pytest.mark.parametrize('cut', [3, 20, 60, 200])
def test_what_is_cut_short_is_refused(cut):
    data = compress(image(scene()), 90)
    with pytest.raises(SpecError):
        read_any_picture(data[:cut], COMPRESSED_IMAGE)


def test_what_is_no_jpeg_is_refused():
    picture = compression.CompressedPicture(0, 'x', 'rgb8; jpeg compressed bgr8', b'no picture')
    with pytest.raises(SpecError, match='cannot be decoded'):
        read_any_picture(compression.write_compressed(picture), COMPRESSED_IMAGE)


def test_nobody_waits_and_every_loss_is_counted_by_camera(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(data, quality):
        begun.set()
        assert go_on.wait(20)
        return compress(data, quality)
    monkeypatch.setattr(compression, 'compress', slow)
    compressor = PictureCompressor((TOPIC, 'camera/front/image_raw'), 90)
    data, begin = image(scene()), time.monotonic()
    assert compressor.put(TOPIC, 0, data)
    assert begun.wait(20)
    taken = [compressor.put(TOPIC, k, data) for k in range(1, 10)]
    assert taken.count(True) == MOST_WAITING - 1
    assert compressor.put('camera/front/image_raw', 20, data), 'one camera starves no other'
    assert time.monotonic() - begin < 5
    go_on.set()
    compressor.close(20.0)
    assert [(topic, stamp) for topic, stamp, _ in compressor.take()] == [
        *((f'{TOPIC}/compressed', k) for k in range(MOST_WAITING)),
        ('camera/front/image_raw/compressed', 20)]
    assert compressor.take() == []
    values = compressor.values()
    assert (values[f'{TOPIC}/encoded'], values[f'{TOPIC}/dropped']) == (
        MOST_WAITING, 10 - MOST_WAITING)
    assert values['camera/front/image_raw/dropped'] == 0


def test_what_cannot_be_compressed_is_counted_and_the_rest_goes_on(caplog):
    compressor = PictureCompressor((TOPIC,), 90)
    compressor.put(TOPIC, 1, b'nothing')
    compressor.put(TOPIC, 2, image(np.zeros((4, 4), np.uint8), 'bayer_rggb8'))
    compressor.put(TOPIC, 3, image(scene()))
    compressor.close(20.0)
    assert [stamp for _, stamp, _ in compressor.take()] == [3]
    assert compressor.values() == {f'{TOPIC}/encoded': 1, f'{TOPIC}/dropped': 0,
                                   f'{TOPIC}/refused': 2}
    assert 'is not compressed' in caplog.text
