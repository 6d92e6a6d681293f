# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The latch, the clocks and the order of verdicts, with injected time."""

import numpy as np
import pytest
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level, Verdict

ARM = load_robot('arm')
MS = 1_000_000


class Bench:
    """A supervisor with a hand-driven clock; stamps and steady time start far apart."""

    def __init__(self, healthy_s: float = 0.0) -> None:
        self.supervisor = Supervisor(ARM, Timeouts(0.05, 0.1, 0.02, healthy_s))
        self.steady, self.now = 5_000 * MS, 900_000 * MS

    def wait(self, ms: float) -> None:
        self.steady += round(ms * MS)
        self.now += round(ms * MS)

    def state(self) -> Verdict | None:
        return self.supervisor.observe(
            RobotState(self.now, '1@0', ARM.home, np.zeros(6), np.zeros(6)), self.steady)

    def command(self, value=None, names=ARM.command_names, age_ms: float = 0.0):
        value = ARM.home if value is None else np.asarray(value, float)
        return self.supervisor.judge(
            names, JointCommand(self.now - round(age_ms * MS), 'p@1', value), self.now,
            self.steady)

    def armed(self, after_ms: int = 0) -> 'Bench':
        for _ in range(0, after_ms + 1, 10):
            self.state()
            self.command()
            self.wait(10 if after_ms else 0)
        assert self.supervisor.clear(self.steady) == ''
        return self


def test_boots_stopped_and_passes_nothing() -> None:
    bench = Bench()
    assert bench.supervisor.mode == Mode.STOPPED
    bench.state()
    verdict = bench.command()
    assert (verdict.level, verdict.allowed) == (Level.STOP, None)


def test_clear_is_refused_until_states_and_commands_are_healthy() -> None:
    bench = Bench()
    assert 'joint states' in bench.supervisor.clear(bench.steady)
    bench.state()
    assert bench.supervisor.clear(bench.steady) != ''
    bench.command([np.nan] * 6)
    assert 'persists' in bench.supervisor.clear(bench.steady)
    bench.command()
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.command().level == Level.PASS
    assert bench.supervisor.mode == Mode.OK


@pytest.mark.parametrize('fault', ['nan', 'age', 'gap', None])
def test_a_healthy_second_without_any_fault_comes_before_motion(fault: str | None) -> None:
    bench = Bench(healthy_s=1.0)
    for step in range(99):
        bench.state()
        if step == 50 and fault == 'nan':
            bench.command([np.nan] * 6)
        elif step == 50 and fault == 'age':
            bench.command(age_ms=500)
        elif step == 50 and fault == 'gap':
            bench.wait(51)
            bench.state()
        bench.command()
        assert 'healthy for' in bench.supervisor.clear(bench.steady)
        bench.wait(10)
    for _ in range(3):
        bench.state()
        bench.command()
        bench.wait(10)
    assert (bench.supervisor.clear(bench.steady) == '') == (fault is None)


def test_nan_stops_is_latched_and_needs_a_good_command_and_clear() -> None:
    bench = Bench().armed()
    assert bench.command([np.nan] * 6).level == Level.STOP
    assert bench.supervisor.mode == Mode.STOPPED
    assert bench.supervisor.check == 'finite'
    assert bench.command().allowed is None, 'a good command does not restart motion'
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.command().level == Level.PASS


@pytest.mark.parametrize(('silent', 'check'), [
    ('command', 'command_silence'), ('state', 'state_silence')])
def test_silence_stops_on_the_steady_clock(silent: str, check: str) -> None:
    bench = Bench().armed()
    for _ in range(10):  # 50 ms with both, never a stop
        bench.wait(5)
        bench.state()
        bench.command()
        assert bench.supervisor.tick(bench.steady) is None
    for _ in range(10):
        bench.wait(5)
        if silent == 'command':
            bench.state()
        else:
            bench.command()
        assert bench.supervisor.tick(bench.steady) is None
    bench.wait(1)
    verdict = bench.supervisor.tick(bench.steady)
    assert (verdict.level, verdict.check) == (Level.STOP, check)
    assert bench.supervisor.tick(bench.steady) is None, 'one stop is reported once'


@pytest.mark.parametrize(('silent', 'check'), [
    ('command', 'command_silence'), ('state', 'state_silence')])
def test_who_slept_through_a_silence_notices_it_with_whatever_comes_next(silent: str,
                                                                         check: str) -> None:
    """A6: who is frozen does not tick; what is fresh afterwards must not hide the silence."""
    bench = Bench().armed()
    bench.wait(45)
    (bench.state if silent == 'command' else bench.command)()
    bench.wait(10)
    verdict = bench.state()
    assert (verdict.level, verdict.check) == (Level.STOP, check)
    np.testing.assert_array_equal(verdict.instead, ARM.home)
    assert bench.command().check == 'latched'
    assert bench.state() is None, 'once'


def test_silence_is_seen_though_the_clock_of_the_stamps_stands_still() -> None:
    bench = Bench().armed()
    bench.steady += 51 * MS
    assert bench.supervisor.tick(bench.steady).level == Level.STOP


def test_a_clock_that_is_set_back_stops_and_can_be_cleared() -> None:
    """D2, D5: what comes after the jump is older than what has passed; steady time goes on."""
    bench = Bench().armed()
    assert bench.command().level == Level.PASS
    bench.now -= 500_000 * MS
    for _ in range(5):
        bench.wait(10)
        bench.state()
        assert bench.command().check == 'order'
    bench.wait(10)
    assert bench.supervisor.tick(bench.steady).check == 'command_silence'
    bench.state()
    bench.command()
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.command().level == Level.PASS


@pytest.mark.parametrize(('age_ms', 'refused'), [
    (0, False), (100, False), (100.1, True), (-20, False), (-20.1, True)])
def test_age_is_bounded_on_both_sides(age_ms: float, refused: bool) -> None:
    bench = Bench().armed()
    verdict = bench.command(age_ms=age_ms)
    assert (verdict.level == Level.HOLD) == refused
    assert (verdict.allowed is None) == refused
    if refused:
        assert verdict.check == 'age'
        assert ('old' if age_ms > 0 else 'in the future') in verdict.reason


def test_refused_commands_are_no_sign_of_life() -> None:
    bench = Bench().armed()
    for _ in range(11):
        bench.wait(5)
        stop = bench.state()
        bench.command(age_ms=500)
    assert stop.check == 'command_silence'


def test_older_than_the_last_passed_is_refused() -> None:
    bench = Bench().armed()
    bench.wait(10)
    bench.state()
    assert bench.command().level == Level.PASS
    assert bench.command(age_ms=5).check == 'order'


@pytest.mark.parametrize('names', [(), ARM.command_names[::-1], ARM.command_names[:5],
                                   ('x', *ARM.command_names[1:])])
def test_names_and_order_must_be_the_robots(names: tuple[str, ...]) -> None:
    bench = Bench().armed()
    verdict = bench.command(names=names)
    assert (verdict.level, verdict.check, verdict.allowed) == (Level.HOLD, 'names', None)


def test_stop_by_an_operator_keeps_its_reason() -> None:
    bench = Bench().armed()
    bench.supervisor.stop('operator', 'stop was called')
    bench.command([np.nan] * 6)
    assert (bench.supervisor.check, bench.supervisor.reason) == ('operator', 'stop was called')


def test_hold_command_is_the_measured_position() -> None:
    bench = Bench()
    assert bench.supervisor.hold_command() is None
    bench.state()
    np.testing.assert_array_equal(bench.supervisor.hold_command(), ARM.home)


def test_clamp_shows_limiting_and_pass_shows_ok_again() -> None:
    bench = Bench().armed()
    assert bench.command(ARM.home + 1.0).level == Level.CLAMP
    assert bench.supervisor.mode == Mode.LIMITING
    assert bench.command().level == Level.PASS
    assert bench.supervisor.mode == Mode.OK
    assert bench.supervisor.counts['clamp/velocity'] == 1


def test_a_command_without_a_fresh_state_is_refused() -> None:
    bench = Bench()
    assert (bench.command().check, bench.supervisor.counts['hold']) == ('latched', 0)
    bench.armed()
    bench.wait(50.1)
    verdict = bench.command()
    assert (verdict.level, verdict.check, verdict.allowed) == (Level.STOP, 'state_silence', None)


def test_clear_needs_commands_and_does_nothing_where_motion_is_allowed() -> None:
    bench = Bench()
    bench.state()
    bench.command()
    bench.wait(51)
    bench.state()
    assert 'no usable commands' in bench.supervisor.clear(bench.steady)
    bench.armed()
    bench.command(ARM.home + 1.0)
    assert bench.supervisor.mode == Mode.LIMITING
    assert bench.supervisor.clear(bench.steady) == ''
    assert (bench.supervisor.mode, bench.supervisor.check) == (Mode.LIMITING, 'velocity')
    bench.wait(51)
    assert bench.supervisor.clear(bench.steady) == '', 'no refusal while it is allowed to move'


def test_one_press_clears_one_stop() -> None:
    """F8: a button that hangs, or is held, allows no motion after the next stop."""
    bench = Bench().armed()

    def live(ms: int) -> None:
        for _ in range(0, ms, 10):
            bench.wait(10)
            bench.state()
            bench.command()
    for _ in range(3):
        live(400)
        assert bench.supervisor.clear(bench.steady) == ''
    bench.command([np.nan] * 6)
    for _ in range(5):
        live(400)
        assert 'without a pause' in bench.supervisor.clear(bench.steady)
        assert bench.supervisor.mode == Mode.STOPPED
    live(510)
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.supervisor.mode == Mode.OK
    for again in (0, 1):  # a call too many, by who has not seen yet that nothing is stopped
        for _ in range(again):
            assert bench.supervisor.clear(bench.steady) == ''
        bench.command([np.nan] * 6)
        live(10)
        assert bench.supervisor.clear(bench.steady) == '', 'soon after, but a press of its own'


def test_to_stand_is_no_speed_and_nothing_of_a_poisoned_state(robot_with, state_of) -> None:
    rover = Supervisor(robot_with('rover'), Timeouts(0.05, 0.1, 0.02, 0.0))
    assert rover.hold_command().tolist() == [0.0, 0.0]
    bench = Bench()
    position = ARM.home.copy()
    position[2] = np.nan
    bench.supervisor.observe(state_of(ARM, position), bench.steady)
    assert bench.supervisor.hold_command() is None


def test_an_intruder_stops_and_nothing_is_cleared_until_it_has_gone() -> None:
    bench = Bench(healthy_s=0.03).armed(after_ms=40)
    verdict = bench.supervisor.intrude('joint_states has two publishers: /a, /b', bench.steady)
    assert (verdict.level, verdict.check, verdict.by) == (Level.STOP, 'intruder', 'hold')
    np.testing.assert_array_equal(verdict.instead, ARM.home)
    assert bench.command().check == 'latched'
    for _ in range(3):
        assert 'the cause persists: joint_states has two' in bench.supervisor.clear(bench.steady)
        bench.wait(10)
        bench.state()
        bench.command()
    assert 'the cause persists' in bench.supervisor.clear(bench.steady)
    bench.wait(1)
    assert bench.supervisor.clear(bench.steady) == ''
