# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Simulations with a pace and with an imperfect link, as a user starts them."""

import json
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from harness import arm_file, graph, Observer, observer
import pytest
from rl_nodes.core.channel import ChannelSettings, load_channel
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.timing import NS
from rl_nodes.data.latency import measure
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.simulated_link import require_simulated


def channel(folder: Path, text: str) -> str:
    path = folder / 'channel.yaml'
    path.write_text(f'channel: {text}\n')
    return f'channel:={path}'


def deploy(policy: Path, folder: Path, *more: str) -> tuple[str, ...]:
    return ('deploy', f'policy:={policy}', f'run_dir:={folder / "run"}', *more)


def patient_arm(folder: Path) -> str:
    """Return the arm with time-outs that a busy test machine does not trip."""
    path = arm_file(folder, ('watchdog_s: 0.1 ', 'watchdog_s: 2.0 '),
                    ('timeout_s: 0.15', 'timeout_s: 2.0'))
    return f'robot:={path}'


def rate(seen: Observer) -> float:
    """Return the steps per second between two status messages, three seconds apart."""
    def found() -> list[tuple[float, int]]:
        return [(conversions.stamp_to_ns(msg.header.stamp) / NS,
                 int(conversions.status_values(msg)['steps']))
                for _, msg in seen.heard['robot/status']]

    seen.until(lambda: found() and found()[-1][1] > 10, 'the first steps')
    count = len(found())
    seen.until(lambda: len(found()) >= count + 3, 'more status messages')
    (begun, first), (ended, last) = found()[count - 1], found()[count + 2]
    return (last - first) / (ended - begun)


@pytest.mark.slow
@pytest.mark.parametrize(('stepping', 'factor', 'expected'), [
    ('realtime', '2', 100.0), ('lockstep', '1.5', 75.0)])
def test_the_pace_of_a_simulation(policy_path: Path, tmp_path: Path, stepping: str, factor: str,
                                  expected: float) -> None:
    with observer() as seen, graph(*deploy(
            policy_path, tmp_path, 'episodes:=0', f'stepping:={stepping}',
            f'real_time_factor:={factor}', patient_arm(tmp_path))):
        seen.listen(DiagnosticArray, 'robot/status', qos.LATCHED)
        assert rate(seen) == pytest.approx(expected, rel=0.15)


def test_a_tick_slower_than_the_watchdog_is_refused(policy_path: Path, tmp_path: Path) -> None:
    with graph(*deploy(policy_path, tmp_path, 'real_time_factor:=0.1')) as run:
        assert run.wait(30) == 2
        assert 'use a factor above 0.2' in run.output


def test_all_commands_lost_the_bridge_holds_and_says_so(policy_path: Path,
                                                        tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path, 'episodes:=0',
                                           channel(tmp_path, '{commands: {loss: 1.0}}'))):
        seen.listen(DiagnosticArray, 'robot/status', qos.LATCHED)
        seen.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
        seen.until(lambda: int(seen.values('robot/status').get('channel_commands_lost', 0)) > 50,
                   'lost commands')
        values = seen.values('robot/status')
        assert values['channel_commands_delivered'] == '0'
        assert values['channel_commands_lost'] == values['channel_commands_sent']
        assert 0 <= int(values['steps']) - int(values['held']) <= 1
        assert seen.last('robot/status').status[0].message == 'holding: no fresh command'


@pytest.mark.slow
def test_latency_is_measured_where_it_was_added(policy_path: Path, tmp_path: Path) -> None:
    slow = channel(tmp_path, '{states: {latency_ms: 10}, commands: {latency_ms: 20}}')
    with graph(*deploy(policy_path, tmp_path, 'episodes:=3', slow,
                       patient_arm(tmp_path))) as run:
        assert run.wait(60) == 0, run.output
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    assert report['episodes'] == 3
    latency = next(v for k, v in report['latency_ms'].items() if 'command' in k)
    assert 30.0 <= latency['p50'] < 80.0, latency
    measured = measure([tmp_path / 'run' / 'episodes'])
    assert 10.0 <= measured.states.percentile(50.0) < 40.0, 'the recorder sees states delayed'
    assert measured.commands.percentile(50.0) < 40.0, 'and commands before they are'


def test_time_and_messages_of_a_physical_robot_are_left_alone() -> None:
    require_simulated('servo_bus', ChannelSettings(), 0.0)
    with pytest.raises(ConfigError, match='channel:=ideal'):
        require_simulated('servo_bus', load_channel('wifi'), 0.0)
    with pytest.raises(ConfigError, match='cannot be scaled'):
        require_simulated('servo_bus', ChannelSettings(), 2.0)
