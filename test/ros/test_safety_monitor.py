# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The safety monitor's node: limits narrowed by parameters, what a stopped robot gets."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness import graph, observer
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.nodes import conversions, joint_state, safety_monitor
from rl_nodes.nodes.lifecycle import FAILURE, SUCCESS
from rl_nodes.nodes.safety_monitor import SafetyMonitor
from sensor_msgs.msg import JointState
from test_graph_faults import deploy, until_mode, until_moving, watch

NAMES = ('speed_scale', 'extra_margin', 'extra_clearance_m')
PERIOD_NS = 20_000_000


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


def override(**values: object) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def robot_file(folder: Path, *changes: tuple[str, str]) -> str:
    """Return the path of a copy of arm.yaml with text replaced."""
    text = find_config('robots', 'arm').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / 'arm.yaml').write_text(text)
    return str(folder / 'arm.yaml')


def retreating(folder: Path) -> str:
    return robot_file(folder, ('safety:\n', 'safety:\n  fallback: [retreat]\n  retreat: '
                               '{pose: [1.0, -0.3, 1.5, 0.4, 0.0, 0.0], speed: 0.5}\n'))


class Sink:
    """Takes what the monitor commands."""

    def __init__(self) -> None:
        self.heard: list[JointCommand] = []

    def publish(self, data: bytes) -> None:
        self.heard.append(conversions.msg_to_command(joint_state.decode(data), 'position')[1])


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
        monkeypatch.setattr(safety_monitor, 'steady_ns', lambda: self.stamp)

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
    assert [command.source for command in wire.live([np.nan] * 6)] == ['monitor/retreat']
    sources = [[command.source for command in wire.live(wire.position)] for _ in range(120)]
    moving = [['monitor/retreat']] * (len(sources) - sources.count([]))
    assert sources == moving + [[]] * sources.count([])
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


def test_a_stopped_graph_retreats_and_waits(policy_path: Path, tmp_path: Path) -> None:
    """A poisoned command; the robot goes to its pose by itself and stays STOPPED."""
    arguments = deploy(policy_path, tmp_path, f'robot:={retreating(tmp_path)}')
    with observer() as seen, graph(*arguments):
        watch(seen)
        rogue = seen.node.create_publisher(JointState, 'policy/joint_command', 10)
        until_moving(seen)

        def poisoned() -> bool:
            state = seen.last('joint_states')
            poison = JointState(name=state.name, position=[float('nan')] * 6)
            poison.header.stamp = state.header.stamp
            rogue.publish(poison)
            return seen.values('safety/state').get('mode') == 'STOPPED'
        seen.until(poisoned, 'a stop')
        seen.until(lambda: abs(seen.last('joint_states').position[0] - 1.0) < 0.06, 'the pose', 20)
        until_mode(seen, 'STOPPED')
        sources = [msg.header.frame_id for _, msg in seen.heard['joint_command']]
        first = sources.index('monitor/retreat')
        assert set(sources[first:]) <= {'monitor/retreat', 'monitor'}
