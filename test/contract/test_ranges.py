# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulator's range sensor must measure."""

from collections.abc import Callable
import math
from pathlib import Path

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.types import BaseState, Start

NOWHERE = np.zeros(3)
MODEL = load_robot('rover')
MAX_M = float(np.float32(MODEL.config.range_sensor.max_m))
WALL = ObjectConfig('wall', 'box', (0.1, 40.0, 1.0), 0.0)
POST = ObjectConfig('post', 'cylinder', (0.15, 0.6), 0.0)
BALL = ObjectConfig('ball', 'sphere', (0.2,), 0.0)
CRATE = ObjectConfig('crate', 'box', (0.3, 0.4, 0.6), 1.0)
Opener = Callable[..., SimulatedRobot]


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    """Return a function that makes robots of one backend; they are closed at the end."""
    return lambda *objects, model=MODEL: opened(request.param, model, *objects)


def variant(tmp_path: Path, *changes: tuple[str, str]) -> RobotModel:
    """Return the rover with text of its YAML file replaced."""
    text = (share_directory() / 'config' / 'robots' / 'rover.yaml').read_text()
    for old, new in (('urdf: ', f'urdf: {share_directory()}/urdf/'), *changes):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / 'rover.yaml'
    path.write_text(text)
    return load_robot(str(path))


def standing(x: float = 0.0, y: float = 0.0, yaw: float = 0.0, pitch: float = 0.0) -> BaseState:
    return BaseState.at_rest(np.array([x, y, MODEL.config.home_height_m]),
                             quaternion_from_rpy(np.array([0.0, pitch, yaw])))


def pose(x: float, y: float, z: float = 0.3, yaw: float = 0.0) -> np.ndarray:
    return np.array([[x, y, z, *quaternion_from_rpy(np.array([0.0, 0.0, yaw]))]])


def scan(robot: SimulatedRobot, base: BaseState, objects: np.ndarray | None = None) -> np.ndarray:
    robot.reset(Start(MODEL.home, NOWHERE, base, objects))
    return robot.read().ranges


def cut(distance: np.ndarray) -> np.ndarray:
    """Return distances with those out of reach, or negative, at the greatest measured."""
    return np.where((distance > 0) & (distance < MAX_M), distance, MAX_M)


def test_nothing_hit_is_the_greatest_distance_and_the_robot_is_never_seen(opened: Opener) -> None:
    robot = opened()
    ranges = scan(robot, standing())
    assert ranges.dtype == np.float64
    np.testing.assert_array_equal(ranges, np.full(len(MODEL.range_sensor.angles), MAX_M))
    for _ in range(20):  # nor while it moves
        robot.write(np.array([3.0, 9.0]))
        robot.step()
        np.testing.assert_array_equal(robot.read().ranges, ranges)


def test_rays_pass_through_the_robot_itself(opened: Opener, tmp_path: Path) -> None:
    """From the axle's height every ray starts in the robot and meets wheels or chassis."""
    text = (share_directory() / 'urdf' / 'rover.urdf').read_text()
    (tmp_path / 'low.urdf').write_text(text.replace('<origin xyz="0 0 0.1"/>\n  </joint>',
                                                    '<origin xyz="-0.3 0 0"/>\n  </joint>'))
    model = variant(tmp_path, (f'{share_directory()}/urdf/rover.urdf', 'low.urdf'))
    ranges = scan(opened(model=model), standing())
    np.testing.assert_array_equal(ranges, MAX_M)


@pytest.mark.parametrize('yaw', [0.0, 0.4, -2.5])
def test_distances_to_a_wall(opened: Opener, yaw: float) -> None:
    """The wall's face is 1.45 m ahead: d = 1.45 / cos(angle)."""
    ranges = scan(opened(WALL), standing(0.5, -3.0, yaw), pose(2.0, 0.0, 0.5))
    expected = cut(1.45 / np.cos(MODEL.range_sensor.angles + yaw))
    np.testing.assert_allclose(ranges, expected, atol=2e-4)
    assert (ranges < MAX_M).sum() >= 8


@pytest.mark.parametrize('shape', [POST, BALL])
def test_distances_to_a_post_and_to_a_ball(opened: Opener, shape: ObjectConfig) -> None:
    """A circle of radius r at distance c: d = c cos(a) - sqrt(r² - c² sin²(a))."""
    height = MODEL.config.home_height_m + 0.1  # of the rays
    ranges = scan(opened(shape), standing(yaw=-0.3), pose(0.5, 0.0, height))
    angle, radius = MODEL.range_sensor.angles - 0.3, shape.size[0]
    inside = radius ** 2 - (0.5 * np.sin(angle)) ** 2
    expected = np.where(inside > 0, 0.5 * np.cos(angle) - np.sqrt(np.maximum(inside, 0)), MAX_M)
    # PyBullet's search for where a ray enters a round body ends within 2 mm of it.
    np.testing.assert_allclose(ranges, cut(expected), atol=2e-3)
    assert (ranges < MAX_M).sum() >= 2


def test_left_is_left_and_the_order_is_from_right_to_left(opened: Opener) -> None:
    robot = opened(POST)
    angles = MODEL.range_sensor.angles
    assert (np.diff(angles) > 0).all()
    for bearing in (-2.0, -0.7, 0.0, 1.3, 3.0):
        at = 0.8 * np.array([math.cos(bearing), math.sin(bearing)])
        ranges = scan(robot, standing(), pose(*at))
        assert abs(angles[int(np.argmin(ranges))] - bearing) < 0.13


def test_a_tilted_robot_sees_the_ground(opened: Opener) -> None:
    """Nose down by 0.2 rad the ray ahead meets the ground at (height of the sensor) / sin."""
    ranges = scan(opened(), standing(pitch=0.2))
    ahead = len(ranges) // 2
    height = MODEL.config.home_height_m + 0.1 * math.cos(0.2)
    assert ranges[ahead] == pytest.approx(height / math.sin(0.2), abs=2e-4)
    assert ranges[0] == MAX_M


def test_what_is_nearer_than_the_least_distance_is_at_it(opened: Opener, tmp_path: Path) -> None:
    model = variant(tmp_path, ('min_m: 0.05', 'min_m: 0.7'))
    ranges = scan(opened(POST, model=model), standing(), pose(0.5, 0.0))
    assert ranges.min() == float(np.float32(0.7))


def test_every_value_is_exact_as_float32_and_the_same_bits_again(opened: Opener) -> None:
    rows = []
    for robot in (opened(POST, CRATE), opened(POST, CRATE)):
        for _ in range(2):
            objects = np.concatenate([pose(1.0, 0.2), pose(0.5, -0.6)])
            rows.append([scan(robot, standing(0.01, 0.02, 0.1), objects)])
            for _ in range(30):
                robot.write(np.array([4.0, 5.0]))
                robot.step()
                robot.read()
                rows[-1].append(robot.read().ranges)  # reading twice changes nothing
    for ranges in rows[0]:
        np.testing.assert_array_equal(ranges, ranges.astype(np.float32))
    assert len({np.array(row).tobytes() for row in rows}) == 1


def test_reading_does_not_touch_the_physics(opened: Opener) -> None:
    tracks = []
    for reads in (1, 3):
        robot = opened(CRATE)
        robot.reset(Start(MODEL.home, NOWHERE, standing(), pose(0.6, 0.0, 0.3)))
        track = []
        for _ in range(25):
            robot.write(np.array([8.0, 8.0]))
            robot.step()
            for _ in range(reads):
                measured = robot.read()
            track += [measured.base.position, measured.objects.ravel(), measured.velocity]
        tracks.append(np.concatenate(track).tobytes())
    assert tracks[0] == tracks[1]


def test_what_is_pushed_is_seen_where_it_is(opened: Opener) -> None:
    robot = opened(CRATE)
    robot.reset(Start(MODEL.home, NOWHERE, standing(), pose(0.4, 0.0, 0.3)))
    for _ in range(30):
        robot.write(np.array([8.0, 8.0]))
        robot.step()
    measured = robot.read()
    gap = measured.objects[0, 0] - 0.15 - measured.base.position[0]
    assert measured.objects[0, 0] > 0.45
    assert measured.ranges[len(measured.ranges) // 2] == pytest.approx(gap, abs=0.005)
