# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Our reader and writer of JointState against those of ROS."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rl_nodes.core.errors import SpecError
from rl_nodes.core.timing import NS
from rl_nodes.nodes import joint_state
from sensor_msgs.msg import JointState

texts = st.text(st.characters(exclude_characters='\0', exclude_categories=('Cs',)), max_size=12)
values = st.lists(st.floats(width=64), max_size=7).map(np.array)
stamps = st.integers(0, 2**31 * NS - 1)


def message(stamp_ns: int, frame_id: str, names, position, velocity, effort) -> JointState:
    msg = JointState(name=list(names), position=position.tolist(), velocity=velocity.tolist(),
                     effort=effort.tolist())
    msg.header.frame_id = frame_id
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, NS)
    return msg


@settings(max_examples=300)
@given(stamps, texts, st.lists(texts, max_size=7).map(tuple), st.tuples(values, values, values))
def test_ros_and_we_understand_each_other_bit_by_bit(stamp_ns, frame_id, names, arrays) -> None:
    msg = message(stamp_ns, frame_id, names, *arrays)
    theirs = deserialize_message(joint_state.encode(stamp_ns, frame_id, names, *arrays),
                                 JointState)
    assert (theirs.header, theirs.name) == (msg.header, list(names))
    for data in (serialize_message(msg), joint_state.encode(stamp_ns, frame_id, names, *arrays)):
        read = joint_state.decode(data)
        assert (read.header.stamp.sec, read.header.stamp.nanosec) == divmod(stamp_ns, NS)
        assert (read.header.frame_id, read.name) == (frame_id, names)
        for field, expected in zip(('position', 'velocity', 'effort'), arrays):
            for got in (getattr(read, field), getattr(theirs, field)):
                assert np.asarray(got).tobytes() == expected.astype(np.float64).tobytes()


def test_other_byte_orders_are_read_and_nonsense_is_refused() -> None:
    arrays = np.arange(3.0), np.arange(3.0) / 7, np.arange(2.0)
    msg = message(7, 'frame', ('a', 'b', 'c'), *arrays)
    data = serialize_message(msg)
    assert joint_state.deserialize(data, JointState).name == ('a', 'b', 'c')
    big_endian = joint_state._foreign(data)  # the way such a message takes
    assert big_endian.header.frame_id == 'frame'
    assert big_endian.velocity.tobytes() == arrays[1].tobytes()
    for damaged in (b'', data[:3], *(data[:k] for k in range(4, len(data), 5)),
                    data[:12] + b'\xff\xff\xff\x7f' + data[16:],
                    data[:4] + b'\xff' * (len(data) - 4)):
        with pytest.raises(SpecError, match='bytes are no sensor_msgs/JointState'):
            joint_state.decode(damaged)
