# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Servo bus robots on a real pseudo-terminal: each fault is seen, named, bounded and survived."""

import contextlib
import threading
import time

from emulators.servo_bus import ServoBus
import numpy as np
import pytest
from rl_nodes.backends.hardware.servo_bus import (
    MotorConfig,
    ReadMissedError,
    ServoBusConfig,
    ServoBusRobot,
)
from rl_nodes.core.errors import BackendError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel

IDS = (4, 2, 11, 7, 1, 5)  # not in the order of the joints
MODELS = {'dynamixel2': 'xm430-w350', 'feetech': 'sts3215'}
RATE_HZ = 20
PERIOD_S = 1 / RATE_HZ
TICK = 2 * np.pi / 4096
NEAR_S = 0.5  # what "at once" may mean on a busy machine


@pytest.fixture(scope='session')
def model(tmp_path_factory) -> RobotModel:
    """The shipped arm at a rate that a busy machine keeps up with."""
    text = (share_directory() / 'config' / 'robots' / 'arm.yaml').read_text(encoding='utf-8')
    path = tmp_path_factory.mktemp('robot') / 'arm.yaml'
    path.write_text(text.replace('rate_hz: 50', f'rate_hz: {RATE_HZ}'), encoding='utf-8')
    loaded = load_robot(str(path))
    assert loaded.config.rate_hz == RATE_HZ
    return loaded


class Bench:
    """A robot and the emulated bus it is on."""

    def __init__(self, model: RobotModel, protocol: str, tmp_path) -> None:
        self.model, self.protocol = model, protocol
        self.link = tmp_path / 'port'
        self.emulator = ServoBus(protocol, IDS, self.link)
        self.servos = [self.emulator.servos[number] for number in IDS]
        self.robots: list[ServoBusRobot] = []

    def robot(self, **changes) -> ServoBusRobot:
        """Return a robot that is not connected yet."""
        motors = changes.pop('motors', None) or self.motors()
        config = ServoBusConfig(**{
            'port': str(self.link), 'protocol': self.protocol, 'motors': motors,
            'scan_timeout_s': 0.06, 'read_timeout_s': 0.012, 'bus_watchdog_s': 2.0, **changes})
        self.robots.append(ServoBusRobot(self.model, config))
        return self.robots[-1]

    def motors(self, **changes) -> dict[str, MotorConfig]:
        """Return the motors of the arm; ``changes`` apply to each."""
        settings = {'model': MODELS[self.protocol], 'offset_ticks': 2048, 'voltage_v': (9.0, 13.0),
                    **changes}
        return {name: MotorConfig(id=number, **settings)
                for name, number in zip(self.model.joint_names, IDS)}

    def connected(self, **changes) -> ServoBusRobot:
        """Return a connected robot."""
        robot = self.robot(**changes)
        robot.connect()
        return robot

    def goals(self) -> list[tuple[float, int, float]]:
        """Return (time, goal, position then) of every goal any servo got, in order."""
        return sorted((at, value, position) for servo in self.servos
                      for at, kind, value, position in servo.events if kind == 'goal')

    def check_no_jump(self) -> None:
        """Whenever torque came on, the goal was where the servo stood."""
        for servo in self.servos:
            goal = None
            for _, kind, value, position in servo.events:
                if kind == 'goal':
                    goal = value
                elif value:
                    assert goal is not None, 'torque before any goal'
                    assert abs(goal - position) <= 1


@pytest.fixture(params=sorted(MODELS))
def bench(request, model, tmp_path):
    one = Bench(model, request.param, tmp_path)
    with one.emulator:
        yield one
        for robot in one.robots:
            robot.close()


@contextlib.contextmanager
def within(seconds: float):
    """Fail if the block takes longer."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def settle(robot: ServoBusRobot, condition, seconds: float = 3.0):
    """Return the first measurement that fulfils a condition."""
    end = time.monotonic() + seconds
    while True:
        measured = robot.read()
        if condition(measured):
            return measured
        assert time.monotonic() < end, measured
        time.sleep(0.005)


def read_until_error(robot: ServoBusRobot, seconds: float = 3.0) -> str:
    """Return the text of the first lasting error of read()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            robot.read()
        except ReadMissedError:
            continue
        except BackendError as error:
            return str(error)
        time.sleep(0.002)
    pytest.fail('no error came')


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


def settle_after_fault(robot: ServoBusRobot) -> None:
    """Read until it works again, at most three times."""
    for _ in range(3):
        with contextlib.suppress(ReadMissedError):
            robot.read()
            return
    pytest.fail('no recovery')


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
