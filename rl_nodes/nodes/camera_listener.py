# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a recorder hears of the robot's cameras: that their pictures come, and the pictures.

Cameras that are drawn are watched by their ``camera_info``, which comes last with every picture;
drivers of physical ones need not have any, so these are watched by the pictures themselves.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from rl_nodes.core.cameras import CAMERA_INFO, CameraSensorConfig, CameraWatch, Source
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.nodes.picture_topics import KINDS, PictureListening, PictureTopic

PICTURE_S = 0.5  # a picture is drawn and here at the latest this long after the state it shows
WAITING = 30     # messages of one topic of a driver that wait for the node

Keep = Callable[[str, int, bytes], None]
Numbers = Callable[[int | None], None]


class _Driven(PictureTopic):
    """What comes on one topic of a driver until the node fetches it."""

    def __init__(self, name: str, camera: str, source: Source, told: bool,
                 numbers: Numbers | None) -> None:
        super().__init__(name, source.type_name, WAITING)
        self.camera, self.recorded, self.told, self.numbers = (
            camera, source.recorded, told, numbers)
        self.silence, self.odd, self.lost = '', '', 0
        self._heard = False
        self._came: deque[tuple[bytes, int | None]] = deque(maxlen=WAITING)

    def take(self, data: bytes, number: int | None) -> None:
        """Put a message where the node finds it; the oldest make room."""
        self.lost += len(self._came) == WAITING
        self._came.append((data, number))
        self.silence, self._heard = '', True

    def explain(self, silence: str) -> None:
        """See the base class."""
        self.silence = silence

    @property
    def fault(self) -> str:
        """Return what is wrong with what comes, or that nothing ever came, in words."""
        return self.odd or ('' if self._heard or self.type_name == CAMERA_INFO else self.silence)

    def come(self) -> Iterator[tuple[bytes, int | None]]:
        """Go through what has come; called by the node."""
        for _ in range(len(self._came)):
            yield self._came.popleft()


class CameraListener:
    """
    Watches cameras, logs stalls and gives their pictures away.

    :param node: that listens, from its configuration to its cleanup.
    :param cameras: the ones promised.
    :param keep: gets (topic, stamp [ns], serialized message) of every picture, by the names that
        they have in recordings; None for a watch alone.
    :param numbers: returns, for a topic, what gets the numbers of its messages.
    :param drivers: whether the cameras are physical ones.
    """

    def __init__(self, node: ManagedNode, cameras: tuple[CameraSensorConfig, ...],
                 keep: Keep | None, numbers: Callable[[str], Numbers | None],
                 drivers: bool) -> None:
        self._logger, self._clock = node.get_logger(), node.get_clock()
        self._watch = CameraWatch(cameras)
        self._keep = keep
        self._stalled: tuple[str, ...] = ()
        self._driven: list[_Driven] = []
        for camera in cameras:
            for place, source in enumerate(camera.sources(drivers)):
                told = place == 0 if drivers else source.type_name == CAMERA_INFO
                if not told and keep is None:
                    continue
                if drivers:
                    name = node.resolve_topic_name(source.topic)
                    self._driven.append(_Driven(name, camera.name, source, told, numbers(name)))
                else:
                    node.subscribe(
                        KINDS[source.type_name], source.topic,
                        partial(self._on_message, source.topic, camera.name if told else ''),
                        qos.PICTURE, raw=True, numbers=numbers(source.topic))
        self._listening = PictureListening(
            node, 'cameras', self._driven) if self._driven else None
        if self._listening is not None:
            self._listening.start()

    @property
    def complaint(self) -> str:
        """Return which cameras have stalled and what drivers do wrong, in words."""
        return '; '.join((*map(self._described, self._stalled), *(
            f'camera {driven.camera}: {driven.fault}' for driven in self._driven
            if driven.fault and driven.camera not in self._stalled)))

    @property
    def lost(self) -> int:
        """Return how many messages of drivers came while the node fetched none."""
        return sum(driven.lost for driven in self._driven)

    def state(self) -> tuple[str, ...]:
        """Take note of a state of the robot; return the names of the stalled cameras."""
        self.fetch()
        self._watch.state(steady_ns())
        before, self._stalled = self._stalled, self._watch.stalled()
        for name in self._stalled:
            if name not in before:
                self._logger.error(self._described(name))
        for name in before:
            if name not in self._stalled:
                self._logger.info(f'camera {name} sends pictures')
        return self._stalled

    def fetch(self) -> None:
        """
        Take what drivers have sent.

        What is not stamped by the clock of the states belongs to no episode that could be told,
        and counts as nothing.
        """
        for driven in self._driven:
            for data, number in driven.come():
                if driven.numbers is not None:
                    driven.numbers(number)
                late_s = (self._clock.now().nanoseconds - header_stamp_ns(data)) / NS
                if abs(late_s) <= PICTURE_S:
                    driven.odd = ''
                    self._on_message(driven.recorded, driven.camera if driven.told else '', data)
                else:
                    driven.odd = (
                        f'what comes on {driven.name} is stamped {abs(late_s):.2f} s '
                        f'{"before" if late_s > 0 else "after"} it comes, allowed are {PICTURE_S} '
                        's: by another clock than the states, or long on its way')

    def close(self) -> None:
        """Take what has come and let go of the drivers' topics."""
        if self._listening is not None:
            self._listening.close()
            self.fetch()

    def _described(self, name: str) -> str:
        why = next((driven.odd or driven.silence for driven in self._driven
                    if driven.camera == name and driven.told), '')
        return self._watch.describe(name) + (f': {why}' if why else '')

    def _on_message(self, topic: str, told: str, data: bytes) -> None:
        if told:
            self._watch.picture(told)
        if self._keep is not None:
            self._keep(topic, header_stamp_ns(data), data)
