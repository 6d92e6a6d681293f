# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The parts of a state find each other by stamp; rotations are what they say."""

import itertools

import numpy as np
import pytest
from rl_nodes.core.errors import SpecError
from rl_nodes.core.rotations import (
    quaternion_from_rpy,
    rotation_from_quaternion,
    rotation_from_rpy,
)
from rl_nodes.core.state_join import StateJoin
from rl_nodes.core.types import BaseState, RobotState


def state(stamp: int) -> RobotState:
    return RobotState(stamp, '1@0', np.zeros(1), np.zeros(1), np.zeros(1))


def base(stamp: int) -> BaseState:
    return BaseState.at_rest(np.full(3, float(stamp)), np.array([0.0, 0.0, 0.0, 1.0]))


def test_every_order_of_arrival_gives_each_state_once_with_its_own_base() -> None:
    messages = [(kind, stamp) for kind in 'sb' for stamp in (1, 2, 3)]
    for order in itertools.permutations(messages):
        join, found = StateJoin(('base',)), []
        for kind, stamp in order:
            joined = (join.add_state(state(stamp)) if kind == 's'
                      else join.add('base', stamp, base(stamp)))
            if joined is not None:
                found.append(joined)
        assert sorted(joined.stamp_ns for joined in found) == [1, 2, 3]
        assert all(joined.floating.position[0] == joined.stamp_ns for joined in found)


def test_a_state_is_complete_when_its_last_part_has_come() -> None:
    parts = {'base': base, 'objects': lambda stamp: np.full((2, 7), float(stamp)),
             'ranges': lambda stamp: np.full(5, float(stamp))}
    for order in itertools.permutations(['joints', *parts]):
        join, found = StateJoin(tuple(parts)), []
        join.add('objects', 1, parts['objects'](1))  # of another stamp
        for part in order:
            assert not any(found), order
            found.append(join.add_state(state(2)) if part == 'joints'
                         else join.add(part, 2, parts[part](2)))
        complete = found[-1]
        assert complete.floating.position[0] == 2
        assert (complete.object_poses[0, 0], complete.scan[0]) == (2, 2)


def test_without_parts_a_state_is_complete_at_once() -> None:
    alone = state(3)
    assert StateJoin(()).add_state(alone) is alone


def test_a_state_published_again_is_complete_at_once() -> None:
    join = StateJoin(('base',))
    join.add('base', 5, base(5))
    assert join.add_state(state(5)) is not None
    assert join.add('base', 5, base(5)) is None
    assert join.add_state(state(5)) is not None


def test_the_window_is_bounded_and_drops_the_oldest() -> None:
    join = StateJoin(('base',), size=4)
    for stamp in range(10):
        assert join.add_state(state(stamp)) is None
    assert join.add('base', 5, base(5)) is None
    assert join.add('base', 6, base(6)) is not None
    for stamp in range(20, 30):
        join.add('base', stamp, base(stamp))
    assert join.add_state(state(25)) is None
    assert join.add_state(state(26)) is not None


def test_a_state_without_a_part_says_so() -> None:
    for part, reason in (('floating', 'no floating base'), ('object_poses', 'no objects'),
                         ('scan', 'no ranges'), ('inertial', 'no imu'),
                         ('exerted', 'no wrench')):
        with pytest.raises(SpecError, match=reason):
            getattr(state(1), part)


def test_quaternions_and_angles_mean_the_same_rotation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rpy = rng.uniform(-3, 3, 3)
        np.testing.assert_allclose(rotation_from_quaternion(quaternion_from_rpy(rpy)),
                                   rotation_from_rpy(rpy), atol=1e-12)
