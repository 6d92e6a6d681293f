# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What recorded episodes tell about the link between robot and policy.

Measured where the recorder sits, which is beside the nodes that command the robot:

* ``states``: from a state's stamp (sampled on the robot) to its arrival. Both are system time, so
  robot and recorder must share a machine or have synchronised clocks.
* ``commands``: from the arrival of a state to the arrival of the command that answers it, with
  inference and the safety monitor; the way on to the robot is not seen by a recorder. A simulation
  with this channel adds its own answer time again, so it is slower than reality, never faster.

Lost are states that should lie between two recorded ones of an episode (by the control rate), and
states before the last answered one that nobody answered. Duplicated are repeated stamps. Episodes
in lockstep tell nothing, because their stamps are simulated time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path

import numpy as np
from rl_nodes.core.channel import LinkSettings
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.reader import Episode, episode_files, read_episode

STATES, COMMANDS = 'joint_states', 'joint_command'
PERCENTILES = (0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
SHOWN = (('p50', 50.0), ('p99', 99.0), ('p99.9', 99.9), ('max', 100.0))


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


@dataclass
class ChannelMeasurement:
    """Both directions, and from how many episodes they were measured."""

    states: LinkMeasurement = field(default_factory=LinkMeasurement)
    commands: LinkMeasurement = field(default_factory=LinkMeasurement)
    episodes: int = 0

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
    lines = [f'{"":<10}' + ''.join(f'{name:>10}' for name, _ in SHOWN)
             + f'{"lost":>9}{"twice":>8}{"N":>9}   [ms]']
    for name, link in measured.links():
        lines.append(f'{name:<10}' + ''.join(f'{link.percentile(rank):>10.3f}'
                                             for _, rank in SHOWN)
                     + f'{link.lost:>9}{link.duplicated:>8}{len(link.latency_ms):>9}')
    lines += [f'note: {link.early} {name} arrived before they were sent; the clocks of robot and '
              'recorder do not agree' for name, link in measured.links() if link.early]
    return '\n'.join(lines)


def _add(result: ChannelMeasurement, episode: Episode) -> None:
    notes = json.loads(episode.metadata.get('notes', '{}'))
    if notes.get('stepping') == 'lockstep':
        raise RecordingError(f'{episode.path} was recorded in lockstep: its stamps are simulated '
                             'time and tell no latency; record with stepping:=realtime')
    arrived: dict[str, dict[int, int]] = {STATES: {}, COMMANDS: {}}
    links = {STATES: result.states, COMMANDS: result.commands}
    for message in episode.messages((STATES, COMMANDS)):
        stamp = header_stamp_ns(message.data)
        if stamp in arrived[message.topic]:
            links[message.topic].duplicated += 1
        else:
            arrived[message.topic][stamp] = message.log_time_ns
    result.episodes += 1
    states, commands = arrived[STATES], arrived[COMMANDS]
    result.states.latency_ms += [(at - stamp) / 1e6 for stamp, at in states.items()]
    answered = [stamp for stamp in commands if stamp in states]
    result.commands.latency_ms += [(commands[stamp] - states[stamp]) / 1e6 for stamp in answered]
    factor = float(notes.get('real_time_factor', 0)) or 1.0
    period_ns = NS / episode.contract.rate_hz / factor
    stamps = sorted(states)
    missing = sum(max(round((after - before) / period_ns) - 1, 0)
                  for before, after in zip(stamps, stamps[1:]))
    result.states.expected += len(stamps) + missing
    result.states.lost += missing
    if answered:
        due = [stamp for stamp in stamps if min(answered) <= stamp <= max(answered)]
        result.commands.expected += len(due)
        result.commands.lost += len(due) - len(answered)
