# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Servo bus robots on a real pseudo-terminal: each fault is seen, named, bounded and survived."""

import contextlib
import threading
import time

from emulators.servo_bench import (
    IDS,
    MODELS,
    NEAR_S,
    PERIOD_S,
    read_until_error,
    serve,
    settle_after_fault,
    TICK,
    within,
)
import numpy as np
import pytest
from rl_nodes.backends.hardware.servo_bus import ReadMissedError
from rl_nodes.core.errors import BackendError


@pytest.fixture(params=sorted(MODELS))
def bench(request, tmp_path):
    yield from serve(request.param, tmp_path)


# --- faults on the wire -------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['corrupt', 'drop', 'duplicate', 'garbage', 'silent', 'deaf'])
def test_a_passing_fault_costs_a_repetition_and_no_wrong_value(bench, kind):
    robot = bench.connected()
    truth = robot.read().position
    for number in IDS:
        fault = bench.emulator.fault(kind, *([] if kind == 'deaf' else [number]), count=1)
        with contextlib.suppress(ReadMissedError):  # a busy machine may add a fault of its own
            assert np.array_equal(robot.read().position, truth)
        assert fault.count == 0
    values = robot.diagnostics()
    if kind in ('corrupt', 'drop'):
        assert values['crc_errors'] >= 1
    if kind in ('silent', 'deaf', 'drop'):
        assert values['retries'] >= 1
        assert values['timeouts'] >= 1
    assert np.array_equal(robot.read().position, truth)


@pytest.mark.parametrize('kind', ['corrupt', 'silent', 'drop'])
def test_a_lasting_fault_is_named_in_time_and_forgotten_when_it_is_over(bench, kind):
    robot = bench.connected()
    truth = robot.read().position
    fault = bench.emulator.fault(kind, 7)
    with within(PERIOD_S + 0.1), pytest.raises(ReadMissedError) as caught:
        robot.read()
    assert 'wrist_pitch (id 7)' in str(caught.value)
    assert caught.value.joints == ('wrist_pitch',)
    fault.count = 0
    settle_after_fault(robot)
    assert np.array_equal(robot.read().position, truth)


def test_noise_before_every_answer_never_changes_a_value(bench):
    robot = bench.connected()
    truth = robot.read().position
    bench.emulator.fault('garbage', 7)
    good = 0
    for _ in range(20):
        with contextlib.suppress(ReadMissedError):
            assert np.array_equal(robot.read().position, truth)
            good += 1
    assert good >= 15


def test_late_answers_never_pass_for_new_ones(bench):
    robot = bench.connected()
    servo = bench.servos[4]
    servo.blocked = True
    bench.emulator.fault('slow', IDS[4], delay_s=0.017)  # after the time-out, before the next read
    wrong = read = 0
    for place in range(2048, 2148, 5):
        servo.position = place
        with contextlib.suppress(ReadMissedError):
            measured = robot.read().position[4]
            read += 1
            wrong += abs(measured - (place - 2048) * TICK) > TICK / 2
    assert not wrong
    assert robot.diagnostics()['late_or_foreign'] + robot.diagnostics()['timeouts'] > 0


def test_random_faults_of_all_kinds_never_give_a_wrong_position(bench):
    robot = bench.connected()
    truth = robot.read().position
    rng = np.random.default_rng(7)
    good = 0
    for _ in range(60):
        kind = rng.choice(['corrupt', 'drop', 'duplicate', 'garbage', 'silent'])
        bench.emulator.fault(str(kind), int(rng.choice(IDS)), count=1)
        with contextlib.suppress(ReadMissedError):
            assert np.array_equal(robot.read().position, truth)
            good += 1
    assert good >= 45


# --- faults of motors and port ------------------------------------------------------------------


@pytest.mark.parametrize('name, value, words', [
    ('hardware_error', 0b100000, 'wrist_yaw (id 1) reports overload'),
    ('temperature', 90, 'wrist_yaw (id 1) has 90 °C'),
    ('voltage', 7.0, 'wrist_yaw (id 1) has 7.0 V'),
])
def test_a_motor_in_trouble_is_named(bench, name, value, words):
    robot = bench.connected()
    setattr(bench.servos[4], name, value)
    assert words in read_until_error(robot)
    assert robot.diagnostics()['wrist_yaw.temperature_c'] == (90 if name == 'temperature' else 30)


def test_a_short_sag_of_the_supply_is_survived(bench):
    robot = bench.connected()
    bench.servos[4].voltage = 7.0
    robot.read()
    bench.servos[4].voltage = 12.0
    for _ in range(5):
        robot.read()


def test_a_motor_that_restarted_is_found_and_taken_back_without_a_jump(bench):
    robot = bench.connected()
    robot.write(np.full(6, 0.05))
    bench.servos[3].power_cycle()
    assert 'wrist_pitch (id 7) has lost its torque' in read_until_error(robot)
    with pytest.raises(BackendError, match='torque is off'):
        robot.write(np.full(6, 0.05))
    robot.reconnect()
    robot.write(robot.read().position)
    bench.check_no_jump()


def test_unplugging_is_told_at_once_and_plugging_in_again_works(bench):
    robot = bench.connected()
    robot.read()
    bench.emulator.unplug()
    with within(NEAR_S), pytest.raises(BackendError, match='vanished|takes no bytes'):
        robot.read()
    for call in (robot.read, robot.hold, lambda: robot.write(np.zeros(6))):
        with within(NEAR_S), pytest.raises(BackendError, match='not connected'):
            call()
    with within(NEAR_S), pytest.raises(BackendError, match='does not exist'):
        robot.reconnect()
    bench.emulator.replug()
    with within(2.0):
        robot.reconnect()
    robot.write(robot.read().position)
    bench.check_no_jump()


def test_unplugging_while_waiting_for_an_answer_is_told_at_once(bench):
    robot = bench.connected()
    bench.emulator.fault('deaf')
    timer = threading.Timer(0.005, bench.emulator.unplug)
    timer.start()
    with within(NEAR_S), pytest.raises(BackendError):
        robot.read()
    timer.join()


@pytest.mark.parametrize('bench', ['dynamixel2'], indirect=True)  # Feetech has no bus watchdog
def test_a_dead_host_stops_the_motors_by_their_own_watchdog(bench):
    robot = bench.connected(bus_watchdog_s=0.1)
    assert all(servo.get('watchdog') == 5 for servo in bench.servos)
    robot.write(np.zeros(6))
    robot.write(np.full(6, 1.5))  # at 2 rad/s this takes much longer than the watchdog
    time.sleep(0.4)  # the host is dead
    for servo in bench.servos:
        servo.advance(time.monotonic())
        assert servo.get('watchdog') == 0xFF
        assert 0 < servo.get('position') - 2048 < 0.6 / TICK
    places = [servo.position for servo in bench.servos]
    with pytest.raises(BackendError, match='bus watchdog of shoulder_pan .* stopped it after 0.4'):
        robot.read()
    robot.reconnect()
    assert np.allclose(places, [servo.position for servo in bench.servos], atol=1)
    robot.write(robot.read().position)
    bench.check_no_jump()
