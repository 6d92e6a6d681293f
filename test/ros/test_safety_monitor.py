# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The safety monitor's node: limits narrowed by parameters, what a stopped robot gets."""

from collections.abc import Iterator
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


def test_fallbacks_reach_the_robot_by_name(ros: None, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    path = retreating(tmp_path)
    node = SafetyMonitor('monitor', parameter_overrides=override(
        robot=path, stepping='lockstep', arm_on_start=True))
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    sink = node._commands = Sink()
    names, home = node._model.joint_names, node._model.home
    position, stamp = home.copy(), 0
    monkeypatch.setattr(safety_monitor, 'steady_ns', lambda: stamp)

    def live(value) -> list[JointCommand]:
        """Measure, be commanded, obey; return what came for this state."""
        nonlocal stamp
        stamp, count = stamp + PERIOD_NS, len(sink.heard)
        node._on_state(joint_state.decode(conversions.state_to_msg(
            RobotState(stamp, '1@0', position, np.zeros(6), np.zeros(6)), names)))
        node._on_command('policy', joint_state.decode(conversions.command_to_msg(
            JointCommand(stamp, 'p@1', np.asarray(value, float)), names, 'position')))
        if len(sink.heard) > count:
            position[:] = sink.heard[-1].value
        assert all(command.stamp_ns == stamp for command in sink.heard[count:])
        return sink.heard[count:]

    assert [command.source for command in live(home)] == ['p@1']
    assert [command.source for command in live([np.nan] * 6)] == ['monitor/retreat']
    sources = [[command.source for command in live(position)] for _ in range(120)]
    moving = [['monitor/retreat']] * (len(sources) - sources.count([]))
    assert sources == moving + [[]] * sources.count([])
    np.testing.assert_allclose(position[0], 1.0, atol=0.05)
    assert node.health()[2]['mode'] == 'STOPPED'
    assert node.health()[2]['fallback/retreat'] == len(moving) + 1
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
