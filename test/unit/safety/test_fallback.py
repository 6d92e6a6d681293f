# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a stopped robot does: each fallback, what makes it give up, and who comes next."""

import numpy as np
import pytest
from rl_nodes.control.controllers import make_controller
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.safety.fallback import Ladder
from rl_nodes.safety.limits import Finding, Narrowing
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level

MS = 1_000_000
PERIOD_MS = 20
BRAKES = {'joints': {'acceleration': 10.0}}


class Bench:
    """A supervisor around a robot that does what it is told, one period after the other."""

    def __init__(self, robot, controllers=None, guards=()) -> None:
        self.robot = robot
        self.supervisor = Supervisor(robot, Timeouts(0.1, 0.2, 0.02, 0.0), controllers or {},
                                     guards=guards)
        self.position, self.velocity = robot.home.copy(), np.zeros(len(robot.home))
        self.now, self.sent = 5_000 * MS, []
        self.supervisor.observe(self.state(), self.now)
        self.command(self.standing())
        assert self.supervisor.clear(self.now) == ''

    def standing(self):
        position = self.robot.config.control_mode == 'position'
        return self.position[self.robot.commanded] if position else np.zeros(
            len(self.robot.commanded))

    def state(self):
        return RobotState(self.now, '1@0', self.position.copy(), self.velocity, np.empty(0))

    def command(self, value):
        return self.supervisor.judge(self.robot.command_names,
                                     JointCommand(self.now, 'p@1', np.asarray(value, float)),
                                     self.now, self.now)

    def obey(self, value):
        self.sent.append(value)
        index = self.robot.commanded
        if self.robot.config.control_mode == 'position':
            self.position[index] = value
        else:
            self.position[index] += value * PERIOD_MS / 1e3

    def period(self):
        """Let a period pass; return what the monitor says to the new state, which is obeyed."""
        self.now += PERIOD_MS * MS
        verdict = (self.supervisor.observe(self.state(), self.now)
                   or self.supervisor.fall_back(self.now))
        if verdict is not None:
            self.obey(verdict.instead)
        return verdict

    def moving(self, speed, periods=3):
        """Move the first joint; the policy commands that."""
        wanted = np.zeros(len(self.robot.commanded))
        wanted[0] = speed
        unit = PERIOD_MS / 1e3 if self.robot.config.control_mode == 'position' else 1.0
        for _ in range(periods):
            self.period()
            verdict = self.command(self.standing() + wanted * unit)
            assert verdict.allowed is not None
            self.obey(verdict.allowed)
        return self


def test_without_fallbacks_a_stop_is_one_command_to_stand(robot_with) -> None:
    bench = Bench(robot_with('arm'))
    verdict = bench.command(np.full(6, np.nan))
    assert (verdict.level, verdict.by) == (Level.STOP, 'hold')
    np.testing.assert_array_equal(verdict.instead, bench.position)
    assert bench.period() is None
    assert bench.command(bench.position).instead is None, 'latched'


def test_a_command_refused_for_its_values_makes_the_robot_stand(robot_with) -> None:
    bench = Bench(robot_with('arm', refuse=['velocity']))
    verdict = bench.command(bench.position + 1.0)
    assert (verdict.level, verdict.check, verdict.by) == (Level.HOLD, 'velocity', 'hold')
    np.testing.assert_array_equal(verdict.instead, bench.position)
    assert bench.supervisor.mode == Mode.HOLD
    late = bench.supervisor.judge(bench.robot.command_names, JointCommand(
        bench.now - 500 * MS, 'p@1', bench.position), bench.now, bench.now)
    assert (late.level, late.check, late.instead) == (Level.HOLD, 'age', None)


@pytest.mark.parametrize('mode', ['position', 'velocity'])
def test_brake_slows_down_by_the_acceleration_and_holds(robot_with, mode) -> None:
    """From 0.6 rad/s at 10 rad/s²: 0.4, 0.2, 0 in periods of 20 ms."""
    bench = Bench(robot_with('arm', **BRAKES, mode=mode, fallback=['brake']))
    bench.moving(0.6)
    unit = PERIOD_MS / 1e3 if mode == 'position' else 1.0
    before = bench.standing()[0]
    bench.period()
    verdict = bench.command(np.full(6, np.nan))
    found = []
    while verdict is not None:
        assert (verdict.level, verdict.by, verdict.allowed) == (Level.STOP, 'brake', None)
        if mode == 'position':
            found.append((verdict.instead[0] - before) / unit)
        else:
            found.append(verdict.instead[0])
        if verdict.check != 'fallback':
            bench.obey(verdict.instead)
        before = bench.standing()[0]
        verdict = bench.period()
    assert found == pytest.approx([0.4, 0.2, 0.0], abs=1e-9)
    assert bench.supervisor.mode == Mode.STOPPED
    assert bench.supervisor.counts['fallback/brake'] == 3


def test_brake_after_a_halt_begins_with_the_measured_speed_within_limits(robot_with) -> None:
    bench = Bench(robot_with('arm', **BRAKES, fallback=['brake']))
    bench.velocity = np.array([0.5, -3.9, 0, 0, 0, 0])
    bench.period()
    verdict = bench.command(np.full(6, np.nan))
    np.testing.assert_allclose((verdict.instead - bench.position)[:3] / 0.02, [0.3, -1.8, 0.0])


def test_retreat_goes_to_its_pose_at_its_speed_and_holds_there(robot_with) -> None:
    pose = (0.2, -0.3, 1.5, 0.4, 0.0, -0.1)
    bench = Bench(robot_with('arm', fallback=['retreat'], retreat={
        'pose': pose, 'speed': 0.5, 'tolerance': 0.001}))
    bench.period()
    bench.command(np.full(6, np.inf))
    for _ in range(100):
        before = bench.position.copy()
        verdict = bench.period()
        if verdict is None:
            break
        assert (verdict.check, verdict.by) == ('fallback', 'retreat')
        assert np.abs(bench.position - before).max() <= 0.5 * 0.02 + 1e-9
    np.testing.assert_allclose(bench.position, pose, atol=1e-3)
    assert bench.supervisor.falling_back == ''
    assert bench.supervisor.mode == Mode.STOPPED


def test_a_controller_goes_on_until_motion_is_allowed_again(robot_with) -> None:
    robot = robot_with('cartpole', fallback=['lqr'])
    bench = Bench(robot, {'lqr': make_controller('lqr', robot).command})
    bench.position = np.array([0.1, 0.02])
    bench.period()
    verdict = bench.command([np.nan])
    assert verdict.by == 'lqr'
    np.testing.assert_array_equal(
        verdict.instead, make_controller('lqr', robot).command(bench.state()))
    for _ in range(5):
        assert bench.period().by == 'lqr'
        bench.command([0.0])
    assert bench.supervisor.falling_back == 'lqr'
    assert bench.supervisor.clear(bench.now) == ''
    assert bench.period() is None
    assert bench.command([0.0]).level == Level.PASS
    assert bench.supervisor.falling_back == ''


def fails(state):
    raise RuntimeError('no gain')


@pytest.mark.parametrize(('control', 'why'), [
    (fails, 'no gain'), (lambda state: np.full(6, np.nan), 'not usable'),
    (lambda state: np.zeros(3), '3 values for 6 joints'),
    (lambda state: None, 'gives no command')])
def test_where_one_fails_the_next_takes_over_and_in_the_end_the_robot_holds(robot_with, control,
                                                                            why) -> None:
    robot = robot_with('arm', **BRAKES, fallback=['pd', 'brake', 'lqr'])
    bench = Bench(robot, {'pd': control, 'lqr': fails}).moving(0.6)
    bench.period()
    verdict = bench.command(np.full(6, np.nan))
    assert verdict.by == 'brake', 'in the same moment'
    assert why in bench.supervisor.falling_back
    only = robot_with('arm', fallback=['pd', 'lqr'])
    bench = Bench(only, {'pd': control, 'lqr': fails})
    verdict = bench.command(np.full(6, np.nan))
    assert verdict.by == 'hold'
    np.testing.assert_array_equal(verdict.instead, bench.position)
    assert bench.supervisor.falling_back.count(': ') >= 2
    assert bench.period() is None


def test_one_that_fails_on_its_way_does_not_come_back(robot_with) -> None:
    calls = []

    def sometimes(state):
        calls.append(state)
        return state.position if len(calls) != 3 else np.full(6, np.nan)
    robot = robot_with('arm', fallback=['pd', 'retreat'], retreat={'timeout_s': 0.05,
                                                                  'pose': [1.0] * 6})
    bench = Bench(robot, {'pd': sometimes})
    bench.command(np.full(6, np.nan))
    assert [bench.period().by for _ in range(5)] == ['pd', 'retreat', 'retreat', 'retreat', 'hold']
    assert 'not there after 0.1 s' in bench.supervisor.falling_back
    assert bench.period() is None


def test_fallbacks_pass_the_checks_also_those_narrowed_since(robot_with) -> None:
    robot = robot_with('arm', fallback=['pd'], refuse=['first_command'])
    bench = Bench(robot, {'pd': lambda state: state.position + 1.0})
    assert bench.supervisor.narrow(Narrowing(speed_scale=0.5)) == ''
    bench.command(np.full(6, np.nan))
    before = bench.position.copy()
    assert bench.period().by == 'pd'
    assert np.abs(bench.position - before).max() == pytest.approx(0.02)
    bench.velocity = np.full(6, 100.0)
    assert bench.period().by == 'hold', 'a state that stops ends it'


@pytest.mark.parametrize('check', ['operator', 'inactive', 'fault'])
def test_who_says_stop_wants_the_robot_to_stand(robot_with, check) -> None:
    bench = Bench(robot_with('arm', fallback=['retreat']))
    assert bench.supervisor.stop(check, 'x').by == 'hold'
    assert bench.period() is None
    bench = Bench(robot_with('arm', fallback=['retreat'], retreat={'pose': [1.0] * 6}))
    bench.command(np.full(6, np.nan))
    assert bench.period().by == 'retreat'
    verdict = bench.supervisor.stop(check, 'x')
    assert (verdict.check, verdict.by) == ('latched', 'hold')
    np.testing.assert_array_equal(verdict.instead, bench.supervisor.state.position)
    assert bench.supervisor.check == 'finite', 'the first reason stays'
    assert bench.period() is None


def test_where_the_state_is_odd_none_begins_and_one_under_way_goes_on(robot_with) -> None:
    class Odd:
        name, alarm = 'distribution', False

        def check(self, judged, command, state, moving):
            return Finding(Level.STOP, 'odd', None) if self.alarm else None
    odd = Odd()
    bench = Bench(robot_with('arm', fallback=['retreat'], retreat={'pose': [1.0] * 6}),
                  guards=(odd,))
    odd.alarm = True
    verdict = bench.command(bench.position)
    assert (verdict.check, verdict.by) == ('distribution', 'hold')
    assert bench.period() is None
    odd.alarm = False
    bench.command(bench.position)
    assert bench.supervisor.clear(bench.now) == ''
    assert bench.command(np.full(6, np.nan)).by == 'retreat'
    odd.alarm = True
    assert bench.command(bench.position).instead is None
    assert bench.period().by == 'retreat'


def test_silence_of_commands_falls_back_that_of_states_does_not(robot_with) -> None:
    bench = Bench(robot_with('arm', fallback=['retreat'], retreat={'pose': [1.0] * 6}))
    for _ in range(5):
        bench.period()
        assert bench.supervisor.tick(bench.now) is None
    assert bench.period().by == 'retreat'
    assert bench.period().by == 'retreat'
    bench.now += 101 * MS
    assert bench.period() is None, 'it does not go on after it was blind'
    bench = Bench(robot_with('arm', fallback=['retreat'], retreat={'pose': [1.0] * 6}))
    bench.now += 101 * MS
    verdict = bench.supervisor.tick(bench.now)
    assert (verdict.check, verdict.by) == ('state_silence', 'hold')


def test_a_supervisor_without_a_state_has_nothing_to_fall_back_from(robot_with) -> None:
    supervisor = Supervisor(robot_with('arm', fallback=['retreat']), Timeouts(0.1, 0.2, 0.02, 0))
    assert supervisor.fall_back(0) is None
    assert supervisor.stop('operator', 'x').instead is None


@pytest.mark.parametrize(('name', 'settings', 'words'), [
    ('arm', {'fallback': ['brake']}, 'brake needs the acceleration of every commanded joint'),
    ('cartpole', {'fallback': ['brake'], 'joints': {'acceleration': 1.0}}, 'position or velocity'),
    ('rover', {'fallback': ['retreat']}, 'retreat needs control_mode position'),
    ('arm', {'fallback': ['retreat'], 'retreat': {'pose': [0.0] * 5}}, 'a pose of 6 values'),
    ('arm', {'fallback': ['retreat'], 'retreat': {'pose': [3.5, 0, 0, 0, 0, 0]}}, 'within the'),
    ('arm', {'fallback': ['lqr']}, 'lqr needs a controller')])
def test_fallbacks_that_the_robot_cannot_do_are_refused(robot_with, name, settings, words) -> None:
    with pytest.raises(ConfigError, match=words):
        Ladder(robot_with(name, **settings), {})
