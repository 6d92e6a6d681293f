# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a killed recorder loses: ``python -m benchmarks.kill_loss``.

A process publishes states at 1 kHz. The recorder, a process of its own, is ended by SIGKILL at
random moments; the next one that is started finds what it left. The newest state published before
the kill is compared with the newest in the recovered file, by the stamps and numbers in them.

    loss_p50_ms, loss_p99_ms, loss_max_ms   time between the two
    lost_max                                states between the two
    readable    part of the kills after which the next recorder completed the file by itself, the
                reader of the ``mcap`` package read it with its CRCs, and no state was missing
                between its first and its last
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import mmap
import os
from pathlib import Path
import random
import struct
import tempfile
import time
from typing import NamedTuple

from mcap.reader import make_reader
import numpy as np
import rclpy
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.reader import PARTIAL_SUFFIX
from rl_nodes.data.recovery import UNREADABLE_SUFFIX
from rl_nodes.nodes import joint_state, qos
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState

from benchmarks._traffic import EPISODE, LATE_S, start
from benchmarks.recorder import spawn_recorder
from benchmarks.report import Metric, percentile, publish, table

DOMAIN = '93'
PERIOD_S = 0.001
ALIVE_S = (0.3, 1.3)    # a recorder is killed so long after it has begun a file
LIMIT_S = 60.0
_NEWEST = struct.Struct('<qq')      # number and stamp [ns] of the newest state published


class Kill(NamedTuple):
    """
    What one kill cost.

    :param lost: states that were published and are not in the file.
    :param lost_ms: stamp of the newest one published minus that of the newest one kept.
    :param kept: states in the file; where there is none, all since it was begun are lost.
    :param contiguous: whether none is missing among these.
    """

    lost: int
    lost_ms: float
    kept: int
    contiguous: bool


def send(shared: Path, names: tuple[str, ...]) -> None:
    """Publish states as a process until it is ended, and tell which was the newest."""
    rclpy.init()
    node = Node('traffic')
    publisher = node.create_publisher(JointState, 'joint_states', qos.STREAM)
    number, due, zeros = 0, time.monotonic(), np.zeros(len(names))
    with shared.open('r+b') as stream, mmap.mmap(stream.fileno(), _NEWEST.size) as newest:
        while True:
            stamp_ns = time.time_ns()
            position = zeros.copy()
            position[0] = number
            publisher.publish(joint_state.encode(stamp_ns, EPISODE, names, position, zeros))
            newest[:] = _NEWEST.pack(number, stamp_ns)
            number += 1
            due = max(due + PERIOD_S, time.monotonic() - LATE_S)
            time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def traffic(folder: Path) -> Iterator[Callable[[], tuple[int, int]]]:
    """Have states published; gives what returns number and stamp [ns] of the newest."""
    shared = folder / 'newest'
    shared.write_bytes(bytes(_NEWEST.size))
    publisher = start(send, shared, load_task('arm', 'reach').robot.joint_names)
    try:
        with shared.open('r+b') as stream, mmap.mmap(stream.fileno(), _NEWEST.size) as newest:
            yield lambda: _NEWEST.unpack(newest[:])
    finally:
        publisher.kill()
        publisher.join()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f'{LIMIT_S:.0f} s without: {what}')
        time.sleep(0.005)


def compare(path: Path, number: int, stamp_ns: int) -> Kill:
    """Compare a recovered file with the newest state that was published."""
    with path.open('rb') as stream:
        data = [message.data for _, _, message in make_reader(
            stream, validate_crcs=True).iter_messages(topics=['joint_states'])]
    numbers = [round(joint_state.decode(entry).position[0]) for entry in data]
    return Kill(number - numbers[-1], (stamp_ns - header_stamp_ns(data[-1])) / NS * 1e3,
                len(numbers), numbers == [*range(numbers[0], numbers[0] + len(numbers))])


def kills(count: int, seed: int = 0) -> list[Kill]:
    """Kill a recorder so many times; return what each cost."""
    rng, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name, traffic(Path(name)) as newest:
        folder = Path(name) / 'episodes'
        folder.mkdir()
        left: tuple[Path, tuple[int, int], tuple[int, int]] | None = None
        for turn in range(count + 1):
            recorder = spawn_recorder(folder)
            try:
                if left is not None:
                    path, begun, published = left
                    aside = path.with_name(path.name + UNREADABLE_SUFFIX)
                    until(lambda names=(path, aside): any(map(Path.exists, names)),
                          f'{path.name} recovered by the next recorder')
                    if path.exists():
                        found.append(compare(path, *published))
                    else:
                        found.append(Kill(published[0] - begun[0],
                                          (published[1] - begun[1]) / NS * 1e3, 0, True))
                    path.unlink(missing_ok=True)
                    aside.unlink(missing_ok=True)
                if turn < count:
                    until(lambda: any(folder.glob('*' + PARTIAL_SUFFIX)), 'a recording')
                    partial, = folder.glob('*' + PARTIAL_SUFFIX)
                    begun = newest()
                    time.sleep(rng.uniform(*ALIVE_S))
                    left = (partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX)), begun,
                            newest())
            finally:
                recorder.kill()
                recorder.wait()
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='20 kills in the place of 200')
    options = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    ros_environment.prepare(os.environ)
    found = kills(20 if options.quick else 200)
    rows = {'ms': [kill.lost_ms for kill in found], 'states': [kill.lost for kill in found]}
    print(table(['lost', 'p50', 'p90', 'p99', 'max'], [
        [name, *(f'{percentile(values, q):.1f}' for q in (50, 90, 99, 100))]
        for name, values in rows.items()]), '\n')
    told = f'{len(found)} kills; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}'
    publish({
        'loss_p50_ms': Metric(percentile(rows['ms'], 50), '<= 100', told),
        'loss_p99_ms': Metric(percentile(rows['ms'], 99), '<= 100', told),
        'loss_max_ms': Metric(max(rows['ms']), '<= 100', told),
        'lost_max': Metric(max(rows['states']), '<= 100', f'states at 1 kHz; {told}'),
        'readable': Metric(np.mean([kill.contiguous for kill in found]), '= 1',
                           'completed by the next recorder, read by the mcap package, '
                           f'without a gap; at least {min(kill.kept for kill in found)} states')})


if __name__ == '__main__':
    main()
