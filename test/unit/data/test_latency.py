# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Latencies from real recordings: measured, shown, written and read back as a channel."""

from pathlib import Path

from builtin_interfaces.msg import Time
import pytest
from rclpy.serialization import serialize_message
from rl_nodes.cli import main
from rl_nodes.core.channel import load_channel
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.latency import Arrivals, ChannelMeasurement, describe, measure
from rl_nodes.data.writer import EpisodeWriter
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

MS = 1_000_000
BEGIN = 1_700_000_000 * 10**9
PERIOD = 20 * MS


def record(folder: Path, state_ms: list[float | None], command_ms: list[float | None],
           stepping: str = 'realtime', twice: int = -1) -> Path:
    """
    Record an episode at 50 Hz.

    :param state_ms: latency of each state; None for one that never arrives.
    :param command_ms: from its arrival to its command; None for no command. The policy's command
        arrives after three quarters of it.
    :param twice: the state that arrives twice.
    """
    start = EpisodeStart(load_task('arm', 'reach').contract, f'1@{BEGIN}',
                         notes={'stepping': stepping})
    writer = EpisodeWriter(folder, start)
    for topic in ('joint_states', 'policy/joint_command', 'joint_command'):
        writer.add_channel(topic, 'sensor_msgs/msg/JointState')
    for k, (to_policy, back) in enumerate(zip(state_ms, command_ms, strict=True)):
        stamp = BEGIN + k * PERIOD
        if to_policy is None:
            continue
        data = serialize_message(JointState(header=Header(
            stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=f'1@{BEGIN}')))
        at = stamp + round(to_policy * MS)
        for _ in range(2 if k == twice else 1):
            writer.write('joint_states', data, at, at)
        if back is not None:
            for topic, share in (('policy/joint_command', 0.75), ('joint_command', 1.0)):
                when = at + round(back * MS * share)
                writer.write(topic, data, when, when)
    writer.finish(EpisodeEnd('terminated', True, 1, 0.0, 0.0, 0.99))
    assert writer.wait(10) and writer.path is not None, writer.error
    return writer.path


def test_what_was_recorded_comes_back(tmp_path: Path, capsys) -> None:
    record(tmp_path, [3.0] * 50 + [9.0] * 50, [2.0] * 90 + [None] * 5 + [30.0] * 5, twice=4)
    assert main(['latency', 'fit', str(tmp_path), f'output:={tmp_path}/mine.yaml']) == 0
    channel = load_channel(str(tmp_path / 'mine.yaml'))
    states, commands = dict(channel.states.table), dict(channel.commands.table)
    assert (states[0.0], states[25.0], states[75.0], states[100.0]) == (3.0, 3.0, 9.0, 9.0)
    assert (commands[50.0], commands[100.0]) == (2.0, 30.0)
    assert channel.states.duplicate == 0.01
    assert (channel.states.loss, channel.commands.loss) == (0.0, 0.05)
    shown = capsys.readouterr().out
    assert 'p99.9' in shown and '30.000' in shown
    assert main(['latency', 'show', str(tmp_path / 'episode_000000.mcap')]) == 0
    assert main(['latency', str(tmp_path)]) == 0
    rows = {line.split()[0]: line.split()[1:5] for line in shown.splitlines()[1:6]}
    assert rows == {  # p50, p99, p99.9, max of 95 answered states, 5 of them after 30 ms
        'states': ['6.000', '9.000', '9.000', '9.000'],
        'policy': ['1.500', '22.500', '22.500', '22.500'],
        'safety': ['0.500', '7.500', '7.500', '7.500'],
        'commands': ['2.000', '30.000', '30.000', '30.000'],
        'total': ['5.000', '39.000', '39.000', '39.000']}
    assert shown.split('\nuse it with')[0] in capsys.readouterr().out
    assert main(['latency', 'fit', str(tmp_path), f'output:={tmp_path}/mine.yaml']) == 2, 'kept'


def test_several_files_count_together_and_missing_states_are_lost(tmp_path: Path) -> None:
    one, two = record(tmp_path, [1.0] * 10, [1.0] * 10), record(
        tmp_path, [2.0] * 4 + [None] * 2 + [2.0] * 4, [1.0] * 10)
    measured = measure([one, two])
    assert (measured.episodes, measured.states.expected, measured.states.lost) == (2, 20, 2)
    assert measured.states.percentile(100.0) == pytest.approx(2.0)


def test_clocks_that_do_not_agree_are_named(tmp_path: Path, capsys) -> None:
    path = record(tmp_path, [-5.0] * 10, [1.0] * 10)
    assert main(['latency', 'show', str(path)]) == 0
    assert '10 states arrived before they were sent' in capsys.readouterr().out


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match='lockstep'):
        measure([record(tmp_path, [1.0], [1.0], stepping='lockstep')])
    with pytest.raises(RecordingError, match='no commands'):
        measure([record(tmp_path, [1.0] * 3, [None] * 3)])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(RecordingError, match=r'holds no \.mcap'):
        measure([tmp_path / 'empty'])
    assert main(['latency', 'fit', f'output:={tmp_path}/only.yaml']) == 2


def test_simulated_stamps_have_no_age() -> None:
    arrivals = Arrivals()
    for k in range(5):
        for topic, wait in (('joint_states', 0), ('policy/joint_command', 2), (
                'joint_command', 3)):
            arrivals.add(topic, k * PERIOD, BEGIN + k * PERIOD + wait * MS)
    arrivals.add('joint_command', 0, BEGIN)
    measured = ChannelMeasurement()
    measured.add(arrivals, PERIOD)
    shown = describe(measured)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ['policy', 'safety', 'commands']
    assert measured.commands.duplicated == 1
    assert measured.parts['safety'].percentile(100.0) == pytest.approx(1.0)
