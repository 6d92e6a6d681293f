# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Any topics are recorded as they came; what is wrong with them is named."""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import Observer, observer
from mcap.reader import make_reader
import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.types import RobotState
from rl_nodes.data import compression
from rl_nodes.data.inspection import inspect, open_episodes
from rl_nodes.data.reader import Episode, read_episode
from rl_nodes.data.rosbag2 import INDEX_NAME
from rl_nodes.nodes import conversions, qos, topic_listener
from rl_nodes.nodes.experience_recorder import ExperienceRecorder
from rl_nodes.nodes.lifecycle import SUCCESS
from rl_nodes.nodes.pictures import picture_to_msg, recorded_pictures
from rl_nodes.nodes.spin import NodeSpinner
from rl_nodes.tasks import load_task
from sensor_msgs.msg import CompressedImage, Image, Imu, JointState
from std_msgs.msg import Header, String
import yaml

NS = 1_000_000_000
UNTIL_S = 20.0


class Rig:
    """A recorder in this process, and publishers that it hears over the middleware."""

    def __init__(self, folder: Path, seen: Observer, **parameters: object) -> None:
        self.folder, self.seen = folder, seen
        self.recorder = ExperienceRecorder('experience_recorder', parameter_overrides=[
            Parameter(name, value=value) for name, value in {
                'directory': str(folder), 'autostart': False, **parameters}.items()])
        assert self.recorder.trigger_configure() == SUCCESS
        assert self.recorder.trigger_activate() == SUCCESS
        self.spinner = NodeSpinner(self.recorder)
        self.states = self.publisher(JointState, 'joint_states', qos.STREAM)
        self.task = load_task('arm', 'reach')
        self.stamp_ns, self.episode, self.sent = time.time_ns(), '', 0

    def publisher(self, kind: type, topic: str, profile: QoSProfile,
                  node: Node | None = None) -> Publisher:
        return (node or self.seen.node).create_publisher(kind, topic, profile)

    def heard(self, publisher: Publisher, count: int = 1) -> Publisher:
        """Wait until a publisher has its subscriptions."""
        self.until(lambda: publisher.get_subscription_count() >= count,
                   f'{count} subscriptions to {publisher.topic}')
        return publisher

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + UNTIL_S
        while not condition():
            assert time.monotonic() < deadline, f'{UNTIL_S} s without: {what}; {self.values()}'
            self.spinner.once(0.02)

    def begin(self, number: int) -> None:
        """Let an episode begin, and wait until the recorder is in it."""
        self.heard(self.states)
        self.stamp_ns += self.task.period_ns
        self.episode = f'{number}@{self.stamp_ns}'
        self.state()
        log = self.recorder._log
        self.until(lambda: log._current is not None and str(log._current.id) == self.episode,
                   f'episode {number}')

    def state(self, publisher: Publisher | None = None) -> None:
        zeros = np.zeros(len(self.task.robot.joint_names))
        (publisher or self.states).publish(conversions.state_to_msg(
            RobotState(self.stamp_ns, self.episode, zeros, zeros, zeros),
            self.task.robot.joint_names))
        self.stamp_ns += self.task.period_ns
        self.sent += 1

    def values(self) -> dict[str, object]:
        return self.recorder.health()[2]

    def complaint(self) -> str:
        return self.recorder.health()[1]

    def faults(self) -> set[str]:
        return set(self.recorder._log._current.faults)

    def came(self, topic: str, count: int) -> None:
        """Wait until so many messages of a further topic have been recorded."""
        watches = self.recorder._wider._listener.watches
        self.until(lambda: topic in watches() and watches()[topic].count >= count,
                   f'{count} messages on {topic}')

    def episodes(self) -> list[Episode]:
        """End the recorder; return what it has written."""
        self.spinner.shutdown()
        self.recorder.trigger_deactivate()
        self.recorder.trigger_cleanup()
        return [read_episode(path) for path in sorted(self.folder.glob('*.mcap'))]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    made: list[Rig] = []
    with observer() as seen:
        def rig(**parameters: object) -> Rig:
            made.append(Rig(tmp_path / 'episodes', seen, **parameters))
            return made[-1]
        yield rig
        for found in made:
            found.recorder.destroy_node()
    rclpy.try_shutdown()


def imu(k: int, stamp_ns: int | None = None) -> Imu:
    now = time.time_ns() if stamp_ns is None else stamp_ns
    msg = Imu(header=Header(stamp=conversions.ns_to_stamp(now)))
    msg.linear_acceleration.x = float(k)
    return msg


def test_any_topics_are_recorded_as_they_came(make: Callable[..., Rig]) -> None:
    rig = make(topics='all', keep_last_s=30.0)
    latched = rig.publisher(String, 'robot_description', qos.LATCHED)
    latched.publish(String(data='<robot/>'))
    sensor = rig.heard(rig.publisher(Imu, '/other/imu', qos.ONLOOKER))
    rig.came('robot_description', 1)
    rig.begin(1)
    sent = [serialize_message(imu(k)) for k in range(20)]
    for k, data in enumerate(sent):
        sensor.publish(data)
        rig.came('other/imu', k + 1)
    late = rig.publisher(String, 'late', qos.SENSOR)  # while an episode is recorded
    rig.heard(late).publish(String(data='here'))
    rig.came('late', 1)
    rig.begin(2)
    first, second = rig.episodes()
    assert [m.data for m in first.messages(('other/imu',))] == sent, 'bytes are not touched'
    assert all(0 < m.log_time_ns - m.publish_time_ns < 10 * NS
               for m in first.messages(('other/imu',)))
    assert [m.sequence for m in first.messages(('other/imu',))] == [*range(20)]
    assert len(list(first.messages(('late',)))) == 1
    for episode in (first, second):
        told, = episode.messages(('robot_description',))
        assert deserialize_message(told.data, String).data == '<robot/>', 'latched: in each file'
        assert 'joint_states' in episode.topics
    profile, = yaml.safe_load(first.definitions['robot_description'][1])
    assert (profile['reliability'], profile['durability']) == ('reliable', 'transient_local')
    profile, = yaml.safe_load(first.definitions['other/imu'][1])
    assert (profile['reliability'], profile['durability']) == ('best_effort', 'volatile')
    assert b'MSG: geometry_msgs/Quaternion' in first.definitions['other/imu'][0].text.encode()
    with first.path.open('rb') as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert sum(1 for _ in reader.iter_messages()) == first.message_count
    index = yaml.safe_load((rig.folder / INDEX_NAME).read_text())['rosbag2_bagfile_information']
    assert index['message_count'] == first.message_count + second.message_count
    assert index['relative_file_paths'] == [first.path.name, second.path.name]
    assert set(json.loads(first.metadata['faults'])) <= {'joint_states stalled'}


def test_remarks_are_kept_with_the_episode(make: Callable[..., Rig]) -> None:
    rig = make()
    remark = rig.heard(rig.publisher(String, 'recorder/annotation', qos.STREAM))
    rig.begin(1)
    remark.publish(String(data='the cube slipped'))
    rig.until(lambda: rig.recorder._log._current.writer.written == 2, 'a state and the remark')
    episode, = rig.episodes()
    told, = episode.messages(('recorder/annotation',))
    assert deserialize_message(told.data, String).data == 'the cube slipped'
    finding, = inspect([episode.path])
    assert 'at 0.0 s: the cube slipped' in finding.notes


def test_the_folder_is_a_bag_to_a_reader_of_others(make: Callable[..., Rig]) -> None:
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    rig = make(topics='imu')
    sensor = rig.heard(rig.publisher(Imu, 'imu', qos.STREAM))
    for number in (1, 2):
        rig.begin(number)
        for k in range(5):
            sensor.publish(imu(k))
        rig.came('imu', 5 * number)
    rig.episodes()
    with rosbag2.Reader(rig.folder) as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
        assert (counts['imu'], counts['joint_states']) == (10, 2)
        assert bag.message_count == sum(1 for _ in bag.messages())


def test_what_cannot_be_recorded_is_named(make: Callable[..., Rig],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        if name == 'std_msgs/msg/Header':
            raise RecordingError(f'no definition of {name}')
        return known(name)
    known = topic_listener.message_schema
    monkeypatch.setattr(topic_listener, 'message_schema', missing)
    rig = make(topics='unknown never changing big')
    rig.publisher(Header, 'unknown', qos.SENSOR)
    changing = rig.heard(rig.publisher(Imu, 'changing', qos.SENSOR))
    rig.begin(1)
    changing.publish(imu(0))
    rig.came('changing', 1)
    rig.until(lambda: 'unknown is not recorded: no definition of' in rig.complaint(), 'unknown')
    assert rig.values()['topics_unheard'] == 'unknown never big'
    with observer() as other:  # one participant has one type for a topic
        rig.publisher(String, 'changing', qos.SENSOR, other.node)
        rig.until(lambda: 'changing is not recorded: is published as sensor_msgs/msg/Imu and '
                          'std_msgs/msg/String, recorded as sensor_msgs/msg/Imu so far'
                          in rig.complaint(), 'the change of type')
    large = rig.heard(rig.publisher(Image, 'big', qos.PICTURE))
    large.publish(Image(height=8000, width=10_000, step=10_000, data=bytes(80_000_000)))
    rig.came('big', 1)
    large.publish(Image())
    rig.came('big', 2)
    episode, = rig.episodes()
    assert len(list(episode.messages(('changing',)))) == 1
    assert [len(m.data) < 100 for m in episode.messages(('big',))] == [True]
    faults = '; '.join(json.loads(episode.metadata['faults']))
    assert 'big: a message of 80000' in faults and 'changing is not recorded' in faults
    assert (episode.metadata['reason'], episode.metadata['dropped']) == ('shutdown', '1')


def test_two_who_send_states_make_an_episode_void(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.begin(1)
    second = rig.heard(rig.publisher(JointState, 'joint_states', qos.STREAM))
    states = [rig.states, second]

    def both_send() -> bool:
        rig.state(states[0])
        states.reverse()
        return 'joint_states has several publishers' in rig.faults()
    rig.until(both_send, 'the second one')
    log = rig.recorder._log
    rig.until(lambda: log._states == rig.sent, 'all states')
    rig.begin(2)
    first, after = rig.episodes()
    assert first.metadata['reason'] == 'void'
    assert first.metadata['void'] == 'joint_states has several publishers'
    assert (after.metadata['reason'], after.metadata['void']) == ('shutdown', '')
    kept, left_out = open_episodes([rig.folder], None)
    assert [episode.path for episode in kept] == [after.path]
    assert len(left_out) == 1 and first.path.name in left_out[0]


def test_a_publisher_started_again_is_one_publisher(make: Callable[..., Rig]) -> None:
    """The middleware lists the one that was killed for 20 s more; here it stays for good."""
    rig = make(topics='imu')
    sensors = [rig.heard(rig.publisher(Imu, 'imu', qos.STREAM)) for _ in range(2)]
    rig.begin(1)
    log = rig.recorder._log
    again = rig.heard(rig.publisher(JointState, 'joint_states', qos.STREAM))
    for publisher, sensor in ((rig.states, sensors[0]), (again, sensors[1])):
        for k in range(30):
            rig.state(publisher)
            sensor.publish(imu(k))
        rig.until(lambda: log._states == rig.sent, 'its states')
    rig.came('imu', 60)
    assert rig.recorder.count_publishers('joint_states') == 2
    assert rig.recorder.count_publishers('imu') == 2
    assert not rig.faults() and 'several' not in rig.complaint()
    for k in range(10):
        sensors[k % 2].publish(imu(k))
    rig.until(lambda: rig.faults() == {'imu has several publishers; all of them are recorded'},
              'the two that both send')
    episode, = rig.episodes()
    assert episode.metadata['reason'] == 'shutdown'


def test_a_clock_set_back_voids_its_episode_and_nothing_else(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.begin(1)
    rig.begin(2)
    rig.stamp_ns -= 3600 * NS
    rig.begin(3)
    for _ in range(5):
        rig.state()
    log = rig.recorder._log
    rig.until(lambda: log._states == 6, 'states after the jump')
    first, second, third = rig.episodes()
    assert [episode.metadata['reason'] for episode in (first, second, third)] == [
        'reset', 'void', 'shutdown']
    assert second.metadata['void'].startswith('the clock was set back by 3600.')
    assert third.message_count == 6 and log.misplaced == 0


def test_states_without_a_stamp_are_refused(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.begin(1)
    rig.stamp_ns, good = 0, rig.stamp_ns
    rig.state()
    rig.until(lambda: rig.values()['refused'] == 1, 'a refusal')
    rig.stamp_ns = good
    rig.state()
    log = rig.recorder._log
    rig.until(lambda: log._states == 2, 'the next state')
    episode, = rig.episodes()
    assert episode.message_count == 2


def test_a_stop_writes_the_last_seconds_and_disturbs_nothing(make: Callable[..., Rig]) -> None:
    rig = make(topics='imu', keep_last_s=30.0)
    sensor = rig.heard(rig.publisher(Imu, 'imu', qos.STREAM))
    safety = rig.heard(rig.publisher(DiagnosticArray, 'safety/state', qos.LATCHED))

    def mode(name: str, check: str = 'speed') -> None:
        safety.publish(DiagnosticArray(status=[conversions.status(
            'safety_monitor', 0, name, {'mode': name, 'check': check, 'reason': 'too fast'})]))
        rig.until(lambda: rig.recorder._wider._mode == name, name)

    mode('STOPPED')  # as a monitor starts
    mode('OK')
    rig.begin(1)
    for k in range(200):
        sensor.publish(imu(k))
        rig.spinner.once(0.0)
    rig.came('imu', 200)
    assert rig.values()['events'] == 0
    mode('STOPPED', 'inactive')  # as a monitor ends
    mode('OK')
    mode('STOPPED')
    rig.until(lambda: rig.values()['events'] == 1, 'the event')
    answer = rig.recorder._wider._save('asked for')
    assert answer[0], answer
    rig.until(lambda: rig.values()['events'] == 2, 'the event asked for')
    assert any(name.endswith('/save_event') for name, _ in
               rig.recorder.get_service_names_and_types_by_node('experience_recorder', '/'))
    episode, = rig.episodes()
    assert episode.metadata['dropped'] == '0'
    events = [read_episode(path) for path in sorted((rig.folder / 'events').glob('*.mcap'))]
    assert [event.metadata['void'] for event in events] == [
        'event: stop by speed: too fast', 'event: asked for']
    assert len(list(events[0].messages(('imu',)))) == 200
    assert {'joint_states', 'safety/state', 'imu'} <= set(events[0].topics)
    assert (rig.folder / 'events' / INDEX_NAME).exists()


def test_pictures_are_compressed_on_the_side(make: Callable[..., Rig],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, known = threading.Event(), compression.compress
    go_on.set()
    monkeypatch.setattr(compression, 'compress',
                        lambda data, quality: known(data, quality) if go_on.wait(20) else b'')
    rig = make(topics='all', cameras=True, record_images=True, jpeg_quality=80)
    wrist = next(c for c in rig.task.robot.config.cameras if c.name == 'wrist')
    topic = f'camera/{wrist.name}/image_raw'
    colour = rig.heard(rig.publisher(Image, topic, qos.PICTURE))
    depth = rig.heard(rig.publisher(Image, f'camera/{wrist.name}/depth/image_raw', qos.PICTURE))
    rows = np.linspace(0, 255, wrist.height).astype(np.uint8)
    shown = np.repeat(rows, wrist.width * 3).reshape(wrist.height, wrist.width, 3)
    rig.begin(1)
    counted = rig.recorder._compressor.values
    stamps = []
    for k in range(3):
        stamps.append(rig.stamp_ns)
        rig.state()
        depth.publish(picture_to_msg(wrist, stamps[-1], np.ones(shown.shape[:2], np.float32)))
        colour.publish(picture_to_msg(wrist, stamps[-1], shown))
        rig.until(lambda k=k: counted()[f'{topic}/encoded'] == k + 1, 'a compressed picture')
    go_on.clear()  # compression is stuck, states are recorded
    for k in range(compression.MOST_WAITING + 2):
        colour.publish(picture_to_msg(wrist, stamps[-1], shown))
        rig.until(lambda k=k: counted()[f'{topic}/dropped']
                  + rig.recorder._compressor._queued[topic] == k + 1, 'a picture more')
    before = rig.recorder._log._states
    for _ in range(5):
        rig.state()
    rig.until(lambda: rig.recorder._log._states == before + 5, 'states')
    assert rig.values()[f'{topic}/dropped'] == 2
    go_on.set()
    episode, = rig.episodes()
    assert topic not in episode.topics, 'not a second time, by topics:=all'
    kept = [*episode.messages((f'{topic}/compressed',))]
    assert len(kept) == 3 + compression.MOST_WAITING
    assert kept[0].type_name == 'sensor_msgs/msg/CompressedImage'
    assert 'uint8[] data' in episode.definitions[f'{topic}/compressed'][0].text
    msg = deserialize_message(kept[0].data, CompressedImage)
    assert (msg.header.frame_id, msg.format) == (
        wrist.optical_frame, 'rgb8; jpeg compressed bgr8')
    assert len(msg.data) < shown.nbytes / 10
    found = [*recorded_pictures(episode)['wrist']]
    assert [stamp for stamp, _ in found[:3]] == stamps
    assert all(abs(pixels.astype(int) - shown).max() < 12 for _, pixels in found)
    distances, *_ = episode.messages((f'camera/{wrist.name}/depth/image_raw',))
    assert deserialize_message(distances.data, Image).encoding == '32FC1', 'as they came'
    assert json.loads(episode.metadata['faults']) == [
        f'{topic}: pictures dropped, compression is too slow']
    assert episode.metadata['dropped'] == '0'
