# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Topics that come and go while episodes are recorded, and what makes an episode void."""

import json
from pathlib import Path

import pytest
from rl_nodes.core.errors import RecordingError
from rl_nodes.data import episode_log
from rl_nodes.data.reader import Episode, read_episode
from test_episode_log import feed, make

STRING = 'std_msgs/msg/String'
S = 1_000_000_000


def files(folder: Path) -> list[Episode]:
    return [read_episode(path) for path in sorted(folder.glob('*.mcap'))]


def on(episode: Episode, topic: str) -> list[bytes]:
    return [bytes(message.data) for message in episode.messages((topic,))]


def test_latched_messages_stand_in_every_file_and_others_where_they_came(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.add_topic('tf_static', STRING, '', latched=1)
    log.add_now('tf_static', b'before any episode')
    log.add_topic('tf_static', STRING, '', latched=2)  # a second publisher
    feed(log, '1@10', [10, 20])
    log.add_topic('late', STRING, '- {}', latched=0)
    log.add_now('late', b'in 1', 5)
    log.add_now('tf_static', b'in 1')
    feed(log, '2@30', [30, 40])
    log.end_topic('tf_static')
    feed(log, '3@50', [50])
    log.close(5.0)
    first, second, third = files(tmp_path)
    assert on(first, 'tf_static') == on(second, 'tf_static') == [b'before any episode', b'in 1']
    assert (on(first, 'late'), on(second, 'late'), on(third, 'tf_static')) == ([b'in 1'], [], [])
    sent, = (message.publish_time_ns for message in first.messages(('late',)))
    assert sent == 5 and first.definitions['late'][1] == '- {}'


def test_a_latched_topic_does_not_grow_without_bound(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.add_topic('rosout', STRING, '', latched=3)
    log.add_topic('tf_static', STRING, '', latched=10**6)
    for k in range(episode_log.LATCHED + 50):
        log.add_now('tf_static', b'%d' % k)
        log.add_now('rosout', b'%d' % k)
    feed(log, '1@10', [10])
    log.close(5.0)
    episode, = files(tmp_path)
    assert on(episode, 'tf_static') == [b'%d' % k for k in range(50, episode_log.LATCHED + 50)]
    assert on(episode, 'rosout') == on(episode, 'tf_static')[-3:]


def test_a_topic_that_is_not_installed_or_changes_its_type_is_refused(tmp_path: Path) -> None:
    log = make(tmp_path)
    with pytest.raises(RecordingError, match='install the package lost_msgs'):
        log.add_topic('lost', 'lost_msgs/msg/Thing', '', latched=0)
    feed(log, '1@10', [10])
    with pytest.raises(RecordingError, match='install the package lost_msgs'):
        log.add_topic('lost', 'lost_msgs/msg/Thing', '', latched=0)
    log.add_topic('x', STRING, '', latched=0)
    with pytest.raises(RecordingError, match=f'x is recorded as {STRING}'):
        log.add_topic('x', 'sensor_msgs/msg/Imu', '', latched=0)
    feed(log, '2@30', [30])
    log.close(5.0)
    assert len(files(tmp_path)) == 2, log.error


def test_what_is_wrong_is_in_the_metadata_and_voids_what_it_has_to(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.note_fault('before any episode', void=True)
    feed(log, '1@10', [10])
    for _ in range(2):
        log.note_fault('imu stalled', void=False)
    feed(log, '2@30', [30])
    log.note_fault('two publishers', void=True)
    feed(log, '3@50', [50])
    log.close(5.0)
    found = [episode.metadata for episode in files(tmp_path)]
    assert [metadata['reason'] for metadata in found] == ['reset', 'void', 'shutdown']
    assert [json.loads(metadata['faults']) for metadata in found] == [
        ['imu stalled'], ['two publishers'], []]
    assert [metadata['void'] for metadata in found] == ['', 'two publishers', '']


def test_stamps_that_go_back_within_an_episode_void_it_once(tmp_path: Path) -> None:
    log = make(tmp_path)
    start = 100 * S
    assert log.add_state('joint_states', start, f'1@{start}', b'a') is False
    assert log.add_state('joint_states', start + S, f'1@{start}', b'b') is False
    assert log.add_state('joint_states', start + S // 2, f'1@{start}', b'overtaken') is False
    assert log.add_state('joint_states', start - 50 * S, f'1@{start}', b'c') is True
    assert log.add_state('joint_states', start - 49 * S, f'1@{start}', b'd') is False
    log.close(5.0)
    episode, = files(tmp_path)
    assert episode.metadata['void'] == 'the clock was set back by 51.0 s'
    assert json.loads(episode.metadata['faults']) == ['the clock was set back by 51.0 s']


def test_two_robots_on_one_topic_do_not_make_a_file_of_each_state(tmp_path: Path) -> None:
    log = make(tmp_path)
    for k in range(50):
        log.add_state('joint_states', 1000 + k, '9@1000', b'one')
        log.add_state('joint_states', 2000 + k, '1@2000', b'other')
    log.close(5.0)
    assert len(files(tmp_path)) == 2
