# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Success classifiers and recordings: what is read of them, and what they are paid anew."""

import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import ConfigError
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.joint_state import decode
from rl_nodes.nodes.recorded_states import read_examples, read_states
from rl_nodes.nodes.recorded_transitions import read_recorded
from rl_nodes.tasks import load_task
from success_files import classified_task


def test_a_classifier_sees_the_states_that_were_observed(episodes, task) -> None:
    found, view, read, files = read_examples([episodes], ())
    assert view.contract.observation == task.contract.observation
    assert (read.name, files) == ('reach', sorted(episodes.glob('*.mcap')))
    for one, path in zip(found, files, strict=True):
        batch = read_recorded(read_episode(path), task).batch
        assert one.rows[:-1].tobytes() == batch.observation.tobytes()
        assert one.rows[-1].tobytes() == batch.next_observation[-1].tobytes()
        assert one.flagged[1:].tolist() == batch.success.tolist() and not one.flagged[0]
        assert one.well is False
    found, view, _, _ = read_examples([episodes], ('goal_offset', 'tool_position'))
    assert found[0].rows.shape == (13, 6)
    np.testing.assert_allclose(found[0].rows[:, :3], batch_columns(files[0], task, 15))


def batch_columns(path, task, first: int) -> np.ndarray:
    """Return three elements of what was observed in every state."""
    batch = read_recorded(read_episode(path), task).batch
    return np.concatenate([batch.observation, batch.next_observation[-1:]])[:, first:first + 3]


def test_recordings_of_another_robot_are_refused(episodes) -> None:
    with pytest.raises(ConfigError, match='cannot be seen as reach_panda: robot was arm'):
        read_examples([episodes], (), load_task('panda', 'reach_panda'))


def test_relabelling_asks_the_classifier_and_says_which(episodes, tmp_path) -> None:
    path = classified_task(tmp_path, ', steps: 2, threshold: 0.002', slope=20.0,
                           reward='success_log_odds: 1.0, action: -0.1')
    assert main(['dataset', 'relabel', str(episodes), f'task:={path}',
                 f'output:={tmp_path / "new"}']) == 0
    task = load_task('arm', path)
    judge, successes = task.judge(), 0
    for file in sorted((tmp_path / 'new').glob('*.mcap')):
        episode, before = read_episode(file), None
        recorded = read_states(episode, task)
        told = {}
        for message in episode.messages(('reward',)):
            stamp, _, outcome = conversions.msg_to_outcome(decode(message.data))
            told[stamp] = outcome
        for stamp, (state, goal) in recorded.states.items():
            expected = task.first_outcome() if before is None else judge(
                before, recorded.commands[before.stamp_ns], state, goal)
            assert told[stamp] == expected
            before, successes = state, successes + expected.success
        assert episode.metadata['success_classifier'].startswith('reach_success@1 ')
    assert successes
    assert main(['dataset', 'relabel', str(tmp_path / 'new'), 'task:=reach',
                 f'output:={tmp_path / "old"}']) == 0
    for file in sorted(episodes.glob('*.mcap')):
        old = read_episode(tmp_path / 'old' / file.name)
        assert old.metadata['success_classifier'] == ''
        assert [m.data for m in old.messages()] == [m.data for m in read_episode(file).messages()]


def test_the_command_refuses_what_teaches_nothing(episodes, tmp_path, capsys) -> None:
    words = ['train', 'algorithm:=success_classifier', f'run_dir:={tmp_path / "run"}']
    assert main([*words, f'dataset:={episodes}']) == 1
    assert '0 states of success in 0 of 3 episodes' in capsys.readouterr().err
    assert main([*words, f'dataset:={episodes}', 'signals:=goal_ofset']) == 2
    assert "did you mean 'goal_offset'" in capsys.readouterr().err
    assert main(words) == 2
    assert 'dataset:=FOLDER' in capsys.readouterr().err
    assert main(['train', 'env:=Pendulum-v1', f'dataset:={episodes}']) == 2
    assert 'add algorithm:=bc or algorithm:=success_classifier' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
