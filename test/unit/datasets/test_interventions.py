# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The safety report: from event files whose content is known to words and a picture."""

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.data.event_log import EventLog
from rl_nodes.datasets.interventions import describe, make_report
from rl_nodes.datasets.interventions_figure import write_figure
from rl_nodes.nodes import conversions
from rl_nodes.nodes.safety_events import DECISION, decision_to_msg
from rl_nodes.safety.events import BlackBox
from rl_nodes.safety.verdict import Level, Verdict
from rl_nodes.tasks import load_task

TASK = load_task('arm', 'reach')
NAMES = TASK.robot.joint_names
JOINT_STATE = 'sensor_msgs/msg/JointState'
TOPICS = {**dict.fromkeys(('joint_states', 'policy/joint_command', 'joint_command', DECISION),
                          JOINT_STATE), 'safety/state': 'diagnostic_msgs/msg/DiagnosticArray'}
S, PERIOD = 1_000_000_000, 20_000_000
LIMIT = TASK.contract.joints[0].velocity


class Story:
    """A monitor's life, told by hand in steps of 20 ms."""

    def __init__(self, folder: Path, stepping: str = 'realtime') -> None:
        self.log = EventLog(folder, TASK.contract, {'stepping': stepping}, TOPICS)
        self.box = BlackBox(self.log)
        self.now = 1000 * S

    def run(self, seconds: float, speed: float = 0.5, commands: bool = True,
            states: bool = True) -> 'Story':
        """Let time pass; the first joint has a speed [share of its limit]."""
        for _ in range(round(seconds * 50)):
            self.now += PERIOD
            self.box.tick(self.now)
            velocity = np.zeros(6)
            velocity[0] = speed * LIMIT
            if states:
                self.box.see('joint_states', self.now, conversions.state_to_msg(RobotState(
                    self.now // 2, '1@0', np.zeros(6), velocity, np.zeros(6)), NAMES))
            if commands:
                self.command(0.0)
        return self

    def command(self, value: float) -> None:
        self.box.see('policy/joint_command', self.now, conversions.command_to_msg(
            JointCommand(self.now // 2, 'p@1', np.full(6, value)), NAMES, 'position'))

    def decide(self, level: Level, check: str, reason: str = '', asked: float = 0.0,
               got: float = 0.0) -> 'Story':
        requested = np.zeros(6)
        requested[2] = asked
        allowed = np.zeros(6)
        allowed[2] = got
        verdict = Verdict(level, check, reason, requested,
                          allowed if level == Level.CLAMP else None, np.zeros(6), 'hold')
        self.box.see(DECISION, self.now, decision_to_msg(self.now // 2, verdict, NAMES))
        self.box.decide(level, check, self.now)
        mode = {Level.CLAMP: 'LIMITING', Level.HOLD: 'HOLD', Level.STOP: 'STOPPED'}[level]
        return self.mode(mode, check, reason)

    def mode(self, mode: str, check: str = '', reason: str = '') -> 'Story':
        self.box.see('safety/state', self.now, serialize_message(DiagnosticArray(
            status=[conversions.status('m', 0, mode, {
                'mode': mode, 'check': check, 'reason': reason})])))
        return self

    def end(self) -> None:
        self.box.close()
        self.log.close(20.0)
        assert (self.log.error, self.log.dropped) == ('', 0)


def test_margins_times_and_causes_are_what_was_told(tmp_path: Path) -> None:
    story = Story(tmp_path / 'safety_events')
    story.run(1)
    step = TASK.contract.joints[2].velocity / TASK.contract.rate_hz
    for asked in (2.0, 3.0, 1.5):
        story.decide(Level.CLAMP, 'velocity', 'elbow asks', asked * step, step).run(0.02)
    story.run(5).decide(Level.STOP, 'command_silence', 'no usable command')
    story.run(0.1, commands=False).run(2, speed=0.0)                 # stands after 100 ms, brief
    story.mode('OK').run(4, speed=0.4)
    story.decide(Level.STOP, 'command_silence', 'no usable command')
    story.run(1, speed=0.01, commands=False).mode('OK').run(4)     # the next state stands
    story.decide(Level.STOP, 'estop', 'e-stop topic: pressed').run(5, speed=0.3)  # never stands
    story.decide(Level.HOLD, 'age', 'command refused')
    story.end()
    report = make_report([tmp_path])
    assert (report.files, report.left_out, report.notes) == (5, 0, ())
    clamp, first, second, pressed, held = report.interventions
    assert (clamp.level, clamp.check, clamp.decisions, clamp.reason) == (
        Level.CLAMP, 'velocity', 3, 'elbow asks')
    assert clamp.worst.joint == NAMES[2]
    assert (clamp.worst.requested, clamp.worst.excess) == pytest.approx((3 * step, 2.0))
    assert (first.stop_s, first.brief) == (pytest.approx(0.12), True)
    assert (second.stop_s, second.brief) == (pytest.approx(0.02), False)
    assert (pressed.stop_s, pressed.brief, pressed.check) == (None, None, 'estop')
    assert (held.level, held.check, held.worst) == (Level.HOLD, 'age', None)
    text = describe(report)
    for line in ('arm doing reach: 5 interventions in 5 files over 22 s',
                 'velocity         CLAMP         1         3   elbow asked for',
                 'seen for 2 of 3 stops', '1 of 2 whose cause can be followed',
                 'not seen  ?      estop: e-stop topic: pressed'):
        assert line in text, text


def test_lockstep_is_measured_in_simulated_time(tmp_path: Path) -> None:
    story = Story(tmp_path, 'lockstep').run(1).decide(Level.STOP, 'finite', 'nan')
    story.run(0.1).run(3, speed=0.0).end()
    stop, = make_report([tmp_path]).interventions
    assert stop.stop_s == pytest.approx(0.06), 'stamps run at half the pace here'
    assert stop.brief is True


def test_what_lies_in_two_files_counts_once(tmp_path: Path) -> None:
    story = Story(tmp_path).run(1).decide(Level.STOP, 'estop', 'pressed')
    for _ in range(100):
        story.run(0.02).decide(Level.CLAMP, 'position', '', 1.0, 0.5)
    for _ in range(10):  # goes on, so that the next file begins with what the first one ends with
        story.run(0.02).decide(Level.CLAMP, 'position', '', 1.0, 0.5)
    story.run(0.02).decide(Level.STOP, 'estop', 'pressed again').run(1).end()
    report = make_report([tmp_path])
    assert report.files == 2
    assert [(one.check, one.decisions) for one in report.interventions] == [
        ('estop', 1), ('position', 110), ('estop', 1)]


def test_what_the_recorder_kept_besides_counts_only_where_it_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / 'episodes', tmp_path / 'episodes' / 'events'):
        Story(folder).run(1).decide(Level.STOP, 'estop', 'pressed').run(1).end()
    assert make_report([tmp_path]).files == make_report([tmp_path / 'episodes']).files == 1
    assert make_report([tmp_path / 'episodes' / 'events']).files == 1


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match='A safety monitor writes one where it intervenes'):
        make_report([tmp_path])
    Story(tmp_path).run(1).decide(Level.STOP, 'estop').run(1).end()
    (tmp_path / 'event_000001.mcap.partial').write_bytes(b'')
    assert 'is unfinished and left out' in describe(make_report([tmp_path]))
    (tmp_path / 'event_000000.mcap').rename(tmp_path / 'event_000002.mcap.partial')
    with pytest.raises(RecordingError, match='dataset repair'):
        make_report([tmp_path])


def test_a_picture_is_drawn_with_and_without_stops(tmp_path: Path) -> None:
    Story(tmp_path / 'a').run(1).decide(Level.HOLD, 'age').run(1).end()
    Story(tmp_path / 'b').run(1).decide(Level.STOP, 'estop').run(1, speed=0.0).end()
    for name in 'ab':
        output = tmp_path / f'{name}.png'
        assert write_figure(make_report([tmp_path / name]), output) == output
        assert output.read_bytes().startswith(b'\x89PNG')
    with pytest.raises(RecordingError, match='cannot be written'):
        write_figure(make_report([tmp_path / 'a']), tmp_path / 'nowhere' / 'x.png')


def test_decisions_that_a_monitor_does_not_tell_are_counted(tmp_path: Path) -> None:
    """Files made by hand may hold them; two of one kind are one intervention."""
    story = Story(tmp_path).run(1.0).decide(Level.STOP, 'finite')
    for level, check in ((Level.STOP, 'latched'), (Level.STOP, 'latched'), (Level.STOP, 'boot')):
        story.run(0.1).decide(level, check)
    story.run(1.0).end()
    report = make_report([tmp_path])
    found = [(one.level, one.check, one.decisions) for one in report.interventions]
    assert found == [(Level.STOP, name, count) for name, count in (
        ('finite', 1), ('latched', 2), ('boot', 1))]
