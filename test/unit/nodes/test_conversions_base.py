# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A floating base survives the wire bit for bit; wrong odometry is refused."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import BaseState
from rl_nodes.nodes import conversions

Odometry = conversions.Odometry


def base() -> BaseState:
    rng = np.random.default_rng(0)
    orientation = rng.normal(size=4)
    return BaseState(rng.normal(size=3), orientation / np.linalg.norm(orientation),
                     rng.normal(size=3), rng.normal(size=3))


def test_a_base_comes_back_bit_for_bit() -> None:
    sent = base()
    message = conversions.base_to_odom(12_345_678_901, sent)
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
    stamp, got = conversions.odom_to_base(
        deserialize_message(serialize_message(message), Odometry))
    assert stamp == 12_345_678_901
    for name in ('position', 'orientation', 'linear_velocity', 'angular_velocity'):
        assert getattr(got, name).tobytes() == getattr(sent, name).tobytes()


def spoil(message: Odometry, what: str) -> None:
    if what == 'frame':
        message.header.frame_id = 'map'
    elif what == 'child':
        message.child_frame_id = 'trunk'
    elif what == 'nan':
        message.twist.twist.angular.z = float('nan')
    else:
        message.pose.pose.orientation.w += 0.5


@pytest.mark.parametrize(('what', 'reason'), [
    ('frame', "'base_link' in 'map', expected"), ('child', "'trunk' in 'odom', expected"),
    ('nan', 'not finite'), ('length', 'expected 1')])
def test_wrong_odometry_is_refused(what: str, reason: str) -> None:
    message = conversions.base_to_odom(1, base())
    spoil(message, what)
    with pytest.raises(SpecError, match=reason):
        conversions.odom_to_base(message)
