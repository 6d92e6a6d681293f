# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A process with the topics of a USB camera's driver: raw, compressed and its description.

It shares no code with what hears it. Each picture is even, but for a red left half, and as bright
as its number modulo 200. Commands on standard input, one a line: ``stop`` and ``go``, ``shift 3``
(stamps, by seconds into the past), ``end``; the end of standard input ends it too.

    python test/emulators/camera_driver.py --width 96 --height 64
"""

import argparse
import io
import subprocess
import sys
import threading
import time

import numpy as np
from PIL import Image as Pillow
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header


def scene(number: int, width: int, height: int) -> np.ndarray:
    """Return a picture, shape (H, W, 3), red first."""
    pixels = np.full((height, width, 3), number % 200, np.uint8)
    pixels[:, :width // 2, 0] = 255
    return pixels


def serve(options: argparse.Namespace) -> None:
    """Run until standard input ends."""
    state = {'stop': False, 'shift': 0.0, 'end': False}

    def listen() -> None:
        for line in sys.stdin:
            word, _, value = line.strip().partition(' ')
            state['stop'] = word == 'stop' or (state['stop'] and word != 'go')
            state['shift'] = float(value) if word == 'shift' else state['shift']
        state['end'] = True
    threading.Thread(target=listen, daemon=True).start()
    rclpy.init()
    node = rclpy.create_node(options.name)
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    topics = {kind: node.create_publisher(kind, f'/{options.name}/{name}', profile)
              for kind, name in ((Image, 'image_raw'), (CompressedImage, 'image_raw/compressed'),
                                 (CameraInfo, 'camera_info'))}
    size = {'width': options.width, 'height': options.height}
    sys.stdout.write('ready\n')
    sys.stdout.flush()
    number = 0
    while not state['end']:
        time.sleep(1 / options.rate)
        if state['stop']:
            continue
        number += 1
        pixels = scene(number, **size)
        header = Header(frame_id='usb_cam')
        header.stamp.sec, header.stamp.nanosec = divmod(
            time.time_ns() - round(state['shift'] * 1e9), 10**9)
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, 'JPEG', quality=95)
        topics[Image].publish(Image(
            header=header, encoding='bgr8', step=3 * options.width, **size,
            data=pixels[:, :, ::-1].tobytes()))
        topics[CompressedImage].publish(CompressedImage(
            header=header, format='bgr8; jpeg compressed bgr8', data=file.getvalue()))
        topics[CameraInfo].publish(CameraInfo(header=header, **size))
    rclpy.try_shutdown()


class CameraDriver:
    """The emulator as a process of a test; use as a context manager."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    def __enter__(self) -> 'CameraDriver':
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._arguments], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        if self._process.stdout.readline() != 'ready\n':
            raise RuntimeError('the emulated camera driver did not start')
        return self

    def say(self, line: str) -> None:
        """Give it a command."""
        self._process.stdin.write(f'{line}\n')
        self._process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--name', default='usb_cam')
    parser.add_argument('--width', type=int, default=96)
    parser.add_argument('--height', type=int, default=64)
    parser.add_argument('--rate', type=float, default=20.0, help='of pictures [Hz]')
    serve(parser.parse_args())


if __name__ == '__main__':
    main()
