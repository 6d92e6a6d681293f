# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulated backend must do, with every shipped robot."""

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS, make_robot
from rl_nodes.backends.base import Measurement, SimulatedRobot
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.types import Start

ROBOTS = ('arm', 'cartpole', 'quadruped', 'rover', 'panda', 'iiwa', 'a1')
NOWHERE = np.zeros(3)
Opener = Callable[..., SimulatedRobot]

every_backend = pytest.mark.parametrize('backend', BACKENDS)
every_robot = pytest.mark.parametrize('name', ROBOTS)


def in_mode(tmp_path: Path, name: str, mode: str) -> RobotModel:
    """Return a shipped robot in another control mode."""
    text = (share_directory() / 'config' / 'robots' / f'{name}.yaml').read_text()
    present = load_robot(name).config.control_mode
    path = tmp_path / f'{name}_{mode}.yaml'
    path.write_text(text.replace(f'control_mode: {present}', f'control_mode: {mode}')
                    .replace(f'urdf: {name}', f'urdf: {share_directory()}/urdf/{name}'))
    return load_robot(str(path))


def flat(measured: Measurement) -> np.ndarray:
    """Return everything measured as one vector."""
    base = measured.base
    return np.concatenate([*measured[:3]] + ([] if base is None else [
        base.position, base.orientation, base.linear_velocity, base.angular_velocity]))


def drive(robot: SimulatedRobot, model: RobotModel, seed: int, steps: int) -> list[bytes]:
    """Return the bits of everything measured while random commands are given."""
    rng = np.random.default_rng(seed)
    robot.reset(Start(model.home + rng.uniform(-0.05, 0.05, len(model.home)), NOWHERE))
    rows = []
    for _ in range(steps):
        measured = robot.read()
        share = rng.uniform(-1, 1, len(model.commanded))
        robot.write(command_of(model, measured.position, share))
        robot.step()
        rows.append(flat(measured).tobytes())
    return rows


def command_of(model: RobotModel, position: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the command for a share of the speed or effort limit, as tasks do."""
    mode = model.config.control_mode
    if mode == 'effort':
        return share * model.limits('effort')
    speed = share * model.limits('velocity')
    if mode == 'velocity':
        return speed
    return np.clip(position[model.commanded] + speed / model.config.rate_hz,
                   model.limits('lower') + 0.02, model.limits('upper') - 0.02)


# --- units, signs, frames ---------------------------------------------------------------------

@every_backend
@every_robot
@pytest.mark.parametrize('mode', ['position', 'velocity', 'effort'])
def test_a_positive_command_moves_its_joint_the_positive_way(
        opened: Opener, tmp_path: Path, backend: str, name: str, mode: str) -> None:
    model = in_mode(tmp_path, name, mode)
    robot = opened(backend, model)
    for index, joint in enumerate(model.commanded):
        share = np.zeros(len(model.commanded))
        share[index] = 1.0
        moved = []
        for sign in (1.0, -1.0):
            robot.reset(Start(model.home, NOWHERE))
            for _ in range(3):
                robot.write(command_of(model, robot.read().position, sign * share))
                robot.step()
            moved.append(robot.read().position[joint] - model.home[joint])
        assert moved[0] > moved[1] + 1e-3, model.joint_names[joint]
        if mode != 'effort':  # there gravity moves the other joints too
            assert moved[0] > 0 > moved[1]


@every_backend
def test_velocity_commands_are_reached_in_si_units(opened: Opener, tmp_path: Path,
                                                   backend: str) -> None:
    model = in_mode(tmp_path, 'arm', 'velocity')
    robot = opened(backend, model)
    robot.reset(Start(model.home, NOWHERE))
    wanted = 0.25 * model.limits('velocity') * np.array([1, -1, 1, -1, 1, -1])
    seconds = 0.4
    for _ in range(round(seconds * model.config.rate_hz)):
        robot.write(wanted)
        robot.step()
    measured = robot.read()
    np.testing.assert_allclose(measured.velocity, wanted, atol=0.02)
    np.testing.assert_allclose(measured.position - model.home, wanted * seconds, atol=0.04)


@every_backend
def test_the_tool_is_where_forward_kinematics_says(opened: Opener, backend: str) -> None:
    model = load_robot('arm')
    robot = opened(backend, model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(model.limits('lower'), model.limits('upper'))
        position, rotation = link_pose(backend, robot, q)
        expected, frame = model.chain.tip(q)
        np.testing.assert_allclose(position, expected, atol=1e-6)
        np.testing.assert_allclose(rotation, frame, atol=1e-5)


@every_backend
@pytest.mark.parametrize('name', ['panda', 'iiwa'])
def test_the_links_of_other_peoples_arms_are_where_forward_kinematics_says(
        opened: Opener, backend: str, name: str) -> None:
    model = load_robot(name)
    robot = opened(backend, model)
    last = model.urdf.joints[model.joint_names[-1]].child
    chain = Chain(model.urdf, model.config.base_link, last, model.joint_names)
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.uniform(model.limits('lower'), model.limits('upper'))
        robot.reset(Start(q, NOWHERE))
        if backend == 'mujoco':
            import mujoco
            mujoco.mj_kinematics(robot._sim, robot._data)
            position = robot._data.body(last).xpos
        else:
            import pybullet
            position = pybullet.getLinkState(
                robot._body, robot._joints[-1], computeForwardKinematics=True,
                physicsClientId=robot._client)[4]
        np.testing.assert_allclose(position, chain.tip_position(q), atol=1e-6)


def link_pose(backend: str, robot: SimulatedRobot, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the simulator's own position and rotation matrix of the arm's tool."""
    robot.reset(Start(q, NOWHERE))
    if backend == 'mujoco':
        import mujoco
        mujoco.mj_kinematics(robot._sim, robot._data)
        tool = robot._data.body('tool')
        return tool.xpos, tool.xmat.reshape(3, 3)
    import pybullet  # merges links that do not move, so the tool is a point of the flange
    flange = pybullet.getLinkState(robot._body, robot._joints[-1], computeForwardKinematics=True,
                                   physicsClientId=robot._client)
    rotation = np.array(pybullet.getMatrixFromQuaternion(flange[5])).reshape(3, 3)
    offset = load_robot('arm').urdf.joints['tool_frame'].offset
    return np.array(flange[4]) + rotation @ offset, rotation


# --- limits -----------------------------------------------------------------------------------

@every_backend
@pytest.mark.parametrize('start', [
    (0.0, -0.3, 1.5, 0.4, 0.0, 0.0), (0.0, 0.8, 0.2, 0.1, 0.0, 0.0),
    (0.0, -1.2, 2.4, 1.0, 0.0, 0.0)], ids=['home', 'stretched', 'folded'])
def test_full_step_position_actions_keep_speed_and_effort_limits(
        opened: Opener, backend: str, start: tuple[float, ...]) -> None:
    model = load_robot('arm')
    robot = opened(backend, model)
    robot.reset(Start(np.array(start), NOWHERE))
    for k in range(100):
        share = np.sign(np.sin(2 * np.pi * k / 20 + np.arange(6)) + 1e-9)
        robot.write(command_of(model, robot.read().position, share))
        robot.step()
        measured = robot.read()
        assert (np.abs(measured.velocity) <= 1.1 * model.limits('velocity')).all()
        assert (np.abs(measured.effort) <= model.limits('effort') * (1 + 1e-9)).all()


@every_backend
def test_a_far_target_is_reached_and_stays_reached(opened: Opener, backend: str) -> None:
    """No sag under gravity: the target is met to a hundredth of a degree."""
    model = load_robot('arm')
    robot = opened(backend, model)
    robot.reset(Start(model.home, NOWHERE))
    target = model.home + np.array([0.5, 0.6, -0.5, 0.4, -0.4, 0.5])
    for _ in range(100):
        robot.write(target)
        robot.step()
        assert (np.abs(robot.read().effort) <= model.limits('effort') * (1 + 1e-9)).all()
    np.testing.assert_allclose(robot.read().position, target, atol=2e-4)


@every_backend
def test_effort_commands_are_cut_to_the_limit(opened: Opener, backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model)
    positions = []
    for wanted in (1.0, 50.0):
        robot.reset(Start(model.home, NOWHERE))
        sent = robot.write(wanted * model.limits('effort'))
        np.testing.assert_array_equal(sent, model.limits('effort'))
        robot.step()
        assert robot.read().effort[0] == pytest.approx(model.limits('effort')[0])
        positions.append(robot.read().position.tobytes())
    assert positions[0] == positions[1]


@every_backend
def test_joint_limits_hold(opened: Opener, backend: str) -> None:
    """A motor at its effort limit does not push its joint out of the range."""
    model = load_robot('cartpole')
    robot = opened(backend, model)
    robot.reset(Start(model.home, NOWHERE))
    for _ in range(150):
        robot.write(model.limits('effort'))
        robot.step()
    assert robot.read().position[0] == pytest.approx(model.limits('upper')[0], abs=0.05)


@every_backend
@pytest.mark.parametrize('mode', ['position', 'velocity'])
def test_holding_keeps_the_pose_under_gravity(opened: Opener, tmp_path: Path, backend: str,
                                              mode: str) -> None:
    model = in_mode(tmp_path, 'arm', mode)
    robot = opened(backend, model)
    start = model.home + np.array([0.0, 0.9, -0.6, 0.2, 0.0, 0.0])  # stretched: heavy
    robot.reset(Start(start, NOWHERE))
    for _ in range(100):
        robot.hold()
        robot.step()
    # Over 2 s. Who holds a speed of zero, or where he is now, creeps a little under the weight.
    creep = {'position': 0.01, 'velocity': 0.02}[mode]
    np.testing.assert_allclose(robot.read().position, start, atol=creep)


# --- reset and determinism --------------------------------------------------------------------

@every_backend
@every_robot
def test_a_reset_gives_exactly_what_was_asked(opened: Opener, backend: str, name: str) -> None:
    model = load_robot(name)
    robot = opened(backend, model)
    drive(robot, model, 1, 40)
    position = model.home + 0.1
    robot.reset(Start(position, NOWHERE))
    measured = robot.read()
    np.testing.assert_array_equal(measured.position, position)
    np.testing.assert_array_equal(measured.velocity, 0.0)


@every_backend
@every_robot
def test_the_same_bits_in_a_fresh_and_in_a_used_robot(opened: Opener, backend: str,
                                                      name: str) -> None:
    model = load_robot(name)
    first, second = opened(backend, model), opened(backend, model)
    expected = drive(first, model, 3, 150)
    assert drive(second, model, 3, 150) == expected
    drive(first, model, 4, 70)
    assert drive(first, model, 3, 150) == expected


@every_backend
def test_a_measurement_does_not_change_afterwards(opened: Opener, backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model)
    robot.reset(Start(model.home, NOWHERE))
    robot.write(np.array([5.0]))
    before = robot.read()
    copies = [values.copy() for values in before[:3]]
    robot.step()
    for values, copy in zip(before[:3], copies, strict=True):
        np.testing.assert_array_equal(values, copy)


# --- faults -----------------------------------------------------------------------------------

@every_backend
@every_robot
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 'short', 'long', 'matrix'])
def test_an_unusable_command_is_refused_and_does_no_harm(opened: Opener, backend: str, name: str,
                                                         bad: float | str) -> None:
    model = load_robot(name)
    robot = opened(backend, model)
    count = len(model.commanded)
    shapes = {'short': (count - 1,), 'long': (count + 1,), 'matrix': (count, 1)}
    if isinstance(bad, str):
        command = np.zeros(shapes[bad])
    else:
        command = np.zeros(count)
        command[-1] = bad
    expected = drive(robot, model, 5, 10)
    robot.reset(Start(model.home, NOWHERE))
    before = robot.read()
    with pytest.raises(BackendError, match=f'{count} finite values'):
        robot.write(command)
    np.testing.assert_array_equal(flat(robot.read()), flat(before))
    robot.step()
    assert np.isfinite(flat(robot.read())).all()
    assert drive(robot, model, 5, 10) == expected


@every_backend
@every_robot
def test_an_exploded_simulation_is_noticed_and_cured(opened: Opener, backend: str,
                                                     name: str) -> None:
    model = load_robot(name)
    robot = opened(backend, model)
    expected = drive(robot, model, 6, 30)
    robot.reset(Start(np.full(len(model.home), np.nan), NOWHERE))
    robot.step()
    with pytest.raises(BackendError, match='exploded'):
        robot.read()
    robot.recover()
    assert drive(robot, model, 6, 30) == expected


@every_backend
@every_robot
def test_closing_twice_is_closing(opened: Opener, backend: str, name: str) -> None:
    robot = opened(backend, load_robot(name))
    robot.close()
    robot.close()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pybullet'"):
        make_robot('pybulet', load_robot('arm'))


@every_backend
def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch,
                                                  backend: str) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    monkeypatch.delitem(sys.modules, f'rl_nodes.backends.{backend}_robot', raising=False)
    monkeypatch.setattr('rl_nodes.backends.installed_backends',
                        lambda: tuple(name for name in BACKENDS if name != backend))
    with pytest.raises(ConfigError, match=rf'pip install "rl_nodes\[{backend}\]".*use backend:='):
        make_robot(backend, load_robot('arm'))


# --- pictures ---------------------------------------------------------------------------------

@every_backend
@every_robot
def test_a_picture_shows_robot_and_goal_and_leaves_the_physics_alone(opened: Opener, backend: str,
                                                                     name: str) -> None:
    model = load_robot(name)
    watched, unwatched = opened(backend, model), opened(backend, model)
    pictures = []
    for goal in (np.array([0.25, 0.0, 0.3]), np.array([0.1, 0.2, 0.2])):
        watched.reset(Start(model.home, goal))
        unwatched.reset(Start(model.home, goal))
        for k in range(5):
            for robot in (watched, unwatched):
                robot.write(command_of(model, robot.read().position,
                                       np.full(len(model.commanded), 0.5)))
                robot.step()
            if k == 0:
                pictures.append(watched.render(160, 120))
        np.testing.assert_array_equal(flat(watched.read()),
                                      flat(unwatched.read()))
    assert pictures[0].shape == (120, 160, 3)
    assert pictures[0].dtype == np.uint8
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 10, 'many colours'
    assert (model.chain is not None) == bool((pictures[0] != pictures[1]).any())
    assert watched.render(64, 48).shape == (48, 64, 3)


def test_without_a_drawing_library_physics_goes_on() -> None:
    pytest.importorskip('mujoco')
    code = ('import os; os.environ["MUJOCO_GL"] = "disable"\n'
            'import numpy as np\n'
            'from rl_nodes.backends import make_robot\n'
            'from rl_nodes.core.errors import BackendError\n'
            'from rl_nodes.core.robot import load_robot\n'
            'from rl_nodes.core.types import Start\n'
            'robot = make_robot("mujoco", load_robot("arm"))\n'
            'robot.reset(Start(np.zeros(6), np.zeros(3)))\n'
            'robot.step()\n'
            'try:\n'
            '    robot.render(64, 48)\n'
            'except BackendError as error:\n'
            '    raise SystemExit(0 if "apt install libegl1" in str(error) else 3)\n'
            'raise SystemExit(4)\n')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
