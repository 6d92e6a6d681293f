# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transitions from files: what is taken, what is refused, and that learners use them."""

from dataclasses import replace
import io

import gymnasium
import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import CheckpointError, ConfigError, ContractError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.n_step import NStepReturns
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.data.transition_store import write_store
from rl_nodes.training import demonstrations
from rl_nodes.training.checkpoint import CheckpointStore
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress
from rl_nodes.training.sources import contract_of

CONFIG = """
algorithm: sac
learner: {hidden: [16, 16], batch_size: 32, buffer_size: 5000, learning_starts: 50,
          critic_layer_norm: true}
loop: {updates_per_step: 4.0, evaluate_every_steps: 1000, confirmation_episodes: 2}
"""


def shown(count=60):
    rng = np.random.default_rng(0)
    flags, index = np.zeros(count, bool), np.arange(count)
    action = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
    return TransitionBatch(
        rng.normal(size=(count, 2)).astype(np.float32), action, action,
        rng.normal(size=count).astype(np.float32), rng.normal(size=(count, 2)).astype(np.float32),
        rng.random(count) < 0.1, flags, flags, flags, index, index, index)


@pytest.fixture
def contract(point_env):
    return contract_of(point_env(), 'point')


def test_what_is_saved_is_loaded(tmp_path, contract):
    path = demonstrations.save(tmp_path / 'sub' / 'shown.npz', shown(), contract)
    found = demonstrations.load(path, contract)
    for name, column in shown().columns().items():
        np.testing.assert_array_equal(getattr(found, name), column)
    assert list(path.parent.iterdir()) == [path]
    other = msgspec.structs.replace(contract, task='other')
    with pytest.raises(ContractError, match='record them anew'):
        demonstrations.load(path, other)


def test_files_of_other_origin_need_little(tmp_path, contract):
    batch, path = shown(), tmp_path / 'foreign.npz'
    np.savez(path, **{name: getattr(batch, name).astype(np.float64)
                      for name in demonstrations.NEEDED})
    found = demonstrations.load(path, contract)
    assert found.observation.dtype == np.float32
    assert found.terminated.dtype == bool
    assert not found.truncated.any()


@pytest.mark.parametrize(('change', 'message'), [
    ({'reward': None}, 'no reward; expected'),
    ({'action': np.zeros((60, 3))}, r'(wanted|action) is float64'),
    ({'next_observation': np.zeros((7, 2))}, 'next_observation is'),
    ({'colour': np.zeros(60)}, 'colour is'),
    ({'truncated': np.array(['x'] * 60)}, 'truncated is <U1')])
def test_columns_that_do_not_fit_are_named(tmp_path, contract, change, message):
    columns = {name: getattr(shown(), name) for name in demonstrations.NEEDED} | change
    path = tmp_path / 'wrong.npz'
    np.savez(path, **{name: column for name, column in columns.items() if column is not None})
    with pytest.raises(ConfigError, match=message):
        demonstrations.load(path, contract)


def test_what_is_no_such_file_is_refused(tmp_path, contract):
    (tmp_path / 'damaged.npz').write_bytes(b'PK\x03\x04nothing')
    np.savez(tmp_path / 'objects.npz', reward=np.array([{}], object))
    for name in ('absent.npz', 'damaged.npz', 'objects.npz'):
        with pytest.raises(ConfigError, match='cannot be read'):
            demonstrations.load(tmp_path / name, contract)
    with pytest.raises(ConfigError, match='rl_nodes dataset export'):
        demonstrations.load(tmp_path, contract)


def test_half_of_every_batch_is_shown_and_a_resumed_run_needs_the_same(
        tmp_path, point_env, contract, small_sac):
    learner = small_sac(batch_size=10, demonstration_share=0.3)
    marked = replace(shown(), reward=np.full(60, 7.0, np.float32))
    assert learner.learn_from(marked) == 60
    learner.observe(shown())
    for _ in range(5):
        sample = learner._draw()
        assert (sample.reward == 7.0).sum() == 3
    assert len(learner.buffer) == 60

    gymnasium.register('rl_nodes_test/Shown-v0', entry_point=lambda: point_env())
    try:
        (tmp_path / 'small.yaml').write_text(CONFIG)
        path = demonstrations.save(tmp_path / 'shown.npz', shown(), contract_of(
            point_env(), 'rl_nodes_test_Shown-v0'))
        options = TrainOptions(env='rl_nodes_test/Shown-v0', steps=120, demonstrations=str(path),
                               algorithm=str(tmp_path / 'small.yaml'),
                               run_dir=str(tmp_path / 'run'))
        stream = io.StringIO()
        result = train(options, Progress(stream))
        assert 'learning from 60 demonstrated transitions' in stream.getvalue()
        assert result.updates == pytest.approx(4 * 70, abs=8)
        with pytest.raises(CheckpointError, match='demonstrations: checkpoint has'):
            train(msgspec.structs.replace(options, demonstrations='', resume=True, steps=140),
                  Progress(stream))
        resumed = train(msgspec.structs.replace(options, resume=True, steps=140), Progress(stream))
        assert resumed.steps == 140
    finally:
        gymnasium.registry.pop('rl_nodes_test/Shown-v0')


def test_the_buffer_begins_with_a_data_set(tmp_path, point_env, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gymnasium.registry, 'rl_nodes_test/Shown-v0', gymnasium.envs.registration
                        .EnvSpec('rl_nodes_test/Shown-v0', entry_point=lambda: point_env()))
    (tmp_path / 'small.yaml').write_text(CONFIG)
    path = demonstrations.save(tmp_path / 'shown.npz', shown(), contract_of(
        point_env(), 'rl_nodes_test_Shown-v0'))
    options = TrainOptions(env='rl_nodes_test/Shown-v0', steps=30, prefill=str(path),
                           algorithm=str(tmp_path / 'small.yaml'),
                           run_dir=str(tmp_path / 'run'))
    stream = io.StringIO()
    result = train(options, Progress(stream))
    assert 'the replay buffer begins with 60 transitions' in stream.getvalue()
    assert result.updates > 0, 'it does not wait for learning_starts new ones'
    state, _ = CheckpointStore(tmp_path / 'run' / 'checkpoints').load_newest()
    assert len(state['buffer']['reward']) == 90
    train(msgspec.structs.replace(options, steps=40, resume=True), Progress(stream))
    state, _ = CheckpointStore(tmp_path / 'run' / 'checkpoints').load_newest()
    assert len(state['buffer']['reward']) == 100, 'a resumed run has them already'
    with pytest.raises(TrainingError, match='nothing to prefill'):
        train(msgspec.structs.replace(options, algorithm='ppo', run_dir=''),
              Progress(stream))


def test_rows_of_unknown_order_are_not_put_together(tmp_path, contract):
    rows = shown().columns()
    np.savez(tmp_path / 'any.npz', **{name: rows[name] for name in demonstrations.NEEDED})
    found = NStepReturns(3, 0.9).add(demonstrations.load(tmp_path / 'any.npz', contract))
    np.testing.assert_array_equal(found.reward, rows['reward'][:len(found)])
    assert len(found) >= 59 and (found.discount == np.float32(0.9)).all()


def test_nothing_fit_to_learn_from_is_an_error(small_sac):
    with pytest.raises(TrainingError, match='none of 60'):
        small_sac().learn_from(replace(shown(), reward=np.full(60, np.nan, np.float32)))


def test_a_store_is_learned_from_too(tmp_path, contract):
    count = len(shown())
    write_store(tmp_path / 'store', contract, [RecordedEpisode(
        'a', shown(), np.arange(count))])
    found = demonstrations.load(tmp_path / 'store', contract)
    assert found.reward.tobytes() == shown().reward.tobytes()
    with pytest.raises(ContractError, match='does not fit'):
        demonstrations.load(tmp_path / 'store', msgspec.structs.replace(contract, task='other'))
