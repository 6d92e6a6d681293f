# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node hears of the robot's cameras: that their pictures come, and the pictures."""

from collections.abc import Callable
from functools import partial

from rl_nodes.core.cameras import CameraSensorConfig, CameraWatch
from rl_nodes.core.timing import steady_ns
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import ManagedNode
from sensor_msgs.msg import CameraInfo, Image

_KINDS = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CameraInfo': CameraInfo}

Keep = Callable[[str, int, bytes], None]
Numbers = Callable[[int | None], None]


class CameraListener:
    """
    Watches cameras by their ``camera_info``, which comes with every picture, and logs stalls.

    :param node: that listens, from its configuration to its cleanup.
    :param cameras: the ones promised.
    :param keep: gets (topic, stamp [ns], serialized message) of every picture; None for a watch
        alone, which then takes no picture off the wire.
    :param numbers: returns, for a topic, what gets the numbers of its messages.
    """

    def __init__(self, node: ManagedNode, cameras: tuple[CameraSensorConfig, ...],
                 keep: Keep | None, numbers: Callable[[str], Numbers | None]) -> None:
        self._logger = node.get_logger()
        self._watch = CameraWatch(cameras)
        self._keep = keep
        self._stalled: tuple[str, ...] = ()
        for camera in cameras:
            for topic, kind in camera.topics().items():
                told = kind.endswith('/CameraInfo')
                if told or keep is not None:
                    node.subscribe(
                        _KINDS[kind], topic,
                        partial(self._on_message, topic, camera.name if told else ''),
                        qos.PICTURE, raw=True, numbers=numbers(topic))

    @property
    def complaint(self) -> str:
        """Return which cameras have stalled, in words; empty where none has."""
        return '; '.join(map(self._watch.describe, self._stalled))

    def state(self) -> tuple[str, ...]:
        """Take note of a state of the robot; return the names of the stalled cameras."""
        self._watch.state(steady_ns())
        before, self._stalled = self._stalled, self._watch.stalled()
        for name in self._stalled:
            if name not in before:
                self._logger.error(self._watch.describe(name))
        for name in before:
            if name not in self._stalled:
                self._logger.info(f'camera {name} sends pictures')
        return self._stalled

    def _on_message(self, topic: str, told: str, data: bytes) -> None:
        if told:
            self._watch.picture(told)
        if self._keep is not None:
            self._keep(topic, header_stamp_ns(data), data)
