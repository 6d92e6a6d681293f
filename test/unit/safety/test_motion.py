# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks on how commands follow each other and on coupled joints, on both sides of each limit."""

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import checks_for, Gate, judge_values
from rl_nodes.safety.limits import Narrowing, Refusing, shortened, Trace
from rl_nodes.safety.verdict import Level

STEP = 0.04  # of the arm's first joint in a period: 2 rad/s at 50 Hz


def asked(robot, *speeds, position=None):
    """Return a command that asks for speeds of the first joints, 0 of the others."""
    wanted = np.zeros(len(robot.commanded))
    wanted[:len(speeds)] = speeds
    unit = 1 / robot.config.rate_hz if robot.config.control_mode == 'position' else 1.0
    here = robot.home if position is None else position
    return here * (robot.config.control_mode == 'position') + wanted * unit


@pytest.fixture(params=['position', 'velocity'])
def mode(request):
    return request.param


def run(robot, state_of, *speeds, gate=None, first=0):
    """Ask for speeds of the first joint one period after the other; return what was allowed."""
    gate, found = gate or Gate(robot), []
    for tick, speed in enumerate(speeds):
        state = state_of(robot, period=first + tick)
        judged = gate.judge(asked(robot, speed), state)
        gate.executed(judged.allowed, state)
        here = robot.home if robot.config.control_mode == 'position' else 0.0
        unit = 1 / robot.config.rate_hz if robot.config.control_mode == 'position' else 1.0
        found.append((judged.level, judged.check, ((judged.allowed - here) / unit)[0]))
    return found


def test_speeding_up_takes_as_long_as_the_acceleration_says(robot_with, state_of, mode) -> None:
    """10 rad/s² at 50 Hz are 0.2 rad/s in each period; slowing down is never delayed."""
    robot = robot_with('arm', {'acceleration': 10.0}, mode)
    found = run(robot, state_of, 0.2, 1.0, 1.0, 0.1, -1.0, -1.0, 0.3)
    assert [row[2] for row in found] == pytest.approx([0.2, 0.4, 0.6, 0.1, -0.2, -0.4, 0.2])
    assert [row[0] for row in found] == [
        Level.PASS, *[Level.CLAMP] * 2, Level.PASS, *[Level.CLAMP] * 3]
    assert found[1][1] == 'acceleration'


def test_jerk_lets_the_acceleration_rise_slowly(robot_with, state_of, mode) -> None:
    """250 rad/s³ raise the acceleration by 5 rad/s², the gain in speed by 0.1 rad/s, a period."""
    robot = robot_with('arm', {'acceleration': 20.0, 'jerk': 250.0}, mode)
    found = run(robot, state_of, *[2.0] * 8)  # what was before the first is not known
    assert np.diff([0.0, *(row[2] for row in found)]) == pytest.approx(
        [0.1, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.1])
    assert found[-1][0] == Level.PASS
    assert judge_values(checks_for(robot), asked(robot, 0.3), state_of(robot)).check == 'jerk'


def test_after_a_pause_the_measured_speed_counts(robot_with, state_of) -> None:
    robot = robot_with('arm', {'acceleration': 10.0})
    gate = Gate(robot)
    run(robot, state_of, 0.2, 0.4, gate=gate)
    assert run(robot, state_of, 2.0, gate=gate, first=6)[0][2] == pytest.approx(0.6), 'five'
    assert run(robot, state_of, 2.0, gate=gate, first=12)[0][2] == pytest.approx(0.2), 'six'
    moving = state_of(robot, velocity=np.full(6, 1.0), period=50)
    assert gate.judge(asked(robot, 1.2), moving).level == Level.PASS
    assert gate.judge(asked(robot, 1.3), moving).check == 'acceleration'
    gate.executed(asked(robot, 1.2), moving)
    gate.trace.halted()
    assert run(robot, state_of, 2.0, gate=gate, first=51)[0][2] == pytest.approx(0.2), 'halted'


def test_two_commands_in_one_period_do_not_double_the_acceleration(robot_with, state_of) -> None:
    robot = robot_with('arm', {'acceleration': 10.0, 'jerk': 1000.0}, 'velocity')
    gate = Gate(robot)
    run(robot, state_of, 2.0, 2.0, gate=gate)
    before = gate.trace.last[0].speed[0]
    state = state_of(robot, period=1)
    judged = gate.judge(asked(robot, 2.0), state)
    assert judged.allowed[0] == pytest.approx(before)
    gate.executed(judged.allowed, state)
    again = state_of(robot, period=2)
    assert gate.judge(asked(robot, 2.0), again).allowed[0] <= before + 0.2 + 1e-12


def test_another_episode_begins_anew(robot_with, state_of) -> None:
    robot = robot_with('arm', {'acceleration': 10.0})
    gate = Gate(robot)
    run(robot, state_of, 0.2, 0.4, gate=gate)
    state = state_of(robot, period=2)
    other = RobotState(state.stamp_ns, '2@0', state.position, state.velocity, state.effort)
    assert (gate.judge(asked(robot, 2.0), other).allowed - robot.home)[0] == pytest.approx(0.004)


def test_only_joints_with_a_limit_are_limited(robot_with, state_of) -> None:
    import msgspec
    robot = robot_with('arm')
    first, *others = robot.config.joints
    robot.config = msgspec.structs.replace(robot.config, joints=(
        msgspec.structs.replace(first, acceleration=10.0), *others))
    gate, state = Gate(robot), state_of(robot)
    assert gate.judge(asked(robot, 0.2, 2.0), state).level == Level.PASS
    limited = gate.judge(asked(robot, 0.4, 2.0), state)
    assert limited.allowed[:2] - robot.home[:2] == pytest.approx([0.004, 0.02])
    gate.executed(limited.allowed, state)
    assert gate.judge(asked(robot, 0.2, 2.0), state).level == Level.PASS, 'the same stamp again'


def test_scale_keeps_the_direction_or_goes_joint_by_joint(robot_with, state_of) -> None:
    for scale, expected in (('whole', [0.04, 0.01]), ('each', [0.04, 0.02])):
        robot = robot_with('arm', scale=scale)
        judged = judge_values(checks_for(robot), asked(robot, 4.0, 1.0), state_of(robot))
        assert judged.allowed[:2] - robot.home[:2] == pytest.approx(expected)


def test_shortened_survives_what_is_huge() -> None:
    origin, bound = np.zeros(2), np.array([0.04, 0.04])
    np.testing.assert_allclose(shortened(origin, np.array([1e308, 1.0]), bound, True),
                               [0.04, 0.0], atol=1e-12)
    np.testing.assert_array_equal(shortened(origin, np.array([1e308, 0.01]), bound, False),
                                  [0.04, 0.01])
    np.testing.assert_array_equal(
        shortened(origin, np.array([5.0, 1.0]), np.array([np.inf, 2.0]), True), [5.0, 1.0])


def test_what_is_left_of_a_poisoned_state_is_a_stop(robot_with, state_of) -> None:
    robot = robot_with('arm', geometry=None)
    position = robot.home.copy()
    position[0] = -1e308
    command = position.copy()
    command[0] = 1e308
    with np.errstate(all='ignore'):
        judged = judge_values(checks_for(robot), command, state_of(robot, position))
    assert (judged.level, judged.check, judged.allowed) == (Level.STOP, 'velocity', None)
    assert 'no finite command' in judged.reason


@pytest.mark.parametrize('sign', [1, -1])
def test_towards_the_end_of_its_range_a_joint_can_still_brake(robot_with, state_of, mode,
                                                              sign) -> None:
    """v T + v²/(2 a) = d: with a = 2, T = 0.02 and d = 0.2, v = 0.8552 rad/s."""
    robot = robot_with('arm', {'acceleration': 2.0}, mode, position_margin=0.0, geometry=None)
    end = robot.limits('upper' if sign > 0 else 'lower')[0]
    position = robot.home.copy()
    position[0] = end - sign * 0.2
    unit = 0.02 if mode == 'position' else 1.0

    def ask(speed, measured):
        velocity = np.zeros(6)
        velocity[0] = sign * measured
        judged = judge_values(checks_for(robot), asked(robot, sign * speed, position=position),
                              state_of(robot, position, velocity))
        origin = position[0] if mode == 'position' else 0.0
        return judged.level, judged.check, sign * (judged.allowed[0] - origin) / unit

    assert 0.8552 * 0.02 + 0.8552 ** 2 / 4 == pytest.approx(0.2, abs=1e-4)
    assert ask(0.855, 0.85)[0] == Level.PASS
    assert ask(0.88, 0.85)[:2] == (Level.CLAMP, 'position')
    assert ask(0.88, 0.85)[2] == pytest.approx(0.8552, abs=1e-3)
    assert ask(0.5, 0.89)[0] == Level.PASS
    assert ask(0.5, 0.90)[2] == 0.0, 'too fast to stop in time'
    assert ask(-0.02, 0.90)[0] == Level.PASS, 'away from the end'


def test_an_effort_stops_pushing_once_the_joint_must_brake(robot_with, state_of) -> None:
    robot = robot_with('cartpole', {'acceleration': 2.0})
    end = robot.limits('upper')[0]
    for speed, allowed in ((0.8, 5.0), (0.9, 0.0), (-0.9, 5.0)):
        judged = judge_values(checks_for(robot), np.array([5.0]),
                              state_of(robot, [end - 0.2, 0.0], [speed, 0.0]))
        assert judged.allowed[0] == allowed
    judged = judge_values(checks_for(robot), np.array([-5.0]),
                          state_of(robot, [end - 0.2, 0.0], [0.9, 0.0]))
    assert judged.level == Level.PASS


def test_coupled_joints_share_a_range(robot_with, state_of, mode) -> None:
    """elbow + 2 · wrist_pitch at home is 1.5 + 0.8 = 2.3."""
    robot = robot_with('arm', None, mode, geometry=None, coupling=[
        {'name': 'cable', 'weights': {'elbow': 1.0, 'wrist_pitch': 2.0}, 'lower': 2.28,
         'upper': 2.32}])
    checks, unit = checks_for(robot), 0.02 if mode == 'position' else 1.0
    for elbow, wrist, share in ((0.5, 0.25, 1.0), (1.0, 0.5, 0.5), (-1.0, -0.5, 0.5),
                                (1.0, -0.5, 1.0), (2.0, 0.0, 0.5)):
        command = asked(robot, 0.0, 0.0, elbow, wrist)
        judged = judge_values(checks, command, state_of(robot))
        assert (judged.level == Level.PASS) == (share == 1.0)
        origin = robot.home if mode == 'position' else 0.0
        np.testing.assert_allclose((judged.allowed - origin) / unit,
                                   share * np.array([0, 0, elbow, wrist, 0, 0]), atol=1e-9)
        assert share == 1.0 or (judged.check, 'cable' in judged.reason) == ('coupling', True)
    outside = robot.home + [0, 0, 0.1, 0, 0, 0]
    for elbow, level in ((-1.0, Level.PASS), (0.5, Level.CLAMP), (0.0, Level.PASS)):
        judged = judge_values(checks, asked(robot, 0, 0, elbow, position=outside),
                              state_of(robot, outside))
        assert judged.level == level
        assert elbow <= 0 or judged.allowed[2] == (outside[2] if mode == 'position' else 0.0)


@pytest.mark.parametrize(('coupling', 'words'), [
    ({'weights': {'elbw': 1.0}, 'upper': 1.0}, "did you mean 'elbow'"),
    ({'weights': {'elbow': 0.0}, 'upper': 1.0}, 'limit nothing'),
    ({'weights': {}, 'upper': 1.0}, 'limit nothing'),
    ({'weights': {'elbow': 1.0}}, 'give lower, upper or both'),
    ({'weights': {'elbow': 1.0}, 'lower': 1.0, 'upper': 1.0}, 'is not below'),
])
def test_wrong_couplings_are_refused(robot_with, coupling, words) -> None:
    with pytest.raises((ConfigError, ValueError), match=words):
        checks_for(robot_with('arm', coupling=[{'name': 'x', **coupling}]))


def test_what_needs_a_speed_is_refused_for_efforts(robot_with) -> None:
    coupled = {'coupling': [{'name': 'x', 'weights': {'slider': 1.0}, 'upper': 1.0}]}
    for settings in (coupled, {'geometry': {}}):
        with pytest.raises(ConfigError, match='effort has no speed'):
            checks_for(robot_with('cartpole', **settings))


@pytest.mark.parametrize(('verdict', 'level'), [('stop', Level.STOP), ('hold', Level.HOLD)])
def test_chatter(robot_with, state_of, mode, verdict, level) -> None:
    """Three changes of direction within 0.2 s (ten periods) are too many, two are not."""
    robot = robot_with('arm', None, mode, chatter={
        'window_s': 0.2, 'reversals': 3, 'amplitude': 0.1, 'verdict': verdict})
    gate = Gate(robot)
    found = run(robot, state_of, 1.0, 0.0, -1.0, -0.5, 0.1, 1.0, gate=gate)
    assert {row[0] for row in found} == {Level.PASS}
    state = state_of(robot, period=6)
    judged = gate.judge(asked(robot, -1.0), state)
    assert (judged.level, judged.check, judged.allowed) == (level, 'chatter', None)
    assert 'shoulder_pan has changed direction 3 times within 0.2 s' in judged.reason
    assert gate.judge(asked(robot, -0.2), state).level == Level.PASS, 'too small to count'
    assert gate.judge(asked(robot, 1.0), state).level == Level.PASS, 'the same direction'
    later = state_of(robot, period=12)
    assert gate.judge(asked(robot, -1.0), later).level == level, 'the first is 10 periods old'
    assert gate.judge(asked(robot, -1.0), state_of(robot, period=13)).level == Level.PASS
    gate.trace.halted()
    assert gate.judge(asked(robot, -1.0), state).level == Level.PASS
    gate.executed(asked(robot, -1.0), state)
    assert gate.judge(asked(robot, 1.0), state).level == level, 'a halt forgets no reversal'
    gate.trace.forget()
    assert gate.judge(asked(robot, 1.0), state).level == Level.PASS


def test_a_trace_forgets_what_is_older_than_its_window() -> None:
    trace = Trace([0.1], 100)
    for stamp, speed in ((0, 1.0), (10, -1.0), (50, 1.0), (160, -1.0)):
        trace.executed(stamp, [speed])
    assert trace.reversals(161, [1.0]) == {0: 2}, 'that at 160 and this one'
    assert trace.reversals(161, [-1.0]) == {}
    assert len(trace.last) == 2


def test_the_first_command_is_refused_where_it_is_far(robot_with, state_of) -> None:
    robot = robot_with('arm', refuse=['first_command'])
    gate, state = Gate(robot), state_of(robot)
    judged = gate.judge(robot.home + 0.05, state)
    assert (judged.level, judged.check, judged.allowed) == (Level.HOLD, 'first_command', None)
    near = gate.judge(robot.home + 0.03, state)
    assert near.level == Level.PASS
    gate.executed(near.allowed, state)
    assert gate.judge(robot.home + 0.05, state).check == 'velocity', 'no longer the first'
    velocity = robot_with('arm', None, 'velocity', refuse=['first_command'])
    assert judge_values(checks_for(velocity), np.full(6, 1.5), state_of(velocity)).level == 0


@pytest.mark.parametrize(('check', 'settings', 'command'), [
    ('velocity', {}, [3.0]), ('acceleration', {'joints': {'acceleration': 10.0}}, [1.0]),
    ('jerk', {'joints': {'acceleration': 10.0, 'jerk': 100.0}}, [0.15]),
    ('coupling', {'coupling': [{'name': 'x', 'weights': {'shoulder_pan': 1.0}, 'upper': 0.01}]},
     [1.0])])
def test_a_check_may_refuse_instead_of_limiting(robot_with, state_of, check, settings,
                                                command) -> None:
    for refuse, level in (([], Level.CLAMP), ([check], Level.HOLD)):
        robot = robot_with('arm', **settings, refuse=refuse)
        judged = judge_values(checks_for(robot), asked(robot, *command), state_of(robot))
        assert (judged.level, judged.check) == (level, check)
        assert (judged.allowed is None) == (level == Level.HOLD)
        assert Gate(robot)._remembers == (check in ('acceleration', 'jerk'))


def test_refusing_leaves_passes_and_stops_alone(robot_with, state_of) -> None:
    checks = {check.name: check for check in checks_for(robot_with('arm'))}
    state = state_of(robot_with('arm'))
    assert Refusing(checks['velocity']).check(state.position, state, Trace()) is None
    stop = Refusing(checks['finite']).check(state.position * np.nan, state, Trace())
    assert stop.level == Level.STOP


def test_refusing_what_is_not_checked_is_an_error(robot_with) -> None:
    with pytest.raises(ConfigError, match="'jerk' is not checked; checked: velocity, position"):
        checks_for(robot_with('arm', refuse=['jerk'], geometry=None))
    robot = robot_with('cartpole', refuse=['effort', 'position'])
    assert [check.name for check in checks_for(robot)] == ['finite', 'state', 'effort', 'position']


def test_limits_are_only_ever_narrowed(robot_with, state_of) -> None:
    robot = robot_with('arm', geometry=None)
    gate, state = Gate(robot), state_of(robot)
    assert gate.judge(asked(robot, 2.0), state).level == Level.PASS
    assert gate.narrow(Narrowing(0.5, 0.1)) == ''
    assert gate.judge(asked(robot, 1.0), state).level == Level.PASS
    assert gate.judge(asked(robot, 2.0), state).allowed[0] == pytest.approx(STEP / 2)
    edge = robot.limits('upper') - 0.12
    assert gate.judge(edge, state_of(robot, edge)).level == Level.PASS
    assert gate.judge(edge + 1e-3, state_of(robot, edge)).check == 'position'
    for wider, words in ((Narrowing(0.6, 0.1), 'speed_scale = 0.6 after 0.5'),
                         (Narrowing(0.5, 0.05), 'extra_margin = 0.05 after 0.1'),
                         (Narrowing(0.5, 0.1), '')):
        assert gate.narrow(wider).startswith(words)
        assert bool(gate.narrow(wider)) == bool(words)
    assert gate.narrowing == Narrowing(0.5, 0.1)
    with_clearance = Gate(robot, Narrowing(1.0, 0.0, 0.01))
    assert 'extra_clearance_m = 0.0 after 0.01' in with_clearance.narrow(Narrowing())


@pytest.mark.parametrize('values', [
    (0.0, 0, 0), (1.01, 0, 0), (np.nan, 0, 0), (1, -1e-9, 0), (1, np.inf, 0), (1, np.nan, 0),
    (1, 0, -1e-9), (1, 0, np.inf)])
def test_what_would_widen_limits_is_no_narrowing(values) -> None:
    with pytest.raises(ValueError, match='widens'):
        Narrowing(*values)
