# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on a real disk: what is written, read back, dropped and refused."""

import os
import threading
import time

from episode_script import (
    END,
    JOINT_STATE,
    make_contract,
    open_writer,
    record,
    serialized,
    TOPIC,
)
from mcap.reader import make_reader
import pytest
from rclpy.serialization import deserialize_message
from rl_nodes.core.errors import RecordingError
from rl_nodes.data import writer as writer_module
from rl_nodes.data.episode_file import LockedFile
from rl_nodes.data.reader import read_episode
from rl_nodes.data.recovery import recover
from sensor_msgs.msg import JointState


def test_a_stock_reader_finds_a_bag_of_ros2(tmp_path):
    path = record(tmp_path)
    assert path == tmp_path / 'episode_000000.mcap' and os.listdir(tmp_path) == [path.name]
    with path.open('rb') as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == 'ros2'
        rows = list(reader.iter_messages())
        assert reader.get_summary().statistics.message_count == len(rows) == 20
        names = [record.name for record in reader.iter_metadata()]
        assert sorted(names) == ['rl_nodes/episode', 'rl_nodes/episode_start']
        attachment, = reader.iter_attachments()
    for k, (schema, channel, message) in enumerate(rows):
        assert (schema.name, schema.encoding) == (JOINT_STATE, 'ros2msg')
        assert b'MSG: builtin_interfaces/Time\n' in schema.data
        assert (channel.topic, channel.message_encoding) == (TOPIC, 'cdr')
        assert channel.metadata['offered_qos_profiles'] == '- history: 1'
        assert channel.metadata['topic_type_hash'].startswith('RIHS01_')
        assert (message.log_time, message.publish_time, message.sequence) == (1000 + k, 900 + k, k)
        assert deserialize_message(message.data, JointState).position[0] == k
    assert attachment.name == 'contract.json'
    assert attachment.data.decode() == make_contract().to_json()


def test_our_reader_gives_back_what_was_written_and_where_it_came_from(tmp_path):
    episode = read_episode(record(tmp_path))
    assert episode.contract == make_contract() and episode.message_count == 20
    assert episode.topics == {TOPIC: JOINT_STATE}
    messages = list(episode.messages())
    assert [tuple(m) for m in messages] == [
        (TOPIC, JOINT_STATE, 1000 + k, 900 + k, serialized(k), k) for k in range(20)]
    assert list(episode.messages(['/other'])) == []
    metadata = episode.metadata
    assert metadata['contract'] == make_contract().fingerprint()
    expected = {
        'robot': 'arm', 'task': 'reach', 'episode': '4@1000', 'seed': '11', 'reason': 'terminated',
        'randomisation': '{"mass": 1.5}', 'success': 'true', 'steps': '20', 'discount': '0.99',
        'return_undiscounted': '12.5', 'return_discounted': '11.25', 'counters': '{"gap": 1}',
        'policy_versions': '["reach@3"]', 'recovered': 'false', 'dropped': '0', 'messages': '20'}
    assert {name: metadata[name] for name in expected} == expected
    assert '"mcap"' in metadata['software'] and '"python"' in metadata['software']


def test_no_number_is_used_twice(tmp_path):
    for name in ('episode_000007.mcap', 'episode_000009.mcap.unreadable', 'notes.txt'):
        (tmp_path / name).write_bytes(b'old')
    first, second = open_writer(tmp_path), open_writer(tmp_path)
    for writer in (second, first):
        writer.finish(END)
        assert writer.wait(10)
    assert (first.path.name, second.path.name) == ('episode_000010.mcap', 'episode_000011.mcap')
    assert (tmp_path / 'episode_000007.mcap').read_bytes() == b'old'


def test_a_file_that_took_the_final_name_meanwhile_is_not_replaced(tmp_path):
    writer = open_writer(tmp_path)
    (tmp_path / 'episode_000000.mcap').write_bytes(b'mine')
    writer.finish(END)
    assert writer.wait(10)
    assert 'File exists' in writer.error and writer.partial.exists()
    assert (tmp_path / 'episode_000000.mcap').read_bytes() == b'mine'


def test_a_discarded_episode_leaves_nothing(tmp_path):
    writer = record(tmp_path, finish=False)
    assert [entry.endswith('.mcap.partial') for entry in os.listdir(tmp_path)] == [True]
    writer.discard()
    assert writer.wait(10) and not writer.error and not os.listdir(tmp_path)
    assert not writer.write(TOPIC, b'', 0, 0) and writer.path is None


def test_topics_are_announced_once(tmp_path):
    writer = open_writer(tmp_path)
    writer.add_channel(TOPIC, JOINT_STATE)
    with pytest.raises(RecordingError, match='recorded as sensor_msgs/msg/JointState'):
        writer.add_channel(TOPIC, 'sensor_msgs/msg/Imu')
    with pytest.raises(RecordingError, match='install the package lost_msgs'):
        writer.add_channel('/lost', 'lost_msgs/msg/Thing')
    with pytest.raises(RecordingError, match=f'/lost is not announced.*{TOPIC}'):
        writer.write('/lost', b'', 0, 0)
    writer.discard()
    assert writer.wait(10)


@pytest.mark.parametrize('bound', [{'most_messages': 10}, {'most_bytes': 10 * len(serialized(0))}])
def test_what_the_queue_cannot_hold_is_dropped_and_counted(tmp_path, monkeypatch, bound):
    monkeypatch.setattr(writer_module, 'FLUSH_PERIOD_S', 0.5)
    writer = open_writer(tmp_path, **bound)
    results = [writer.write(TOPIC, serialized(k), k, k) for k in range(50)]
    assert results == [True] * 10 + [False] * 40
    deadline = time.monotonic() + 10
    while writer.written < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert writer.write(TOPIC, serialized(50), 50, 50)
    writer.finish(END)
    assert writer.wait(10) and writer.dropped == 40
    episode = read_episode(writer.path)
    assert episode.metadata['dropped'] == '40'
    assert [m.sequence for m in episode.messages()] == [*range(10), 50]     # the gap is visible


def test_a_slow_disk_never_makes_the_caller_wait(tmp_path, monkeypatch):
    write, sync = LockedFile.write, LockedFile.sync
    monkeypatch.setattr(LockedFile, 'write', lambda f, data: (time.sleep(0.1), write(f, data))[1])
    monkeypatch.setattr(LockedFile, 'sync', lambda f: (time.sleep(0.2), sync(f))[1])
    writer = open_writer(tmp_path)
    slowest = 0.0
    for k in range(300):
        start = time.perf_counter()
        assert writer.write(TOPIC, serialized(k), k, k)
        slowest = max(slowest, time.perf_counter() - start)
        time.sleep(0.001)
    assert slowest < 0.08
    writer.finish(END)
    assert writer.wait(20) and read_episode(writer.path).message_count == 300


def test_how_slow_the_disk_is_is_known(tmp_path, monkeypatch):
    sync = os.fdatasync
    monkeypatch.setattr(os, 'fdatasync', lambda file: (time.sleep(0.15), sync(file))[1])
    writer = open_writer(tmp_path)
    assert writer.write(TOPIC, serialized(0), 0, 0)
    writer.finish(END)
    assert writer.wait(10) and 0.15 <= writer.slowest_s < 5
    assert writer.free_bytes > 0 and writer.queued == 0


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_a_disk_that_syncs_for_long_keeps_no_message_from_the_system(tmp_path, monkeypatch):
    begun, go_on, sync = threading.Event(), threading.Event(), os.fdatasync
    monkeypatch.setattr(writer_module, 'SYNC_PERIOD_S', 0.0)
    monkeypatch.setattr(os, 'fdatasync',
                        lambda file: (begun.set(), go_on.wait(20), sync(file)))
    writer = open_writer(tmp_path)
    assert begun.wait(20)
    for k in range(3):
        size = writer.partial.stat().st_size
        assert writer.write(TOPIC, serialized(k), k, k)
        assert until(lambda size=size: writer.partial.stat().st_size > size)
    assert not go_on.is_set()
    go_on.set()
    writer.finish(END)
    assert writer.wait(20) and read_episode(writer.path).message_count == 3


def test_what_could_not_be_synced_aside_is_no_complete_episode(tmp_path, monkeypatch):
    failed, sync = threading.Event(), os.fdatasync

    def once(file):     # as Linux does: the next one succeeds, and the data are gone
        if not failed.is_set():
            failed.set()
            raise OSError(5, 'Input/output error')
        sync(file)

    monkeypatch.setattr(writer_module, 'SYNC_PERIOD_S', 0.0)
    monkeypatch.setattr(os, 'fdatasync', once)
    writer = open_writer(tmp_path)
    assert writer.write(TOPIC, serialized(0), 0, 0) and failed.wait(20)
    writer.finish(END)
    assert writer.wait(20) and writer.path is None and 'Input/output error' in writer.error


@pytest.mark.parametrize('fails_at', ['write', 'sync'])
def test_a_failing_disk_ends_the_episode_with_the_reason(tmp_path, monkeypatch, fails_at):
    old = record(tmp_path)
    writer = open_writer(tmp_path)
    assert writer.write(TOPIC, serialized(0), 0, 0)
    deadline = time.monotonic() + 10
    while not writer.written and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(LockedFile, fails_at, fail)
    assert writer.write(TOPIC, serialized(1), 1, 1)
    writer.finish(END)
    assert writer.wait(10) and writer.path is None
    assert 'No space left on device' in writer.error and str(writer.partial) in writer.error
    assert not writer.write(TOPIC, serialized(2), 2, 2)
    monkeypatch.undo()
    assert read_episode(old).message_count == 20
    result, = recover(tmp_path)
    assert result.messages >= 1 and read_episode(result.path).message_count == result.messages


def test_an_episode_that_failed_can_still_be_discarded(tmp_path, monkeypatch):
    writer = open_writer(tmp_path, reserve_bytes=0)
    monkeypatch.setattr(LockedFile, 'sync', lambda _: 1 / 0)
    writer.finish(END)
    assert writer.wait(10) and 'ZeroDivisionError' in writer.error
    writer.discard()
    assert not os.listdir(tmp_path)


def test_recording_is_refused_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingError, match='cannot record in .*file/episodes'):
        open_writer(tmp_path / 'file' / 'episodes')
    with pytest.raises(RecordingError, match='expected at least the reserve'):
        open_writer(tmp_path, reserve_bytes=1 << 62)
