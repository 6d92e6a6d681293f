# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every message lands in its own episode's file, whatever the order of arrival."""

import itertools
import json
from pathlib import Path

import pytest
from rl_nodes.core.types import Outcome
from rl_nodes.data.episode_log import EpisodeLog
from rl_nodes.data.reader import read_episode
from rl_nodes.tasks import load_task

TYPES = {'joint_states': 'sensor_msgs/msg/JointState', 'goal': 'geometry_msgs/msg/PoseStamped',
         'reward': 'sensor_msgs/msg/JointState', 'joint_command': 'sensor_msgs/msg/JointState',
         'safety/state': 'diagnostic_msgs/msg/DiagnosticArray'}


def make(folder: Path, every: int = 1) -> EpisodeLog:
    ticks = itertools.count(1)
    return EpisodeLog(folder, load_task('arm', 'reach').contract, TYPES, every=every, seed=7,
                      notes={'stepping': 'lockstep'}, discount=0.5, clock=lambda: next(ticks))


def outcome(total: float, truncated: bool = False, success: bool = False) -> Outcome:
    return Outcome(total, {}, False, truncated, success)


def feed(log: EpisodeLog, episode: str, stamps: list[int]) -> None:
    for stamp in stamps:
        log.add_state('joint_states', stamp, episode, b's%d' % stamp)


def contents(path: Path) -> set[tuple[str, bytes]]:
    return {(message.topic, bytes(message.data)) for message in read_episode(path).messages()}


def test_early_goals_and_late_rewards_find_their_file(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.add('goal', 10, b'goal of 1')                 # before its state
    feed(log, '1@10', [10, 20, 30])
    log.add('goal', 40, b'goal of 2')                 # before its state
    log.add('joint_command', 20, b'command at 20')
    feed(log, '2@40', [40, 50])
    log.add('reward', 30, b'last reward of 1')        # after the next episode has begun
    log.note_reward('1@10', 30, outcome(2.0, truncated=True, success=True))
    log.add('reward', 50, b'reward of 2')
    log.close(5.0)
    first, second = sorted(tmp_path.glob('*.mcap'))
    assert contents(first) == {
        ('goal', b'goal of 1'), ('joint_states', b's10'), ('joint_states', b's20'),
        ('joint_states', b's30'), ('joint_command', b'command at 20'),
        ('reward', b'last reward of 1')}
    assert contents(second) == {('goal', b'goal of 2'), ('joint_states', b's40'),
                                ('joint_states', b's50'), ('reward', b'reward of 2')}
    assert log.misplaced == 0
    assert log.files == 2


def test_what_is_worth_adding(tmp_path: Path) -> None:
    log = make(tmp_path, every=2)
    assert log.wants(10), 'nothing is known yet'
    feed(log, '1@10', [10, 20])
    assert log.wants(20)
    feed(log, '2@30', [30])
    assert log.wants(20) and not log.wants(30) and log.wants(40)
    log.close(5.0)


def test_metadata_says_how_it_ended_and_what_it_earned(tmp_path: Path) -> None:
    log = make(tmp_path)
    feed(log, '1@10', [10])
    log.note_reward('1@10', 10, outcome(0.0))         # the first state has earned nothing
    feed(log, '1@10', [20, 30])
    log.note_policy(10, 'p@3')
    log.note_policy(20, 'p@4')
    log.note_reward('1@10', 20, outcome(1.0))
    log.note_reward('1@10', 30, outcome(4.0, truncated=True, success=True))
    log.note_reward('1@10', 40, outcome(9.0))         # after the end nothing counts
    log.close(5.0)
    metadata = read_episode(next(tmp_path.glob('*.mcap'))).metadata
    assert metadata['reason'] == 'truncated'
    assert metadata['success'] == 'true'
    assert metadata['steps'] == '2'
    assert float(metadata['return_undiscounted']) == 5.0
    assert float(metadata['return_discounted']) == 1.0 + 0.5 * 4.0
    assert json.loads(metadata['policy_versions']) == ['p@3', 'p@4']
    assert metadata['seed'] == '7'


@pytest.mark.parametrize(('ended', 'reason'), [(True, 'truncated'), (False, 'shutdown')])
def test_the_last_episode_says_whether_it_was_cut_short(tmp_path: Path, ended: bool,
                                                       reason: str) -> None:
    log = make(tmp_path)
    feed(log, '1@10', [10, 20])
    if ended:
        log.note_reward('1@10', 20, outcome(1.0, truncated=True))
    log.close(5.0)
    assert read_episode(next(tmp_path.glob('*.mcap'))).metadata['reason'] == reason


def test_an_episode_reset_by_hand_says_so(tmp_path: Path) -> None:
    log = make(tmp_path)
    feed(log, '1@10', [10, 20])
    feed(log, '2@30', [30, 40])
    log.close(5.0)
    first = sorted(tmp_path.glob('*.mcap'))[0]
    assert read_episode(first).metadata['reason'] == 'reset'


def test_every_nth_episode_is_kept(tmp_path: Path) -> None:
    log = make(tmp_path, every=3)
    for number in range(1, 8):
        feed(log, f'{number}@{number * 100}', [number * 100, number * 100 + 10])
    log.close(5.0)
    kept = [read_episode(path).metadata['episode'] for path in sorted(tmp_path.glob('*.mcap'))]
    assert kept == ['1@100', '4@400', '7@700']


def test_a_disk_that_refuses_is_reported_and_raises_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / 'file'
    blocked.write_text('not a folder')
    log = make(blocked / 'episodes')
    feed(log, '1@10', [10, 20])
    log.add('reward', 20, b'r')
    log.add_now('safety/state', b's')
    log.close(1.0)
    assert 'cannot record' in log.error
    assert log.files == 0


def test_episodes_with_a_stalled_camera_are_marked(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.note_stalled(['front'])                       # in no episode yet
    feed(log, '1@10', [10, 20])
    feed(log, '2@40', [40, 50])
    log.note_stalled(['wrist', 'front'])
    log.note_stalled(['wrist'])
    feed(log, '3@70', [70, 80])
    log.note_stalled([])
    log.close(5.0)
    marks = [json.loads(read_episode(path).metadata['stalled_cameras'])
             for path in sorted(tmp_path.glob('*.mcap'))]
    assert marks == [[], ['wrist', 'front'], []]


@pytest.mark.parametrize(('linger', 'kept'), [(3, False), (10, True)])
def test_a_late_picture_finds_its_file_while_that_lingers(tmp_path: Path, linger: int,
                                                          kept: bool) -> None:
    log = EpisodeLog(tmp_path, load_task('arm', 'reach').contract, TYPES, every=1, seed=7,
                     notes={}, discount=0.5, clock=itertools.count(1).__next__, linger=linger)
    feed(log, '1@10', [10, 20])
    feed(log, '2@40', [40, 50, 60, 70, 80])
    log.add('safety/state', 20, b'a picture')
    log.close(5.0)
    first = sorted(tmp_path.glob('*.mcap'))[0]
    assert (('safety/state', b'a picture') in contents(first)) == kept
    assert log.misplaced == (0 if kept else 1)


@pytest.mark.parametrize('early', [True, False])
def test_an_episode_that_a_fault_has_cut_is_void(tmp_path: Path, early: bool) -> None:
    log = make(tmp_path)
    feed(log, '1@10', [10, 20])
    log.note_reward('1@10', 20, outcome(2.0, success=True))
    if early:
        log.note_void('2@40', 'joints are not finite')  # heard before its states
    feed(log, '2@40', [40, 50])
    feed(log, '3@60', [60])
    if not early:
        log.note_void('2@40', 'joints are not finite')  # heard after the next episode began
    feed(log, '3@60', [70, 80, 90])
    log.close(5.0)
    first, second, third = (read_episode(path).metadata for path in
                            sorted(tmp_path.glob('*.mcap')))
    assert (second['reason'], second['void']) == ('void', 'joints are not finite')
    assert second['success'] == 'false'
    assert [(m['reason'], m['void']) for m in (first, third)] == [('reset', ''), ('shutdown', '')]
    assert first['success'] == 'true'


# --- which episodes are kept ---------------------------------------------------------------

def curated(folder: Path, keep: str = 'successes', most: int = 0) -> EpisodeLog:
    ticks = itertools.count(1)
    return EpisodeLog(folder, load_task('arm', 'reach').contract, TYPES, every=1, seed=7,
                      notes={'operator': 'anna'}, discount=0.5, clock=lambda: next(ticks),
                      keep=keep, most=most)


def demonstrate(log: EpisodeLog, number: int, success: bool = True,
                source: str = 'teleop:anna') -> None:
    """One episode of three states, ten apart, which begins at a hundred times its number."""
    start = 100 * number
    name = f'{number}@{start}'
    for stamp in (start, start + 10, start + 20):
        feed(log, name, [stamp])
        log.note_executed(stamp, source)
    log.note_reward(name, start + 20, outcome(1.0, truncated=True, success=success))


def kept(folder: Path) -> list[dict[str, str]]:
    return [read_episode(path).metadata for path in sorted(folder.glob('*.mcap'))]


def numbers(folder: Path) -> list[str]:
    return [metadata['episode'].partition('@')[0] for metadata in kept(folder)]


@pytest.mark.parametrize(('keep', 'most', 'expected'), [
    ('all', 0, ['1', '2', '3', '4']), ('demonstrated', 0, ['1', '2', '4']),
    ('successes', 0, ['1', '4']), ('successes', 1, ['1'])])
def test_what_is_kept_of_itself(tmp_path: Path, keep: str, most: int,
                                expected: list[str]) -> None:
    log = curated(tmp_path, keep, most)
    demonstrate(log, 1)
    demonstrate(log, 2, success=False)
    demonstrate(log, 3, source='teleop:anna/standby')
    demonstrate(log, 4)
    log.close(5.0)
    assert numbers(tmp_path) == expected
    assert log.files == len(expected)
    assert log.discarded == 3 - len([number for number in expected if number != '3'])
    assert not list(tmp_path.glob('*.partial'))


def test_a_person_has_the_last_word(tmp_path: Path) -> None:
    log = curated(tmp_path)
    assert log.mark('save') == (False, 'nothing has been demonstrated in this episode yet')
    assert log.mark('discard') == (False, 'there is no demonstration to discard')
    for number, what in enumerate(('discard', 'save', 'failure', 'success'), 1):
        demonstrate(log, number, success=number in (1, 3))
        assert log.mark(what)[0]
    demonstrate(log, 5)
    log.close(5.0)
    assert numbers(tmp_path) == ['2', '4', '5']
    found = kept(tmp_path)
    assert [metadata['success'] for metadata in found] == ['false', 'true', 'true']
    assert [metadata['judge'] for metadata in found] == ['reward', 'operator', 'reward']
    assert json.loads(found[0]['sources']) == {'teleop:anna': 3}


def test_the_one_before_can_still_be_discarded(tmp_path: Path) -> None:
    """Whether its file waits for late messages or is complete: nobody is quicker than an end."""
    log = curated(tmp_path)
    demonstrate(log, 1)
    feed(log, '2@200', [200])                  # it waits
    log.note_executed(200, 'teleop:anna/standby')
    assert log.mark('discard')[0]
    feed(log, '2@200', [210, 220, 230])
    demonstrate(log, 3)
    feed(log, '4@400', [400, 410, 420, 430])   # the third is complete
    assert log.mark('discard') == (True, 'episode 3: discarded')
    assert log.mark('discard')[0] is False
    log.close(5.0)
    assert numbers(tmp_path) == []
    assert (log.files, log.discarded) == (0, 2)
