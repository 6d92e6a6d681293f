# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed, a recording is complete or recoverable; what is damaged is refused."""

from io import BytesIO
import mmap
import os
from pathlib import Path
import random
import signal
import struct
import subprocess
import sys
import time
import zlib

from episode_script import END, make_contract, open_writer, record, serialized, TOPIC
from mcap.data_stream import RecordBuilder
from mcap.reader import make_reader
from mcap.records import Chunk, MessageIndex
from mcap.writer import Writer
import pytest
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.reader import read_episode
from rl_nodes.data.recovery import recover
import zstandard

CHILD = """
import mmap, os, resource, struct, sys, time
sys.path[:0] = sys.argv[3:]
from episode_script import open_writer, TOPIC, END
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
