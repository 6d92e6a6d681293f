# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Robot configuration against URDF, the shipped descriptions, forward kinematics."""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot
from rl_nodes.core.rotations import rotation_about

ROBOTS = ['arm', 'cartpole', 'quadruped', 'rover']


def variant(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """Return the path of a copy of arm.yaml with text replaced."""
    text = (share_directory() / 'config/robots/arm.yaml').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / 'arm.yaml'
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(('change', 'message'), [
    (('name: elbow, home: 1.5', 'name: elbow, home: 1.5, upper: 3.0'), 'widens the limit 2.7'),
    (('name: elbow, home: 1.5', 'name: elbow, home: 1.5, velocity: 9.0'), 'widens the limit 2.0'),
    (('name: elbow, home: 1.5', 'name: elbow, home: 2.9'), r'home = 2.9 is outside'),
    (('name: elbow', 'name: elbo'), "joint 'elbo' is not in arm.urdf"),
    (('  - {name: wrist_roll, home: 0.0}\n', ''), 'wrist_roll .* not listed'),
    (('urdf: arm.urdf', 'urdf: none.urdf'), 'not found'),
    (('tool_link: tool', 'tool_link: hook'), "no link 'hook'; links: base_link"),
    (('rate_hz: 50', 'rate_hz: 60'), 'whole multiple'),
    (('command_timeout_s: 0.15', 'command_timeout_s: 0.01'), 'must not be below'),
    (('control_mode: position', 'control_mode: magic'), "control_mode = 'magic'"),
    (('rate_hz: 50', 'rate_hz: 50\ngait: {cycle_s: 0.4, feet: {tool: 0.0, forearm: 0.5}}'),
     'gait: a robot that walks has a floating base'),
])
def test_wrong_configuration_is_refused(tmp_path: Path, change: tuple[str, str],
                                        message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_robot(variant(tmp_path, change))
    assert 'arm.' in str(caught.value), 'the file is named'


def test_physics_must_fit_the_control_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'simulation.physics_hz = 210.0 is not a whole'):
        load_robot(variant(tmp_path, ('physics_hz: 200', 'physics_hz: 210')))


def test_limits_may_be_tightened(tmp_path: Path) -> None:
    robot = load_robot(variant(tmp_path, ('name: elbow, home: 1.5',
                                          'name: elbow, home: 1.5, upper: 2.0, velocity: 0.5')))
    assert robot.limits('upper')[2] == 2.0
    assert robot.limits('velocity')[2] == 0.5
    assert load_robot('arm').limits('upper')[2] == 2.7


@pytest.mark.parametrize('name', ROBOTS)
def test_inertias_are_physical(name: str) -> None:
    """Positive masses; principal moments positive and no one above the sum of the others."""
    root = ElementTree.parse(load_robot(name).urdf.path).getroot()
    for link in root.findall('link'):
        inertial = link.find('inertial')
        assert inertial is not None, f'{link.get("name")} has no inertia'
        assert 0 < float(inertial.find('mass').get('value')) < 50
        inertia = inertial.find('inertia')
        xx, yy, zz, xy, xz, yz = (float(inertia.get(f'i{axes}'))
                                  for axes in ('xx', 'yy', 'zz', 'xy', 'xz', 'yz'))
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert moments[0] > 0
        assert moments[2] <= moments[0] + moments[1] + 1e-9


@pytest.mark.parametrize('name', ROBOTS)
def test_nothing_collides_at_home(name: str) -> None:
    pybullet = pytest.importorskip('pybullet')
    robot = load_robot(name)
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(robot.urdf.path), useFixedBase=True, physicsClientId=client)
        count = pybullet.getNumJoints(body, physicsClientId=client)
        parents = {}
        for index in range(count):
            info = pybullet.getJointInfo(body, index, physicsClientId=client)
            parents[index] = info[16]
            if info[1].decode() in robot.joint_names:
                pybullet.resetJointState(
                    body, index, robot.home[robot.joint_names.index(info[1].decode())],
                    physicsClientId=client)
        for a in range(-1, count):
            for b in range(a + 1, count):
                if parents.get(b) == a:
                    continue
                near = pybullet.getClosestPoints(body, body, 0.0, a, b, physicsClientId=client)
                assert not near, f'links {a} and {b} touch'
    finally:
        pybullet.disconnect(client)


def test_forward_kinematics_agrees_with_the_simulator() -> None:
    """An independent implementation: PyBullet's link states at random poses."""
    pybullet = pytest.importorskip('pybullet')
    robot = load_robot('arm')
    client = pybullet.connect(pybullet.DIRECT)
    rng = np.random.default_rng(0)
    try:
        body = pybullet.loadURDF(str(robot.urdf.path), useFixedBase=True, physicsClientId=client)
        infos = [pybullet.getJointInfo(body, i, physicsClientId=client)
                 for i in range(pybullet.getNumJoints(body, physicsClientId=client))]
        tool = next(i for i, info in enumerate(infos) if info[12] == b'tool')
        for _ in range(50):
            q = rng.uniform(robot.limits('lower'), robot.limits('upper'))
            for index, info in enumerate(infos):
                if info[1].decode() in robot.joint_names:
                    pybullet.resetJointState(body, index,
                                             q[robot.joint_names.index(info[1].decode())],
                                             physicsClientId=client)
            state = pybullet.getLinkState(body, tool, computeForwardKinematics=True,
                                          physicsClientId=client)
            position, rotation = robot.chain.tip(q)
            np.testing.assert_allclose(position, state[4], atol=1e-6)
            expected = np.array(pybullet.getMatrixFromQuaternion(state[5])).reshape(3, 3)
            np.testing.assert_allclose(rotation, expected, atol=1e-5)
    finally:
        pybullet.disconnect(client)


def test_rotation_about_an_axis_turns_right_handed() -> None:
    turned = rotation_about(np.array([0.0, 0.0, 1.0]), np.pi / 2) @ np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(turned, [0, 1, 0], atol=1e-12)


def test_jerk_needs_an_acceleration_and_neither_is_in_the_contract(tmp_path: Path) -> None:
    joint = 'elbow, home: 1.5'
    robot = load_robot(variant(tmp_path, (joint, f'{joint}, acceleration: 8.0, jerk: 100.0')))
    assert robot.limits('acceleration').tolist() == [np.inf, np.inf, 8.0, *[np.inf] * 3]
    assert robot.limits('jerk')[2] == 100.0
    assert robot.joints == load_robot('arm').joints
    with pytest.raises(ConfigError, match='elbow: jerk without acceleration'):
        load_robot(variant(tmp_path, (joint, f'{joint}, jerk: 100.0')))


@pytest.mark.parametrize(('old', 'new', 'words'), [
    ('slow_m: 0.01', 'slow_m: 0.001', 'stop_m = 0.002 is not below slow_m = 0.001'),
    ('shape: plane,', 'shape: plain,', "invalid enum value 'plain'"),
    ('  position_margin: 0.02 ', '  refuse: [velocity, speed]\n  position_margin: 0.02 ',
     "invalid enum value 'speed'"),
    ('  position_margin: 0.02 ', '  chatter: {window_s: 1, reversals: 1}\n  position_margin: 0 ',
     'safety.chatter.reversals = 1'),
    ('self_collision: true', 'self_colision: true', "did you mean 'self_collision'")])
def test_a_wrong_safety_section_names_the_key(tmp_path: Path, old, new, words) -> None:
    with pytest.raises(ConfigError, match=words):
        load_robot(variant(tmp_path, (old, new)))
