# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The way home and the guard of the first command."""

import msgspec
import numpy as np
import pytest
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import RobotState
from rl_nodes.safety.homing import Homing
from rl_nodes.safety.motion import FirstCommandGuard


@pytest.fixture
def model():
    return load_robot('arm')


def at(position) -> RobotState:
    return RobotState(0, '', np.array(position, float), np.zeros(6), np.zeros(6))


def test_guard_on_both_sides_of_one_step(model):
    guard = FirstCommandGuard(model)
    step = model.limits('velocity') / model.config.rate_hz
    assert guard.refusal(model.home + step, model.home) == ''
    too_far = model.home.copy()
    too_far[2] += step[2] * 1.01
    assert 'elbow by 0.040 (one step is 0.040)' in guard.refusal(too_far, model.home)
    assert 'shoulder_pan' in guard.refusal(np.full(6, np.nan), model.home)


def test_ramp_keeps_the_speed_and_arrives(model):
    """One radian at 0.5 rad/s takes two seconds, in steps of 0.01 rad at 50 Hz."""
    position = model.home.copy()
    position[0] += 1.0
    homing, last = Homing(model, 100.0, position), position
    for tick in range(1, 101):
        assert not homing.done(at(last)) or tick > 94
        command, why = homing.command(100.0 + tick / 50, at(last))
        assert why == ''
        assert np.abs(command - last).max() <= 0.0101
        last = command
    assert homing.done(at(last))
    np.testing.assert_allclose(last, model.home, atol=1e-9)


def test_a_ramp_that_is_over_stays_at_its_target_within_its_tolerance(model):
    position = model.home.copy()
    position[0] += 1.0
    homing = Homing(model, 0.0, position)
    for passed_s in (2.0, 2.5, 3.9):
        np.testing.assert_allclose(homing.command(passed_s, at(model.home))[0], model.home)
    position[0] = model.config.hardware.home_tolerance  # its home is 0
    assert homing.done(at(position))
    position[0] = np.nextafter(position[0], 1.0)
    assert not homing.done(at(position))


def test_a_joint_that_lags_is_never_pulled_by_more_than_one_step(model):
    position = model.home.copy()
    position[0] += 1.0
    command, _ = Homing(model, 0.0, position).command(2.0, at(position))
    assert abs(command[0] - position[0]) == pytest.approx(2.0 / 50)


def test_time_out_names_the_joints(model):
    model.config = msgspec.structs.replace(model.config, hardware=msgspec.structs.replace(
        model.config.hardware, home_timeout_s=3.0))
    position = model.home.copy()
    position[3] -= 0.4
    homing = Homing(model, 0.0, position)
    assert homing.command(3.0, at(position))[1] == ''
    command, why = homing.command(3.1, at(position))
    assert command is None
    assert 'after 3.0 s' in why
    assert 'wrist_pitch by 0.400' in why


def test_a_state_that_is_no_state_ends_the_way(model):
    homing = Homing(model, 0.0, model.home)
    command, why = homing.command(0.1, at(np.full(6, np.nan)))
    assert command is None
    assert 'not finite' in why
