# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Links keep clear of each other and of zones; the real bodies are never nearer than we think."""

import numpy as np
import oracle
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.rotations import rotation_from_rpy
from rl_nodes.core.safety_config import GeometryConfig, ZoneConfig
from rl_nodes.safety.gate import checks_for, Gate, judge_values
from rl_nodes.safety.geometry import Clearances
from rl_nodes.safety.limits import Narrowing
from rl_nodes.safety.verdict import Level

STOP, SLOW, APPROACH = 0.005, 0.03, 0.25
OBLIQUE = [0.4, 0.7, 1.1]
LEVEL = np.array([0.0, 1.2, 0.37, 0.0, 0.0, 0.0])  # the forearm and the hand level, 0.23 m high
IGNORE = [['base_link', 'upper_arm'], ['forearm', 'hand'], ['forearm', 'flange'],
          ['wrist', 'flange']]


def zone(**settings):
    return {'name': 'zone', 'keep': 'out', **settings}


def geometry(**settings):
    return {'stop_m': STOP, 'slow_m': SLOW, 'approach': APPROACH, 'ignore': IGNORE, **settings}


def clearances_at(clearances, position):
    """Return every clearance, in order of the labels."""
    segments = clearances.segments(position)
    return [clearances.clearance(k, segments) for k in range(len(clearances.labels))]


def random_positions(robot, count, seed=0):
    low = np.array([joint.lower for joint in robot.joints])
    high = np.array([joint.upper for joint in robot.joints])
    return np.random.default_rng(seed).uniform(low, high, (count, len(low)))


def test_clearances_never_exceed_the_distances_of_the_real_bodies(robot_with) -> None:
    robot = robot_with('arm')
    clearances = Clearances(robot, GeometryConfig(self_collision=True), -1.0, SLOW)
    assert len(clearances.labels) == 15
    q = random_positions(robot, 60)
    poses = oracle.link_poses(robot, q)
    ours = np.array([clearances_at(clearances, position) for position in q])
    for k, label in enumerate(clearances.labels):
        a, b = (oracle.moved(poses[link], oracle.surface_points(robot, link, 0.012))
                for link in label.split(' and '))
        real = oracle.nearest(a, b)
        assert (ours[:, k] <= real + 0.012).all(), label
        assert (ours[:, k] >= real - 0.08).all(), f'{label}: capsules are needlessly large'


def test_near_finds_what_all_finds(robot_with) -> None:
    for name in ('arm', 'quadruped'):
        robot = robot_with(name)
        clearances = Clearances(robot, GeometryConfig(self_collision=True, zones=(
            ZoneConfig(name='floor', keep='in', shape='plane', xyz=(0.0, 0.0, -0.3)),)), -1, SLOW)
        for position in random_positions(robot, 300):
            every = clearances_at(clearances, position)
            assert clearances.near(position, SLOW) == {
                k: value for k, value in enumerate(every) if value < SLOW}


@pytest.mark.parametrize(('settings', 'expected'), [
    ({'shape': 'plane', 'keep': 'in'}, lambda p: p[..., 2]),
    ({'shape': 'plane', 'keep': 'in', 'xyz': [0, 0, 0.1]}, lambda p: p[..., 2] - 0.1),
    ({'shape': 'plane', 'rpy': [0, np.pi / 2, 0], 'xyz': [0.5, 0, 0]}, lambda p: 0.5 - p[..., 0]),
    ({'shape': 'sphere', 'size': [0.1], 'xyz': [0.2, 0.1, 0.3]},
     lambda p: np.linalg.norm(p - [0.2, 0.1, 0.3], axis=-1) - 0.1),
    ({'shape': 'sphere', 'size': [0.9], 'keep': 'in'}, lambda p: 0.9 - np.linalg.norm(p, axis=-1)),
    ({'shape': 'box', 'size': [0.2, 0.4, 0.1], 'xyz': [0.3, 0, 0.1]},
     lambda p: np.linalg.norm(np.maximum(np.abs(p - [0.3, 0, 0.1]) - [0.1, 0.2, 0.05], 0),
                              axis=-1)),
    ({'shape': 'box', 'size': [0.2, 0.4, 0.1], 'xyz': [0.3, 0, 0.1], 'rpy': OBLIQUE},
     lambda p: np.linalg.norm(np.maximum(np.abs(
         (p - [0.3, 0, 0.1]) @ rotation_from_rpy(np.array(OBLIQUE))) - [0.1, 0.2, 0.05], 0),
                              axis=-1)),
    ({'shape': 'plane', 'keep': 'in', 'rpy': OBLIQUE, 'xyz': [0.1, -0.2, -0.5]},
     lambda p: (p - [0.1, -0.2, -0.5]) @ rotation_from_rpy(np.array(OBLIQUE))[:, 2]),
    ({'shape': 'box', 'size': [2, 2, 2], 'keep': 'in'}, lambda p: (1 - np.abs(p)).min(axis=-1)),
    ({'shape': 'capsule', 'size': [0.1, 0.4], 'rpy': [np.pi / 2, 0, 0], 'xyz': [0.3, 0, 0.2]},
     lambda p: np.linalg.norm(p - [0.3, 0, 0.2] - np.clip(p[..., 1:2], -0.2, 0.2) * [0, 1, 0],
                              axis=-1) - 0.1),
    ({'shape': 'capsule', 'size': [0.8, 0.2], 'keep': 'in'},
     lambda p: 0.8 - np.linalg.norm(p - np.clip(p[..., 2:], -0.1, 0.1) * [0, 0, 1], axis=-1))])
def test_clearances_to_zones(robot_with, settings, expected) -> None:
    """The least over the surface of the real link is at most half a centimetre above ours."""
    robot = robot_with('arm')
    links = ('forearm', 'hand')
    config = GeometryConfig(zones=(ZoneConfig(**{
        'name': 'zone', 'keep': 'out', **{key: tuple(value) if isinstance(value, list) else value
                                          for key, value in settings.items()}}, links=links),))
    clearances = Clearances(robot, config, -10.0, SLOW)
    q = random_positions(robot, 80, 1)
    poses = oracle.link_poses(robot, q)
    ours = np.array([clearances_at(clearances, position) for position in q])
    assert clearances.labels == ['forearm and zone', 'hand and zone']
    for k, link in enumerate(links):
        real = expected(oracle.moved(poses[link], oracle.surface_points(robot, link))).min(axis=1)
        assert (ours[:, k] <= real + 1e-6).all()
        outside = real > 0.0
        assert (ours[outside, k] >= real[outside] - 0.03).all()


def test_every_link_that_moves_is_kept_out_unless_links_are_named(robot_with) -> None:
    plane = {'name': 'floor', 'keep': 'in', 'shape': 'plane', 'xyz': (0.0, 0.0, -1.0)}
    robot = robot_with('arm')
    clearances = Clearances(robot, GeometryConfig(zones=(ZoneConfig(**plane),)), STOP, SLOW)
    assert [label.split()[0] for label in clearances.labels] == [
        'shoulder', 'upper_arm', 'forearm', 'wrist', 'hand', 'flange']


def approach(robot, state_of, direction, ticks=80):
    """Ask for full speed in a direction from LEVEL; yield (clearances before, after, judged)."""
    gate, position = Gate(robot), LEVEL.copy()
    config = robot.config.safety.geometry
    clearances = Clearances(robot, config, -1.0, config.slow_m)
    unit = 0.02 if robot.config.control_mode == 'position' else 1.0
    for tick in range(ticks):
        state = state_of(robot, position, period=tick)
        origin = position if robot.config.control_mode == 'position' else np.zeros(6)
        before = clearances_at(clearances, position)
        judged = gate.judge(origin + np.array(direction) * unit, state)
        position = position + (judged.allowed - origin) / unit * 0.02
        yield before, clearances_at(clearances, position), judged
        np.testing.assert_allclose(np.cross((judged.allowed - origin)[1:4], direction[1:4]), 0,
                                   atol=1e-12)


@pytest.mark.parametrize('mode', ['position', 'velocity'])
def test_an_approach_slows_down_and_ends_at_the_clearance(robot_with, state_of, mode) -> None:
    robot = robot_with('arm', None, mode, geometry=geometry(zones=[
        zone(keep='in', shape='plane', name='table')]))
    least, levels = [], []
    for before, after, judged in approach(robot, state_of, [0, 1.0, 0, 0, 0, 0]):
        b, a = min(before), min(after)
        assert a >= min(SLOW, STOP + (1 - APPROACH) * (b - STOP)) - 1e-9
        least.append(a)
        levels.append(judged.level)
    assert levels[0] == Level.PASS
    assert levels[-1] == Level.CLAMP
    assert (judged.check, 'table' in judged.reason) == ('geometry', True)
    assert STOP - 1e-9 <= least[-1] < STOP + 1e-3
    away = list(approach(robot, state_of, [0, -1.0, 0, 0, 0, 0], 5))
    assert all(judged.level == Level.PASS for *_, judged in away)


def test_what_is_too_near_may_move_away_and_not_nearer(robot_with, state_of) -> None:
    robot = robot_with('arm', geometry=geometry(zones=[zone(keep='in', shape='plane')]))
    checks, low = checks_for(robot), LEVEL + [0, 0.55, 0, 0, 0, 0]
    clearances = Clearances(robot, robot.config.safety.geometry, -1.0, SLOW)
    assert min(clearances_at(clearances, low)) < STOP
    step = np.array([0, 0.02, 0, 0, 0, 0])
    assert judge_values(checks, low - step, state_of(robot, low)).level == Level.PASS
    nearer = judge_values(checks, low + step, state_of(robot, low))
    assert (nearer.level, nearer.check) == (Level.CLAMP, 'geometry')
    np.testing.assert_array_equal(nearer.allowed, low)
    assert judge_values(checks, low, state_of(robot, low)).level == Level.PASS


def test_links_keep_clear_of_each_other_the_command_keeps_its_direction(robot_with,
                                                                        state_of) -> None:
    robot = robot_with('arm', geometry=geometry(self_collision=True))
    direction = [0.3, 0, 2.0, 1.5, 0, 0]
    steps = list(approach(robot, state_of, direction))
    clamped = [(judged, min(after)) for _, after, judged in steps if judged.check == 'geometry']
    assert clamped
    assert all(clearance >= STOP - 1e-9 for _, clearance in clamped)
    assert all(' and ' in judged.reason for judged, _ in clamped)


def test_random_motions_never_break_the_stated_condition(robot_with, state_of) -> None:
    """Equations (1) and (2), with clearances of the same capsules and thousands of commands."""
    robot = robot_with('arm', geometry=geometry(self_collision=True, zones=[
        zone(keep='in', shape='plane', name='table'),
        zone(shape='box', size=[0.1, 0.4, 0.2], xyz=[0.3, 0.0, 0.1], name='crate')]))
    checks = checks_for(robot)
    clearances = Clearances(robot, robot.config.safety.geometry, -1.0, SLOW)
    rng, touched = np.random.default_rng(5), 0
    for position in random_positions(robot, 3000, 6):
        command = position + rng.uniform(-1, 1, 6) * 0.05
        judged = judge_values(checks, command, state_of(robot, position))
        touched += judged.check == 'geometry'
        before, after = (np.array(clearances_at(clearances, q))
                         for q in (position, judged.allowed))
        least = np.where(before >= STOP, np.minimum(
            SLOW, STOP + (1 - APPROACH) * (before - STOP)), before)
        assert (after >= least - 1e-9).all()
    assert touched > 100


def test_a_payload_and_a_tool_count_as_part_of_their_link(robot_with, state_of) -> None:
    plane = [zone(keep='in', shape='plane', name='table', links=['flange'])]
    stick = {'name': 'stick', 'link': 'flange', 'shape': 'capsule', 'size': [0.01, 0.3],
             'xyz': [0.15, 0.0, 0.0], 'rpy': [0.0, np.pi / 2, 0.0]}
    position = LEVEL.copy()
    bare, longer = (robot_with('arm', geometry=geometry(zones=plane, bodies=bodies))
                    for bodies in ([], [stick]))
    command = position + [0, 0.03, 0, 0, 0, 0]
    assert judge_values(checks_for(bare), command, state_of(bare, position)).level == Level.PASS
    labels = Clearances(longer, longer.config.safety.geometry, -1.0, SLOW)
    assert labels.labels == ['flange and table', 'stick and table']
    tip = oracle.link_poses(longer, position[None])['flange'][0] @ [0.3, 0, 0, 1]
    assert clearances_at(labels, position)[1] == pytest.approx(tip[2] - 0.01, abs=1e-6)


def test_a_body_is_where_its_link_carries_it(robot_with) -> None:
    probe = {'name': 'probe', 'link': 'hand', 'shape': 'capsule', 'size': [0.01, 0.3],
             'xyz': [0.03, -0.05, 0.07], 'rpy': OBLIQUE}
    ball = zone(shape='sphere', size=[0.05], xyz=[0.2, 0.1, 0.3], name='ball', links=['hand'])
    robot = robot_with('arm', geometry=geometry(zones=[ball], bodies=[probe]))
    clearances = Clearances(robot, robot.config.safety.geometry, -1.0, SLOW)
    q = random_positions(robot, 40)
    along = np.linspace(-0.15, 0.15, 3001)[:, None] * rotation_from_rpy(
        np.array(probe['rpy']))[:, 2] + probe['xyz']
    real = np.linalg.norm(oracle.moved(oracle.link_poses(robot, q)['hand'], along) - [
        0.2, 0.1, 0.3], axis=-1).min(axis=-1) - 0.01 - 0.05
    ours = [clearances_at(clearances, position)[-1] for position in q]
    assert clearances.labels[-1] == 'probe and ball'
    np.testing.assert_allclose(ours, real, atol=1e-6)


def test_neighbours_may_touch_and_bodies_of_one_link_too(robot_with) -> None:
    lump = {'name': 'lump', 'link': 'tool', 'shape': 'sphere', 'size': [0.05]}
    robot = robot_with('arm', geometry=geometry(self_collision=True, bodies=[lump]))
    labels = Clearances(robot, robot.config.safety.geometry, -1.0, SLOW).labels
    assert 'forearm and lump' in labels
    for pair in ('flange and lump', 'hand and lump', 'hand and flange', 'wrist and flange',
                 'base_link and shoulder', 'base_link and upper_arm'):
        assert pair not in labels


def test_extra_clearance_narrows(robot_with, state_of) -> None:
    robot = robot_with('arm', geometry=geometry(zones=[zone(
        keep='in', shape='plane', links=['hand'])]))
    gate = Gate(robot)
    hand = Clearances(robot, robot.config.safety.geometry, -1.0, SLOW)
    height = clearances_at(hand, LEVEL)[0]
    command = LEVEL + [0, 0.02, 0, 0, 0, 0]
    assert gate.judge(command, state_of(robot, LEVEL)).level == Level.PASS
    assert gate.narrow(Narrowing(extra_clearance_m=height - 0.01)) == ''
    assert gate.judge(command, state_of(robot, LEVEL)).check == 'geometry'
    assert 'at home' in gate.narrow(Narrowing(extra_clearance_m=1.0))
    assert gate.narrowing.extra_clearance_m == height - 0.01


@pytest.mark.parametrize(('settings', 'words'), [
    ({'self_collision': True, 'ignore': []}, 'wrist and flange: -.* mm apart at home'),
    ({'ignore': [['hnd', 'wrist']]}, "no link 'hnd'.*did you mean 'hand'"),
    ({'zones': [zone(shape='plane', links=['hnd'])]}, "did you mean 'hand'"),
    ({'zones': [zone(shape='plane', links=['base_link'])]}, 'no link that it is for both'),
    ({'zones': [zone(shape='plane', links=['tool'])]}, 'no link that it is for both'),
    ({'zones': [zone(shape='box', size=[1.0])]}, 'size of a box has 1 numbers, expected length x'),
    ({'zones': [zone(shape='plane', size=[1.0])]}, 'expected none'),
    ({'zones': [zone(shape='plane')] * 2}, 'given twice'),
    ({'bodies': [{'name': 'x', 'link': 'nul', 'shape': 'sphere', 'size': [1.0]}]},
     "no link 'nul'"),
    ({'bodies': [{'name': 'x', 'link': 'tool', 'shape': 'sphere', 'size': []}]}, 'has 0 numbers'),
    ({'stop_m': 0.05}, 'is not below slow_m')])
def test_wrong_geometry_is_refused(robot_with, settings, words) -> None:
    with pytest.raises((ConfigError, ValueError), match=words):
        checks_for(robot_with('arm', geometry=geometry(**settings)))
