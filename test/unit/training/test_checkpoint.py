# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints survive damage, a full disk and a kill between any two steps of writing."""

import logging

import numpy as np
import pytest
from rl_nodes.core.errors import CheckpointError
from rl_nodes.training import checkpoint
from rl_nodes.training.checkpoint import CheckpointStore, require_same
import torch


def state(value):
    return {'weights': {'w': torch.full((3,), float(value))}, 'column': np.arange(5.0) * value,
            'steps': value, 'text': 'x', 'list': [1, 2]}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / 'checkpoints')


def test_round_trip(store):
    store.save(state(3), 3)
    loaded, path = store.load_newest()
    assert torch.equal(loaded['weights']['w'], torch.full((3,), 3.0))
    assert loaded['column'].tolist() == (np.arange(5.0) * 3).tolist()
    assert (loaded['steps'], loaded['text'], loaded['list']) == (3, 'x', [1, 2])
    assert path.name == 'checkpoint_000000000003.pt'


def test_keeps_the_newest_two_with_their_digests(store):
    for steps in (1, 20, 300):
        store.save(state(steps), steps)
    assert sorted(path.name for path in store.folder.iterdir()) == [
        'checkpoint_000000000020.pt', 'checkpoint_000000000020.sha256',
        'checkpoint_000000000300.pt', 'checkpoint_000000000300.sha256']


def test_nothing_to_load(store):
    assert store.load_newest() is None


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def damage_empty(path):
    path.write_bytes(b'')


def damage_digest(path):
    path.with_suffix('.sha256').unlink()


@pytest.mark.parametrize('damage', [damage_flip, damage_truncate, damage_empty, damage_digest])
def test_damaged_newest_falls_back_loudly(store, damage, caplog):
    store.save(state(1), 1)
    damage(store.save(state(2), 2))
    with caplog.at_level(logging.ERROR):
        loaded, path = store.load_newest()
    assert loaded['steps'] == 1
    assert 'DAMAGED CHECKPOINT' in caplog.text
    assert 'checkpoint_000000000002.pt' in caplog.text


def test_every_one_damaged_is_an_error(store):
    damage_flip(store.save(state(1), 1))
    with pytest.raises(CheckpointError, match='no usable checkpoint'):
        store.load_newest()


@pytest.mark.parametrize('failing', range(6))
def test_full_disk_leaves_the_old_one(store, monkeypatch, failing):
    store.save(state(1), 1)
    calls = []

    def failing_call(original):
        def call(*arguments):
            calls.append(arguments)
            if len(calls) > failing:
                raise OSError(28, 'No space left on device')
            return original(*arguments)
        return call

    for name in ('fsync', 'replace'):
        monkeypatch.setattr(checkpoint.os, name, failing_call(getattr(checkpoint.os, name)))
    if failing < 5:
        with pytest.raises(CheckpointError, match='No space left'):
            store.save(state(2), 2)
    else:
        store.save(state(2), 2)
    monkeypatch.undo()
    assert store.load_newest()[0]['steps'] in ((1, 2) if failing >= 4 else (1,))
    assert not list(store.folder.glob('*.tmp'))


@pytest.mark.parametrize('at', range(6))
def test_ctrl_c_in_a_save_leaves_whole_checkpoints(store, monkeypatch, at):
    """A18: whichever step it comes in, and whoever goes on in the folder cleans up."""
    store.save(state(1), 1)
    steps = []

    def interrupted(original):
        def call(*arguments):
            steps.append(original)
            if len(steps) == at + 1:
                raise KeyboardInterrupt
            return original(*arguments)
        return call

    for place, name in ((checkpoint.os, 'fsync'), (checkpoint.os, 'replace'),
                        (checkpoint.torch, 'save')):
        monkeypatch.setattr(place, name, interrupted(getattr(place, name)))
    with pytest.raises(KeyboardInterrupt):
        store.save(state(2), 2)
    monkeypatch.undo()
    again = CheckpointStore(store.folder)
    assert again.load_newest()[0]['steps'] == (2 if at == 5 else 1)
    again.save(state(3), 3)
    assert again.load_newest()[0]['steps'] == 3
    assert not list(store.folder.glob('*.tmp'))


def test_leftovers_of_a_kill_are_removed_by_whoever_writes_next(tmp_path):
    half = tmp_path / 'checkpoint_000000000009.pt.tmp'
    half.write_bytes(b'half')
    store = CheckpointStore(tmp_path)
    assert store.load_newest() is None
    assert half.exists()  # it may be somebody's who writes just now
    store.save({'steps': 10}, 10)
    assert not half.exists()


def test_foreign_file_with_a_right_digest_is_refused(store):
    path = store.save(state(1), 1)
    path.write_bytes(b'not torch')
    path.with_suffix('.sha256').write_text(f'{checkpoint._file_digest(path)}  x\n')
    with pytest.raises(CheckpointError, match='not a checkpoint'):
        checkpoint.load(path)


def test_a_view_is_saved_without_the_rest_of_its_array(store):
    big = np.zeros((1_000_000, 4), np.float32)
    assert store.save({'column': big[:10]}, 1).stat().st_size < 10_000


def test_other_settings_are_listed():
    saved = {'learner': {'discount': 0.99, 'hidden': [256, 256]}, 'seed': 0}
    require_same(saved, {'learner': {'discount': 0.99, 'hidden': (256, 256)}, 'seed': 0}, 'x.pt')
    with pytest.raises(CheckpointError) as caught:
        require_same(saved, {'learner': {'discount': 0.9, 'hidden': [64]}, 'seed': 0}, 'x.pt')
    assert 'learner.discount: checkpoint has 0.99, this run has 0.9' in str(caught.value)
    assert 'learner.hidden: checkpoint has [256, 256], this run has [64]' in str(caught.value)
    assert 'seed' not in str(caught.value)
