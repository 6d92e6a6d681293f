# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Servo bus robots on a real pseudo-terminal: connecting, moving, holding, closing."""

import time

from emulators.servo_bench import (
    MODELS,
    NEAR_S,
    PERIOD_S,
    serve,
    settle,
    TICK,
    within,
)
import numpy as np
import pytest
from rl_nodes.backends.hardware.servo_bus import MotorConfig, ReadMissedError
from rl_nodes.core.errors import BackendError


@pytest.fixture(params=sorted(MODELS))
def bench(request, tmp_path):
    yield from serve(request.param, tmp_path)


# --- connecting ---------------------------------------------------------------------------------


def test_connecting_moves_nothing_and_enables_torque_without_a_jump(bench):
    places = [1900, 2300, 2500, 1500, 2048, 3000]
    for servo, place in zip(bench.servos, places):
        servo.position = place
    robot = bench.connected()
    measured = robot.read()
    assert np.allclose(measured.position, (np.array(places) - 2048) * TICK)
    time.sleep(0.1)
    assert np.allclose(robot.read().position, measured.position)
    assert all(servo.get('torque') == 1 for servo in bench.servos)
    bench.check_no_jump()


def test_limits_are_in_the_motors(bench):
    bench.connected(motors=bench.motors(torque_limit=0.5))
    joints = bench.model.joints
    for joint, servo in zip(joints, bench.servos):
        assert 0 <= joint.lower - (servo.get('minimum') - 2048) * TICK + TICK <= TICK + 1e-9
        assert 0 <= (servo.get('maximum') - 2048) * TICK * -1 + joint.upper < TICK
        assert servo.get('power') == (442 if bench.protocol == 'dynamixel2' else 500)
        unit = 0.229 * 2 * np.pi / 60 if bench.protocol == 'dynamixel2' else TICK
        assert joint.velocity - unit < servo.get('speed') * unit <= joint.velocity
        assert servo.get('return_delay') == 0


def test_missing_unexpected_and_wrong_motors_are_all_named_in_bounded_time(bench):
    wrong = bench.emulator.servos.pop(11)
    wrong.set('id', 77)
    bench.emulator.servos[77] = wrong
    bench.servos[0].set('model', 1060)
    robot = bench.robot()
    with within(NEAR_S), pytest.raises(BackendError) as caught:
        robot.connect()
    text = str(caught.value)
    assert 'no answer from elbow (id 11)' in text
    assert 'unexpected ids 77' in text
    assert 'shoulder_pan (id 4) is a' in text
    assert 'model number 1060' in text
    assert 'shoulder_lift' not in text
    assert not bench.goals()


@pytest.mark.parametrize('spoil, words', [
    ({'hardware_error': 0b100000}, 'elbow (id 11) reports overload'),
    ({'hardware_error': 0b1}, 'elbow (id 11) reports input voltage'),
    ({'temperature': 80}, 'elbow (id 11) has 80 °C, more than 65 °C'),
    ({'voltage': 6.2}, 'elbow (id 11) has 6.2 V, allowed 9.0 to 13.0 V'),
    ({'position': 4000}, 'elbow is at 2.994, outside [-0.2, 2.7]'),
])
def test_a_motor_in_no_state_to_move_is_refused_and_gets_no_torque(bench, spoil, words):
    for name, value in spoil.items():
        setattr(bench.servos[2], name, value)
    robot = bench.robot()
    with pytest.raises(BackendError) as caught:
        robot.connect()
    assert words in str(caught.value)
    assert not any(kind == 'torque' and value for servo in bench.servos
                   for _, kind, value, _ in servo.events)
    with pytest.raises(BackendError, match='not connected'):
        robot.read()


def test_a_port_that_is_missing_or_taken_is_refused(bench):
    bench.connected()
    with pytest.raises(BackendError, match='in use by another'):
        bench.robot().connect()
    with pytest.raises(BackendError, match='does not exist'):
        bench.robot(port=str(bench.link) + 'x').connect()
    with pytest.raises(BackendError, match='serial port'):
        bench.robot(port='/dev/null').connect()


def test_a_robot_left_with_torque_is_taken_over_without_letting_go(bench):
    first = bench.connected()
    first._release()  # what the kernel does for a killed process
    bench.connected()
    assert not any(kind == 'torque' and not value for servo in bench.servos
                   for _, kind, value, _ in servo.events)
    bench.check_no_jump()


@pytest.mark.parametrize('bench', ['dynamixel2'], indirect=True)  # Feetech takes it with torque
def test_a_held_motor_with_another_fixed_setting_is_refused_not_dropped(bench):
    servo = bench.servos[1]
    servo.set('goal', 2048)
    servo.set('torque', 1)
    with pytest.raises(BackendError, match='shoulder_lift must change .* support the robot'):
        bench.robot().connect()
    assert servo.get('torque') == 1


# --- reading and writing ------------------------------------------------------------------------


def test_written_positions_are_reached_and_read_back_within_a_tick(bench):
    robot = bench.connected()
    target = np.array([0.05, -0.07, 0.06, 0.1, -0.09, 0.12])
    sent = robot.write(target)
    assert np.abs(sent - target).max() <= TICK / 2
    assert np.allclose(sent / TICK, np.rint(sent / TICK))
    measured = settle(robot, lambda m: np.abs(m.position - sent).max() <= TICK * 1.01)
    assert measured.velocity.shape == measured.effort.shape == (6,)
    robot.write(np.zeros(6))
    moving = settle(robot, lambda m: np.abs(m.velocity).max() > 0)
    assert np.sign(moving.velocity[0]) == -1
    assert [robot.write(sent)[i] for i in range(6)] == list(sent)


def test_each_joint_moves_its_own_motor_the_right_way(bench):
    motors = {name: MotorConfig(
        id=m.id, model=m.model, offset_ticks=2000, sign=-1 if i % 2 else 1, voltage_v=m.voltage_v)
        for i, (name, m) in enumerate(bench.motors().items())}
    for servo in bench.servos:
        servo.position = 2000
    robot = bench.connected(motors=motors)
    for i, servo in enumerate(bench.servos):
        before = [s.get('goal') for s in bench.servos]
        command = np.zeros(6)
        command[i] = 20 * TICK
        robot.write(command)
        settle(robot, lambda m, i=i: abs(m.position[i] - 20 * TICK) < 1.1 * TICK)
        assert servo.get('goal') == 2000 + (-20 if i % 2 else 20)
        robot.write(np.zeros(6))
        settle(robot, lambda m, i=i: abs(m.position[i]) < 1.1 * TICK)
        assert [s.get('goal') for s in bench.servos] == [2000] * 6 == before


@pytest.mark.parametrize('bad', [
    np.full(6, np.nan), np.array([0, 0, 0, 0, 0, np.inf]), np.zeros(5), np.zeros((6, 1))])
def test_impossible_commands_are_refused_and_nothing_is_sent(bench, bad):
    robot = bench.connected()
    before = len(bench.goals())
    with pytest.raises(BackendError, match='nothing was sent'):
        robot.write(bad)
    assert len(bench.goals()) == before


def test_commands_beyond_the_limits_are_cut_to_the_last_tick_inside(bench):
    robot = bench.connected()
    robot.write(np.zeros(6))
    for command in (np.full(6, 1e308), np.full(6, -1e308), np.full(6, 5e-324)):
        sent = robot.write(command)
        for joint, value, servo in zip(bench.model.joints, sent, bench.servos):
            assert joint.lower - 1e-9 <= value <= joint.upper + 1e-9
            assert servo.get('minimum') <= round(value / TICK) + 2048 <= servo.get('maximum')
        settle(robot, lambda m, sent=sent: True)
        assert [s.get('goal') for s in bench.servos] == [round(v / TICK) + 2048 for v in sent]


def test_the_first_command_must_start_where_the_robot_is(bench):
    robot = bench.connected()
    step = np.array([joint.velocity for joint in bench.model.joints]) * PERIOD_S
    before = len(bench.goals())
    far = np.zeros(6)
    far[3] = step[3] + 3 * TICK
    with pytest.raises(BackendError, match='too far .* wrist_pitch by .* Nothing was sent'):
        robot.write(far)
    assert len(bench.goals()) == before
    robot.write(step)
    robot.write(step + far)  # from then on the monitor's limits and the motors' speed limit hold
    assert np.abs(robot.read().velocity).max() <= 3.0 + 0.05


# --- holding, homing, closing -------------------------------------------------------------------


def test_hold_stops_within_a_step_and_does_not_follow_a_sinking_arm(bench):
    robot = bench.connected()
    robot.write(np.zeros(6))
    robot.write(np.full(6, 1.0))
    settle(robot, lambda m: m.position[0] > 0.05)
    robot.hold()
    robot.read()  # nobody answers a goal; whoever answers this has it
    goals = [servo.get('goal') for servo in bench.servos]
    assert max(goals) - 2048 < 0.9 / TICK
    for servo in bench.servos:
        servo.blocked = True
    for _ in range(5):
        for servo in bench.servos:
            servo.position -= 4
        robot.read()
        robot.hold()
        assert [servo.get('goal') for servo in bench.servos] == goals


def test_hold_stops_the_others_when_one_motor_is_silent(bench):
    robot = bench.connected()
    robot.write(np.zeros(6))
    bench.emulator.fault('silent', 11)
    with pytest.raises(ReadMissedError):
        robot.read()
    before = len(bench.goals())
    robot.hold()
    deadline = time.monotonic() + NEAR_S
    while len(bench.goals()) < before + 6 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(bench.goals()) == before + 6


def test_without_commands_the_torque_goes_off_and_comes_back_only_when_asked(bench):
    robot = bench.connected(torque_off_after_s=5.0)
    now = time.monotonic()
    assert not robot.watch(now + 4.0)
    robot.write(np.zeros(6))
    assert not robot.watch(now + 4.9)
    assert robot.watch(now + 10.0)
    assert not robot.watch(now + 11.0)
    assert not any(servo.get('torque') for servo in bench.servos)
    with pytest.raises(BackendError, match='torque is off'):
        robot.write(np.zeros(6))
    bench.servos[0].position = 2100  # sunk
    robot.hold()
    robot.torque_on()
    with pytest.raises(BackendError, match='too far'):
        robot.write(np.full(6, 0.6))
    robot.write(robot.read().position)
    bench.check_no_jump()


def test_home_is_reached_at_the_safe_speed(bench):
    for servo in bench.servos[2:]:
        servo.position = 2048 + 700
    robot = bench.connected(home_speed=1.5)
    begin = time.monotonic()
    robot.home(6.0)
    took = time.monotonic() - begin
    assert np.abs(robot.read().position - bench.model.home).max() < 0.04
    assert took >= 700 * TICK / 1.5 * 0.9
    bench.check_no_jump()


def test_a_blocked_way_home_ends_in_time_and_holds(bench):
    robot = bench.connected(home_speed=2.0)
    bench.servos[2].blocked = True  # its home is 1.5 rad away
    with within(3.0), pytest.raises(BackendError, match='not at home after 1.2 s.*elbow by 1.5'):
        robot.home(1.2)
    robot.read()
    assert abs(bench.servos[2].get('goal') - bench.servos[2].position) <= 1


@pytest.mark.parametrize('off', [False, True])
def test_closing_releases_the_port_and_is_harmless_twice(bench, off):
    robot = bench.connected(torque_off_on_close=off)
    robot.write(robot.read().position)
    robot.close()
    robot.close()
    time.sleep(0.05)
    assert all(servo.get('torque') == (not off) for servo in bench.servos)
    bench.connected()
    bench.check_no_jump()


def test_diagnostics_need_no_bus_and_count(bench):
    robot = bench.robot()
    assert robot.diagnostics()['connected'] is False
    robot.connect()
    for _ in range(5):
        robot.write(robot.read().position)
    bench.emulator.unplug()
    values = robot.diagnostics()
    assert values['read_count'] == values['cycle_count'] == 5
    assert values['cycle_p99_ms'] >= values['cycle_p50_ms'] > 0
    assert values['elbow.temperature_c'] == 30
    assert values['elbow.voltage_v'] == 12.0
    assert values['elbow.errors'] == ''
