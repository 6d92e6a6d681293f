# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Measured positions that cannot be: B9 frozen, B10 jumps, B13 another unit or zero."""

from dataclasses import replace

from limited_robots import make_robot, make_state
import numpy as np
import pytest
from rl_nodes.core.types import JointCommand
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Verdict

MS = 1_000_000
FAST = 0.9  # of the speed limit


class Bench:
    """A robot that does as it is told, unless what it measures is changed."""

    def __init__(self, robot) -> None:
        self.robot, self.at, self.episode = robot, 0, '1@0'
        self.supervisor = Supervisor(robot, Timeouts(0.5, 0.5, 0.02, 0.0))
        self.position = robot.home.copy()
        self.step = robot.limits('velocity') / robot.config.rate_hz
        self.toward = -1.0

    def live(self, speed: float = FAST, measured=None, velocity=None, obey: bool = True,
             periods: float = 1.0) -> Verdict:
        """Measure, be told to move each joint by a share of its limit, move so."""
        self.at += round(periods * 1e9 / self.robot.config.rate_hz)
        position = self.position if measured is None else np.asarray(measured, float)
        self.measured = position.copy()
        from_here = position[self.robot.commanded]
        state = make_state(self.robot, position.copy(), velocity)
        self.supervisor.observe(replace(state, stamp_ns=self.at, episode=self.episode), self.at)
        asked = speed * self.step * self.toward
        value = from_here + asked if self.robot.config.control_mode == 'position' else (
            asked * self.robot.config.rate_hz)
        verdict = self.supervisor.judge(self.robot.command_names, JointCommand(
            self.at, 'p@1', value), self.at, self.at)
        if self.supervisor.mode == Mode.STOPPED and not self.supervisor.check == 'sensing':
            self.supervisor.clear(self.at)
        if obey and verdict.allowed is not None:
            self.position[self.robot.commanded] += asked
        self.toward = -self.toward
        return verdict


@pytest.fixture
def bench() -> Bench:
    bench = Bench(make_robot('arm', sensing={}, geometry=None))
    for _ in range(10):
        bench.live()
    assert bench.supervisor.mode == Mode.OK
    return bench


def glitch(bench: Bench, joint: int = 2, by: float = 1.0) -> np.ndarray:
    position = bench.measured.copy()
    position[joint] += by
    return position


def test_one_glitch_is_left_aside_and_the_robot_goes_on(bench: Bench) -> None:
    verdict = bench.live(measured=glitch(bench))
    assert (verdict.check, verdict.allowed, verdict.instead) == ('sensing', None, None)
    assert 'elbow measures a change of 1 in 20 ms, at most 0.12 is possible' in verdict.reason
    assert bench.supervisor.mode == Mode.HOLD
    assert bench.live().check == '', 'back again is no jump'
    assert bench.supervisor.mode == Mode.OK


def test_the_second_in_a_row_stops_and_where_it_is_then_can_be_cleared(bench: Bench) -> None:
    there = glitch(bench, by=0.5)
    bench.live(measured=there)
    verdict = bench.live(measured=there)
    assert (verdict.level.name, verdict.check, verdict.instead) == ('STOP', 'sensing', None)
    assert 'cause persists' in bench.supervisor.clear(bench.at)
    bench.position = there
    bench.live()
    assert bench.supervisor.clear(bench.at) == ''
    assert bench.live().check == ''


@pytest.mark.parametrize(('by', 'check'), [(0.1199, ''), (0.1201, 'sensing')])
def test_a_jump_is_what_the_speed_limit_does_not_allow(bench: Bench, by: float,
                                                       check: str) -> None:
    assert bench.live(measured=glitch(bench, by=by)).check == check


def test_states_that_were_lost_leave_more_time(bench: Bench) -> None:
    assert bench.live(measured=glitch(bench, by=0.3), periods=3.0).check == ''


def test_stamps_that_come_close_to_each_other_leave_a_period(bench: Bench) -> None:
    assert bench.live(measured=glitch(bench, by=0.1), periods=0.1).check == ''


def test_another_episode_may_begin_anywhere_and_a_state_may_come_twice(bench: Bench) -> None:
    bench.episode = '2@0'
    assert bench.live(measured=glitch(bench)).check == ''
    bench.live(measured=glitch(bench, by=-1.0))
    assert bench.live(measured=glitch(bench, by=-1.0), periods=0.0).check == 'sensing'
    assert bench.supervisor.mode == Mode.HOLD, 'the same state is no second one'
    bench.at -= 1000 * MS
    assert bench.live(measured=glitch(bench), periods=0.0).check == 'order', 'all is new then'


def test_a_measurement_that_stays_the_same_while_it_is_told_to_move_stops(bench: Bench) -> None:
    verdicts = [bench.live(obey=False) for _ in range(30)]
    checks = [verdict.check for verdict in verdicts]
    assert checks.index('sensing') == 26, '0.5 s at 50 Hz'
    assert 'no measured value has changed for 0.52 s' in verdicts[26].reason
    assert verdicts[26].instead is None
    bench.live(obey=False)
    assert bench.supervisor.clear(bench.at) == '', 'nobody tells it to move'
    again = [bench.live(obey=False).check for _ in range(30)]
    assert again.index('sensing') == 26


@pytest.mark.parametrize('change', ['slowly', 'a bit of a position', 'a bit of a velocity',
                                    'a moment of standing', 'on the way home'])
def test_a_robot_that_may_stand_or_is_measured_is_not_frozen(bench: Bench, change: str) -> None:
    bench.episode = '0@0' if change == 'on the way home' else '1@0'
    for count in range(60):
        velocity = np.zeros(6)
        if change == 'a bit of a position':
            bench.position[4] = np.nextafter(bench.position[4], np.inf)
        elif change == 'a bit of a velocity':
            velocity[4] = count * 1e-300
        speed = 0.099 if change == 'slowly' or (
            change == 'a moment of standing' and count % 20 == 0) else FAST
        assert bench.live(speed, velocity=velocity, obey=False).check == ''


def test_degrees_are_no_radians() -> None:
    bench = Bench(make_robot('arm', sensing={}, geometry=None))
    bench.position = np.degrees(bench.position)
    bench.live()
    why = bench.supervisor.clear(bench.at)
    assert 'the cause persists: ' in why and 'are its unit and zero right?' in why
    assert bench.supervisor.hold_command() is None, 'to stand there is no command either'


@pytest.mark.parametrize(('beyond', 'why'), [
    (0.49, ''), (0.51, 'the cause persists: shoulder_lift measures')])
def test_outside_is_half_a_range_beyond_its_end(beyond: float, why: str) -> None:
    bench = Bench(make_robot('arm', sensing={}, geometry=None))
    low, high = bench.robot.limits('lower')[1], bench.robot.limits('upper')[1]
    bench.position[1] = high + beyond * (high - low)
    bench.live()
    assert bench.supervisor.clear(bench.at).startswith(why)
    assert (bench.supervisor.mode == Mode.OK) == (not why)


@pytest.mark.parametrize(('robot', 'mode'), [('rover', 'velocity'), ('cartpole', 'effort')])
def test_other_control_modes_and_joints_without_an_end(robot: str, mode: str) -> None:
    model = make_robot(robot, sensing={})
    assert model.config.control_mode == mode
    bench = Bench(model)
    bench.step = (model.limits('effort' if mode == 'effort' else 'velocity')
                  / model.config.rate_hz)
    checks = [bench.live(obey=False).check for _ in range(200)]
    assert 'sensing' in checks
    np.testing.assert_array_equal(bench.supervisor.hold_command(), np.zeros(len(bench.step)))


def test_without_the_section_nothing_is_found() -> None:
    bench = Bench(make_robot('arm', geometry=None))
    bench.live()
    assert bench.live(measured=np.degrees(bench.position)).check != 'sensing'
    assert {bench.live(obey=False).check for _ in range(60)} == {''}
