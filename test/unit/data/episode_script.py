# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Short recordings for the tests of who writes, reads and repairs them."""

import functools
from pathlib import Path

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rl_nodes.core.contract import Contract, Joint
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.writer import EpisodeWriter
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

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
