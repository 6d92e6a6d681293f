# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the safety monitor tells and keeps of its interventions.

Each decision but PASS is a message on ``safety/decision``, stamped like the state that it was made
for: ``frame_id`` is ``<level>/<check>``, as in ``clamp/velocity``, and the named values are
``level``, ``requested/<joint>`` and ``executed/<joint>``; the latter two where there were such.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes import conversions, joint_state
from rl_nodes.safety.events import ASIDE, BlackBox, decision_name
from rl_nodes.safety.verdict import Level, Verdict
from rl_nodes.tasks.base import Task

DECISION = 'safety/decision'
_LEVEL, _REQUESTED, _EXECUTED = 'level', 'requested/', 'executed/'
CLOSE_S = 0.5   # for the file of the newest incident, when the node ends


class Decision(NamedTuple):
    """
    A decision other than PASS.

    :param stamp_ns: of the state that it was made for [ns].
    :param name: ``<level>/<check>``.
    :param level: how grave.
    :param requested: by joint, what was asked for; empty where that was no command.
    :param executed: by joint, what the robot got in its place; empty for nothing.
    """

    stamp_ns: int
    name: str
    level: Level
    requested: dict[str, float]
    executed: dict[str, float]


def decision_to_msg(stamp_ns: int, verdict: Verdict, joints: tuple[str, ...]) -> bytes:
    """
    Return the serialized message of a decision.

    :param joints: names of the commanded joints.
    """
    names, values = [_LEVEL], [np.array([float(verdict.level)])]
    executed = verdict.instead if verdict.allowed is None else verdict.allowed
    for prefix, value in ((_REQUESTED, verdict.requested), (_EXECUTED, executed)):
        if value is not None and len(value) == len(joints):
            names += [prefix + joint for joint in joints]
            values.append(value)
    return joint_state.encode(stamp_ns, decision_name(verdict.level, verdict.check),
                              tuple(names), np.concatenate(values))


def msg_to_decision(data: bytes) -> Decision:
    """
    Return the decision in a serialized message.

    :raises SpecError: it is none.
    """
    msg = joint_state.decode(data)
    values = dict(zip(msg.name, msg.position.tolist()))
    level = values.get(_LEVEL)
    if level not in set(Level) or len(msg.name) != len(msg.position):
        raise SpecError(f'{msg.header.frame_id}: level {level}, {len(msg.name)} names of '
                        f'{len(msg.position)} values; that is no decision')
    parts = [{name.removeprefix(prefix): value for name, value in values.items()
              if name.startswith(prefix)} for prefix in (_REQUESTED, _EXECUTED)]
    return Decision(conversions.stamp_to_ns(msg.header.stamp), msg.header.frame_id, Level(level),
                    *parts)


def intervenes(verdict: Verdict) -> bool:
    """Return whether a decision is to be told."""
    return verdict.level > Level.PASS and verdict.check not in ASIDE


class EventKeeper:
    """
    The monitor's memory and its files; without a directory it does nothing.

    :param directory: where the files go; empty for none.
    :param task: of the robot.
    :param topics: type name by topic of what will be seen.
    :param notes: for the metadata of each file.
    :raises RecordingError: a type is not installed.
    """

    def __init__(self, directory: str, task: Task, topics: dict[str, str],
                 notes: dict[str, str]) -> None:
        self.keeps = bool(directory)
        if directory:  # what writes files is loaded only where it is wanted
            from rl_nodes.data.event_log import EventLog
            self._log = EventLog(Path(directory), task.contract, notes, topics)
            self._box = BlackBox(self._log)

    def see(self, topic: str, data: bytes) -> None:
        """Take what came or went."""
        if self.keeps:
            self._box.see(topic, steady_ns(), data)

    def decide(self, verdict: Verdict) -> None:
        """Take a decision whose message has been seen."""
        if self.keeps:
            self._box.decide(verdict.level, verdict.check, steady_ns())

    def tick(self) -> None:
        """End the incident under way when its time is over."""
        if self.keeps:
            self._box.tick(steady_ns())

    def close(self) -> None:
        """Complete what is under way."""
        if self.keeps:
            self._box.close()
            self._log.close(CLOSE_S)

    def health(self) -> dict[str, Any]:
        """Return what became of the files."""
        return {'event_files': self._log.files, 'events_left_out': self._box.left_out,
                'event_messages_dropped': self._log.dropped,
                'event_log_error': self._log.error} if self.keeps else {}
