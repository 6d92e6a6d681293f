# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Cameras in a running graph: their pictures, and what becomes of a camera that stalls."""

import json
import os
from pathlib import Path
import signal

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, Observer, observer
import numpy as np
import pytest
from rl_nodes.core.cameras import CameraMount
from rl_nodes.core.resources import find_config
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.types import RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions, qos
from sensor_msgs.msg import CameraInfo, Image, JointState

WRIST = 'camera/wrist'
WIDTH, HEIGHT = 96, 64  # small, so that a loaded machine keeps up
CAMERAS = f"""cameras:
  - {{name: front, link: base_link, xyz: [0.75, 0.35, 0.45], rpy: [0.0, 0.4, -2.7],
     width: {WIDTH}, height: {HEIGHT}, rate_hz: 10}}
  - {{name: wrist, link: tool, xyz: [0.04, 0.0, -0.02], rpy: [0.0, -1.0, 0.0],
     width: {WIDTH}, height: {HEIGHT}, rate_hz: 10, far_m: 3.0, depth: true}}
"""
TOPICS = {f'{WRIST}/image_raw': Image, f'{WRIST}/depth/image_raw': Image,
          f'{WRIST}/camera_info': CameraInfo, 'camera/front/image_raw': Image}


@pytest.fixture
def robot(tmp_path: Path) -> str:
    """Return the path of the arm's configuration with small cameras."""
    head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
    path = tmp_path / 'arm.yaml'
    path.write_text(head + CAMERAS + rest[rest.index('hardware:'):])
    return str(path)


def stamps(seen: Observer, topic: str) -> list[int]:
    return [conversions.stamp_to_ns(msg.header.stamp) for _, msg in seen.heard[topic]]


def status_of(seen: Observer, topic: str, word: str) -> bool:
    """Return whether the newest status is a warning with a word in it."""
    message = seen.last(topic)
    return message is not None and message.status[0].level == b'\x01' \
        and word in message.status[0].message


def diagnosed(seen: Observer, node: str, word: str) -> bool:
    """Return whether /diagnostics ever said a word about a node."""
    return any(word in status.message for _, message in seen.heard['/diagnostics']
               for status in message.status if status.name.endswith(node))


def test_pictures_and_a_camera_that_stalls(policy_path: Path, tmp_path: Path,
                                           robot: str) -> None:
    with observer() as seen, graph(
            'deploy', f'policy:={policy_path}', f'run_dir:={tmp_path / "run"}', f'robot:={robot}',
            'stepping:=realtime', 'episodes:=0', 'cameras:=true', 'record_images:=true') as run:
        for topic, kind in TOPICS.items():
            seen.listen(kind, topic, qos.PICTURE)
        seen.listen(JointState, 'joint_states', qos.STREAM)
        for topic in ('recorder/status', 'camera/status', '/diagnostics'):
            seen.listen(DiagnosticArray, topic, qos.LATCHED if topic != '/diagnostics'
                        else qos.EPISODE)
        seen.until(lambda: bool(seen.heard['joint_states']), 'states')
        heard = {topic: len(seen.heard[topic]) for topic in TOPICS}
        seen.until(lambda: min(len(seen.heard[topic]) - heard[topic] for topic in TOPICS) >= 15,
                   'pictures')
        assert_pictures(seen, load_robot(robot))
        seen.until(lambda: int(seen.values('camera/status').get('wrist/pictures', 0)) > 10,
                   'the status of the cameras')

        # Frozen: the recorder says which cameras, the robot goes on.
        victim = run.nodes()['camera']
        os.kill(victim, signal.SIGSTOP)
        try:
            seen.until(lambda: status_of(seen, 'recorder/status', 'camera wrist has stalled'),
                       'the recorder naming the camera', 10.0)
            assert 'camera front has stalled' in seen.last('recorder/status').status[0].message
            seen.until(lambda: diagnosed(seen, 'experience_recorder', 'camera wrist has stalled'),
                       'the same in /diagnostics', 5.0)
            frozen_in = seen.last('joint_states').header.frame_id
            seen.until(lambda: seen.last('joint_states').header.frame_id != frozen_in,
                       'another episode')
        finally:
            os.kill(victim, signal.SIGCONT)
        seen.until(lambda: seen.last('recorder/status').status[0].message == 'running',
                   'the recorder content again', 10.0)
        thawed_in = seen.last('joint_states').header.frame_id
        seen.until(lambda: len({msg.header.frame_id for _, msg in seen.heard['joint_states'][-20:]}
                               - {thawed_in}) == 1, 'another episode')
        seen.until(lambda: int(seen.values('recorder/status').get('files', 0)) >= 3, 'files')
        run.interrupt()
        assert run.wait(10) == 0, run.output
        assert 'camera wrist has stalled' in run.output
        assert 'camera wrist sends pictures' in run.output
    episodes = [read_episode(path)
                for path in sorted((tmp_path / 'run' / 'episodes').glob('*.mcap'))]
    marked = {episode.metadata['episode']: json.loads(episode.metadata['stalled_cameras'])
              for episode in episodes}
    assert sorted(marked[frozen_in]) == ['front', 'wrist']  # whichever was found first
    assert [] in marked.values()
    whole = next(episode for episode in episodes
                 if marked[episode.metadata['episode']] == [] and episode.metadata['reason']
                 in ('terminated', 'truncated'))
    kept = list(whole.messages(tuple(TOPICS)))
    assert {message.topic for message in kept} == set(TOPICS)
    assert max(len(message.data) for message in kept) > WIDTH * HEIGHT * 4
    states = {message.data[4:12] for message in whole.messages(('joint_states',))}
    pictured = list(dict.fromkeys(message.data[4:12] for message in kept))
    # At both ends a picture may fall on the other side than its state.
    unknown = [stamp for stamp in pictured if stamp not in states]
    assert set(unknown) <= {pictured[0], pictured[-1]}


def assert_pictures(seen: Observer, model: RobotModel) -> None:
    """Pictures have the right form, show the state whose stamp they have, and come evenly."""
    camera = next(camera for camera in model.config.cameras if camera.name == 'wrist')
    picture, depth, info = (seen.last(topic) for topic in list(TOPICS)[:3])
    assert (picture.encoding, picture.step, picture.is_bigendian) == ('rgb8', WIDTH * 3, 0)
    assert (depth.encoding, depth.step) == ('32FC1', WIDTH * 4)
    for msg in (picture, depth, info):
        assert (msg.width, msg.height) == (WIDTH, HEIGHT)
        assert msg.header.frame_id == 'wrist_optical_frame'
    assert info.distortion_model == 'plumb_bob'
    assert list(info.d) == [0.0] * 5
    assert np.array(info.k).reshape(3, 3) == pytest.approx(camera.intrinsics())
    assert np.array(info.p).reshape(3, 4) == pytest.approx(
        np.column_stack([camera.intrinsics(), np.zeros(3)]))
    # The ground is white and blue: red and blue are not swapped.
    colours = np.frombuffer(picture.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    blue = colours[colours.max(-1) - colours.min(-1) > 20].astype(float)
    assert len(blue) and (blue[:, 2] > blue[:, 0]).mean() > 0.9

    taken = stamps(seen, f'{WRIST}/image_raw')
    states = {conversions.stamp_to_ns(msg.header.stamp): msg
              for _, msg in seen.heard['joint_states']}
    newest = [stamp for stamp in taken if stamp > min(states)]
    assert newest and set(newest) <= set(states)
    # 10 Hz of 50 Hz; a loaded machine leaves some out.
    periods = np.diff(taken) / 100e6
    assert (np.round(periods) >= 1).all() and abs(periods - np.round(periods)).max() < 0.31

    # Distances to the ground as they must be from where the arm was at that stamp.
    stamp = conversions.stamp_to_ns(depth.header.stamp)
    seen.until(lambda: stamp in stamps(seen, 'joint_states'), 'the state of a picture', 2.0)
    msg = next(msg for _, msg in seen.heard['joint_states']
               if conversions.stamp_to_ns(msg.header.stamp) == stamp)
    q = conversions.msg_to_state(msg, model.joint_names).position
    position, rotation = CameraMount(camera, model.urdf, model.joint_names).pose(
        RobotState(stamp, '1@0', q, q * 0, np.empty(0)))
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.intrinsics()).T \
        @ rotation.T
    with np.errstate(divide='ignore'):
        expected = np.where(rays[..., 2] < 0, -position[2] / rays[..., 2], np.inf)
    measured = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
    ground = (expected < 2.9) & (measured > expected - 0.02)  # not the arm in between
    assert ground.sum() > 200
    assert abs(measured[ground] - expected[ground]).max() < 5e-3
