# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as messages, ``sensor_msgs/Image`` and ``CameraInfo``, and as they were recorded."""

from array import array
from collections.abc import Iterator
import re
import sys

import numpy as np
from rl_nodes.core.cameras import CameraSensorConfig, COMPRESSED
from rl_nodes.core.errors import RecordingError, SpecError
from rl_nodes.data.compression import read_any_picture
from rl_nodes.data.reader import Episode
from rl_nodes.nodes import conversions
from sensor_msgs.msg import CameraInfo, Image


def picture_to_msg(camera: CameraSensorConfig, stamp_ns: int, picture: np.ndarray) -> Image:
    """
    Return the message of a picture, ``rgb8`` or, of distances, ``32FC1`` [m].

    :param picture: shape (H, W, 3), uint8, or (H, W), float32; the upper row first.
    """
    msg = Image(height=camera.height, width=camera.width,
                encoding='rgb8' if picture.ndim == 3 else '32FC1',
                is_bigendian=sys.byteorder == 'big',
                step=camera.width * picture.itemsize * (3 if picture.ndim == 3 else 1))
    _head(msg, camera, stamp_ns)
    msg.data = array('B', picture.tobytes())
    return msg


def camera_info(camera: CameraSensorConfig, stamp_ns: int) -> CameraInfo:
    """Return what is known of a camera's optics: no distortion, K and P the same."""
    matrix = camera.intrinsics()
    msg = CameraInfo(height=camera.height, width=camera.width, distortion_model='plumb_bob')
    _head(msg, camera, stamp_ns)
    msg.d = [0.0] * 5
    msg.k = matrix.ravel()
    msg.r = np.eye(3).ravel()
    msg.p = np.column_stack([matrix, np.zeros(3)]).ravel()
    return msg


def recorded_pictures(episode: Episode) -> dict[str, Iterator[tuple[int, np.ndarray]]]:
    """
    Return (stamp [ns], picture (H, W, 3), uint8) of each colour camera in order, by its name.

    Of a camera whose pictures were kept as they came and compressed, it is the former.

    :raises RecordingError: while going through them, where one cannot be understood.
    """
    names = {topic: match[1] for topic in sorted(episode.topics, reverse=True)
             if (match := re.fullmatch(f'camera/([^/]+)/image_raw({COMPRESSED})?', topic))}
    return {name: _pictures(episode, topic) for topic, name in names.items()}


def _pictures(episode: Episode, topic: str) -> Iterator[tuple[int, np.ndarray]]:
    for message in episode.messages((topic,)):
        try:
            yield read_any_picture(message.data, message.type_name)
        except SpecError as error:
            raise RecordingError(f'{episode.path}: {topic}: {error}') from None


def _head(msg: Image | CameraInfo, camera: CameraSensorConfig, stamp_ns: int) -> None:
    msg.header.stamp = conversions.ns_to_stamp(stamp_ns)
    msg.header.frame_id = camera.optical_frame
