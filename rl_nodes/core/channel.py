# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Imperfections of a link between robot and policy, for simulation in real time.

Pure and repeatable: time is handed in and randomness comes from a seed. Every message draws, in
the order sent, whether it is lost, whether it is duplicated, and the latency of each copy.
Messages overtake each other where their latencies say so.
"""

from collections import Counter
import heapq
from typing import Annotated, Any

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.config import load
from rl_nodes.core.resources import find_config
from rl_nodes.core.timing import NS

MS = NS // 1000
Milliseconds = Annotated[float, Meta(ge=0, le=10_000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class LinkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One direction of a channel.

    :param latency_ms: constant part of the latency.
    :param jitter_ms: standard deviation of a normal part; a latency below zero is drawn as zero.
    :param table: measured latencies instead: (percentile 0 to 100, latency [ms]), both rising,
        the first at 0 and the last at 100; linear in between.
    :param loss: share of messages that never arrive.
    :param duplicate: share of the others that arrive twice, each copy with its own latency.
    """

    latency_ms: Milliseconds = 0.0
    jitter_ms: Milliseconds = 0.0
    table: tuple[tuple[Annotated[float, Meta(ge=0, le=100)], Milliseconds], ...] = ()
    loss: Share = 0.0
    duplicate: Share = 0.0

    def __post_init__(self) -> None:
        if not self.table:
            return
        if self.latency_ms or self.jitter_ms:
            raise ValueError('table replaces latency_ms and jitter_ms; give one or the other')
        ranks, values = zip(*self.table)
        if ranks[0] != 0 or ranks[-1] != 100 or list(ranks) != sorted(set(ranks)) \
                or list(values) != sorted(values):
            raise ValueError(f'table has the percentiles {list(ranks)} with {list(values)} ms; '
                             'expected both rising, from percentile 0 to percentile 100')

    @property
    def ideal(self) -> bool:
        """Return whether nothing is changed."""
        return self == LinkSettings()


class ChannelSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Both directions between a robot and the nodes that command it.

    :param states: what the robot measures, on its way out.
    :param commands: commands on their way to the robot.
    """

    states: LinkSettings = LinkSettings()
    commands: LinkSettings = LinkSettings()

    @property
    def ideal(self) -> bool:
        """Return whether nothing is changed."""
        return self.states.ideal and self.commands.ideal


class ChannelFile(Struct, frozen=True, forbid_unknown_fields=True):
    """
    ``config/channels/<channel>.yaml``.

    :param channel: see :class:`ChannelSettings`.
    """

    channel: ChannelSettings


def load_channel(name: str) -> ChannelSettings:
    """
    Return the settings of a channel.

    :param name: a name in ``config/channels`` or a path to a YAML file.
    :raises ConfigError: no such file, or it is wrong.
    """
    return load(find_config('channels', name), ChannelFile).channel


class Channel:
    """
    One direction of a link.

    :param settings: see :class:`LinkSettings`.
    :param seed: the same seed gives the same fate to the same sequence of messages.
    :ivar counts: sent, lost, duplicated, delivered and reordered (delivered after a later one).
    """

    def __init__(self, settings: LinkSettings, seed: int | list[int]) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._ranks, self._table_ms = (np.array(column, np.float64) for column in (
            zip(*settings.table) if settings.table else ((0.0,), (0.0,))))
        self._queue: list[tuple[int, int, int, Any]] = []  # due [ns], copy, message, item
        self._copies = 0
        self._latest = 0
        self.counts = Counter(dict.fromkeys(
            ('sent', 'lost', 'duplicated', 'delivered', 'reordered'), 0))

    def send(self, item: Any, now_ns: int) -> None:
        """
        Hand over a message.

        :param now_ns: steady time [ns].
        """
        self.counts['sent'] += 1
        lost, twice = self._rng.random(2)
        latencies = [self._latency_ns(), self._latency_ns()]  # always drawn: fates stay aligned
        if lost < self._settings.loss:
            self.counts['lost'] += 1
            return
        if twice < self._settings.duplicate:
            self.counts['duplicated'] += 1
        else:
            latencies.pop()
        for latency_ns in latencies:
            self._copies += 1
            heapq.heappush(self._queue,
                           (now_ns + latency_ns, self._copies, self.counts['sent'], item))

    def receive(self, now_ns: int) -> list[Any]:
        """Return the messages that have arrived by ``now_ns`` (steady), in order of arrival."""
        arrived = []
        while self._queue and self._queue[0][0] <= now_ns:
            _, _, number, item = heapq.heappop(self._queue)
            self.counts['delivered'] += 1
            self.counts['reordered'] += number < self._latest
            self._latest = max(self._latest, number)
            arrived.append(item)
        return arrived

    @property
    def next_ns(self) -> int | None:
        """Return the steady time of the next arrival [ns], or None while nothing is under way."""
        return self._queue[0][0] if self._queue else None

    def clear(self) -> None:
        """Forget what is under way."""
        self._queue.clear()

    def _latency_ns(self) -> int:
        settings = self._settings
        if settings.table:
            milliseconds = float(np.interp(self._rng.random() * 100, self._ranks, self._table_ms))
        else:
            milliseconds = settings.latency_ms + settings.jitter_ms * self._rng.standard_normal()
        return round(max(milliseconds, 0.0) * MS)
