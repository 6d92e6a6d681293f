# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every check at its limit, on both sides of it, for NaN, infinity and the wrong length."""

from hypothesis import given, settings
from hypothesis import strategies as st
from limited_robots import make_robot
import numpy as np
import pytest
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import checks_for, judge_values
from rl_nodes.safety.limits import furthest_out
from rl_nodes.safety.verdict import Level

ARM = make_robot('arm', geometry=None)
CART = load_robot('cartpole')
STEP = ARM.limits('velocity') * 0.02
MARGIN = ARM.config.safety.position_margin


def state(robot=ARM, position=None, velocity=None) -> RobotState:
    home = robot.home if position is None else np.asarray(position, float)
    speed = np.zeros(len(home)) if velocity is None else np.asarray(velocity, float)
    return RobotState(0, '1@0', home, speed, np.zeros(len(home)))


def judge(command, robot=ARM, **kwargs):
    return judge_values(checks_for(robot), np.asarray(command, float), state(robot, **kwargs))


def test_a_full_step_passes_and_a_little_more_is_clamped_to_it() -> None:
    level, _, _, allowed = judge(ARM.home + STEP)
    assert level == Level.PASS
    np.testing.assert_array_equal(allowed, ARM.home + STEP)
    level, check, reason, allowed = judge(ARM.home + STEP * 1.001)
    assert (level, check) == (Level.CLAMP, 'velocity')
    assert 'shoulder_pan' in reason or 'asks for' in reason
    np.testing.assert_allclose(allowed, ARM.home + STEP)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('joint', range(6))
def test_one_value_that_is_not_finite_stops(bad: float, joint: int) -> None:
    command = ARM.home.copy()
    command[joint] = bad
    level, check, reason, allowed = judge(command)
    assert (level, check, allowed) == (Level.STOP, 'finite', None)
    assert ARM.command_names[joint] in reason


@pytest.mark.parametrize('length', [0, 1, 5, 7])
def test_wrong_length_stops(length: int) -> None:
    level, check, reason, allowed = judge(np.zeros(length))
    assert (level, check, allowed) == (Level.STOP, 'finite', None)
    assert f'{length} values' in reason


@pytest.mark.parametrize('end', ['lower', 'upper'])
def test_joint_range_less_its_margin(end: str) -> None:
    sign = -1 if end == 'lower' else 1
    edge = ARM.limits(end) - sign * MARGIN
    at_edge = edge - sign * 1e-3
    level, _, _, allowed = judge(edge, position=at_edge)
    assert level == Level.PASS
    np.testing.assert_array_equal(allowed, edge)
    level, check, _, allowed = judge(edge + sign * 5e-3, position=at_edge)
    assert (level, check) == (Level.CLAMP, 'position')
    np.testing.assert_allclose(allowed, edge)


def test_a_joint_outside_its_range_may_return_but_not_leave_further() -> None:
    outside = ARM.limits('upper') + 0.05
    assert judge(outside - STEP, position=outside)[0] == Level.PASS
    level, _, _, allowed = judge(outside + STEP, position=outside)
    assert level == Level.CLAMP
    assert (allowed <= outside).all()


def test_overspeed_and_a_state_that_is_not_finite_stop() -> None:
    limit = ARM.limits('velocity') * ARM.config.safety.overspeed
    assert judge(ARM.home, velocity=limit)[0] == Level.PASS
    assert judge(ARM.home, velocity=limit * 1.01)[:2] == (Level.STOP, 'state')
    nan = ARM.home.copy()
    nan[3] = np.nan
    assert judge(ARM.home, position=nan)[:2] == (Level.STOP, 'state')
    assert judge(ARM.home, velocity=nan)[:2] == (Level.STOP, 'state')


def test_effort_is_limited_and_never_pushes_out_of_range() -> None:
    assert judge([20.0], CART)[0] == Level.PASS
    level, check, _, allowed = judge([25.0], CART)
    assert (level, check, allowed[0]) == (Level.CLAMP, 'effort', 20.0)
    level, check, _, allowed = judge([5.0], CART, position=[1.5, 0.0])
    assert (level, check, allowed[0]) == (Level.CLAMP, 'position', 0.0)
    assert judge([-5.0], CART, position=[1.5, 0.0])[0] == Level.PASS
    for little in (0.01, -0.01):
        outside = [np.copysign(1.5, little), 0.0]
        assert judge([little], CART, position=outside).allowed.tolist() == [0.0]
        assert judge([-little], CART, position=outside).allowed.tolist() == [-little]


numbers = st.one_of(st.floats(width=64), st.sampled_from(
    [0.0, -0.0, 5e-324, 1e308, -1e308, np.nan, np.inf]))


@settings(max_examples=300, deadline=None)
@given(st.lists(numbers, min_size=6, max_size=6),
       st.lists(st.floats(-3.2, 3.2), min_size=6, max_size=6))
def test_whatever_comes_what_is_allowed_is_finite_and_within_limits(command, position) -> None:
    q = np.asarray(position)
    _, _, _, allowed = judge(command, position=q)
    if allowed is None:
        return
    for joint in range(6):  # written differently from the checks on purpose
        value, low, high = allowed[joint], ARM.joints[joint].lower, ARM.joints[joint].upper
        assert abs(value) < 10
        assert abs(value - q[joint]) <= STEP[joint] * (1 + 1e-6) + 1e-12
        assert value <= max(high - MARGIN, q[joint]) + 1e-12
        assert value >= min(low + MARGIN, q[joint]) - 1e-12


def test_what_is_furthest_beyond_its_bound_is_named() -> None:
    assert furthest_out([1.0, -3.0, 2.5], [0.5, 1.0, 2.0]) == 1
    assert furthest_out([4.0, -3.0], [3.5, 0.5]) == 1
