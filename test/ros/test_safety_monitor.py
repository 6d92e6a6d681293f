# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The safety monitor's node: limits narrowed by parameters, what a stopped robot gets."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
import json
import os
from pathlib import Path
import signal
import time
from types import SimpleNamespace

from harness import arm_file, graph, observer, override, source_of
import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions, joint_state, safety_monitor
from rl_nodes.nodes.lifecycle import FAILURE, SUCCESS, WARN
from rl_nodes.nodes.safety_events import msg_to_decision
from rl_nodes.nodes.safety_monitor import SafetyMonitor
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from test_graph_faults import deploy, until_mode, until_moving, watch

NAMES = ('speed_scale', 'extra_margin', 'extra_clearance_m')
PERIOD_NS = 20_000_000


def retreating(folder: Path) -> str:
    return str(arm_file(folder, ('safety:\n', 'safety:\n  fallback: [retreat]\n  retreat: '
                               '{pose: [1.0, -0.3, 1.5, 0.4, 0.0, 0.0], speed: 0.5}\n')))


class Sink:
    """Takes what the monitor commands."""

    def __init__(self) -> None:
        self.heard: list[JointCommand] = []

    def publish(self, data: bytes) -> None:
        self.heard.append(conversions.msg_to_command(joint_state.decode(data), 'position')[1])

    def wait_for_all_acked(self, _timeout: object) -> bool:
        return True


def test_limits_are_narrowed_by_parameters_and_never_widened(ros: None) -> None:
    node = SafetyMonitor('monitor', parameter_overrides=override(stepping='lockstep'))
    assert node.set_parameters(override(speed_scale=0.9))[0].successful, 'not configured yet'
    assert node.trigger_configure() == SUCCESS
    for name in NAMES:
        assert 'never' in node.describe_parameter(name).description
    assert node.set_parameters(override(speed_scale=0.5, extra_margin=0.1))[0].successful
    refused = node.set_parameters(override(speed_scale=0.6))[0]
    assert not refused.successful
    assert 'speed_scale = 0.6 after 0.5: limits may only be made narrower' in refused.reason
    for values in ({'extra_margin': 0.05}, {'speed_scale': float('nan')}, {'speed_scale': 0.0},
                   {'extra_margin': float('inf')}, {'extra_clearance_m': -0.1},
                   {'extra_clearance_m': 'much'}, {'robot': 'panda'}):
        assert not node.set_parameters(override(**values))[0].successful, values
    at_home = node.set_parameters(override(extra_clearance_m=1.0))[0]
    assert (at_home.successful, 'at home' in at_home.reason) == (False, True)
    both = node.set_parameters_atomically(override(speed_scale=0.4, extra_margin=0.0))
    assert not both.successful
    assert [node.get_parameter(name).value for name in NAMES] == [0.5, 0.1, 0.0]
    node.trigger_cleanup()
    assert node.set_parameters(override(speed_scale=1.0))[0].successful, 'to be configured anew'
    assert node.trigger_configure() == SUCCESS
    node.destroy_node()


def test_a_clearance_that_is_not_there_at_home_is_refused_at_the_start(ros: None) -> None:
    node = SafetyMonitor('monitor', parameter_overrides=override(extra_clearance_m=1.0))
    assert node.trigger_configure() == FAILURE
    assert 'at home' in node.refusal
    node.destroy_node()


class Wire:
    """A monitor in this process, fed by hand with states and commands; its robot obeys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
        self.node = SafetyMonitor('monitor', parameter_overrides=override(
            stepping='lockstep', arm_on_start=True, **values))
        self.stamp = 0
        monkeypatch.setattr(safety_monitor, 'elapsed_ns', lambda: self.stamp)

    def configure(self) -> None:
        assert self.node.trigger_configure() == SUCCESS
        self.sink = self.node._commands = Sink()
        self.names, self.home = self.node._model.joint_names, self.node._model.home
        self.position = self.home.copy()

    def live(self, value: object) -> list[JointCommand]:
        """Measure, be commanded, obey; return what came for this state."""
        self.stamp, count = self.stamp + PERIOD_NS, len(self.sink.heard)
        state = RobotState(self.stamp, '1@0', self.position, np.zeros(6), np.zeros(6))
        hear_state, hear_command = (self.node._guarded(callback) for callback in (
            self.node._on_state, partial(self.node._on_command, 'policy')))
        hear_state(joint_state.decode(conversions.state_to_msg(state, self.names)))
        hear_command(joint_state.decode(conversions.command_to_msg(
            JointCommand(self.stamp, 'p@1', np.asarray(value, float)), self.names, 'position')))
        assert self.node.exit_code is None
        if len(self.sink.heard) > count:
            self.position[:] = self.sink.heard[-1].value
        assert all(command.stamp_ns == self.stamp for command in self.sink.heard[count:])
        return self.sink.heard[count:]


def test_fallbacks_reach_the_robot_by_name(ros: None, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, robot=retreating(tmp_path))
    wire.configure()
    assert wire.node.trigger_activate() == SUCCESS
    assert [command.source for command in wire.live(wire.home)] == ['p@1']
    poisoned, = wire.live([np.nan] * 6)
    assert (poisoned.source, poisoned.intervention) == ('monitor/retreat', 'stop/finite')
    sources = [[command.source for command in wire.live(wire.position)] for _ in range(120)]
    moving = [['monitor/retreat']] * (len(sources) - sources.count([]))
    assert sources == moving + [[]] * sources.count([])
    assert wire.sink.heard[-1].intervention == 'stop/finite', 'why it falls back'
    np.testing.assert_allclose(wire.position[0], 1.0, atol=0.05)
    assert wire.node.health()[2]['mode'] == 'STOPPED'
    assert wire.node.health()[2]['fallback/retreat'] == len(moving) + 1
    wire.node.destroy_node()


def test_a_stop_at_any_moment_of_the_start_keeps_the_robot_stopped(
        ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: arm_on_start would let it move, but somebody has pressed; transitions undo nothing."""
    moved = 0
    wire = Wire(monkeypatch)
    for press in range(8):
        wire.configure()
        for moment in range(8):
            if moment == press:
                wire.node._on_stop(None)
                before = len(wire.sink.heard)
            if moment == 2 or moment == 6:
                assert wire.node.trigger_activate() == SUCCESS
            if moment == 5:
                assert wire.node.trigger_deactivate() == SUCCESS
            moved += len(wire.live(wire.home))
        wire.node.trigger_deactivate()
        assert {command.source for command in wire.sink.heard[before:]} <= {'monitor'}
        assert wire.node.health()[2]['mode'] == 'STOPPED'
        assert wire.node.trigger_cleanup() == SUCCESS
    assert moved, 'nobody would have noticed'
    wire.node.destroy_node()


def test_a_launch_arms_once_also_where_a_person_was_faster(
        ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch)
    wire.configure()
    assert wire.node.trigger_activate() == SUCCESS
    supervisor = wire.node._supervisor
    wire.node._arm = False
    assert not wire.live(wire.home)
    wire.node._arm = True  # states and commands are healthy, but nobody has cleared the stop yet
    assert wire.node._on_clear(Trigger.Request())[0]
    assert [command.source for command in wire.live(wire.home)] == ['p@1']
    wire.live([np.nan] * 6)
    for _ in range(3):
        assert not wire.live(wire.home)
    assert supervisor.check == 'finite'
    wire.node.destroy_node()


@pytest.fixture
def hand_fed(ros: None, monkeypatch: pytest.MonkeyPatch) -> Iterator['HandFed']:
    fed = HandFed(monkeypatch)
    yield fed
    fed.node.destroy_node()


class HandFed:
    """A monitor in real time with both clocks in our hands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = SafetyMonitor('monitor', parameter_overrides=override(stepping='realtime'))
        self.now = self.steady = 100 * NS
        monkeypatch.setattr(time, 'clock_gettime_ns', lambda clock: {
            time.CLOCK_BOOTTIME: self.steady}[clock])
        monkeypatch.setattr(self.node, 'get_clock', lambda: SimpleNamespace(
            now=lambda: SimpleNamespace(nanoseconds=self.now)))
        assert self.node.trigger_configure() == SUCCESS
        self.sink = self.node._commands = Sink()
        monkeypatch.setattr(self.node, 'publish_health', lambda: None)
        self.robot = self.node._model

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds * NS / PERIOD_NS)):
            self.wait(PERIOD_NS)
            self.state()
            self.command()
            self.node.tick()

    def wait(self, ns: int) -> None:
        self.now += ns
        self.steady += ns

    def state(self, age_ns: int = 0, position: np.ndarray | None = None) -> None:
        q = self.robot.home if position is None else position
        state = RobotState(self.now - age_ns, '1@0', q, np.zeros(6), np.zeros(6))
        self.node._on_state(joint_state.decode(
            conversions.state_to_msg(state, self.robot.joint_names)))

    def command(self, stamp_ns: int | None = None) -> None:
        self.node._on_command('policy', joint_state.decode(conversions.command_to_msg(
            JointCommand(stamp_ns or self.now, 'p@1', self.robot.home), self.robot.command_names,
            'position')))

    def sources(self) -> list[str]:
        """Return who has commanded since the last call."""
        found = [command.source for command in self.sink.heard]
        self.sink.heard.clear()
        return found

    def cleared(self) -> 'HandFed':
        self.live(1.5)
        self.node.asked_ns = time.time_ns()
        assert self.node._on_clear(Trigger.Request())[0]
        self.live(0.1)
        assert self.sources() == ['p@1'] * 5
        return self


def test_a_machine_that_slept_does_not_move_the_robot_on(hand_fed: 'HandFed') -> None:
    fed = hand_fed.cleared()
    fed.wait(8 * 3600 * NS)
    fed.live(2.0)
    assert fed.sources() == ['monitor']
    assert fed.node.health()[2]['mode'] == 'STOPPED'
    fed.cleared()


def test_a_command_waits_for_its_state_and_is_judged_by_none_before_it(
        hand_fed: 'HandFed') -> None:
    """A command limited by where the robot was before could be a jump from where it is."""
    fed = hand_fed.cleared()
    early = fed.now + PERIOD_NS
    fed.command(early)
    for _ in range(6):
        fed.wait(8_000_000)
        fed.state(age_ns=fed.now - early + 1)
        fed.node.tick()
    assert fed.sources() == []
    fed.state(age_ns=fed.now - early)
    assert fed.sources() == ['p@1']


VALUES = (0.0, -1.0, 1e-3, 0.2, 0.5, 1.0, 1.1, 1e300, float('nan'), float('inf'), -float('inf'),
          5e-324, True, 1, 'x', '', [0.5], [float('nan')] * 50, [True], ['x'])


@pytest.mark.parametrize('count', [500, pytest.param(100_000, marks=[
    pytest.mark.soak, pytest.mark.timeout(0)])])
def test_whatever_parameters_are_set_limits_stay_numbers_and_only_narrow(ros: None,
                                                                         count: int) -> None:
    """F3, F4: refused with a reason, nothing changed; alone, in a list, atomically."""
    node = SafetyMonitor('monitor', parameter_overrides=override(stepping='lockstep'))
    assert node.trigger_configure() == SUCCESS
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(count):
        before = [node.get_parameter(name).value for name in NAMES]
        chosen = rng.choice([*NAMES, 'robot', 'stepping'], rng.integers(1, 3), False)
        given = override(**{str(name): VALUES[rng.integers(len(VALUES))] for name in chosen})
        results = ([node.set_parameters_atomically(given)] if rng.random() < 0.5
                   else node.set_parameters(given))
        assert all(result.successful or result.reason for result in results)
        accepted += sum(result.successful for result in results)
        after = [node.get_parameter(name).value for name in NAMES]
        assert all(type(value) is float and np.isfinite(value) for value in after), after
        assert 0 < after[0] <= before[0] and after[1] >= before[1] and after[2] >= before[2]
        assert node.get_parameter('stepping').value == 'lockstep'
    assert accepted
    node.destroy_node()


class Bench:
    """A configured monitor in lockstep whose robot does as it is told."""

    def __init__(self, **parameters: object) -> None:
        self.node = SafetyMonitor('monitor', parameter_overrides=override(
            stepping='lockstep', **parameters))
        assert self.node.trigger_configure() == SUCCESS, self.node.refusal
        assert self.node.trigger_activate() == SUCCESS
        self.names, self.position = self.node._model.joint_names, self.node._model.home.copy()
        self.stamp = 0

    def live(self, step: float = 0.0, source: str = 'policy', by: str = 'p@1') -> None:
        """Measure, be commanded to move each joint by a step, obey."""
        self.stamp += PERIOD_NS
        state = conversions.state_to_msg(RobotState(
            self.stamp, '1@0', self.position, np.zeros(6), np.zeros(6)), self.names)
        wanted = conversions.command_to_msg(JointCommand(
            self.stamp, by, self.position + step), self.names, 'position')
        for topic, data in (('joint_states', state), (f'{source}/joint_command', wanted)):
            self.node._events.see(topic, data)
        self.node._on_state(joint_state.decode(state))
        self.node._on_command(source, joint_state.decode(wanted))
        self.node.tick()

    def clear(self) -> tuple[bool, str]:
        self.node.asked_ns = time.time_ns()
        return self.node._on_clear(Trigger.Request())

    def shown(self) -> tuple[str, str, str]:
        values = self.node.health()[2]
        return values['mode'], values['check'], values['estop']

    def end(self) -> None:
        self.node.trigger_shutdown()
        self.node.destroy_node()


def test_a_button_behind_a_file_stops_the_robot(ros: None, tmp_path: Path) -> None:
    value = tmp_path / 'value'
    value.write_text('1')
    bench = Bench(arm_on_start=True, robot=str(arm_file(tmp_path, (
        'safety:\n', 'safety:\n  estop: {timeout_s: 30.0, line: '
        f'{{path: {value}, released: "1", rate_hz: 500}}}}\n'))))

    def until(estop: str) -> None:
        deadline = time.monotonic() + 10
        while bench.shown()[2] != estop:
            assert time.monotonic() < deadline, bench.shown()
            bench.node._on_line()

    until('released')
    bench.live()
    assert bench.shown() == ('OK', '', 'released')
    value.write_text('0')
    until('e-stop line: pressed')
    assert bench.shown()[:2] == ('STOPPED', 'estop')
    assert bench.clear() == (False, 'e-stop line: pressed')
    value.write_text('1')
    until('released')
    bench.live()
    assert bench.shown()[0] == 'STOPPED'
    assert bench.clear()[0]
    bench.live()
    assert bench.shown()[0] == 'OK'
    bench.end()


def test_a_press_before_the_start_keeps_a_launch_from_arming(ros: None, tmp_path: Path) -> None:
    bench = Bench(arm_on_start=True, robot=str(arm_file(tmp_path, (
        'safety:\n', 'safety:\n  estop: {topic: true, timeout_s: 30.0}\n'))))
    bench.live()
    assert bench.shown()[0] == 'STOPPED'
    bench.node._on_estop(Bool(data=True))
    bench.node._on_estop(Bool(data=False))
    bench.live()
    assert bench.shown() == ('STOPPED', 'boot', 'released')
    assert bench.clear()[0]
    bench.end()


def test_a_stop_may_need_a_held_deadman_to_be_cleared(ros: None, tmp_path: Path) -> None:
    path = str(arm_file(tmp_path, ('safety:\n', 'safety:\n  clear_needs_deadman: true\n')))
    for parameters in ({'sources': 'policy'}, {'sources': 'teleop', 'arm_on_start': True}):
        node = SafetyMonitor('monitor', parameter_overrides=override(robot=path, **parameters))
        assert node.trigger_configure() == FAILURE
        assert 'clear_needs_deadman' in node.refusal
        node.destroy_node()
    for sources in ('teleop', 'policy+teleop'):
        bench = Bench(robot=path, sources=sources)
        bench.live(source='teleop', by='teleop:anna/standby')
        if 'policy' in sources:
            bench.live()
        assert 'nobody holds the deadman' in bench.clear()[1]
        bench.live(source='teleop', by='teleop:anna')
        assert bench.clear() == (True, 'motion is allowed')
        bench.end()


def test_interventions_are_told_and_kept(ros: None, tmp_path: Path, capsys) -> None:
    events = tmp_path / 'safety_events'
    bench = Bench(arm_on_start=True, event_directory=str(events))
    told = []
    publisher, bench.node._decisions = bench.node._decisions, SimpleNamespace(publish=told.append)
    for _ in range(5):
        bench.live()
    for _ in range(3):
        bench.live(step=1.0)
    bench.live(step=float('nan'))
    bench.live()
    bench.node._decisions = publisher
    bench.end()
    assert bench.node.exit_code is None
    decisions = [msg_to_decision(data) for data in told]
    assert [(decision.stamp_ns // PERIOD_NS, decision.name) for decision in decisions] == [
        (6, 'clamp/velocity'), (7, 'clamp/velocity'), (8, 'clamp/velocity'), (9, 'stop/finite')]
    first, last = decisions[0], decisions[-1]
    assert list(first.requested) == list(first.executed) == list(bench.names)
    assert first.requested['shoulder_pan'] - first.executed['shoulder_pan'] > 0.5
    assert np.isnan(last.requested['shoulder_pan'])
    np.testing.assert_array_equal(list(last.executed.values()), bench.position)
    episode = read_episode(events / 'event_000000.mcap')
    assert Counter(message.topic for message in episode.messages()) == {
        'joint_states': 10, 'policy/joint_command': 10, 'joint_command': 9, 'safety/decision': 4,
        'safety/state': 4}
    assert json.loads(episode.metadata['interventions']) == {
        'clamp/velocity': 1, 'stop/finite': 1, 'left_out': 0}
    assert json.loads(episode.metadata['notes']) == {'stepping': 'lockstep'}
    assert main(['safety', 'report', str(tmp_path), f'output:={tmp_path / "p.png"}']) == 0
    text = capsys.readouterr().out
    assert 'arm doing reach: 2 interventions in 1 files' in text
    assert 'shoulder_pan asked for' in text


def test_events_that_cannot_be_kept_disturb_nobody(ros: None, tmp_path: Path) -> None:
    blocked = tmp_path / 'file'
    blocked.write_text('no folder')
    bench = Bench(arm_on_start=True, event_directory=str(blocked))
    bench.live()
    bench.live(step=1.0)
    deadline = time.monotonic() + 10
    while not bench.node.health()[2]['event_log_error']:
        assert time.monotonic() < deadline
    assert bench.node.health()[0] == WARN
    bench.live()
    assert bench.shown()[0] == 'OK'
    bench.end()


def test_a_stopped_graph_retreats_and_waits(policy_path: Path, tmp_path: Path) -> None:
    """A policy that hangs; the robot goes to its pose by itself and stays STOPPED."""
    arguments = deploy(policy_path, tmp_path, f'robot:={retreating(tmp_path)}')
    with observer() as seen, graph(*arguments) as process:
        watch(seen)
        until_moving(seen)
        policy = process.nodes()['policy_server']
        os.kill(policy, signal.SIGSTOP)
        until_mode(seen, 'STOPPED')
        os.kill(policy, signal.SIGCONT)
        seen.until(lambda: abs(seen.last('joint_states').position[0] - 1.0) < 0.06, 'the pose', 20)
        until_mode(seen, 'STOPPED')
        sources = [source_of(msg) for _, msg in seen.heard['joint_command']]
        first = sources.index('monitor/retreat')
        assert set(sources[first:]) <= {'monitor/retreat', 'monitor'}
