# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Cameras of physical robots: a driver in a process of its own, beside an emulated robot."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
import json
from pathlib import Path
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
import rclpy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions

sys.path.insert(0, str(Path(__file__).parents[1]))

from emulators.camera_driver import CameraDriver, scene
from harness import graph, make_seeing_bundle, observer
from rl_nodes.cli import main
from rl_nodes.core.cameras import COMPRESSED
from rl_nodes.core.resources import find_config
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.pictures import recorded_pictures
from rl_nodes.tasks import load_task
from sensor_msgs.msg import CompressedImage, Image
from test_graph_faults import clear, watch
from test_hardware import emulated, episode, operate, robot_file, until_moved
from test_wider_recording import Rig

WIDTH, HEIGHT, RATE_HZ = 96, 64, 20
RAW, JPEG = '/usb_cam/image_raw', '/usb_cam/image_raw/compressed'
CAMERAS = f"""cameras:
  - {{name: wrist, link: tool, width: {WIDTH}, height: {HEIGHT}, rate_hz: {RATE_HZ}, topic: %s}}
"""


def with_camera(robot: Path, topic: str) -> str:
    """Let a robot's file have one camera with a driver; return its path."""
    head, _, rest = robot.read_text().partition('cameras:')
    robot.write_text(head + CAMERAS % topic + rest[rest.index('hardware:'):])
    return str(robot)


# --- whole graphs -------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize(('backend', 'topic'), [('servo_bus', JPEG), ('ros2_control', RAW)])
def test_a_policy_sees_what_a_driver_sends_and_it_is_recorded(
        backend: str, topic: str, tmp_path: Path) -> None:
    """Silent without a driver, by name; sees; STOPPED when it stalls; recorded; exported."""
    robot = with_camera(robot_file(tmp_path), topic)
    task = tmp_path / 'see.yaml'
    task.write_text(find_config('tasks', 'reach').read_text()
                    + 'pictures: [{camera: wrist, width: 32, height: 24, max_age_s: 0.4}]\n')
    policy = make_seeing_bundle(load_task(robot, str(task)).contract).save(tmp_path / 'seer.onnx')
    with observer() as seen, emulated(backend, tmp_path), graph(
            'deploy', f'policy:={policy}', f'robot:={robot}', f'task:={task}', 'episodes:=0',
            f'backend:={backend}', 'arm_on_start:=false', 'cameras:=true', 'record_images:=true',
            f'run_dir:={tmp_path / "run"}') as run:
        watch(seen)
        for name in ('policy/status', 'recorder/status'):
            seen.listen(DiagnosticArray, name, qos.LATCHED)

        def says(name: str, *words: str) -> bool:
            message = seen.last(name)
            return message is not None and all(
                word in message.status[0].message for word in words)

        lacking = f'nobody publishes {topic}'
        seen.until(lambda: says('policy/status', 'camera wrist has sent no picture yet', lacking),
                   'the policy server naming the topic')
        seen.until(lambda: says('recorder/status', 'camera wrist has sent no picture yet',
                                lacking), 'the recorder naming the topic')
        with CameraDriver() as driver:
            seen.until(lambda: says('recorder/status', 'running'), 'pictures', 10.0)
            clear(seen)
            until_moved(seen)
            assert seen.values('policy/status')['wrist/pictures_refused'] == '0'
            number = episode(seen).number
            operate(seen, lambda: episode(seen).number > number, 'a whole episode')
            driver.say('stop')
            seen.until(lambda: says('policy/status', 'silent: camera wrist: its newest picture',
                                    f'who publishes {topic} sends nothing'), 'silence', 10.0)
            seen.until(lambda: seen.values('safety/state')['mode'] == 'STOPPED', 'a stop', 10.0)
            driver.say('shift 100')
            driver.say('go')
            seen.until(lambda: says('policy/status', 'stamped by another clock'), 'odd stamps',
                       10.0)
            driver.say('shift 0')
            seen.until(lambda: not says('policy/status', 'silent'), 'answers again', 10.0)
        run.interrupt()
        assert run.wait(10) == 0, run.output
    assert 'Traceback' not in run.output
    path = sorted((tmp_path / 'run' / 'episodes').glob('*.mcap'))[0]
    whole = read_episode(path)
    assert json.loads(whole.metadata['stalled_cameras']) == []
    recorded = f'camera/wrist/image_raw{COMPRESSED if topic == JPEG else ""}'
    kept = list(whole.messages((recorded,)))
    assert len(kept) > RATE_HZ / 2
    assert len(list(whole.messages(('camera/wrist/camera_info',)))) > RATE_HZ / 2
    stamps, pictures = zip(*recorded_pictures(whole)['wrist'], strict=True)
    assert list(stamps) == sorted(stamps)
    for picture in pictures:
        expected = scene(int(picture[:, -20:].mean().round()), WIDTH, HEIGHT)
        assert np.abs(picture.astype(int) - expected)[:, :40].mean() < 4
    if find_spec('pyarrow') and find_spec('av'):  # the extra ``datasets``
        assert main(['dataset', 'export', f'{path}', 'format:=lerobot', f'robot:={robot}',
                     f'task:={task}', f'output:={tmp_path / "lerobot"}']) == 0
        assert list((tmp_path / 'lerobot').rglob('observation.images.wrist/**/*.mp4'))


# --- the recorder alone -------------------------------------------------------------------------

@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what makes a recorder, in this process, of a robot whose camera is on a topic."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    made: list[Rig] = []
    with observer() as seen:
        def rig(topic: str, **parameters: object) -> Rig:
            robot = tmp_path / 'arm.yaml'
            robot.write_text(find_config('robots', 'arm').read_text())
            made.append(Rig(tmp_path / 'episodes', seen, robot=with_camera(robot, topic),
                            cameras=True, camera_drivers=True, **parameters))
            return made[-1]
        yield rig
        for found in made:
            found.recorder.release()  # where a test has failed
            found.recorder.destroy_node()
    rclpy.try_shutdown()


def picture(number: int, stamp_ns: int | None = None, width: int = WIDTH) -> Image:
    msg = Image(width=width, height=HEIGHT, encoding='rgb8', step=3 * width,
                data=scene(number, width, HEIGHT).tobytes())
    msg.header.stamp = conversions.ns_to_stamp(time.time_ns() if stamp_ns is None else stamp_ns)
    return msg


def live(rig: Rig, begun: int, condition: Callable[[], bool], what: str,
         send: Callable[[], None] = lambda: None) -> None:
    """Let states of now come in an episode, and something with them, until a condition holds."""
    if rig.episode != f'{begun}@{rig.stamp_ns}':
        rig.stamp_ns = time.time_ns()
        rig.begin(begun)

    sent_at = 0.0

    def step() -> bool:
        nonlocal sent_at
        if time.monotonic() - sent_at >= 1 / RATE_HZ:
            sent_at = time.monotonic()
            rig.stamp_ns = time.time_ns()
            rig.state()
            send()
        return condition()
    rig.until(step, what)


def test_pictures_are_kept_as_they_came_whoever_does_not_wait(make: Callable[..., Rig]) -> None:
    """A driver that is best effort; its topic is recorded once, whatever ``topics`` says."""
    rig = make(RAW, record_images=True, topics='all')
    driver = rig.publisher(Image, RAW, qos.ONLOOKER)
    sent: list[Image] = []

    def send() -> None:
        sent.append(picture(len(sent)))
        driver.publish(sent[-1])
    live(rig, 1, lambda: driver.get_subscription_count() > 0, 'what a driver offers', send)
    before = len(sent)
    live(rig, 1, lambda: len(sent) > before + 20, 'pictures', send)
    assert rig.values()['pictures_lost'] == 0
    whole = rig.episodes()[-1]
    kept = [deserialize_message(message.data, Image)
            for message in whole.messages(('camera/wrist/image_raw',))]
    assert len(kept) > 10 and all(msg in sent for msg in kept)
    assert 'usb_cam/image_raw' not in whole.topics


def test_raw_pictures_are_compressed_on_request(make: Callable[..., Rig]) -> None:
    rig = make(RAW, record_images=True, jpeg_quality=90)
    driver = rig.heard(rig.publisher(Image, RAW, qos.PICTURE))
    counts = rig.recorder._compressor.encoded
    live(rig, 1, lambda: counts['camera/wrist/image_raw'] > 3, 'pictures encoded',
         lambda: driver.publish(picture(7)))
    (_, first), *_ = recorded_pictures(rig.episodes()[0])['wrist']
    assert np.abs(first.astype(int) - scene(7, WIDTH, HEIGHT))[:, -20:].mean() < 4


@pytest.mark.parametrize(('topic', 'others', 'words'), [
    ('/usb_cam/image', {RAW: Image},
     (f"nobody publishes /usb_cam/image (did you mean '{RAW}'?)", f'pictures: {RAW}')),
    (RAW, {}, (f'nobody publishes {RAW}', 'topics with pictures: none')),
    (RAW, {RAW: CompressedImage},
     (f'{RAW} is published as sensor_msgs/msg/CompressedImage, not as sensor_msgs/msg/Image',
      'ends in /compressed')),
    (RAW, {RAW: Image}, (f'who publishes {RAW} sends nothing',))])
def test_a_camera_without_pictures_is_named_with_what_there_is(
        make: Callable[..., Rig], topic: str, others: dict[str, type],
        words: tuple[str, ...]) -> None:
    rig = make(topic)
    for other, kind in others.items():
        rig.publisher(kind, other, qos.PICTURE)
    live(rig, 1, lambda: all(word in rig.complaint() for word in (
        'camera wrist has sent no picture yet', *words)), f'{words}')
    assert rig.episodes()[0].metadata['stalled_cameras'] == '["wrist"]'


def test_stamps_of_another_clock_are_named_and_what_has_them_is_not_kept(
        make: Callable[..., Rig]) -> None:
    rig = make(RAW, record_images=True)
    driver = rig.heard(rig.publisher(Image, RAW, qos.PICTURE))
    live(rig, 1, lambda: 'camera wrist has sent no picture yet' in rig.complaint() and (
        f'what comes on {RAW} is stamped' in rig.complaint()), 'odd stamps',
         lambda: driver.publish(picture(1, stamp_ns=12_345_000_000)))
    assert 'before it comes' in rig.complaint() and 'another clock' in rig.complaint()
    whole = rig.episodes()[0]
    assert whole.metadata['stalled_cameras'] == '["wrist"]'
    assert not list(whole.messages(('camera/wrist/image_raw',)))


def test_a_driver_without_a_description_is_watched_by_pictures(make: Callable[..., Rig]) -> None:
    rig = make(RAW)
    driver = rig.heard(rig.publisher(Image, RAW, qos.ONLOOKER))
    sent: list[float] = []

    def send() -> None:
        driver.publish(picture(3))
        sent.append(time.monotonic())
    live(rig, 1, lambda: sent[-1] - sent[0] > 1.0, 'pictures', send)
    assert 'camera' not in rig.complaint()
