# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Hearing what cameras send, whoever sends it, and knowing why nothing comes.

Each topic is asked for no more than its publishers offer: many drivers do not wait for who
listens. Where nothing comes, it is looked at again who publishes what.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rl_nodes.core.cameras import CAMERA_INFO, COMPRESSED, COMPRESSED_IMAGE, IMAGE
from rl_nodes.core.config import suggestion
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.nodes.listening import Listening
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

SILENT_NS = NS // 2  # after which it is looked at who publishes what
KINDS = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage, CAMERA_INFO: CameraInfo}


class PictureTopic(ABC):
    """
    One topic of a camera; everything happens in the thread that listens.

    :param name: of the topic, absolute.
    :param type_name: of its messages.
    :param depth: of the queue.
    """

    def __init__(self, name: str, type_name: str, depth: int) -> None:
        self.name, self.type_name, self.depth = name, type_name, depth
        self.asked: QoSProfile | None = None
        self.subscription: Subscription | None = None
        self.heard_ns = steady_ns()

    @abstractmethod
    def take(self, data: bytes, number: int | None) -> None:
        """Take a serialized message and its number, as its publisher counts them."""

    @abstractmethod
    def explain(self, silence: str) -> None:
        """Take note of why nothing comes, in words; again as long as nothing does."""


class PictureListening(Listening):
    """
    Hears topics of cameras; :meth:`start` once everything is there.

    :param node: for whom.
    :param name: of the thread.
    :param topics: what is heard.
    """

    def __init__(self, node: ManagedNode, name: str, topics: Sequence[PictureTopic]) -> None:
        super().__init__(node, name)
        self._topics = topics
        for topic in topics:
            self._ask(topic, qos.to_hear((qos.PICTURE,), topic.depth))

    def subscriptions(self) -> list[Subscription]:
        """See the base class; who is silent may be asked for too much."""
        for topic in self._topics:
            if steady_ns() - topic.heard_ns > SILENT_NS:
                self._look(topic)
        return [topic.subscription for topic in self._topics]

    def take(self) -> None:
        """See the base class."""
        for topic in self._topics:
            taken = topic.subscription.handle.take_message(KINDS[topic.type_name], True)
            if taken is not None:
                topic.heard_ns = steady_ns()
                topic.take(taken[0], taken[1]['publication_sequence_number'])

    def _look(self, topic: PictureTopic) -> None:
        topic.heard_ns = steady_ns()
        offers = self._node.get_publishers_info_by_topic(topic.name)
        fitting = [offer.qos_profile for offer in offers if offer.topic_type == topic.type_name]
        if fitting:
            topic.explain(f'who publishes {topic.name} sends nothing')
            self._ask(topic, qos.to_hear(fitting, topic.depth))
        elif offers:
            kinds = ' and '.join(sorted({offer.topic_type for offer in offers}))
            topic.explain(f'{topic.name} is published as {kinds}, not as {topic.type_name}; in '
                          f"the robot's YAML file a topic of compressed pictures ends in "
                          f'{COMPRESSED}, others do not')
        else:
            topic.explain(f'nobody publishes {topic.name}{self._others(topic.name)}')

    def _others(self, name: str) -> str:
        """Return which topics with pictures there are, in words."""
        found = [other for other, kinds in self._node.get_topic_names_and_types()
                 if {IMAGE, COMPRESSED_IMAGE} & set(kinds) and self._node.count_publishers(other)]
        return f'{suggestion(name, found)}; topics with pictures: {", ".join(found) or "none"}'

    def _ask(self, topic: PictureTopic, profile: QoSProfile) -> None:
        if topic.asked == profile:
            return
        if topic.subscription is not None:
            self._node.destroy_subscription(topic.subscription)
        topic.asked = profile
        topic.subscription = self.hear(KINDS[topic.type_name], topic.name, profile)
