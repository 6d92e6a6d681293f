# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What recorded episodes, or a running graph, tell about the way from a state to its command.

Measured where the recorder sits, which is beside the nodes that command the robot:

* ``states``: from a state's stamp (sampled on the robot) to its arrival. Both are system time, so
  robot and recorder must share a machine or have synchronised clocks.
* ``commands``: from the arrival of a state to the arrival of the command that answers it, with
  inference and the safety monitor; the way on to the robot is not seen by a recorder. A simulation
  with this channel adds its own answer time again, so it is slower than reality, never faster.
  Of these, ``policy`` is the time until the policy's command arrives and ``safety`` the time from
  there until the one that the safety monitor let through does.
* ``arrival``: from when that was sent to its arrival, in a running graph, which knows both.
* ``total``: from a state's stamp to the arrival of the command that answers it.

Lost are states that should lie between two recorded ones of an episode (by the control rate), and
states before the last answered one that nobody answered. Duplicated are repeated stamps. Episodes
in lockstep tell nothing, because their stamps are simulated time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.channel import LinkSettings
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.reader import Episode, episode_files, read_episode

STATES, WANTED, COMMANDS = 'joint_states', 'policy/joint_command', 'joint_command'
TOPICS = (STATES, WANTED, COMMANDS)
ARRIVED = 'arrival'  # of a message on COMMANDS, where the others are known by when they were sent
SIMULATED_S = 60.0  # a stamp this far from the wall clock is simulated time
PERCENTILES = (0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
WAYS = {'states': 'a state is sampled -> it arrives (live: it is sent)',
        'policy': "-> the policy's command", 'safety': '-> the safe command',
        'arrival': '-> that arrives', 'commands': 'policy + safety',
        'total': 'a state is sampled -> the safe command arrives'}
EARLY = {'states': 'arrived before they were sent; the clocks of robot and recorder do not agree',
         'commands': 'were recorded before their states; the recorder was busy'}
SHOWN = (('p50', 50.0), ('p99', 99.0), ('p99.9', 99.9), ('max', 100.0))


class ListenOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Arguments of ``rl_nodes latency live``.

    :param seconds: how long to listen, from the first state on
    :param timeout_s: how long to wait for that one
    :param namespace: of the robot; empty for the root
    """

    seconds: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 5.0
    namespace: str = ''


@dataclass
class LinkMeasurement:
    """
    One direction.

    :param latency_ms: of every message that arrived first [ms]; negative ones are kept.
    :param expected: messages that should have arrived.
    :param lost: of these.
    :param duplicated: messages that arrived again.
    """

    latency_ms: list[float] = field(default_factory=list)
    expected: int = 0
    lost: int = 0
    duplicated: int = 0

    @property
    def early(self) -> int:
        """Return how many arrived before they were sent: clocks that do not agree."""
        return sum(value < 0 for value in self.latency_ms)

    def percentile(self, rank: float) -> float:
        """Return a percentile of the latency [ms], negative ones taken as zero."""
        return float(np.percentile(np.maximum(self.latency_ms, 0.0), rank))

    def settings(self) -> LinkSettings:
        """Return the link that behaves like this."""
        table = tuple((rank, round(self.percentile(rank), 4)) for rank in PERCENTILES)
        arrived = max(self.expected - self.lost, 1)
        return LinkSettings(table=table, loss=round(self.lost / max(self.expected, 1), 6),
                            duplicate=round(min(self.duplicated / arrived, 1.0), 6))


class Arrivals:
    """
    When messages came that belong to the same states, by topic and stamp.

    :ivar first: topic -> stamp [ns] -> when [ns], on the wall clock; recorded ones by their
        arrival, live ones by when they were sent, with the last arrival beside them.
    :ivar again: topic -> how many came once more.
    """

    def __init__(self) -> None:
        self.first: dict[str, dict[int, int]] = {
            topic: {} for topic in (*TOPICS, ARRIVED)}
        self.again = dict.fromkeys(self.first, 0)

    def add(self, topic: str, stamp_ns: int, at_ns: int) -> None:
        """Take note of a message."""
        if stamp_ns in self.first[topic]:
            self.again[topic] += 1
        else:
            self.first[topic][stamp_ns] = at_ns

    def waits_ms(self, before: str, after: str) -> list[float]:
        """Return the times from one topic's message to another's of the same stamp [ms]."""
        begun = self.first[before]
        return [(at - begun[stamp]) / 1e6 for stamp, at in self.first[after].items()
                if stamp in begun]

    def ages_ms(self, topic: str) -> list[float]:
        """Return the times from the stamp to the arrival [ms]; none where time is simulated."""
        ages = [(at - stamp) / 1e6 for stamp, at in self.first[topic].items()]
        return ages if abs(ages[0] if ages else 0.0) < SIMULATED_S * 1e3 else []


@dataclass
class ChannelMeasurement:
    """
    Both directions, and from how many episodes they were measured.

    :ivar parts: of the way, by name; empty ones were not measured.
    """

    states: LinkMeasurement = field(default_factory=LinkMeasurement)
    commands: LinkMeasurement = field(default_factory=LinkMeasurement)
    parts: dict[str, LinkMeasurement] = field(default_factory=lambda: {
        name: LinkMeasurement() for name in ('policy', 'safety', 'arrival', 'total')})
    episodes: int = 0

    def add(self, arrivals: Arrivals, period_ns: float) -> None:
        """
        Count one episode's messages.

        :param period_ns: between two states [ns].
        """
        self.episodes += 1
        states, commands = arrivals.first[STATES], arrivals.first[COMMANDS]
        self.states.duplicated += arrivals.again[STATES]
        self.commands.duplicated += arrivals.again[COMMANDS]
        self.states.latency_ms += arrivals.ages_ms(STATES)
        self.commands.latency_ms += arrivals.waits_ms(STATES, COMMANDS)
        self.parts['policy'].latency_ms += arrivals.waits_ms(STATES, WANTED)
        self.parts['safety'].latency_ms += arrivals.waits_ms(WANTED, COMMANDS)
        self.parts['arrival'].latency_ms += arrivals.waits_ms(COMMANDS, ARRIVED)
        self.parts['total'].latency_ms += arrivals.ages_ms(
            ARRIVED if arrivals.first[ARRIVED] else COMMANDS)
        stamps = sorted(states)
        missing = sum(max(round((after - before) / period_ns) - 1, 0)
                      for before, after in zip(stamps, stamps[1:]))
        self.states.expected += len(stamps) + missing
        self.states.lost += missing
        answered = [stamp for stamp in commands if stamp in states]
        if answered:
            due = [stamp for stamp in stamps if min(answered) <= stamp <= max(answered)]
            self.commands.expected += len(due)
            self.commands.lost += len(due) - len(answered)

    def links(self) -> tuple[tuple[str, LinkMeasurement], ...]:
        """Return (name, measurement) of both directions."""
        return ('states', self.states), ('commands', self.commands)


def measure(inputs: Iterable[str | Path]) -> ChannelMeasurement:
    """
    Measure recorded episodes.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :raises RecordingError: no episode, a damaged one, one in lockstep, or nothing answered.
    """
    result = ChannelMeasurement()
    for path in episode_files(inputs):
        _add(result, read_episode(path))
    for name, link in result.links():
        if not link.latency_ms:
            raise RecordingError(f'the {result.episodes} episodes hold no {name} with a latency; '
                                 f'expected messages on {STATES} and {COMMANDS}')
    return result


def to_yaml(measured: ChannelMeasurement, sources: Sequence[str]) -> str:
    """
    Return the text of a ``config/channels`` file.

    :param sources: what was measured, for the comment at its top.
    """
    lines = [f'# Measured from {measured.episodes} episodes: {", ".join(sources)}', 'channel:']
    for name, link in measured.links():
        settings = link.settings()
        lines += [f'  {name}:', f'    loss: {settings.loss}',
                  f'    duplicate: {settings.duplicate}',
                  '    table:  # percentile, latency [ms]',
                  *(f'      - [{rank}, {value}]' for rank, value in settings.table)]
    return '\n'.join(lines) + '\n'


def describe(measured: ChannelMeasurement) -> str:
    """Return a table for people."""
    rows = {**dict(measured.links()), **measured.parts}
    lines = [f'{"":<10}' + ''.join(f'{name:>10}' for name, _ in SHOWN)
             + f'{"lost":>9}{"twice":>8}{"N":>9}   [ms]']
    for name in WAYS:
        if rows[name].latency_ms:
            counts = (f'{rows[name].lost:>9}{rows[name].duplicated:>8}'
                      if name not in measured.parts else ' ' * 17)
            lines.append(f'{name:<10}' + ''.join(
                f'{rows[name].percentile(rank):>10.3f}' for _, rank in SHOWN)
                + f'{counts}{len(rows[name].latency_ms):>9}   {WAYS[name]}')
    lines += [f'note: {link.early} {name} {EARLY[name]}' for name, link in measured.links()
              if link.early]
    return '\n'.join(lines)


def _add(result: ChannelMeasurement, episode: Episode) -> None:
    notes = json.loads(episode.metadata.get('notes', '{}'))
    if notes.get('stepping') == 'lockstep':
        raise RecordingError(f'{episode.path} was recorded in lockstep: its stamps are simulated '
                             'time and tell no latency; record with stepping:=realtime')
    arrivals = Arrivals()
    for message in episode.messages(TOPICS):
        arrivals.add(message.topic, header_stamp_ns(message.data), message.log_time_ns)
    result.add(arrivals, episode.period_ns)
