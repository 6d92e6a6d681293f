# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the recorder keeps up with: ``python -m benchmarks.recorder``.

Writing is compared with the writer of the ``mcap`` package on the same messages, both with zstd,
to the same disk, synced at the end. Then real processes publish over the middleware: nothing may
be lost, also while the recorder is frozen for a second, and its processor time is compared with
that of a recorder that decodes messages and encodes them again.

    ours_vs_bare, pictures_vs_bare   messages per second, ours / the bare writer's
    lost, lost_frozen                states of 1 kHz that are not in the file
    lost_cameras, cpu_vs_decoding    3 cameras of 640 x 480 at 30 Hz and states at 500 Hz
    lost_compressing, bytes_compressed   the same with pictures as JPEG on the side: states lost;
                                         the file against that of pictures as they came
"""

import argparse
from collections import Counter
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rl_nodes.core import ros_environment
from rl_nodes.core.cameras import COMPRESSED
from rl_nodes.core.resources import find_config
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.schemas import message_schema
from rl_nodes.data.writer import EpisodeWriter
from rl_nodes.tasks import load_task

from benchmarks._traffic import (
    decode_and_record,
    message,
    processor_s,
    publish,
    start,
    START_S,
    Stream,
)
from benchmarks.report import Metric, table
from benchmarks.report import publish as report

DOMAIN = '94'
JOINTS = tuple(f'joint_{k}' for k in range(12))
STATE, IMAGE = 'sensor_msgs/msg/JointState', 'sensor_msgs/msg/Image'
CAMERAS = tuple(f'camera/{name}/image_raw' for name in ('left', 'right', 'wrist'))


class Load(NamedTuple):
    """What became of one load: messages lost, the share of a processor, the file's size [B]."""

    sent: int
    states_lost: int
    pictures_lost: int
    processor: float
    size: int

    @property
    def lost(self) -> int:
        """Return the number of messages lost."""
        return self.states_lost + self.pictures_lost


def write_ours(folder: Path, kind: str, messages: Sequence[bytes]) -> float:
    """Return the seconds that recording takes, the queue and the thread included."""
    begin = time.perf_counter()
    writer = EpisodeWriter(folder, EpisodeStart(load_task('arm', 'reach').contract, '1@1'),
                           most_messages=len(messages), most_bytes=1 << 40)
    writer.add_channel('x', kind)
    for k, data in enumerate(messages):
        writer.write('x', data, k, k)
    writer.finish(EpisodeEnd('truncated', False, 0, 0.0, 0.0, 1.0))
    if not writer.wait(600) or writer.dropped or writer.error:
        raise SystemExit(f'recording failed: {writer.error or writer.dropped}')
    return time.perf_counter() - begin


def write_bare(folder: Path, kind: str, messages: Sequence[bytes]) -> float:
    """Return the seconds that the writer of the package takes."""
    begin = time.perf_counter()
    with (folder / 'bare.mcap').open('wb') as file:
        writer = Writer(file, compression=CompressionType.ZSTD)
        writer.start('ros2')
        channel = writer.register_channel('x', 'cdr', writer.register_schema(
            kind, 'ros2msg', message_schema(kind).text.encode()))
        for k, data in enumerate(messages):
            writer.add_message(channel, k, data, k, k)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begin


def compare(kind: str, messages: Sequence[bytes], turns: int) -> tuple[float, list[str]]:
    """Return the best ratio of several turns and a row of the table."""
    with tempfile.TemporaryDirectory() as name:
        taken = [(write_ours(Path(name), kind, messages), write_bare(Path(name), kind, messages))
                 for _ in range(turns)]  # by turns: other load on the machine changes
    ours, bare = map(min, zip(*taken, strict=True))
    size = sum(map(len, messages)) / 2**20
    return bare / ours, [kind, *(f'{value:.0f}' for value in (
        len(messages) / ours, size / ours, len(messages) / bare, size / bare))]


def spawn_recorder(folder: Path, **parameters: str) -> subprocess.Popen:
    """Start the recorder as a process of its own."""
    given = {'directory': str(folder), **parameters}
    return subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes.nodes.experience_recorder', '--ros-args',
         *(word for name, value in given.items() for word in ('-p', f'{name}:={value}'))],
        stderr=subprocess.DEVNULL)


def robot_with_cameras(folder: Path) -> Path:
    """Write the arm's YAML file with the cameras of the load."""
    head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
    lines = [f'  - {{name: {topic.split("/")[1]}, link: tool, rate_hz: 30}}\n'
             for topic in CAMERAS]
    path = folder / 'arm.yaml'
    path.write_text(f'{head}cameras:\n{"".join(lines)}{rest[rest.index("hardware:"):]}')
    return path


def lost(path: Path, streams: Sequence[Stream]) -> int:
    """Return how many messages of some streams are not in a file, or twice."""
    found: dict[str, Counter[bytes]] = {s.topic: Counter() for s in streams}
    with path.open('rb') as file:
        for _, channel, entry in make_reader(file, validate_crcs=True).iter_messages(
                topics=list(found), log_time_order=False):
            found[channel.topic][entry.data[4:12]] += 1
    return sum(abs(s.count - sum(found[s.topic].values()))
               + sum(count - 1 for count in found[s.topic].values()) for s in streams)


def load(streams: tuple[Stream, ...], freeze_s: float = 0.0, decoding: bool = False,
         compressing: bool = False) -> Load:
    """Let processes publish and a recorder record."""
    sent = sum(s.count for s in streams)
    seconds = max(s.count / s.rate_hz for s in streams)
    task = load_task('arm', 'reach')
    opening = Stream('joint_states', 'state', 1.0, 1, task.robot.joint_names)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if decoding:
            child = start(decode_and_record, streams, str(folder / 'decoded.mcap'))
        elif compressing:
            child = spawn_recorder(folder, robot=str(robot_with_cameras(folder)), cameras='true',
                                   record_images='true', jpeg_quality='90')
        else:
            further = ' '.join(s.topic for s in streams if s.topic != 'joint_states')
            child = spawn_recorder(folder, topics=f'"{further}"')
            if all(s.topic != 'joint_states' for s in streams):
                first = start(publish, (opening,), 0.0)
                first.join()
        begin = time.monotonic() + 4.0
        groups = [tuple(s for s in streams if s.kind == 'state'),
                  *((s,) for s in streams if s.kind == 'picture')]
        publishers = [start(publish, group, begin) for group in groups if group]
        time.sleep(max(0.0, begin - time.monotonic()))
        before, at = processor_s(child.pid), time.monotonic()
        if freeze_s:
            time.sleep(seconds / 3)
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(freeze_s)
            os.kill(child.pid, signal.SIGCONT)
        for publisher in publishers:
            publisher.join(2 * seconds + START_S)
        processor = (processor_s(child.pid) - before) / (time.monotonic() - at)
        os.kill(child.pid, signal.SIGTERM)
        if decoding:
            child.join(20)
            child.kill()
        else:
            child.wait(timeout=20)
        path, = folder.glob('*.mcap')
        states, pictures = ([s for s in streams if s.kind == kind]
                            for kind in ('state', 'picture'))
        if compressing:
            pictures = [s._replace(topic=s.topic + COMPRESSED) for s in pictures]
        return Load(sent, lost(path, states), lost(path, pictures), processor,
                    path.stat().st_size)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute and a half')
    options = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    turns, seconds = (2, 6) if options.quick else (5, 60)
    states, state_row = compare(STATE, [message(
        Stream('x', 'state', 1.0, 1, JOINTS), k) for k in range(50_000)], turns)
    pictures, picture_row = compare(IMAGE, 20 * [message(
        Stream('x', 'picture', 1.0, 1), k) for k in range(10)], turns)
    print(table(['written', 'ours /s', 'MB/s', 'bare /s', 'MB/s'], [state_row, picture_row]), '\n')
    names = load_task('arm', 'reach').robot.joint_names
    fast = Stream('joint_states', 'state', 1000.0, 1000 * seconds, names)
    camera_s = min(seconds, 20)
    mixed = (Stream('bench/state', 'state', 500.0, 500 * camera_s, JOINTS),
             *(Stream(topic, 'picture', 30.0, 30 * camera_s) for topic in CAMERAS))
    loads = {'1 kHz': load((fast,)),
             '1 kHz, frozen for 1 s': load((fast._replace(count=6000),), freeze_s=1.0),
             '3 cameras, 500 Hz': load(mixed),
             'the same, decoding': load(mixed, decoding=True),
             'the same, compressing': load(
                 (mixed[0]._replace(topic='joint_states', names=names), *mixed[1:]),
                 compressing=True)}
    print(table(['over the middleware', 'sent', 'states lost', 'pictures lost', 'processor', 'MB'],
                [[name, str(found.sent), str(found.states_lost), str(found.pictures_lost),
                  f'{found.processor:.0%}', f'{found.size / 1e6:.0f}']
                 for name, found in loads.items()]), '\n')
    quiet, frozen, cameras, decoding, compressing = loads.values()
    machine = f'{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}'
    report({
        'ours_vs_bare': Metric(states, '>= 0.8', 'mcap.writer.Writer on the same states'),
        'pictures_vs_bare': Metric(pictures, '>= 0.8', 'the same on pictures of 640 x 480'),
        'lost': Metric(quiet.lost, '= 0', f'{quiet.sent} states at 1 kHz; {machine}'),
        'lost_frozen': Metric(frozen.lost, '= 0', f'{frozen.sent} states; {machine}'),
        'lost_cameras': Metric(cameras.lost, '= 0', f'{cameras.sent} messages; {machine}'),
        'cpu_vs_decoding': Metric(
            cameras.processor / decoding.processor, '<= 1',
            f'decoding and encoding again, which lost {decoding.lost}; {machine}'),
        'lost_compressing': Metric(
            compressing.states_lost, '= 0', f'{mixed[0].count} states; of '
            f'{compressing.sent - mixed[0].count} pictures {compressing.pictures_lost} were '
            f'dropped; {machine}'),
        'bytes_compressed': Metric(
            compressing.size / cameras.size, '<= 0.1', 'the file with pictures as they came')})


if __name__ == '__main__':
    main()
