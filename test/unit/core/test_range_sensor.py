# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Geometry of a range sensor, and configurations that are refused."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState


def rover(tmp_path: Path, *changes: tuple[str, str], mount: str = 'xyz="0 0 0.1"') -> RobotModel:
    """Return the rover with text of its YAML file replaced and its laser mounted elsewhere."""
    folder = share_directory()
    urdf = (folder / 'urdf' / 'rover.urdf').read_text()
    assert urdf.count('<origin xyz="0 0 0.1"/>') == 1
    (tmp_path / 'rover.urdf').write_text(
        urdf.replace('<origin xyz="0 0 0.1"/>', f'<origin {mount}/>'))
    text = (folder / 'config' / 'robots' / 'rover.yaml').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / 'rover.yaml'
    path.write_text(text)
    return load_robot(str(path))


def test_rays_start_at_the_sensor_and_turn_with_robot_and_mount(tmp_path: Path) -> None:
    """Mounted 0.1 m ahead, looking left; the robot at (1, 2), itself turned to the left."""
    sensor = rover(tmp_path, mount='xyz="0.1 0 0.2" rpy="0 0 1.5707963267948966"').range_sensor
    base = BaseState.at_rest(np.array([1.0, 2.0, 0.05]),
                             quaternion_from_rpy(np.array([0, 0, np.pi / 2])))
    origin, directions = sensor.rays(base)
    np.testing.assert_allclose(origin, [1.0, 2.1, 0.25], atol=1e-12)
    np.testing.assert_allclose(directions[12], [-1, 0, 0], atol=1e-9)  # the middle one: back
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    turn = np.cross(directions[12], directions[13])
    np.testing.assert_allclose(turn, [0, 0, np.sin(np.radians(14.4))], atol=1e-6)
    origin, directions = sensor.rays(None)
    np.testing.assert_allclose(origin, [0.1, 0.0, 0.2])
    np.testing.assert_allclose(directions[12], [0, 1, 0], atol=1e-9)


def test_what_is_measured_lies_within_the_limits_and_is_exact_as_float32() -> None:
    sensor = load_robot('rover').range_sensor
    values = np.linspace(0.06, 2.9, 25)
    values[:3] = [0.0, np.inf, 3.5]
    measured = sensor.measured(values)
    assert measured.dtype == np.float64
    np.testing.assert_array_equal(measured, measured.astype(np.float32))
    np.testing.assert_array_equal(measured[:3], [np.float32(0.05), 3.0, 3.0])
    np.testing.assert_allclose(measured[3:], values[3:], rtol=1e-7)


def test_the_fingerprint_tells_another_geometry(tmp_path: Path) -> None:
    prints = [load_robot('rover').range_sensor.fingerprint(),
              rover(tmp_path).range_sensor.fingerprint(),
              rover(tmp_path, mount='xyz="0 0 0.2"').range_sensor.fingerprint(),
              rover(tmp_path, ('rays: 25', 'rays: 24')).range_sensor.fingerprint(),
              rover(tmp_path, ('field_of_view_rad: 6.03', 'field_of_view_rad: 4.03')
                    ).range_sensor.fingerprint()]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@pytest.mark.parametrize(('change', 'message'), [
    (('link: laser ', 'link: lasr '), r"no link 'lasr' in rover.urdf \(did you mean 'laser'\?\)"),
    (('link: laser ', 'link: caster_fork '), "joint 'caster_swivel' moves 'caster_fork'"),
    (('rays: 25', 'rays: 1'), r'range_sensor.rays = 1'),
    (('min_m: 0.05', 'min_m: 3.0'), 'min_m = 3.0 is not below max_m = 3.0'),
    (('field_of_view_rad: 6.03', 'field_of_view_rad: 7.03'), 'field_of_view_rad = 7.03'),
    (('rays: 25', 'rays: 25\n  beams: 3'), "unknown key 'beams' at range_sensor")])
def test_wrong_sensors_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rover(tmp_path, change)
