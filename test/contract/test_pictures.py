# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a view shows, against geometry: where things are, and how far away; and windows."""

from collections.abc import Iterator
import math
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest
from rl_nodes.backends import BACKENDS, make_robot, make_view
from rl_nodes.backends.pybullet_view import PybulletView
from rl_nodes.core.cameras import CameraMount, CameraSensorConfig
from rl_nodes.core.errors import BackendError
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.types import BaseState, RobotState, Start
import rl_nodes.envs  # noqa: F401 - registers the environments

RED, BLUE = (1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)
UPRIGHT = (0.0, 0.0, 0.0, 1.0)


def state_of(model: RobotModel, *objects: tuple[float, ...],
             base: BaseState | None = None) -> RobotState:
    poses = np.array([(*place, *UPRIGHT) for place in objects]) if objects else None
    return RobotState(0, '1@0', model.home, model.home * 0, np.empty(0), base or model.home_base,
                      poses)


def look(view: PybulletView, camera: CameraSensorConfig, model: RobotModel,
         state: RobotState) -> tuple[np.ndarray, np.ndarray]:
    view.show(state, np.zeros(3))
    mount = CameraMount(camera, model.urdf, model.joint_names)
    return view.look(camera, *mount.pose(state))


def test_distances_to_a_tilted_ground_are_exact_and_beyond_far_infinite() -> None:
    model = load_robot('arm')
    camera = CameraSensorConfig('eye', 'base_link', xyz=(-1.0, 0.0, 0.5), rpy=(0.0, 0.4, 2.5),
                                width=160, height=120, far_m=3.0)  # away from the arm
    state = state_of(model)
    view = make_view(model)
    _, distances = look(view, camera, model, state)
    position, rotation = CameraMount(camera, model.urdf, model.joint_names).pose(state)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([u, v, np.ones_like(u)], -1).astype(float)
    rays = pixels @ np.linalg.inv(camera.intrinsics()).T @ rotation.T
    with np.errstate(divide='ignore'):
        expected = np.where(rays[..., 2] < 0, -position[2] / rays[..., 2], np.inf)
    assert distances.dtype == np.float32
    near = expected < 2.99
    assert 0.5 < near.mean() < 0.9
    assert abs(distances[near] - expected[near]).max() < 1e-3
    assert np.isinf(distances[expected > 3.01]).all()
    view.close()


def test_things_are_where_the_camera_matrix_says_with_their_colours_and_distances() -> None:
    model = load_robot('arm')
    balls = tuple(ObjectConfig(name, 'sphere', (0.01,), 0.1, colour=colour)
                  for name, colour in (('red', RED), ('blue', BLUE)))
    camera = CameraSensorConfig('eye', 'base_link', xyz=(-2.0, 0.0, 1.0), rpy=(0.1, 0.2, 3.0),
                                width=320, height=240)
    position, rotation = CameraMount(camera, model.urdf, model.joint_names).pose(state_of(model))
    # In the optical frame: red above and to the left, blue below and to the right.
    seen = np.array([[-0.15, -0.1, 0.5], [0.2, 0.12, 0.7]])
    state = state_of(model, *(tuple(position + rotation @ point) for point in seen))
    view = make_view(model, balls)
    picture, distances = look(view, camera, model, state)
    for channel, point in ((0, seen[0]), (2, seen[1])):
        others = [c for c in range(3) if c != channel]
        rows, columns = np.nonzero((picture[..., channel] > 60)
                                   & (picture[..., others].max(-1) < 20))
        pixel = (camera.intrinsics() @ point / point[2])[:2]
        assert (columns.mean(), rows.mean()) == pytest.approx(pixel, abs=0.4)
        at = distances[round(pixel[1]), round(pixel[0])]
        assert at == pytest.approx(point[2] - 0.01, abs=2e-3)
    view.close()


def test_a_view_follows_robot_base_and_objects() -> None:
    model = load_robot('quadruped')
    box = ObjectConfig('box', 'box', (0.2, 0.2, 0.2), 1.0)
    camera = CameraSensorConfig('eye', 'base_link', xyz=(0.6, 0.0, 0.0), width=64, height=48)
    view = make_view(model, (box,))
    for x, turned in ((2.0, 0.0), (1.5, math.pi / 2)):
        c, s = math.cos(turned), math.sin(turned)
        base = BaseState.at_rest(np.array([5.0, 1.0, 0.4]),
                                 np.array([0.0, 0.0, math.sin(turned / 2), math.cos(turned / 2)]))
        state = state_of(model, (5.0 + x * c, 1.0 + x * s, 0.4), base=base)
        _, distances = look(view, camera, model, state)
        assert distances[24, 32] == pytest.approx(x - 0.6 - 0.1, abs=1e-3)
    view.close()


def test_looking_disturbs_no_simulation() -> None:
    """A view and a simulated robot are worlds of their own, in one process too."""
    model = load_robot('arm')
    camera = CameraSensorConfig('eye', 'tool', width=32, height=32)
    watched, alone = (make_robot('pybullet', model) for _ in range(2))
    view = make_view(model)
    for robot in (watched, alone):
        robot.reset(Start(model.home, np.zeros(3)))
    for k in range(20):
        for robot in (watched, alone):
            robot.write(model.home[model.commanded] + 0.01 * k)
            robot.step()
        measured = watched.read()
        look(view, camera, model, RobotState(0, '1@0', *measured))
        assert measured.position.tobytes() == alone.read().position.tobytes()
    for robot in (watched, alone, view):
        robot.close()


@pytest.mark.parametrize('display', [None, ':4711'])
def test_without_a_display_a_window_says_what_is_missing(
        monkeypatch: pytest.MonkeyPatch, display: str | None) -> None:
    """PyBullet would end the process; here it is an error that can be caught."""
    monkeypatch.delenv('DISPLAY', raising=False)
    if display is not None:
        monkeypatch.setenv('DISPLAY', display)
    with pytest.raises(BackendError, match=r'no window can be opened: .* X server.*DISPLAY'):
        gymnasium.make('rl_nodes/Reach-v0', render_mode='human')


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, subprocess.Popen]]:
    """Run a display without a screen; return the file of its pixels and its process."""
    if shutil.which('Xvfb') is None:
        pytest.skip('Xvfb is not installed: a window needs a display (apt install xvfb)')
    with tempfile.TemporaryDirectory() as folder:
        reader, writer = os.pipe()
        server = subprocess.Popen(
            ['Xvfb', '-displayfd', str(writer), '-screen', '0', '1024x768x24', '-fbdir', folder],
            pass_fds=[writer], stderr=subprocess.DEVNULL)
        os.close(writer)
        try:
            with os.fdopen(reader) as told:
                monkeypatch.setenv('DISPLAY', f':{told.readline().strip()}')
            yield Path(folder) / 'Xvfb_screen0', server
        finally:
            server.terminate()
            server.wait(10)


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_window_follows_the_episode_and_changes_nothing(
        screen: tuple[Path, subprocess.Popen], backend: str) -> None:
    pixels, _ = screen
    rows, shown = [], set()
    for mode in (None, 'human'):
        env = gymnasium.make('rl_nodes/QuadrupedStand-v0', backend=backend, render_mode=mode)
        observations = [env.reset(seed=3)[0]]
        for k in range(9):
            observations.append(env.step(np.full(12, 0.5, np.float32))[0])
            if mode == 'human' and k % 4 == 0:
                assert env.render() is None
                shown.add(pixels.read_bytes())
        rows.append(np.array(observations).tobytes())
        env.close()
        env.close()
    assert rows[0] == rows[1]
    assert len(shown) == 3


def test_a_window_that_goes_away_is_an_error_and_not_the_end(
        screen: tuple[Path, subprocess.Popen]) -> None:
    """Closed by its user or lost with its display: the process that steps goes on."""
    env = gymnasium.make('rl_nodes/Reach-v0', render_mode='human')
    env.reset(seed=0)
    screen[1].kill()
    with pytest.raises(BackendError, match='the window was closed'):
        env.step(np.zeros(6, np.float32))
    env.close()


@pytest.mark.usefixtures('screen')
@pytest.mark.filterwarnings('ignore:.*A Box observation space:UserWarning')
def test_gymnasium_check_with_a_display() -> None:
    env = gymnasium.make('rl_nodes/Reach-v0')
    assert env.unwrapped.metadata['render_modes'] == ['human', 'rgb_array']
    check_env(env.unwrapped)
    env.close()
