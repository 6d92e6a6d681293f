# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Publishers and a recorder that decodes, as processes of their own."""

from multiprocessing import get_context
from multiprocessing.process import BaseProcess
import signal
import time
from typing import NamedTuple

from mcap.writer import Writer
import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from rl_nodes.core.timing import NS
from rl_nodes.data.schemas import message_schema
from rl_nodes.nodes import joint_state, qos
from rl_nodes.nodes.conversions import ns_to_stamp
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

START_S = 60.0
LATE_S = 0.1
START_NS = 1_700_000_000 * NS
EPISODE = f'1@{START_NS}'
KINDS = {'state': JointState, 'picture': Image}


class Stream(NamedTuple):
    """
    Messages at a steady pace; each is stamped with its number in ms behind ``START_NS``.

    :param names: of the joints, in states.
    """

    topic: str
    kind: str
    rate_hz: float
    count: int
    names: tuple[str, ...] = ()


def message(stream: Stream, number: int) -> bytes:
    """Return a serialized message of a stream."""
    stamp = START_NS + number * 1_000_000
    if stream.kind == 'state':
        zeros = np.full(len(stream.names), number * 1e-6)
        return joint_state.encode(stamp, EPISODE, stream.names, zeros, zeros)
    rng = np.random.default_rng(number)
    smooth = np.add.outer(np.arange(480) // 3, np.arange(640 * 3) // 9)
    pixels = (smooth + rng.integers(0, 6, smooth.shape)).astype(np.uint8)
    return serialize_message(Image(header=Header(stamp=ns_to_stamp(stamp)), height=480, width=640,
                                   encoding='rgb8', step=1920, data=pixels.tobytes()))


def publish(streams: tuple[Stream, ...], begin: float) -> None:
    """
    Send streams as a process; each message at its absolute time, all of them acknowledged.

    Who could not send for longer than ``LATE_S`` goes on at the same pace from then, as a robot
    does, and does not send at once what was due meanwhile.
    """
    rclpy.init()
    node = Node('traffic')
    publishers = [node.create_publisher(
        KINDS[s.kind], s.topic, qos.STREAM if s.kind == 'state' else qos.PICTURE)
        for s in streams]
    prepared = [[message(s, k) for k in range(8 if s.kind == 'picture' else 0)] for s in streams]
    deadline = time.monotonic() + START_S
    while min(p.get_subscription_count() for p in publishers) < 1:
        if time.monotonic() > deadline:
            raise SystemExit('nobody listens')
        time.sleep(0.01)
    due = sorted((k / s.rate_hz, i, k) for i, s in enumerate(streams) for k in range(s.count))
    start = max(begin, time.monotonic() + 0.5)
    for at, i, k in due:
        data = stamped(prepared[i][k % 8], k) if prepared[i] else message(streams[i], k)
        early = start + at - time.monotonic()
        if early > 0.0:
            time.sleep(early)
        elif early < -LATE_S:
            start -= early
        publishers[i].publish(data)
    for publisher in publishers:
        publisher.wait_for_all_acked(Duration(seconds=20))
    node.destroy_node()
    rclpy.shutdown()


def stamped(data: bytes, number: int) -> bytes:
    """Return a prepared message with the stamp of another number."""
    seconds, rest = divmod(START_NS + number * 1_000_000, NS)
    return b''.join((data[:4], seconds.to_bytes(4, 'little'), rest.to_bytes(4, 'little'),
                     data[12:]))


def decode_and_record(streams: tuple[Stream, ...], path: str) -> None:
    """Record as most people write it: messages are decoded, then encoded again."""
    stopping: list[int] = []
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    node = Node('decoding_recorder')
    with open(path, 'wb') as file:
        writer = Writer(file)
        writer.start('ros2')
        for s in streams:
            name = f'sensor_msgs/msg/{KINDS[s.kind].__name__}'
            channel = writer.register_channel(s.topic, 'cdr', writer.register_schema(
                name, 'ros2msg', message_schema(name).text.encode()))

            def keep(msg: object, channel: int = channel) -> None:
                now = time.time_ns()
                writer.add_message(channel, now, serialize_message(msg), now)

            node.create_subscription(KINDS[s.kind], s.topic, keep,
                                     qos.STREAM if s.kind == 'state' else qos.PICTURE)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stopping:
            executor.spin_once(timeout_sec=0.1)
        writer.finish()


def start(target: object, *arguments: object) -> BaseProcess:
    """Start a function of this module as a fresh process."""
    process = get_context('spawn').Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def processor_s(pid: int) -> float:
    """Return the processor time that a process has taken [s]."""
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
