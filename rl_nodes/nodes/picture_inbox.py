# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Receives what cameras send and makes it what a policy sees, away from the control tick.

A raw picture is looked at as it lies in its bytes; a compressed one is decoded whole, as it is
where recordings are read.
"""

from collections.abc import Callable, Sequence

import numpy as np
from rl_nodes.core.cameras import COMPRESSED_IMAGE, IMAGE, Source
from rl_nodes.core.errors import SpecError
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.picture_desk import PictureDesk
from rl_nodes.core.pictures import AreaAverage, CHANNELS, Picture, Sight
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.data.cdr import read_picture
from rl_nodes.data.compression import read_any_picture
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.picture_topics import PictureListening, PictureTopic


def seen(data: bytes, sight: Sight, reduction: AreaAverage, type_name: str = IMAGE) -> Picture:
    """
    Return what a policy sees of a serialized message.

    :param type_name: of the message, ``sensor_msgs/msg/Image`` or ``CompressedImage``.
    :raises SpecError: no such message, or of another size or encoding than the camera's.
    """
    if type_name == COMPRESSED_IMAGE:
        stamp_ns, pixels = read_any_picture(data, type_name)
        encoding = 'rgb8'
    else:
        stamp_ns, _, encoding, pixels = read_picture(data)
    camera, (height, width, channels) = sight.camera, pixels.shape
    if (height, width) != (camera.height, camera.width):
        raise SpecError(f'a picture of {width} x {height} pixels, expected {camera.width} x '
                        f"{camera.height} as in the robot's YAML file")
    pixels = reduction(pixels)
    if encoding == 'bgr8':
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    elif channels == 1:
        pixels = np.repeat(pixels, CHANNELS, axis=2)
    pixels.flags.writeable = False
    return Picture(stamp_ns, pixels)


class _Eye(PictureTopic):
    """One camera of one robot."""

    def __init__(self, name: str, source: Source, sight: Sight, desk: PictureDesk,
                 arrived: Callable[[], None]) -> None:
        super().__init__(name, source.type_name, depth=1)
        self._camera, self._sight, self._desk = sight.spec.camera, sight, desk
        self._reduction, self._arrived = sight.reduction(), arrived

    def take(self, data: bytes, number: int | None) -> None:
        """Put a picture where the control tick finds it."""
        try:
            picture = seen(data, self._sight, self._reduction, self.type_name)
        except SpecError as error:
            self._desk.refuse(self._camera, f'{self.name}: {error}')
        else:
            self._desk.put(self._camera, picture, (steady_ns() - self.heard_ns) / NS)
        self._arrived()

    def explain(self, silence: str) -> None:
        """Let who asks for a picture know why there is none."""
        self._desk.explain(self._camera, silence)


class PictureInbox(PictureListening):
    """
    Fills the desks of one or more robots.

    :param node: whose task says what is seen; it sees nothing of the messages.
    :param namespaces: of the robots, relative to the node's.
    :param arrived: called after each picture, in the thread of this object.
    :param drivers: whether the pictures come from drivers of physical cameras.
    :ivar desks: by namespace.
    """

    def __init__(self, node: TaskNode, namespaces: Sequence[str], arrived: Callable[[], None],
                 drivers: bool = False) -> None:
        task = node.task
        pictured_at = task.pictured_at if node.lockstep else None
        self.desks = {namespace: PictureDesk(task.sights, pictured_at) for namespace in namespaces}
        sources = [(sight, sight.camera.sources(drivers)[0]) for sight in task.sights]
        super().__init__(node, 'pictures', [
            _Eye(node.resolve_topic_name(topic_in(namespace, source.topic)), source, sight, desk,
                 arrived) for namespace, desk in self.desks.items() for sight, source in sources])
        self.start()
