# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Hears any topics, serialized, away from those that make transitions.

Topics are looked for while it runs; each is asked for no more than its publishers offer. One type
per topic: whatever brings another is named, and nothing more is taken from that topic.
"""

from collections.abc import Collection
from importlib import import_module
import time
from typing import Any, Protocol

from rclpy._rclpy_pybind11 import RCLError
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.mcap_format import MAX_MESSAGE_BYTES
from rl_nodes.data.schemas import message_schema
from rl_nodes.data.topic_choice import TopicChoice
from rl_nodes.data.topic_watch import stamp_skew_s, TopicWatch
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.nodes.listening import Listening

LOOK_NS = NS // 4       # topics are looked for this often
BURST = 50              # messages of one topic that are taken before the next has its turn
MOST_TOPICS = 256
DEPTH = 2000            # of queues; 1 s of freezing at 1 kHz loses nothing
LARGE_DEPTH = 60        # of queues for messages of megabytes
SHARED = frozenset(('diagnostics', 'parameter_events', 'rosout', 'tf', 'tf_static'))
LARGE = frozenset(f'sensor_msgs/msg/{name}' for name in
                  ('CompressedImage', 'Image', 'PointCloud', 'PointCloud2'))


class Records(Protocol):
    """Where messages go; called in the thread of the listener."""

    def add_topic(self, topic: str, type_name: str, qos: str, latched: int) -> None:
        """Announce a topic, again when what is offered has changed; see ``EpisodeLog``."""

    def end_topic(self, topic: str) -> None:
        """Take note that nothing more of a topic will come."""

    def add(self, topic: str, data: bytes, sent_ns: int) -> None:
        """Take a serialized message."""

    def note_fault(self, why: str) -> None:
        """Take note of what is wrong, once for each reason."""


class _Heard:
    """One topic."""

    def __init__(self, name: str, kind: type, type_name: str, stamped: bool) -> None:
        self.name, self.kind, self.type_name, self.stamped = name, kind, type_name, stamped
        self.offers: list[QoSProfile] = []
        self.asked: QoSProfile | None = None
        self.subscription: Subscription | None = None
        self.watch = TopicWatch()


class TopicListener(Listening):
    """
    Hears all topics of a choice but those that are heard already.

    :param node: for whom; its namespace is what names are relative to.
    :param choice: the topics.
    :param heard_already: names relative to the namespace.
    :param records: gets what is heard.
    """

    def __init__(self, node: ManagedNode, choice: TopicChoice, heard_already: Collection[str],
                 records: Records) -> None:
        super().__init__(node, 'topics')
        self._choice, self._others, self._records = choice, frozenset(heard_already), records
        self._logger = node.get_logger()
        self._inside = node.get_namespace().rstrip('/') + '/'
        self._heard: dict[str, _Heard] = {}
        self._refused: dict[str, str] = {}
        self._look_ns = 0
        self.start()

    @property
    def complaint(self) -> str:
        """Return what is not as it should be, in words; empty where nothing is."""
        now_ns = steady_ns()
        slow = [f'{name} {watch.condition(now_ns)}' for name, watch in self.watches().items()
                if watch.condition(now_ns) != 'OK']
        return '; '.join([*self._refused.values(), *slow])

    def watches(self) -> dict[str, TopicWatch]:
        """Return how the topics do that are heard, by name."""
        return {heard.name: heard.watch for heard in list(self._heard.values())}

    def values(self) -> dict[str, Any]:
        """Return it for a status topic."""
        watches, now_ns = self.watches(), steady_ns()
        unheard = [name for name in self._choice.names if name not in self._others
                   and name.strip('/') not in {found.strip('/') for found in watches}]
        return {'topics': len(watches), 'topics_refused': len(self._refused),
                'topics_unheard': ' '.join(unheard),
                'topics_skew_ms': round(stamp_skew_s(watches.values()) * 1e3, 3),
                **{f'topic {name}': watch.summary(now_ns) for name, watch in watches.items()}}

    # --- in the thread --------------------------------------------------------------------------

    def subscriptions(self) -> list[Subscription]:
        """See the base class; topics are looked for."""
        if steady_ns() >= self._look_ns:
            self._look()
            self._look_ns = steady_ns() + LOOK_NS
        return [heard.subscription for heard in self._heard.values()]

    def take(self) -> None:
        """See the base class."""
        for heard in self._heard.values():
            for _ in range(BURST):
                taken = heard.subscription.handle.take_message(heard.kind, True)
                if taken is None:
                    break
                self._take(heard, *taken)

    def _take(self, heard: _Heard, data: bytes, info: dict[str, Any]) -> None:
        if len(data) > MAX_MESSAGE_BYTES:
            self._tell(f'{heard.name}: a message of {len(data)} bytes, at most '
                       f'{MAX_MESSAGE_BYTES} are kept')
        self._records.add(heard.name, data, info['source_timestamp'])
        age_ns = (time.time_ns() - header_stamp_ns(data)
                  if heard.stamped and len(data) >= 12 else None)
        lost, watch = heard.watch.lost, heard.watch
        watch.came(steady_ns(), info['publication_sequence_number'], age_ns)
        if watch.lost > lost:
            self._tell(f'{heard.name}: messages were lost on the way')
        if watch.crowded and heard.name.rpartition('/')[2] not in SHARED:
            self._tell(f'{heard.name} has several publishers; all of them are recorded')

    def _tell(self, why: str) -> None:
        """Name what is wrong, in each episode that it happens in."""
        self._records.note_fault(why)

    # --- which topics there are -----------------------------------------------------------------

    def _look(self) -> None:
        now_ns = steady_ns()
        for heard in self._heard.values():
            if heard.watch.condition(now_ns) == 'STALLED':
                self._tell(f'{heard.name} stalled')
        for full, _ in self._node.get_topic_names_and_types():
            name = full.removeprefix(self._inside)
            if name in self._others or name in self._refused \
                    or not self._choice.fits(full, self._inside):
                continue
            offers = self._node.get_publishers_info_by_topic(full)
            if not offers:
                continue
            types = sorted({offer.topic_type for offer in offers})
            heard = self._heard.get(full)
            if len(types) > 1 or (heard is not None and types != [heard.type_name]):
                before = '' if heard is None else f', recorded as {heard.type_name} so far'
                self._refuse(full, name, f'is published as {" and ".join(types)}{before}; a topic '
                             'has one type')
                continue
            try:
                self._hear(full, name, types[0], [offer.qos_profile for offer in offers])
            except (RecordingError, RCLError) as error:
                self._refuse(full, name, str(error))

    def _hear(self, full: str, name: str, type_name: str, offers: list[QoSProfile]) -> None:
        heard = self._heard.get(full)
        if heard is None:
            if len(self._heard) >= MOST_TOPICS:
                raise RecordingError(f'there are {MOST_TOPICS} topics already; choose fewer')
            heard = _Heard(name, _message_class(type_name), type_name,
                           message_schema(type_name).stamped)
        if heard.offers == offers:
            return
        asked = qos.to_hear(offers, LARGE_DEPTH if type_name in LARGE else DEPTH)
        self._records.add_topic(
            name, type_name, qos.described(offers),
            latched=len(offers) if asked.durability == qos.LATCHED.durability else 0)
        if heard.asked != asked:
            if heard.subscription is not None:
                self._node.destroy_subscription(heard.subscription)
            heard.subscription = self.hear(heard.kind, full, asked)
        heard.offers, heard.asked = offers, asked
        self._heard[full] = heard

    def _refuse(self, full: str, name: str, why: str) -> None:
        heard = self._heard.pop(full, None)
        if heard is not None:
            self._node.destroy_subscription(heard.subscription)
        self._records.end_topic(name)
        self._refused[name] = f'{name} is not recorded: {why}'
        self._logger.error(self._refused[name])
        self._tell(self._refused[name])


def _message_class(type_name: str) -> type:
    """
    Return the class of a message type.

    :raises RecordingError: it is not installed for Python.
    """
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise RecordingError(f'{type_name} cannot be received: {error}; install the package '
                             f'{package} or source its workspace') from None
