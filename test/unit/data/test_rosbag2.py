# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of episodes are bags: as rosbag2 writes them, and to a reader that is not ours."""

from pathlib import Path
import threading

from episode_script import END, JOINT_STATE, make_start, record, serialized
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.data.episode_file import LockedFile
from rl_nodes.data.reader import read_episode
from rl_nodes.data.ring import EventRing, OVERHEAD_BYTES
from rl_nodes.data.rosbag2 import index_folder, INDEX_NAME, offered_qos, qos_profile
from rl_nodes.data.topic_choice import TopicChoice
from rl_nodes.data.writer import EpisodeWriter
import yaml

LATCHED = qos_profile('keep_last', 1, 'reliable', 'transient_local')
BEST_EFFORT = qos_profile('unknown', 0, 'best_effort', 'volatile', deadline_ns=10_000_000)


def episodes(folder: Path, counts: tuple[int, ...]) -> None:
    for count in counts:
        writer = EpisodeWriter(folder, make_start())
        writer.add_channel('/arm/joint_states', JOINT_STATE)
        writer.add_channel('imu', 'sensor_msgs/msg/Imu', offered_qos([LATCHED, BEST_EFFORT]))
        for k in range(count):
            writer.write('/arm/joint_states', serialized(k), 1000 * count + k, k)
            writer.write('imu', b'\0\1\0\0' + bytes(320), 1000 * count + k, k)
        writer.finish(END)
        assert writer.wait(10)


def test_profiles_are_read_once_a_topic_and_not_once_a_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder has two seconds for all that it does at its end, however many its files are."""
    read, known = [], yaml.safe_load
    monkeypatch.setattr(yaml, 'safe_load', lambda text: read.append(text) or known(text))
    episodes(tmp_path, (1, 1, 1, 1))
    assert index_folder(tmp_path) is not None
    assert len(read) == 2


def test_profiles_are_written_as_rosbag2_does() -> None:
    text = offered_qos([LATCHED, LATCHED, BEST_EFFORT])
    first, second = yaml.safe_load(text)
    assert first == {
        'history': 'keep_last', 'depth': 1, 'reliability': 'reliable',
        'durability': 'transient_local', 'deadline': {'sec': 9223372036, 'nsec': 854775807},
        'lifespan': {'sec': 9223372036, 'nsec': 854775807}, 'liveliness': 'automatic',
        'liveliness_lease_duration': {'sec': 9223372036, 'nsec': 854775807},
        'avoid_ros_namespace_conventions': False}
    assert (second['reliability'], second['deadline']) == (
        'best_effort', {'sec': 0, 'nsec': 10_000_000})


def test_a_folder_is_described_by_the_summaries_of_its_files(tmp_path: Path) -> None:
    assert index_folder(tmp_path) is None
    episodes(tmp_path, (5, 9))
    whole = (tmp_path / 'episode_000000.mcap').read_bytes()
    (tmp_path / 'cut.mcap').write_bytes(whole[:-9])
    (tmp_path / 'tiny.mcap').write_bytes(b'?')
    (tmp_path / 'lying.mcap').write_bytes(whole[:-28] + b'\xff' * 8 + whole[-20:])
    assert index_folder(tmp_path) == tmp_path / INDEX_NAME
    text = (tmp_path / INDEX_NAME).read_text()
    assert '&id' not in text and '*id' not in text
    found = yaml.safe_load(text)['rosbag2_bagfile_information']
    assert (found['version'], found['storage_identifier'], found['message_count']) == (
        9, 'mcap', 28)
    assert found['relative_file_paths'] == ['episode_000000.mcap', 'episode_000001.mcap']
    assert found['starting_time']['nanoseconds_since_epoch'] == 5000
    assert found['duration']['nanoseconds'] == 9008 - 5000
    assert [(file['path'], file['message_count']) for file in found['files']] == [
        ('episode_000000.mcap', 10), ('episode_000001.mcap', 18)]
    topics = {entry['topic_metadata']['name']: entry
              for entry in found['topics_with_message_count']}
    assert topics['imu']['message_count'] == 14
    told = topics['imu']['topic_metadata']
    assert told['type'] == 'sensor_msgs/msg/Imu'
    assert told['type_description_hash'].startswith('RIHS01_')
    assert [profile['reliability'] for profile in told['offered_qos_profiles']] == [
        'reliable', 'best_effort']


def test_a_strict_reader_of_others_takes_the_folder_for_a_bag(tmp_path: Path) -> None:
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    episodes(tmp_path, (5, 9))
    index_folder(tmp_path)
    with rosbag2.Reader(tmp_path) as bag:
        assert bag.message_count == 28
        assert {connection.topic: connection.msgtype for connection in bag.connections} == {
            '/arm/joint_states': JOINT_STATE, 'imu': 'sensor_msgs/msg/Imu'}
        imu = next(found for found in bag.connections if found.topic == 'imu')
        assert [profile.durability.name for profile in imu.ext.offered_qos_profiles] == [
            'TRANSIENT_LOCAL', 'VOLATILE']
        assert imu.digest.startswith('RIHS01_')
        assert 'MSG: geometry_msgs/Quaternion' in imu.msgdef.data
        rows = [(stamp, bytes(data)) for connection, stamp, data in bag.messages()
                if connection.topic == '/arm/joint_states']
    assert rows == [(1000 * count + k, serialized(k)) for count in (5, 9) for k in range(count)]


def test_a_recovered_file_keeps_its_profiles(tmp_path: Path) -> None:
    path = record(tmp_path)
    assert read_episode(path).definitions['/arm/joint_states'][1] == '- history: 1'


def test_names_and_expressions_choose_topics() -> None:
    choice = TopicChoice('tf_static camera/.*/compressed /absolute')
    assert choice.names == ('tf_static', '/absolute')
    assert choice.fits('/arm/tf_static', '/arm/')
    assert choice.fits('/camera/eye/compressed')
    assert choice.fits('/absolute')
    assert not choice.fits('/camera/eye/compressed/more')
    assert not choice.fits('/tf')
    assert TopicChoice('all').fits('/anything') and TopicChoice('all').names == ()
    assert not TopicChoice('').fits('/anything') and not TopicChoice('')
    with pytest.raises(ConfigError, match='names or regular expressions separated by spaces'):
        TopicChoice('camera/(')


class Counted(bytes):
    """Bytes of which it is known how many there are."""

    alive = 0

    def __del__(self) -> None:
        Counted.alive -= len(self)


@pytest.mark.parametrize(('topic', 'meant'), [
    ('/robot_1/gripper', True), ('/robot_1/camera/eye/image_raw', True), ('/tf', True),
    ('/clock', True), ('/diagnostics', True), ('/robot_2/experience', False),
    ('/robot_2/tf', False), ('/robot_10/gripper', False), ('/policy/status', False)])
def test_all_topics_are_those_of_the_robot_and_of_the_machine(topic: str, meant: bool) -> None:
    assert TopicChoice('all').fits(topic, '/robot_1/') == meant
    assert TopicChoice('all /policy/.* /robot_2/.*').fits(topic, '/robot_1/') == (
        meant or topic.startswith(('/policy/', '/robot_2/')))


def make_ring(folder: Path, keep_s: float = 2.0, most_bytes: int = 1 << 20) -> EventRing:
    ring = EventRing(folder / 'events', make_start(), keep_s, most_bytes)
    ring.add_topic('x', JOINT_STATE, '')
    return ring


def test_a_ring_writes_the_last_seconds(tmp_path: Path) -> None:
    ring = make_ring(tmp_path)
    assert ring.write('early') == (False, 'nothing has been heard yet')
    for k in range(5000):
        ring.add('x', serialized(k), k * 1_000_000, k)
    done, message = ring.write('asked for')
    assert done and 'asked for' in message
    ring.close(10)
    assert (ring.written, ring.error) == (1, '')
    path, = (tmp_path / 'events').iterdir()
    event = read_episode(path)
    assert [m.publish_time_ns for m in event.messages()] == [*range(2999, 5000)]
    assert (event.metadata['reason'], event.metadata['void']) == ('void', 'event: asked for')


def test_a_ring_is_bounded_whatever_comes(tmp_path: Path) -> None:
    most = 1 << 16
    ring = make_ring(tmp_path, keep_s=600, most_bytes=2 * most)
    for k in range(3000):
        ring.add('x', b'', k, k)
        assert ring.kept_bytes <= most
    ring.add('x', bytes(1 << 15), 3000, 3000)
    assert ring.kept_bytes <= most
    ring.write('full')
    ring.close(10)
    path, = (tmp_path / 'events').iterdir()
    assert read_episode(path).message_count == 1 + ((1 << 15) - OVERHEAD_BYTES) // OVERHEAD_BYTES
    ring.add('x', bytes(1 << 17), 3001, 3001)
    assert ring.kept_bytes == 0


def test_while_an_event_is_written_the_ring_and_it_keep_the_bound_together(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, go_on = LockedFile.write, threading.Event()
    monkeypatch.setattr(LockedFile, 'write',
                        lambda file, data: write(file, data) if go_on.wait(20) else 0)
    ring = make_ring(tmp_path, keep_s=600, most_bytes=1 << 20)
    for k in range(400):
        if k == 200:
            assert ring.write('the disk is stuck')[0]
        Counted.alive += 1 << 14
        ring.add('x', Counted(1 << 14), k, k)
        assert Counted.alive <= 1 << 20
    assert Counted.alive > 0.9 * (1 << 20)
    go_on.set()
    ring.close(20)
    assert (ring.written, ring.error) == (1, '')


def test_an_event_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / 'events').write_text('in the way')
    ring = make_ring(tmp_path)
    ring.add('x', b'', 1, 1)
    assert ring.write('asked for')[0]
    ring.close(10)
    assert ring.written == 0 and 'cannot record in' in ring.error
