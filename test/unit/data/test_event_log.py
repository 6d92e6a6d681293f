# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of safety events: stock readers read them, disks fail, processes are killed."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from episode_script import JOINT_STATE, make_contract, serialized
from mcap.reader import make_reader
import pytest
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import steady_ns
from rl_nodes.data import event_log
from rl_nodes.data.event_log import EventLog
from rl_nodes.data.inspection import open_episodes
from rl_nodes.data.reader import read_episode
from rl_nodes.data.recovery import recover

STATES, COMMANDS = 'joint_states', 'joint_command'


def make(folder: Path) -> EventLog:
    return EventLog(folder, make_contract(), {'stepping': 'realtime'},
                    {STATES: JOINT_STATE, COMMANDS: JOINT_STATE})


def seen(count: int, topic: str = STATES) -> list[tuple[str, int, bytes]]:
    at = steady_ns()
    return [(topic, at + 1000 * k, serialized(k)) for k in range(count)]


def test_a_stock_reader_finds_what_was_seen(tmp_path: Path) -> None:
    log = make(tmp_path)
    before, after = seen(100), seen(70, COMMANDS)
    log.begin(before)
    for message in after:
        log.write(message)
    log.end({'stop/estop': 1, 'left_out': 0})
    log.begin(seen(3))
    log.end({})
    log.close(10.0)
    assert (log.files, log.dropped, log.error) == (2, 0, '')
    assert sorted(os.listdir(tmp_path)) == ['event_000000.mcap', 'event_000001.mcap']
    with (tmp_path / 'event_000000.mcap').open('rb') as stream:
        rows = [(channel.topic, message.log_time, message.data, message.sequence) for
                _, channel, message in make_reader(stream, validate_crcs=True).iter_messages(
                    log_time_order=False)]
    assert [(topic, data) for topic, _, data, _ in rows] == [
        (topic, data) for topic, _, data in [*before, *after]]
    assert [row[3] for row in rows] == [*range(100), *range(70)]
    assert abs(rows[0][1] - time.time_ns()) < 60e9, 'on the wall clock'
    assert rows[1][1] - rows[0][1] == 1000
    metadata = read_episode(tmp_path / 'event_000000.mcap').metadata
    assert (metadata['episode'], metadata['messages']) == (event_log.EVENTS, '170')
    assert json.loads(metadata['interventions']) == {'stop/estop': 1, 'left_out': 0}
    with pytest.raises(RecordingError, match='void'):
        open_episodes([tmp_path])


def test_a_disk_that_refuses_is_told_and_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / 'events'
    blocked.write_text('no folder')
    log = make(blocked)
    log.begin(seen(2))
    log.write(seen(1)[0])
    log.end({})
    deadline = time.monotonic() + 10
    while not log.dropped and time.monotonic() < deadline:
        time.sleep(0.005)
    assert 'no safety event can be written' in log.error
    assert (log.files, log.dropped) == (0, 1)
    blocked.unlink()
    log.begin(seen(2))
    log.end({})
    log.close(10.0)
    assert (log.files, log.error) == (1, '')


def test_a_full_disk_leaves_what_was_written(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, 'FLUSH_PERIOD_S', 0.0)
    monkeypatch.setattr(event_log, 'SYNC_PERIOD_S', 0.0)
    log = make(tmp_path)
    log.begin(seen(50))
    deadline = time.monotonic() + 10
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.005)
    monkeypatch.setattr(event_log, 'RESERVE_BYTES', 1 << 62)
    for message in seen(50):
        log.write(message)
    log.end({})
    log.close(10.0)
    assert 'MiB free' in log.error
    saved, = recover(tmp_path)
    assert saved.path.name == 'event_000000.mcap'
    assert saved.messages > 0


def test_a_queue_that_is_full_drops_and_counts(tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, 'MOST_QUEUED', 3)
    monkeypatch.setattr(EventLog, '_run', lambda self: None)
    log = make(tmp_path)
    log.begin(seen(5))
    for message in seen(5):
        log.write(message)
    assert log.dropped == 3


def test_a_killed_monitor_loses_less_than_a_fifth_of_a_second(tmp_path: Path) -> None:
    code = ('import sys, time; from pathlib import Path; from test_event_log import make, seen; '
            'log = make(Path(sys.argv[1])); log.begin(seen(300)); time.sleep(0.2); '
            'print("written", flush=True); time.sleep(60)')
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path)], stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([here, *sys.path])})
    assert child.stdout.readline() == b'written\n'
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert [entry.name for entry in tmp_path.iterdir()] == ['event_000000.mcap.partial']
    saved, = recover(tmp_path)
    assert (saved.path.name, saved.messages) == ('event_000000.mcap', 300)
