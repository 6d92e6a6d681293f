# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Receives what cameras send and makes it what a policy sees, away from the control tick.

A message is looked at as it lies in its bytes.
"""

from collections.abc import Callable, Sequence

import numpy as np
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from rl_nodes.core.errors import SpecError
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.picture_desk import PictureDesk
from rl_nodes.core.pictures import AreaAverage, CHANNELS, Picture, Sight
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.data.cdr import read_picture
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.listening import Listening
from sensor_msgs.msg import Image

SILENT_NS = NS // 2  # after which it is looked at whether the camera sends in another way


def seen(data: bytes, sight: Sight, reduction: AreaAverage) -> Picture:
    """
    Return what a policy sees of a serialized ``sensor_msgs/Image``.

    :raises SpecError: no such message, or of another size or encoding than the camera's.
    """
    raw, camera = read_picture(data), sight.camera
    height, width, channels = raw.pixels.shape
    if (height, width) != (camera.height, camera.width):
        raise SpecError(f'a picture of {width} x {height} pixels, expected {camera.width} x '
                        f"{camera.height} as in the robot's YAML file")
    pixels = reduction(raw.pixels)
    if raw.encoding == 'bgr8':
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    elif channels == 1:
        pixels = np.repeat(pixels, CHANNELS, axis=2)
    pixels.flags.writeable = False
    return Picture(raw.stamp_ns, pixels)


class _Eye:
    """One camera of one robot."""

    def __init__(self, topic: str, sight: Sight, desk: PictureDesk) -> None:
        self.topic, self.sight, self.desk = topic, sight, desk
        self.reduction = sight.reduction()
        self.subscription: Subscription | None = None
        self.reliable, self.heard_ns = True, steady_ns()

    def take(self, data: bytes) -> None:
        """Put a picture where the control tick finds it."""
        self.heard_ns, camera = steady_ns(), self.sight.spec.camera
        try:
            picture = seen(data, self.sight, self.reduction)
        except SpecError as error:
            self.desk.refuse(camera, str(error))
        else:
            self.desk.put(camera, picture, (steady_ns() - self.heard_ns) / NS)


class PictureInbox(Listening):
    """
    Fills the desks of one or more robots.

    :param node: whose task says what is seen; it sees nothing of the messages.
    :param namespaces: of the robots, relative to the node's.
    :param arrived: called after each picture, in the thread of this object.
    :ivar desks: by namespace.
    """

    def __init__(self, node: TaskNode, namespaces: Sequence[str],
                 arrived: Callable[[], None]) -> None:
        super().__init__(node, 'pictures')
        task = node.task
        pictured_at = task.pictured_at if node.lockstep else None
        self.desks = {namespace: PictureDesk(task.sights, pictured_at) for namespace in namespaces}
        self._arrived = arrived
        self._eyes = [
            _Eye(node.resolve_topic_name(topic_in(
                namespace, f'camera/{sight.spec.camera}/image_raw')), sight, desk)
            for namespace, desk in self.desks.items() for sight in task.sights]
        for eye in self._eyes:
            self._subscribe(eye)
        self.start()

    def subscriptions(self) -> list[Subscription]:
        """See the base class; a camera that is silent may send in another way."""
        for eye in self._eyes:
            if steady_ns() - eye.heard_ns > SILENT_NS:
                self._match(eye)
        return [eye.subscription for eye in self._eyes]

    def take(self) -> None:
        """See the base class."""
        for eye in self._eyes:
            taken = eye.subscription.handle.take_message(Image, True)
            if taken is not None:
                eye.take(taken[0])
                self._arrived()

    def _match(self, eye: _Eye) -> None:
        """Ask for no more than a camera offers: many drivers do not wait for who listens."""
        eye.heard_ns = steady_ns()
        offers = self._node.get_publishers_info_by_topic(eye.topic)
        reliable = all(offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE
                       for offer in offers)
        if reliable != eye.reliable:
            eye.reliable = reliable
            self._node.destroy_subscription(eye.subscription)
            self._subscribe(eye)

    def _subscribe(self, eye: _Eye) -> None:
        eye.subscription = self.hear(
            Image, eye.topic, qos.NEWEST if eye.reliable else qos.NEWEST_OFFERED)
