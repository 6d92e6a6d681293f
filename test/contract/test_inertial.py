# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulator's inertial unit and force-torque sensor must measure: physics on paper."""

from collections.abc import Callable
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.rotations import (
    quaternion_from_rpy,
    rotation_about,
    rotation_from_quaternion,
)
from rl_nodes.core.types import BaseState, Start
from rl_nodes.core.urdf import UrdfJoint

G = 9.81
NOWHERE = np.zeros(3)
Opener = Callable[..., SimulatedRobot]


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    """Return a function that makes robots of one backend; they are closed at the end."""
    return lambda model: opened(request.param, model)


def variant(folder: Path, robot: str, *more: str, mode: str = 'position') -> RobotModel:
    """Return a shipped robot with more in its YAML file."""
    text = (share_directory() / 'config' / 'robots' / f'{robot}.yaml').read_text()
    for old, new in (('urdf: ', f'urdf: {share_directory()}/urdf/'),
                     ('control_mode: position', f'control_mode: {mode}')):
        assert old in text
        text = text.replace(old, new)
    path = folder / f'{robot}.yaml'
    path.write_text('\n'.join([text, *more]))
    return load_robot(str(path))


def settle(robot: SimulatedRobot, model: RobotModel, periods: int = 100,
           position: np.ndarray | None = None) -> None:
    wanted = model.home if position is None else position
    robot.reset(Start(wanted, NOWHERE))
    for _ in range(periods):
        robot.write(wanted[model.commanded])
        robot.step()


POSES = [np.zeros(6), np.array([0.4, -0.6, 0.9, 0.3, -0.7, 0.5])]


@pytest.mark.parametrize('position', POSES)
@pytest.mark.parametrize('link', ['base_link', 'forearm', 'tool'])
def test_at_rest_gravity_is_felt_upwards(opened: Opener, tmp_path: Path, link: str,
                                         position: np.ndarray) -> None:
    model = variant(tmp_path, 'arm', f'imu: {{link: {link}}}')
    robot = opened(model)
    for periods in (0, 100):
        settle(robot, model, periods, position)
        imu = robot.read().imu
        rotation = rotation_from_quaternion(imu[:4])
        np.testing.assert_allclose(rotation @ imu[7:], [0.0, 0.0, G], atol=2e-3)
        np.testing.assert_allclose(imu[4:7], 0.0, atol=2e-4)
        expected = np.eye(3)
        for joint in model.urdf.chain('base_link', link):
            turned = rotation_of(joint, robot.read().position, model)
            expected = expected @ joint.rotation @ turned
        np.testing.assert_allclose(rotation, expected, atol=1e-6)


def rotation_of(joint: UrdfJoint, position: np.ndarray, model: RobotModel) -> np.ndarray:
    if joint.kind == 'fixed':
        return np.eye(3)
    return rotation_about(joint.axis, position[model.joint_names.index(joint.name)])


def test_in_free_fall_nothing_is_felt_and_nothing_is_borne(opened: Opener, tmp_path: Path) -> None:
    model = variant(tmp_path, 'quadruped', 'imu: {link: base_link}',
                    f'force_torque: {{joint: {load_robot("quadruped").joint_names[0]}}}')
    robot = opened(model)
    robot.reset(Start(model.home, NOWHERE, BaseState(
        np.array([0.0, 0.0, 5.0]), quaternion_from_rpy(np.array([0.2, -0.3, 0.5])),
        np.array([0.5, 0.0, 1.0]), np.zeros(3))))
    for _ in range(5):
        robot.write(model.home[model.commanded])
        robot.step()
    measured = robot.read()
    np.testing.assert_allclose(measured.imu[7:], 0.0, atol=2e-2)
    np.testing.assert_allclose(measured.wrench, 0.0, atol=5e-2)


def test_a_turning_arm_feels_the_centripetal_force(opened: Opener, tmp_path: Path) -> None:
    """About the vertical at w: the axis is felt from, by w² r, and the rate is w."""
    model, rate = variant(tmp_path, 'arm', 'imu: {link: tool}', mode='velocity'), 0.5
    robot = opened(model)
    robot.reset(Start(np.array([0.0, 0.6, 0.9, 0.0, 0.0, 0.0]), NOWHERE))
    for _ in range(100):
        robot.write(np.array([rate, 0.0, 0.0, 0.0, 0.0, 0.0]))
        robot.step()
    measured = robot.read()
    rotation = rotation_from_quaternion(measured.imu[:4])
    np.testing.assert_allclose(rotation @ measured.imu[4:7], [0.0, 0.0, rate], atol=5e-3)
    radius = float(np.hypot(*model.chain.tip_position(measured.position)[:2]))
    felt = rotation @ measured.imu[7:]
    outward = model.chain.tip_position(measured.position)[:2] / radius
    assert float(felt[:2] @ outward) == pytest.approx(-rate ** 2 * radius, abs=5e-3)
    assert felt[2] == pytest.approx(G, abs=2e-2)


@pytest.mark.parametrize('position', POSES)
@pytest.mark.parametrize(('joint', 'behind'), [
    ('wrist_roll', ('flange', 'tool')), ('elbow', ('forearm', 'wrist', 'hand', 'flange', 'tool'))])
def test_a_joint_bears_the_weight_behind_it(opened: Opener, tmp_path: Path, joint: str,
                                            behind: tuple[str, ...], position: np.ndarray) -> None:
    """Force: the weight, down. Torque: of the weight at the centre of mass behind the joint."""
    model = variant(tmp_path, 'arm', f'force_torque: {{joint: {joint}}}')
    robot = opened(model)
    settle(robot, model, 0, position)
    np.testing.assert_array_equal(robot.read().wrench, np.zeros(6))
    settle(robot, model, 150, position)
    measured = robot.read()
    rotation, origin, weighed = np.eye(3), np.zeros(3), []
    elements = {link.get('name'): link.find('inertial') for link in ElementTree.fromstring(
        model.urdf.text).findall('link')}
    for entry in model.urdf.chain('base_link', 'tool'):
        origin = origin + rotation @ entry.offset
        rotation = rotation @ entry.rotation @ rotation_of(entry, measured.position, model)
        if entry.name == joint:
            at, frame = origin, rotation
        if entry.child in behind:
            inertial = elements[entry.child]
            place = inertial.find('origin')
            center = np.array([float(x) for x in (
                '0 0 0' if place is None else place.get('xyz', '0 0 0')).split()])
            weighed.append((float(inertial.find('mass').get('value')), origin + rotation @ center))
    weight = sum(mass for mass, _ in weighed) * G
    torque = sum(np.cross(where - at, [0.0, 0.0, -mass * G]) for mass, where in weighed)
    np.testing.assert_allclose(frame @ measured.wrench[:3], [0.0, 0.0, -weight], atol=0.02)
    np.testing.assert_allclose(frame @ measured.wrench[3:], torque, atol=0.02)


def test_the_same_bits_again_and_reading_touches_nothing(opened: Opener, tmp_path: Path) -> None:
    """With and without sensors, read once and read often, the robot does the same."""
    tracks, sensed = [], []
    for name, reads in (('plain', 1), ('both', 1), ('both', 3)):
        folder = tmp_path / f'{name}{reads}'
        folder.mkdir()
        more = ('imu: {link: tool}', 'force_torque: {joint: wrist_pitch}') \
            if name == 'both' else ()
        model = variant(folder, 'arm', *more)
        robot = opened(model)
        rng = np.random.default_rng(0)
        track, felt = [], []
        for _ in range(2):
            robot.reset(Start(model.home, NOWHERE))
            for _ in range(25):
                robot.write(model.home + rng.uniform(-0.3, 0.3, 6))
                robot.step()
                for _ in range(reads):
                    measured = robot.read()
                track += [measured.position, measured.velocity]
                felt += [measured.imu, measured.wrench] if more else []
        tracks.append(np.concatenate(track).tobytes())
        sensed.append(np.concatenate(felt).tobytes() if felt else b'')
    assert tracks[0] == tracks[1] == tracks[2]
    assert sensed[1] == sensed[2]


@pytest.mark.parametrize(('line', 'reason'), [
    ('imu: {link: flanges}', r"imu.link: no link 'flanges' .*did you mean 'flange'"),
    ('force_torque: {joint: tool_frame}', "'tool_frame' is no joint of arm.urdf that moves"),
    ('force_torque: {joint: elbov}', "did you mean 'elbow'")])
def test_sensors_that_cannot_be_there(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        variant(tmp_path, 'arm', line)
