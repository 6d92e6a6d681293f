# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the recorder keeps beside transitions: further topics, and the last seconds of all."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from rl_nodes.core.timing import steady_ns
from rl_nodes.data.episode_file import EpisodeStart
from rl_nodes.data.episode_log import EpisodeLog
from rl_nodes.data.ring import EventRing, EVENTS_FOLDER
from rl_nodes.data.topic_choice import TopicChoice
from rl_nodes.data.topic_watch import Senders, TopicWatch
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.joint_state import deserialize
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.nodes.state_topics import JOINTS
from rl_nodes.nodes.topic_listener import TopicListener
from rl_nodes.safety.supervisor import LIFECYCLE, Mode
from std_srvs.srv import Trigger

DERIVED = 'experience'      # can be had again from what is recorded
CLOSE_S = 1.0
LOW_MB = 1024               # of free disk; recording ends below 64
LOOK_PERIOD_S = 0.5         # states that stall are noted so soon


class WiderRecording:
    """
    Hands further topics to the log, and all that is heard to a ring.

    :param node: that records, from its configuration to its cleanup.
    :param log: of the episodes.
    :param topics: type name by topic of what the node itself records.
    :param heard: topics that it hears and records by another name.
    :param choice: which further topics.
    :param directory: of the episodes.
    :param start: provenance of files of events.
    :param keep_last_s: how far back these reach; 0 for none [s].
    :param rate_hz: of states, on the steady clock; 0 where they keep no pace.
    """

    def __init__(self, node: ManagedNode, log: EpisodeLog, topics: Mapping[str, str],
                 heard: Collection[str], choice: TopicChoice, directory: Path,
                 start: EpisodeStart, keep_last_s: float, rate_hz: float) -> None:
        self._node, self._log = node, log
        self._told: set[str] = set()
        self._mode = Mode.STOPPED.value     # a monitor starts so
        self._states = TopicWatch(rate_hz)
        self._ring = EventRing(directory / EVENTS_FOLDER, start,
                               keep_last_s) if keep_last_s else None
        if self._ring is not None:
            for topic, type_name in topics.items():
                self._ring.add_topic(topic, type_name, log.qos(topic))
            node.serve(Trigger, 'save_event', lambda _request: self._save('asked for'))
        self._listener = (
            TopicListener(node, choice, {*topics, *heard, DERIVED}, self) if choice else None)
        self._senders: dict[str, Senders] = {}
        node.every(LOOK_PERIOD_S, self._look)

    # --- what the node itself hears -------------------------------------------------------------

    def heard(self, topic: str, data: bytes) -> None:
        """Keep a message for the event that may come."""
        if topic == JOINTS:
            self._states.came(steady_ns())
        if self._ring is not None:
            now_ns = time.time_ns()
            self._ring.add(topic, data, now_ns, now_ns)

    def safety(self, data: bytes) -> None:
        """Have the last seconds written when the safety monitor stops."""
        if self._ring is None:
            return
        values = conversions.status_values(deserialize(data, DiagnosticArray))
        before, self._mode = self._mode, values.get('mode', self._mode)
        if self._mode == Mode.STOPPED.value != before and values.get('check') not in LIFECYCLE:
            self._save(f'stop by {values.get("check", "the safety monitor")}: '
                       f'{values.get("reason", "")}')

    def _save(self, why: str) -> tuple[bool, str]:
        done, message = self._ring.write(why)
        self._node.get_logger().info(message)
        return done, message

    def numbers(self, topic: str) -> Callable[[int | None], None]:
        """Return what gets the numbers of a topic's messages: two who send make them worthless."""
        senders = self._senders[topic] = Senders()

        def came(number: int | None) -> None:
            if senders.came(steady_ns(), number):
                self._crowded(topic)
        return came

    def _crowded(self, topic: str) -> None:
        self._log.note_fault(f'{topic} has several publishers', void=True)
        self._name(f'{topic} has several publishers; episodes of this time are void')

    def _look(self) -> None:
        for topic, senders in self._senders.items():
            if not senders.numbered and self._node.count_publishers(topic) > 1:
                self._crowded(topic)
        if self._states.condition(steady_ns()) == 'STALLED' and self._states.count:
            self._log.note_fault(f'{JOINTS} stalled', void=False)

    # --- what the listener hears, in its thread -------------------------------------------------

    def add_topic(self, topic: str, type_name: str, qos: str, latched: int) -> None:
        """Announce a topic."""
        self._log.add_topic(topic, type_name, qos, latched)
        if self._ring is not None:
            self._ring.add_topic(topic, type_name, qos)

    def end_topic(self, topic: str) -> None:
        """Take note that nothing more of a topic will come."""
        self._log.end_topic(topic)

    def add(self, topic: str, data: bytes, sent_ns: int) -> None:
        """Keep a message."""
        self._log.add_now(topic, data, sent_ns)
        if self._ring is not None:
            self._ring.add(topic, data, time.time_ns(), sent_ns)

    def note_fault(self, why: str) -> None:
        """Name what is wrong: in the log once, and in every episode that it happens in."""
        self._log.note_fault(why, void=False)
        self._name(why)

    # --- status and end -------------------------------------------------------------------------

    @property
    def complaint(self) -> str:
        """Return what is not as it should be, in words; empty where nothing is."""
        found = [self._listener.complaint] if self._listener is not None else []
        if self._ring is not None:
            found.append(self._ring.error)
        if self._states.count and self._states.condition(steady_ns()) != 'OK':
            found.append(f'{JOINTS} {self._states.condition(steady_ns())}')
        free_mb = self._log.disk().get('disk_free_mb', LOW_MB)
        if free_mb < LOW_MB:
            found.append(f'{free_mb} MB of the disk are free')
        return '; '.join(filter(None, found))

    def values(self) -> dict[str, Any]:
        """Return it for a status topic."""
        values = {f'topic {JOINTS}': self._states.summary(steady_ns()), **self._log.disk()}
        if self._listener is not None:
            values |= self._listener.values()
        if self._ring is not None:
            values |= {'events': self._ring.written,
                       'ring_mb': round(self._ring.kept_bytes / 2**20, 1)}
        return values

    def close(self) -> None:
        """Take what has come and write what is to be written."""
        if self._listener is not None:
            self._listener.close()
        if self._ring is not None:
            self._ring.close(CLOSE_S)

    def _name(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            self._node.get_logger().error(why)


def own_qos(topics: Mapping[str, str], profiles: Mapping[str, QoSProfile],
            other: QoSProfile) -> dict[str, str]:
    """
    Return the offered profiles of the graph's own topics as recordings carry them.

    :param profiles: by topic.
    :param other: of all topics that are not among these.
    """
    return {topic: qos.described([profiles.get(topic, other)]) for topic in topics}
