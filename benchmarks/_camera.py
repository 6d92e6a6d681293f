# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A camera that draws nothing: the same picture 30 times a second, stamped now."""

import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rl_nodes.core.cameras import CameraSensorConfig
from rl_nodes.core.timing import NS
from rl_nodes.nodes import pictures, qos

CAMERA = CameraSensorConfig('eye', 'base_link', width=640, height=480, rate_hz=30)


def main() -> None:
    """Send pictures until the process is ended."""
    rclpy.init()
    node = Node('eye')
    publisher = node.create_publisher(
        pictures.Image, f'camera/{CAMERA.name}/image_raw', qos.PICTURE)
    noise = np.random.default_rng(0).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    data = serialize_message(pictures.picture_to_msg(CAMERA, 0, noise))
    due = time.monotonic()
    while True:
        now = time.time_ns()
        stamp = (now // NS).to_bytes(4, 'little') + (now % NS).to_bytes(4, 'little')
        publisher.publish(data[:4] + stamp + data[12:])
        due += 1.0 / CAMERA.rate_hz
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == '__main__':
    main()
