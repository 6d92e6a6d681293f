# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A million hostile commands and states; an oracle written differently finds no violation."""

from functools import cache

from fuzz import campaign, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from limited_robots import make_robot
import numpy as np
from oracle import Oracle
import pytest
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import checks_for, Gate
from rl_nodes.safety.limits import Narrowing
from rl_nodes.safety.verdict import Level

LIMITED = {'acceleration': 12.0, 'jerk': 900.0}
COUPLED = [{'name': 'cable', 'weights': {'elbow': 1.0, 'wrist_pitch': 0.5}, 'lower': -0.5,
            'upper': 2.5}, {'name': 'one end', 'weights': {'wrist_roll': -1.0}, 'upper': 1.5}]
# Robot, settings, commands: 1,010,000 in all.
CAMPAIGN = {
    'arm': ('arm', {'geometry': None}, 250_000),
    'arm, each': ('arm', {'geometry': None, 'scale': 'each'}, 100_000),
    'quadruped': ('quadruped', {}, 250_000),
    'rover': ('rover', {}, 150_000),
    'cartpole': ('cartpole', {}, 150_000),
    'arm with geometry': ('arm', {}, 50_000),
    'arm with everything': ('arm', {'joints': LIMITED, 'coupling': COUPLED}, 20_000),
    'arm in velocity': ('arm', {'joints': LIMITED, 'coupling': COUPLED, 'mode': 'velocity'},
                        20_000),
    'cartpole that brakes': ('cartpole', {'joints': LIMITED}, 20_000)}


@cache
def robot_of(name):
    robot, config, _ = CAMPAIGN[name]
    return make_robot(robot, **config)


def run(name, count, seed, narrowing=(1.0, 0.0)):
    model = robot_of(name)
    return campaign(model, checks_for(model, Narrowing(*narrowing)), count, seed, narrowing)


@pytest.mark.parametrize('name', CAMPAIGN)
def test_a_million_commands(name: str) -> None:
    bad, levels = run(name, CAMPAIGN[name][2], seed=1)
    assert not bad
    assert (levels > 0)[[Level.PASS, Level.CLAMP, Level.STOP]].all(), 'the fuzzer is too tame'


@pytest.mark.soak
@pytest.mark.parametrize('name', CAMPAIGN)
def test_twenty_million_commands(name: str) -> None:
    for seed in range(2, 22):
        assert not run(name, CAMPAIGN[name][2], seed)[0], f'seed {seed}'


@pytest.mark.parametrize('name', ['arm', 'rover', 'arm in velocity'])
def test_narrowed_limits(name: str) -> None:
    assert not run(name, 10_000, 3, (0.3, 0.05))[0]


def test_the_oracle_is_no_rubber_stamp() -> None:
    """What the robot was asked for violates everything somewhere."""
    for name, expected in (
            ('arm with everything', {'speed', 'position', 'braking distance 1', 'coupling cable',
                                     'too late to brake -1', 'not finite'}),
            ('cartpole', {'effort', 'pushes out'}), ('rover', {'speed', 'not finite'})):
        robot = robot_of(name)
        with np.errstate(all='ignore'):
            q, dq, command = draw(robot, np.random.default_rng(0), 20_000)
            assert expected <= set(Oracle(robot).violations(q, dq, command, command))
    robot = make_robot('arm', joints=LIMITED)
    wild = np.random.default_rng(0).uniform(-2, 2, (100, 6))
    assert set(Oracle(robot).jumps(wild)) == {'acceleration', 'jerk'}


@pytest.mark.parametrize('scale', ['whole', 'each'])
@pytest.mark.parametrize('mode', ['position', 'velocity'])
def test_commands_that_follow_each_other(mode: str, scale: str) -> None:
    robot = make_robot('arm', joints=LIMITED, mode=mode, scale=scale, geometry=None)
    gate, rng = Gate(robot), np.random.default_rng(4)
    position = robot.home.copy()
    unit = 0.02 if mode == 'position' else 1.0
    executed, wanted = [], np.zeros(6)
    for tick in range(4000):
        state = RobotState(tick * 20_000_000, '1@0', position.copy(), np.zeros(6), np.empty(0))
        if rng.random() < 0.2:
            wanted = rng.uniform(-4, 4, 6) * rng.choice([0.1, 1.0])
        asked = wanted * unit + (position if mode == 'position' else 0.0)
        allowed = gate.judge(asked, state).allowed
        gate.executed(allowed, state)
        speed = (allowed - (position if mode == 'position' else 0.0)) / unit
        executed.append(speed)
        position = position + speed * 0.02
    executed = np.array(executed)
    assert not Oracle(robot).jumps(executed)
    assert (np.abs(executed).max(axis=0) > 1.0).all(), 'it gets going'


numbers = st.one_of(st.floats(width=64), st.sampled_from(
    [0.0, -0.0, 5e-324, 1e308, -1e308, np.nan, np.inf]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CAMPAIGN)), st.data())
def test_whatever_comes(name: str, data) -> None:
    robot = robot_of(name)
    size = len(robot.joints)
    q, dq = (np.array([data.draw(st.lists(kind, min_size=size, max_size=size))])
             for kind in (st.one_of(st.floats(-3.2, 3.2), numbers), st.floats(-4, 4)))
    count = len(robot.commanded)
    command = np.array([data.draw(st.lists(numbers, min_size=count, max_size=count))])
    with np.errstate(all='ignore'):
        judged = Gate(robot).judge(command[0], RobotState(0, '1@0', q[0], dq[0], np.empty(0)))
        allowed = (np.full_like(command, np.nan) if judged.allowed is None
                   else judged.allowed[None])
        assert not Oracle(robot).violations(q, dq, command, allowed)
