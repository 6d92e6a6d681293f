# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Cameras on a robot: their record, where they are, when they look, when they have stalled."""

import math
from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.cameras import (
    CAMERA_INFO,
    CameraMount,
    CameraSensorConfig,
    CameraWatch,
    COMPRESSED_IMAGE,
    IMAGE,
    Shutter,
)
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.robot import load_robot
from rl_nodes.core.rotations import quaternion_from_rpy
from rl_nodes.core.timing import NS
from rl_nodes.core.types import BaseState, RobotState

MS = 1_000_000


def arm_with(tmp_path: Path, *cameras: str) -> Path:
    """Return a copy of the arm's YAML file with other cameras."""
    head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
    tail = rest[rest.index('hardware:'):].replace('urdf: arm.urdf', '')
    path = tmp_path / 'arm.yaml'
    path.write_text(head + 'cameras:\n' + ''.join(f'  - {camera}\n' for camera in cameras) + tail)
    return path


@pytest.mark.parametrize(('camera', 'message'), [
    ('{name: a, link: tol}', "no link 'tol' in arm.urdf (did you mean 'tool'?)"),
    ('{name: Front, link: tool}', "cameras[0].name = 'Front'"),
    ('{name: a, link: tool, near_m: 2, far_m: 1}', 'near_m = 2.0 must be below far_m = 1.0'),
    ('{name: a, link: tool, horizontal_fov_rad: 3.2}', 'horizontal_fov_rad = 3.2'),
    ('{name: a, link: tool, width: 0}', 'width = 0'),
    ('{name: a, link: tool, fov: 1}', "unknown key 'fov'"),
    ('{name: a, link: tool, topic: usb cam}', "cameras[0].topic = 'usb cam'"),
    ('{name: a, link: tool, topic: /usb_cam/}', "cameras[0].topic = '/usb_cam/'"),
    ('{name: a, link: tool, depth_topic: /d}', 'depth_topic = /d without depth: true'),
])
def test_a_wrong_camera_is_named(tmp_path: Path, camera: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_robot(str(arm_with(tmp_path, camera)))
    assert message in str(caught.value)


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='a camera is listed twice: a, a'):
        load_robot(str(arm_with(tmp_path, '{name: a, link: tool}', '{name: a, link: base_link}')))


def test_topics_of_a_camera() -> None:
    assert list(CameraSensorConfig('eye', 'tool').topics()) == [
        'camera/eye/image_raw', 'camera/eye/camera_info']
    assert 'camera/eye/depth/image_raw' in CameraSensorConfig('eye', 'tool', depth=True).topics()


@pytest.mark.parametrize(('topic', 'heard', 'recorded', 'info'), [
    ('', 'camera/eye/image_raw', 'camera/eye/image_raw', 'camera/eye/camera_info'),
    ('/usb_cam/image_raw', '/usb_cam/image_raw', 'camera/eye/image_raw', '/usb_cam/camera_info'),
    ('/usb_cam/image_raw/compressed', '/usb_cam/image_raw/compressed',
     'camera/eye/image_raw/compressed', '/usb_cam/camera_info'),
    ('pictures', 'pictures', 'camera/eye/image_raw', 'camera_info')])
def test_where_a_driver_is_heard_and_what_it_is_called_then(
        topic: str, heard: str, recorded: str, info: str) -> None:
    kind = COMPRESSED_IMAGE if topic.endswith('/compressed') else IMAGE
    assert CameraSensorConfig('eye', 'tool', topic=topic).sources(driver=True) == (
        (heard, kind, recorded), (info, CAMERA_INFO, 'camera/eye/camera_info'))


def test_a_driver_of_distances() -> None:
    depth = '/camera/aligned_depth_to_color/image_raw'
    camera = CameraSensorConfig('eye', 'tool', topic='/camera/color/image_raw', depth=True,
                                depth_topic=depth)
    assert camera.sources(driver=True)[1] == (depth, IMAGE, 'camera/eye/depth/image_raw')
    drawn = camera.sources(driver=False)
    assert [source.topic for source in drawn] == list(camera.topics())
    assert all(source.topic == source.recorded for source in drawn)


def test_what_drives_a_camera_changes_no_contract(tmp_path: Path) -> None:
    wrist = '{name: wrist, link: tool, rate_hz: 10%s}'
    one, other = (load_robot(str(arm_with(tmp_path, wrist % end))) for end in (
        '', ', topic: /usb_cam/image_raw'))
    prints = [CameraMount(robot.config.cameras[0], robot.urdf, robot.joint_names).fingerprint()
              for robot in (one, other)]
    assert prints[0] == prints[1]


def test_the_edges_of_the_picture_are_half_the_angle_of_view_away() -> None:
    camera = CameraSensorConfig('eye', 'tool', width=640, height=480, horizontal_fov_rad=1.2)
    matrix = camera.intrinsics()
    for side, pixel in ((-1, -0.5), (1, 639.5)):  # the outer edges of the outermost pixels
        ray = np.array([side * math.tan(0.6), 0.0, 1.0])
        assert (matrix @ ray)[:2] == pytest.approx([pixel, 239.5])


def state_of(position: np.ndarray, base: BaseState | None = None) -> RobotState:
    return RobotState(0, '1@0', position, position * 0, np.empty(0), base)


def test_a_camera_looks_along_x_of_its_link_and_its_picture_is_upright() -> None:
    model = load_robot('arm')
    camera = CameraSensorConfig('eye', 'base_link', xyz=(0.1, 0.2, 0.3))
    position, rotation = CameraMount(camera, model.urdf, model.joint_names).pose(
        state_of(model.home))
    assert position == pytest.approx([0.1, 0.2, 0.3])
    assert rotation == pytest.approx(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]))


def test_a_camera_moves_with_its_link() -> None:
    model = load_robot('arm')
    mount = CameraMount(CameraSensorConfig('eye', 'tool'), model.urdf, model.joint_names)
    q = model.home + 0.3
    position, rotation = mount.pose(state_of(q))
    tip, turned = model.chain.tip(q)
    assert position == pytest.approx(tip)
    assert rotation[:, 2] == pytest.approx(turned[:, 0])


def test_a_camera_moves_with_a_floating_base() -> None:
    model = load_robot('quadruped')
    mount = CameraMount(CameraSensorConfig('eye', model.config.base_link, xyz=(0.2, 0.0, 0.0)),
                        model.urdf, model.joint_names)
    base = BaseState.at_rest(np.array([1.0, 2.0, 0.5]),
                             quaternion_from_rpy(np.array([0.0, 0.0, math.pi / 2])))
    position, rotation = mount.pose(state_of(model.home, base))
    assert position == pytest.approx([1.0, 2.2, 0.5])
    assert rotation[:, 2] == pytest.approx([0.0, 1.0, 0.0])


# --- When a camera looks ----------------------------------------------------------------------

def shots(shutter: Shutter, stamps: list[int]) -> list[int]:
    return [stamp for stamp in stamps if shutter.due(stamp)]


@pytest.mark.parametrize('rate_hz', [1, 10, 15, 25, 30, 50])
def test_a_camera_keeps_its_rate_whatever_that_of_the_states(rate_hz: float) -> None:
    stamps = [5 * NS + 20 * MS * k for k in range(500)]
    taken = shots(Shutter(rate_hz, 10 * MS), stamps)
    assert len(taken) == 10 * rate_hz
    # No picture is farther from the camera's own grid than half a state period.
    grid = [5 * NS + round(k * NS / rate_hz) for k in range(len(taken))]
    assert max(abs(a - b) for a, b in zip(taken, grid, strict=True)) <= 10 * MS


def test_uneven_stamps_give_even_pictures() -> None:
    rng = np.random.default_rng(0)
    stamps = [20 * MS * k + int(rng.integers(-MS, MS)) for k in range(1, 500)]
    gaps = np.diff(shots(Shutter(10, 10 * MS), stamps))
    assert abs(gaps - 100 * MS).max() < 3 * MS


def test_a_camera_faster_than_the_states_shows_each_once() -> None:
    shutter = Shutter(200, 10 * MS)
    stamps = [20 * MS * k for k in range(100)]
    assert shots(shutter, stamps) == stamps
    assert shutter.missed == 3 * 99


def test_periods_that_went_by_are_missed_and_not_made_up_for() -> None:
    shutter = Shutter(10)
    assert shutter.due(0)
    assert shutter.due(450 * MS)
    assert shutter.missed == 3
    assert shots(shutter, [460 * MS, 490 * MS, 500 * MS, 510 * MS]) == [500 * MS]


def test_a_clock_set_back_starts_the_grid_anew() -> None:
    shutter = Shutter(10)
    assert shutter.due(100 * NS)
    assert shots(shutter, [5 * NS, 5 * NS + 50 * MS, 5 * NS + 100 * MS]) == [
        5 * NS, 5 * NS + 100 * MS]


# --- When a camera has stalled ----------------------------------------------------------------

FAST, SLOW = (CameraSensorConfig('fast', 'tool', rate_hz=20),
              CameraSensorConfig('slow', 'tool', rate_hz=2))


def run(watch: CameraWatch, begin: int, seconds: float, pictures: tuple[str, ...] = ()) -> int:
    """Let states come for some time, and pictures with each of them; return the time."""
    for k in range(round(seconds * 50)):
        watch.state(begin + k * 20 * MS)
        for name in pictures:
            watch.picture(name)
    return begin + round(seconds * NS)


def test_a_silent_camera_stalls_after_five_of_its_periods_and_not_before_half_a_second() -> None:
    watch = CameraWatch([FAST, SLOW])
    now = run(watch, 0, 1.0, ('fast', 'slow'))
    now = run(watch, now, 0.48)
    assert watch.stalled() == ()
    now = run(watch, now, 0.08)
    assert watch.stalled() == ('fast',)
    assert watch.describe('fast') == 'camera fast has stalled: no picture for 0.6 s'
    now = run(watch, now, 1.9)
    assert watch.stalled() == ('fast',)
    run(watch, now, 0.2)
    assert watch.stalled() == ('fast', 'slow')
    watch.picture('fast')
    assert watch.stalled() == ('slow',)


def test_a_camera_that_never_came_stalls_too() -> None:
    watch = CameraWatch([FAST])
    run(watch, 0, 0.6)
    assert watch.stalled() == ('fast',)
    assert 'has sent no picture yet' in watch.describe('fast')


def test_while_the_robot_is_silent_its_cameras_may_be_silent() -> None:
    watch = CameraWatch([FAST])
    now = run(watch, 0, 1.0, ('fast',))
    run(watch, now + 60 * NS, 0.3)
    assert watch.stalled() == ()
