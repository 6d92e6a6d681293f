# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A short run from the options to the files it leaves, and its resumption."""

import io
import json

import gymnasium
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, BundleError, CheckpointError, TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.runs.record import read_rows, read_run
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress
from rl_nodes.training.session import Session
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CONFIG = """
algorithm: sac
learner: {hidden: [32, 32], batch_size: 32, buffer_size: 5000, learning_starts: 50,
          critic_learning_rate: 0.003, actor_learning_rate: 0.003}
loop: {evaluate_every_steps: 150, evaluation_episodes: 5, confirmation_episodes: 6}
"""


@pytest.fixture
def options(tmp_path, point_env):
    gymnasium.register('rl_nodes_test/Point-v0', entry_point=lambda: point_env())
    (tmp_path / 'small.yaml').write_text(CONFIG)

    def make(**others):
        return TrainOptions(**({'env': 'rl_nodes_test/Point-v0', 'steps': 300,
                                'algorithm': str(tmp_path / 'small.yaml'),
                                'run_dir': str(tmp_path / 'run')} | others))
    yield make
    gymnasium.registry.pop('rl_nodes_test/Point-v0')


def test_run_resume_and_what_they_leave(options, tmp_path):
    stream = io.StringIO()
    result = train(options(), Progress(stream))
    folder = tmp_path / 'run'
    assert (result.reason, result.steps, result.run_dir) == ('steps', 300, folder)
    assert (folder / 'learning_curve.png').stat().st_size > 10_000
    assert 'return' in (folder / 'summary.md').read_text()
    events = EventAccumulator(str(folder / 'tensorboard'))
    events.Reload()
    assert {'episodes/return', 'action/0', 'policy/network.0.weight'} \
        <= set(events.Tags()['histograms'])
    record = read_run(folder)
    assert (record.record.state, record.record.reason, record.steps) == ('finished', 'steps', 300)
    assert (record.record.task, record.record.algorithm, record.record.seed) == (
        'rl_nodes_test_Point-v0', 'sac', 0)
    assert record.record.settings['learner.batch_size'] == 32
    assert record.result('return') == result.evaluation.mean_return
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert {row['kind'] for row in rows} == {'train', 'evaluation'}
    bundle = PolicyBundle.load(result.policy)
    assert bundle.manifest.evaluation['success_rate'] == result.evaluation.success_rate
    assert bundle.manifest.evaluation['episodes'] == 6
    assert abs(PolicyRuntime(bundle).act(np.array([0.5, 0.0], np.float32))) <= 2.0

    with pytest.raises(TrainingError, match='holds another run'):
        train(options(), Progress(stream))
    with pytest.raises(CheckpointError, match='seed: checkpoint has 0, this run has 1'):
        train(options(seed=1, resume=True), Progress(stream))
    resumed = train(options(steps=400, resume=True), Progress(stream))
    assert resumed.steps == 400
    assert resumed.updates == result.updates + 100
    assert 'resumed at step 300' in stream.getvalue()


def test_nothing_to_resume(options):
    with pytest.raises(CheckpointError, match='nothing to resume'):
        train(options(resume=True), Progress(io.StringIO()))
    with pytest.raises(TrainingError, match='needs run_dir'):
        train(options(resume=True, run_dir=''), Progress(io.StringIO()))


def test_settings_change_by_arguments(options, tmp_path):
    result = train(options(changes={'learner.batch_size': '16', 'loop.n_envs': '3'}, steps=60),
                   Progress(io.StringIO()))
    settings = read_run(result.run_dir).record.settings
    assert (settings['learner.batch_size'], settings['n_envs']) == (16, 3)
    assert settings['learner.hidden'] == [32, 32]


def test_a_run_that_cannot_go_on_is_recorded_as_failed(options, tmp_path):
    with pytest.raises(TrainingError, match='dqn chooses discrete actions'):
        train(options(algorithm='dqn'), Progress(io.StringIO()))
    record = read_run(tmp_path / 'run').record
    assert record.state == 'failed' and 'dqn chooses discrete' in record.reason


def test_an_environment_that_breaks_costs_nothing_learned(options, tmp_path, point_env,
                                                          monkeypatch):
    steps = iter(range(200))

    def step(self, action):
        if next(steps, None) is None:
            raise OSError('the gripper lost its cable')
        return whole(self, action)

    whole = point_env.step
    monkeypatch.setattr(point_env, 'step', step)
    stream = io.StringIO()
    with pytest.raises(BackendError, match=r'step\(\) of rl_nodes_test/Point-v0 failed: OSError: '
                                           r'the gripper lost its cable \(test_in_process.py:'):
        train(options(changes={'loop.evaluate_every_steps': '1000'}), Progress(stream))
    assert read_run(tmp_path / 'run').record.state == 'failed'
    assert 'with resume:=true it goes on from step 200' in stream.getvalue()
    monkeypatch.setattr(point_env, 'step', whole)
    resumed = train(options(changes={'loop.evaluate_every_steps': '1000'}, resume=True),
                    Progress(stream))
    assert (resumed.reason, resumed.steps) == ('steps', 300)


def test_a_policy_that_cannot_be_saved_is_an_error(options, tmp_path, monkeypatch):
    def full(self, path):
        raise BundleError(f'{path}: no space left')

    monkeypatch.setattr(PolicyBundle, 'save', full)
    stream = io.StringIO()
    with pytest.raises(TrainingError, match=r'training ended \(steps\), but .*: no space left'):
        train(options(steps=160), Progress(stream))
    assert 'ALARM: the best policy so far could not be saved' in stream.getvalue()
    assert read_run(tmp_path / 'run').record.state == 'failed'


def test_killed_while_the_left_policy_is_judged(options, tmp_path, monkeypatch):
    """The last checkpoint comes first, so what is evaluated after it is evaluated once more."""
    def killed(self, bundle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, '_evaluate_fresh', killed)
        with pytest.raises(KeyboardInterrupt):
            train(options(steps=200), Progress(io.StringIO()))
    train(options(steps=200, resume=True), Progress(io.StringIO()))
    rows = read_rows(tmp_path / 'run' / 'metrics.jsonl')
    assert [row['step'] for row in rows if row['kind'] == 'evaluation'] == [150, 200]
