# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on a real disk: complete or recoverable whatever is killed, refused when damaged."""

import functools
from io import BytesIO
import mmap
import os
from pathlib import Path
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib

from builtin_interfaces.msg import Time
from mcap.data_stream import RecordBuilder
from mcap.reader import make_reader
from mcap.records import Chunk, MessageIndex
from mcap.writer import Writer
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rl_nodes.core.contract import Contract, Joint
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data import writer as writer_module
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart, LockedFile
from rl_nodes.data.reader import read_episode
from rl_nodes.data.recovery import recover
from rl_nodes.data.writer import EpisodeWriter
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
import zstandard

TOPIC = '/arm/joint_states'
JOINT_STATE = 'sensor_msgs/msg/JointState'
END = EpisodeEnd('terminated', True, 20, 12.5, 11.25, 0.99, ('reach@3',), {'gap': 1},
                 {'mass': 1.5})


def make_contract() -> Contract:
    spec = {name: ArraySpec(name, ('a',), ('rad',), (None,), (None,))
            for name in ('observation', 'action')}
    return Contract('arm', 'reach', 100.0, 'position', (Joint('a', 'rad', -1.0, 1.0, 1.0, 1.0),),
                    spec['observation'], spec['action'], 'relative')


def make_start() -> EpisodeStart:
    return EpisodeStart(make_contract(), '4@1000', seed=11)


@functools.cache        # padding in serialized messages is whatever lay in memory
def serialized(k: int) -> bytes:
    stamp = Time(sec=k // 1000, nanosec=k % 1000 * 1_000_000)
    return serialize_message(JointState(
        header=Header(stamp=stamp), name=['a'], position=[float(k)], velocity=[], effort=[]))


def open_writer(directory, **options) -> EpisodeWriter:
    writer = EpisodeWriter(directory, make_start(), **options)
    writer.add_channel(TOPIC, JOINT_STATE, '- history: 1')
    return writer


def record(directory, count=20, finish=True) -> Path:
    writer = open_writer(directory)
    for k in range(count):
        assert writer.write(TOPIC, serialized(k), 1000 + k, 900 + k)
    if not finish:
        return writer
    writer.finish(END)
    assert writer.wait(10) and not writer.error
    return writer.path


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


CHILD = """
import mmap, os, resource, struct, sys, time
sys.path[:0] = sys.argv[3:]
from test_writer_reader import open_writer, TOPIC, END
directory, job = sys.argv[1:3]
if job == 'full':
    record = open_writer(directory)
    record.finish(END)
    record.wait(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    writer = open_writer(directory)
    k = 0
    while not writer.error and k < 5000:
        writer.write(TOPIC, os.urandom(400), k, k)
        k += 1
        time.sleep(0.0005)
    writer.finish(END)
    writer.wait(10)
    sys.exit(0 if 'File too large' in writer.error and writer.closed else 3)
with open(job, 'r+b') as stream:
    shared = mmap.mmap(stream.fileno(), 16)
writer = open_writer(directory)
k, due = 0, time.monotonic()
while True:
    now = time.monotonic_ns()
    if not writer.write(TOPIC, struct.pack('<Q', k) + os.urandom(192), now, now):
        sys.exit(4)
    shared[:] = struct.pack('<QQ', k + 1, now)
    k += 1
    due += 0.001
    time.sleep(max(0.0, due - time.monotonic()))
"""


def spawn(directory, job):
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    return subprocess.Popen([sys.executable, '-c', CHILD, str(directory), str(job), *paths])


def test_a_full_disk_in_a_real_process_keeps_what_was_written(tmp_path):
    assert spawn(tmp_path, 'full').wait(60) == 0
    assert read_episode(tmp_path / 'episode_000000.mcap').message_count == 0
    result, = recover(tmp_path)
    assert result.path == tmp_path / 'episode_000001.mcap' and result.messages > 10
    assert [m.log_time_ns for m in read_episode(result.path).messages()] == [
        *range(result.messages)]


@pytest.mark.parametrize('groups', [
    5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(0)])])
def test_killed_at_any_moment_a_recording_loses_its_last_instant_only(tmp_path, groups):
    losses_ms = []
    rng = random.Random(5)
    for group in range(groups):
        runs = []
        for name in (f'{group}a', f'{group}b'):
            directory = tmp_path / name
            shared = tmp_path / f'{name}.shared'
            shared.write_bytes(bytes(16))
            with shared.open('r+b') as stream:
                runs.append((directory, mmap.mmap(stream.fileno(), 16), spawn(directory, shared)))
        for directory, counter, child in runs:
            deadline = time.monotonic() + 30
            while counter[:] == bytes(16) and time.monotonic() < deadline:
                time.sleep(0.005)
        for directory, counter, child in runs:
            time.sleep(rng.uniform(0.2, 0.6))
            child.send_signal(signal.SIGKILL)
            child.wait(10)
            sent, newest_ns = struct.unpack('<QQ', counter[:])
            partial, = directory.iterdir()
            with pytest.raises(RecordingError, match='dataset repair'):
                read_episode(partial)
            result, = recover(directory)
            assert list(directory.iterdir()) == [result.path] and recover(directory) == []
            with result.path.open('rb') as stream:
                rows = [m for _, _, m in make_reader(stream, validate_crcs=True).iter_messages()]
            assert [struct.unpack_from('<Q', m.data)[0] for m in rows] == [*range(len(rows))]
            episode = read_episode(result.path)
            assert episode.metadata['recovered'] == 'true' and episode.metadata['seed'] == '11'
            assert episode.message_count == len(rows) <= sent + 1
            losses_ms.append((newest_ns - rows[-1].log_time) / 1e6)
    # 40 ms between flushes, the rest is a loaded machine.
    assert sorted(losses_ms)[groups] < 100 and max(losses_ms) < 400, losses_ms


def test_a_recording_in_progress_is_left_alone(tmp_path):
    writer = record(tmp_path, finish=False)
    result, = recover(tmp_path)
    assert result.path is None and 'still being recorded' in result.note
    writer.finish(END)
    assert writer.wait(10) and read_episode(writer.path).message_count == 20


def partial_bytes(tmp_path) -> bytes:
    """Return a recording of 3 chunks without its end, as a killed recorder leaves it."""
    writer = open_writer(tmp_path)
    for k in range(30):
        writer.write(TOPIC, serialized(k), k, k)
        if k % 10 == 9:
            deadline = time.monotonic() + 10
            while writer.written <= k and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.02)
    data = writer.partial.read_bytes()
    writer.discard()
    assert writer.wait(10)
    return data


def test_any_prefix_of_a_file_is_recovered(tmp_path):
    data = partial_bytes(tmp_path / 'source')
    counts = set()
    for index, length in enumerate(sorted(random.Random(1).sample(range(len(data)), 40))):
        directory = tmp_path / str(index)
        directory.mkdir()
        (directory / 'episode_000003.mcap.partial').write_bytes(data[:length] + bytes(index % 3))
        result, = recover(directory)
        if result.path is None:
            assert os.listdir(directory) in ([], ['episode_000003.mcap.unreadable'])
        else:
            assert [m.data for m in read_episode(result.path).messages()] == [
                serialized(k) for k in range(result.messages)]
            counts.add(result.messages)
    assert len(counts) >= 2 and max(counts) <= 30


def test_a_recorder_killed_in_its_last_step_left_a_complete_file(tmp_path):
    path = record(tmp_path)
    partial = tmp_path / f'{path.name}.partial'
    os.link(path, partial)                                      # between link and unlink
    assert recover(tmp_path)[0].path == path and not partial.exists()
    path.rename(partial)                                        # before link
    assert recover(tmp_path)[0].note == 'was complete'
    assert read_episode(path).metadata['recovered'] == 'false'


def test_a_killed_recovery_is_taken_up_again(tmp_path):
    data = partial_bytes(tmp_path)
    partial = tmp_path / 'episode_000000.mcap.partial'
    partial.write_bytes(data)
    (tmp_path / 'episode_000000.mcap.recovering').write_bytes(b'half')
    first, = recover(tmp_path)
    partial.write_bytes(data)                                   # as if it had died before unlink
    again, = recover(tmp_path)
    assert (again.path, again.messages) == (first.path, first.messages)
    partial.write_bytes(data[:-1])                              # some other file of this number
    kept, = recover(tmp_path)
    assert kept.path is None and 'exists already' in kept.note and partial.exists()


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'not an MCAP file', bytes(100)])
def test_what_holds_nothing_is_set_aside(tmp_path, content):
    partial = tmp_path / 'episode_000002.mcap.partial'
    partial.write_bytes(content)
    result, = recover(tmp_path)
    assert result.path is None and not partial.exists()
    assert os.listdir(tmp_path) == (['episode_000002.mcap.unreadable'] if content else [])


def test_every_flipped_bit_is_refused(tmp_path):
    path = record(tmp_path)
    good = path.read_bytes()
    rng = random.Random(3)
    for _ in range(600):
        position, bit = rng.randrange(len(good)), rng.randrange(8)
        bad = bytearray(good)
        bad[position] ^= 1 << bit
        path.write_bytes(bad)
        with pytest.raises(RecordingError):
            read_episode(path)
    path.write_bytes(good)
    assert read_episode(path).message_count == 20


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path):
    path = record(tmp_path)
    episode = read_episode(path)
    data = bytearray(path.read_bytes())
    data[episode._chunks[0].offset + episode._chunks[0].length - 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(RecordingError, match='damaged'):
        list(episode.messages())


def test_cut_lengthened_and_missing_files_are_refused(tmp_path):
    path = record(tmp_path)
    good = path.read_bytes()
    for bad in (good[:-1], good[:len(good) // 2], good[:5], b'', good + b'x', good + good):
        path.write_bytes(bad)
        with pytest.raises(RecordingError, match=str(path)):
            read_episode(path)
    with pytest.raises(RecordingError, match='cannot be read'):
        read_episode(tmp_path / 'none.mcap')


def test_a_bag_of_another_program_is_refused(tmp_path):
    path = tmp_path / 'foreign.mcap'
    for profile, said in (('', "profile is '', expected ros2"), ('ros2', 'another program')):
        with path.open('wb') as stream:
            foreign = Writer(stream, enable_data_crcs=True)
            foreign.start(profile)
            foreign.finish()
        with pytest.raises(RecordingError, match=said):
            read_episode(path)


def with_chunk(path: Path, stated: int, packed: bytes) -> None:
    """Put a chunk into a recording, with every CRC of the file correct."""
    builder = RecordBuilder()
    Chunk('zstd', packed, 1, 0, 0, stated).write(builder)
    MessageIndex(1, [(0, 0)]).write(builder)
    chunk = builder.end()
    contract = make_contract()

    stream = BytesIO()
    writer = Writer(stream, enable_data_crcs=True)
    writer.start('ros2')
    writer.add_attachment(0, 0, 'contract.json', '', contract.to_json().encode())
    writer.add_metadata('rl_nodes/episode', {'contract': contract.fingerprint()})
    head = stream.getvalue()
    writer.finish()
    tail = bytearray(stream.getvalue()[len(head):])
    tail[9:13] = struct.pack('<I', zlib.crc32(head + chunk))
    path.write_bytes(head + chunk + tail)


@pytest.mark.parametrize('stated, held, said', [
    (1 << 30, 1 << 20, 'states 1073741824 bytes uncompressed'),
    (40 << 20, 40 << 20, '1000:1'),
])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, stated, held, said):
    path = tmp_path / 'bomb.mcap'
    with_chunk(path, stated, zstandard.compress(bytes(held)))
    with pytest.raises(RecordingError, match=said):
        read_episode(path)
    assert recover(tmp_path) == []
    path.rename(tmp_path / 'episode_000000.mcap.partial')
    assert recover(tmp_path)[0].path is None


def test_a_bomb_that_lies_about_its_size_is_refused_before_it_is_unpacked(monkeypatch):
    from rl_nodes.data import mcap_format
    builder = RecordBuilder()
    Chunk('zstd', zstandard.compress(bytes(100 << 20)), 1, 0, 0, 1 << 20).write(builder)
    monkeypatch.setattr(mcap_format.zstandard, 'ZstdDecompressor', None)
    with pytest.raises(RecordingError, match='states 104857600 bytes, its record 1048576'):
        mcap_format.unpack_chunk(builder.end()[9:])
