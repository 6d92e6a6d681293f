# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulator must do with the objects of a task."""

from collections.abc import Callable

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.config import convert
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import load_robot
from rl_nodes.core.rotations import quaternion_from_rpy, rotation_from_quaternion
from rl_nodes.core.types import Start

MODEL = load_robot('arm')
NOWHERE = np.zeros(3)
CUBE = ObjectConfig('cube', 'box', (0.06, 0.06, 0.06), 0.2)
BALL = ObjectConfig('ball', 'sphere', (0.03,), 0.1)
PUCK = ObjectConfig('puck', 'cylinder', (0.04, 0.03), 0.15, 0.4)
WALL = ObjectConfig('wall', 'box', (0.02, 0.4, 0.2), 0.0)
Opener = Callable[..., SimulatedRobot]


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest, opened: Opener) -> Opener:
    return lambda *objects: opened(request.param, MODEL, *objects)


def at(x: float, y: float, z: float, rpy: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    return np.array([x, y, z, *quaternion_from_rpy(np.array(rpy, float))])


def start(*poses: np.ndarray) -> Start:
    return Start(MODEL.home, NOWHERE, objects=np.array(poses))


def steps(robot: SimulatedRobot, count: int) -> np.ndarray:
    """Let a robot hold for some periods; return the objects' poses after each."""
    rows = []
    for _ in range(count):
        robot.hold()
        robot.step()
        rows.append(robot.read().objects)
    return np.array(rows)


def test_a_reset_puts_objects_where_it_was_asked(opened: Opener) -> None:
    robot = opened(CUBE, WALL, BALL)
    poses = [at(0.3, 0.1, 0.5, (0.2, 0.3, 0.4)), at(0.6, 0, 0.1, (0, 0, 0.5)), at(-0.3, 0.1, 0.4)]
    robot.reset(start(*poses))
    np.testing.assert_allclose(robot.read().objects, poses, atol=1e-12)
    robot.reset(Start(MODEL.home, NOWHERE))
    assert (np.linalg.norm(robot.read().objects[:, :2], axis=1) > 50).all(), 'not aside'


def test_without_objects_nothing_is_measured(opened: Opener) -> None:
    assert opened().read().objects is None


@pytest.mark.parametrize(('entry', 'height'), [(CUBE, 0.03), (BALL, 0.03), (PUCK, 0.015)])
def test_it_falls_freely_and_rests_on_the_ground(opened: Opener, entry: ObjectConfig,
                                                 height: float) -> None:
    robot = opened(entry)
    robot.reset(start(at(0.4, 0.1, 0.5)))
    path = steps(robot, 100)[:, 0]
    assert 0.5 - path[9, 2] == pytest.approx(0.5 * 9.81 * 0.2 ** 2, rel=0.06)
    assert path[-1, 2] == pytest.approx(height, abs=0.002)
    assert np.abs(path[-1, :2] - [0.4, 0.1]).max() < 0.02
    assert np.abs(path[-1] - path[-20]).max() < 1e-4, 'it does not come to rest'


def test_an_obstacle_neither_falls_nor_gives_way(opened: Opener) -> None:
    robot = opened(WALL, CUBE)
    robot.reset(start(at(0.5, 0, 0.3), at(0.5, 0, 0.6)))
    path = steps(robot, 60)
    np.testing.assert_allclose(path[-1, 0], at(0.5, 0, 0.3), atol=1e-9)
    assert path[-1, 1, 2] < 0.45, 'the cube did not fall'


def test_the_arm_pushes_a_cube_in_the_direction_it_moves(opened: Opener) -> None:
    tool = MODEL.chain.tip_position(MODEL.home)
    robot = opened(ObjectConfig('pillar', 'box', (0.1, 0.06, 2 * tool[2]), 0.2))
    robot.reset(start(at(tool[0], tool[1] + 0.08, tool[2])))
    before = robot.read().objects[0]
    sweep = np.array([1.0, 0, 0, 0, 0, 0])  # the first joint turns the tool towards +y
    for _ in range(15):
        robot.write(robot.read().position + sweep * MODEL.limits('velocity') / 50)
        robot.step()
    moved = robot.read().objects[0, :3] - before[:3]
    assert moved[1] > 0.03


@pytest.mark.parametrize(('speed', 'friction'), [(1.0, 0.3), (1.0, 0.6)])
def test_a_tilted_start_slides_by_the_friction_given(opened: Opener, speed: float,
                                                     friction: float) -> None:
    """On a slope, here a tilted obstacle, a body slides where tan(angle) exceeds friction."""
    slope = ObjectConfig('slope', 'box', (2.0, 1.0, 0.1), 0.0, 1.0)
    for angle, slides in ((0.8 * friction, False), (1.5 * friction, True)):
        tilt = np.arctan(angle)
        robot = opened(ObjectConfig('cube', 'box', (0.1, 0.1, 0.04), 0.2, friction), slope)
        turned = at(0, 2.0, 1.0, (0, tilt, 0))
        up = rotation_from_quaternion(turned[3:])[:, 2]
        robot.reset(start(np.concatenate([turned[:3] + up * 0.0701, turned[3:]]), turned))
        path = steps(robot, 50)[:, 0]
        assert (np.linalg.norm(path[-1, :3] - path[5, :3]) > 0.05) == slides


def test_two_robots_and_every_reset_give_the_same_bits(opened: Opener) -> None:
    def episode(robot: SimulatedRobot, seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        tool = MODEL.chain.tip_position(MODEL.home)
        robot.reset(start(at(tool[0], tool[1] + 0.06, 0.2, rng.uniform(-1, 1, 3)),
                          at(*rng.uniform(0.2, 0.4, 2), 0.1), at(-0.4, 0, 0.1)))
        rows = []
        for _ in range(40):
            measured = robot.read()
            rows.append(measured.position.tobytes() + measured.objects.tobytes())
            robot.write(measured.position + rng.uniform(-1, 1, 6) * MODEL.limits('velocity') / 50)
            robot.step()
        return rows
    first, second = opened(CUBE, BALL, WALL), opened(CUBE, BALL, WALL)
    expected = [episode(first, seed) for seed in (0, 1, 2)]
    assert expected[0] != expected[1]
    assert [episode(second, seed) for seed in (2, 0, 1)] == [expected[2], *expected[:2]]
    first.recover()
    assert episode(first, 1) == expected[1]


def test_an_object_that_is_nowhere_is_named_and_cured(opened: Opener) -> None:
    robot = opened(CUBE, BALL)
    robot.reset(start(at(0.4, 0, 0.03), at(np.nan, 0, 0.03)))
    with pytest.raises(BackendError, match='object ball'):
        robot.read()
    robot.step()
    with pytest.raises(BackendError, match='exploded'):
        robot.read()
    robot.recover()
    robot.reset(start(at(0.4, 0, 0.03), at(-0.4, 0, 0.03)))
    assert np.isfinite(steps(robot, 5)).all()


def test_an_object_is_drawn_in_its_colour_and_drawing_changes_nothing(opened: Opener) -> None:
    robot = opened(ObjectConfig('cube', 'box', (0.1, 0.1, 0.1), 0.2, colour=(0.9, 0.1, 0.1, 1.0)))
    robot.reset(start(at(0.25, 0.15, 0.05)))
    picture = robot.render(160, 120).astype(int)
    red = (picture[..., 0] > 2 * picture[..., 1]) & (picture[..., 0] > 2 * picture[..., 2])
    assert red.sum() > 50
    drawn = steps(robot, 10)
    robot.reset(start(at(0.25, 0.15, 0.05)))
    assert steps(robot, 10).tobytes() == drawn.tobytes()


@pytest.mark.parametrize(('wrong', 'reason'), [
    ({'size': [0.1]}, 'size of a box has 1 numbers, expected length x'),
    ({'shape': 'cone'}, 'cone'), ({'mass_kg': -1}, 'mass_kg'), ({'weight': 1}, "'weight'"),
    ({'colour': [2, 0, 0, 1]}, 'colour')])
def test_a_wrong_description_is_refused(wrong: dict, reason: str) -> None:
    right = {'name': 'cube', 'shape': 'box', 'size': [0.1, 0.1, 0.1], 'mass_kg': 0.1}
    convert(right, ObjectConfig, 'here')
    with pytest.raises(ConfigError, match=reason):
        convert({**right, **wrong}, ObjectConfig, 'here')
