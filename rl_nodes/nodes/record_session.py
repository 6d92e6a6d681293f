# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Record session: counts the demonstrations that were kept, and ends the graph after enough of them.

It only listens. At the end (also on Ctrl-C) it says what the recording is worth and what to do
with it.

Parameters: robot, task, stepping, autostart, episodes, directory, report, unattended,
start_timeout_s (see below).
Subscribes: recorder/status, safety/state, teleop/status (diagnostic_msgs/DiagnosticArray,
LATCHED).
Publishes: /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Exit status: 0 when the episodes are complete; 1 where a script can do no more.
"""

from dataclasses import asdict
from functools import partial
import json
from pathlib import Path
from typing import Annotated, Any

from diagnostic_msgs.msg import DiagnosticArray
from msgspec import Meta
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.data.collection import summarise
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import ManagedNode, OK
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.safety.supervisor import LIFECYCLE

TOPICS = ('recorder/status', 'safety/state', 'teleop/status')


class SessionParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the record session.

    :param episodes: how many to keep before the graph ends; 0 for no end
    :param directory: where the recorder keeps them
    :param report: JSON file to write; empty for none
    :param unattended: nobody is there who could clear a stop, so one ends the session
    :param start_timeout_s: how long to wait for a script's next demonstration before giving up
    """

    episodes: Annotated[int, Meta(ge=0)] = 0
    directory: str = ''
    report: str = ''
    unattended: bool = False
    start_timeout_s: Annotated[float, Meta(gt=0)] = 60.0


class RecordSession(ManagedNode[SessionParameters]):
    """See the module's text."""

    parameters_type = SessionParameters

    def configure(self) -> None:
        """Build the entities."""
        self._status: dict[str, dict[str, str]] = {}
        self._kept, self._discarded, self._done = 0, 0, False
        self._news_at, self._said = steady_ns(), ''
        for topic in TOPICS:
            self.subscribe(DiagnosticArray, topic, partial(self._on_status, topic), qos.LATCHED)
        self.every(0.5, self._watch)

    def deactivate(self) -> None:
        """Say what there is when the user ends the session early."""
        if not self._done:
            self._conclude()

    def _on_status(self, topic: str, msg: DiagnosticArray) -> None:
        self._status[topic] = values = conversions.status_values(msg)
        if topic == 'teleop/status' and msg.status:
            self._say(msg.status[0].message)
        if topic != 'recorder/status' or self._done:
            return
        now = (int(values.get('kept', 0)), int(values.get('discarded', 0)))
        if now != (self._kept, self._discarded):
            (self._kept, self._discarded), self._news_at = now, steady_ns()
            of = f' of {self.parameters.episodes}' if self.parameters.episodes else ''
            self.get_logger().info(f'kept {self._kept}{of}, discarded {self._discarded}; '
                                   f'{values.get("newest_episode", "")}')
        if 0 < self.parameters.episodes <= int(values.get('files', 0)):
            self._conclude()
            self.exit(0)

    def _say(self, text: str) -> None:
        """Tell a person once what the device waits for."""
        if text != self._said:
            self._said = text
            if text != 'running':
                self.get_logger().warning(text)

    def _watch(self) -> None:
        """Give up where a script can do no more."""
        if self._done or not self.parameters.unattended:
            return
        safety = self._status.get('safety/state', {})
        silent_s = (steady_ns() - self._news_at) / NS
        if safety.get('mode') == 'STOPPED' and safety.get('check') not in LIFECYCLE:
            why = f'the robot was stopped by {safety.get("check")}: {safety.get("reason")}'
        elif silent_s >= self.parameters.start_timeout_s:
            why = (f'no demonstration for {silent_s:.0f} s; safety monitor: '
                   f'{safety.get("reason", "silent")}')
        else:
            return
        self.get_logger().error(f'{why}. The session ends here.')
        self._conclude()
        self.exit(1)

    def _conclude(self) -> None:
        """Say what the recording is worth, and what comes next."""
        self._done = True
        folder = Path(self.parameters.directory)
        try:
            found = summarise(folder)
        except RecordingError as error:
            self.get_logger().warning(f'nothing was recorded: {error}')
            return
        for line in ('-' * 72, *found.lines(), '-' * 72,
                     f'next: rl_nodes train algorithm:=bc dataset:={folder}'):
            self.get_logger().info(line)
        if self.parameters.report:
            Path(self.parameters.report).write_text(
                json.dumps({**asdict(found), 'discarded': self._discarded}, indent=2) + '\n',
                encoding='utf-8')

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return how many episodes were kept and discarded."""
        return OK, 'running', {'kept': self._kept, 'discarded': self._discarded}


def main() -> None:
    """Run the node."""
    run_main(RecordSession, 'record_session')


if __name__ == '__main__':
    main()
