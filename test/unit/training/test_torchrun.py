# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One run in several processes that torchrun starts."""

import json
import os
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
from partner_processes import ended, meeting, start
import pytest
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.runs.record import read_run
from rl_nodes.training.checkpoint import CheckpointStore
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.partnership import newest_of_all, require_alike
from rl_nodes.training.sources import EnvSource, make_envs
import torch

SETTINGS = """
algorithm: ppo
learner: {hidden: [8], rollout_steps: 25, batch_size: 25, kl_stop: 0.05}
loop: {n_envs: 2, evaluate_every_steps: 200, evaluation_episodes: 2, confirmation_episodes: 2}
"""


@pytest.mark.slow
def test_two_processes_train_and_resume_as_one_run(tmp_path):
    (tmp_path / 'small.yaml').write_text(SETTINGS)
    folder = tmp_path / 'run'
    for steps, more in ((400, ()), (600, ('resume:=true',))):
        done = subprocess.run(
            [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2',
             '--standalone', '-m', 'rl_nodes', 'train', 'env:=CartPole-v1', 'film:=false',
             f'algorithm:={tmp_path / "small.yaml"}', f'steps:={steps}',
             f'run_dir:={folder}', *more], capture_output=True, text=True, timeout=100,
            env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[3])})
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('ended (steps)') == 1
        run = read_run(folder)
        assert run.record.state == 'finished' and run.steps == steps
        assert run.record.settings['processes'] == 2
    assert PolicyBundle.load(folder / 'policy.onnx').manifest.evaluation['episodes'] == 2


FAULTY = """
import os, sys
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
from rl_nodes.algorithms.partners import Partners
from rl_nodes.cli import main

fault, steps, averages = sys.argv[1], [], []

class Faulty(CartPoleEnv):
    def step(self, action):
        steps.append(None)
        answer = super().step(action)
        if fault == 'reward' and os.environ['RANK'] == '1' and len(steps) == 60:
            return (answer[0], float('nan'), *answer[2:])
        return answer

def average(self, values, really=Partners.average):
    averages.append(values.numel() > 9)
    if fault == 'gradient' and os.environ['RANK'] == '1' and values.numel() > 9 \\
            and sum(averages) == 11:
        values.fill_(float('nan'))
    really(self, values)

Partners.average = average
gymnasium.register('Faulty-v0', entry_point=Faulty, max_episode_steps=100)
sys.exit(main(['train', 'env:=Faulty-v0', 'film:=false', 'steps:=400', *sys.argv[2:]]))
"""
DQN = """
algorithm: dqn
learner: {hidden: [8], batch_size: 16, buffer_size: 500, learning_starts: 50}
loop: {n_envs: 2, evaluation_episodes: 2, confirmation_episodes: 2, evaluate_every_steps: 200}
"""


@pytest.mark.slow
@pytest.mark.parametrize('settings, fault, text', [
    (SETTINGS, 'gradient', 'DIVERGED (1 of at most 3)'), (DQN, 'gradient', 'DIVERGED (1 of at'),
    (SETTINGS, 'reward', 'nothing is learned from this rollout')])
def test_what_goes_wrong_in_one_process_is_undone_in_all(tmp_path, settings, fault, text):
    (tmp_path / 'small.yaml').write_text(settings)
    words = [fault, f'algorithm:={tmp_path / "small.yaml"}', f'run_dir:={tmp_path / "run"}']
    both = [start(['-c', FAULTY, *words], variables) for variables in meeting(2)]
    (status, said), (other, also) = map(ended, both)
    assert (status, other) == (0, 0), said + also
    assert said.count(text) == 1
    weights = [CheckpointStore(tmp_path / 'run' / 'checkpoints' / process).load_newest()[0]
               ['learner']['weights'] for process in ('', 'process_1')]
    for first, second in zip(*([each] if torch.is_tensor(each) else each.values()
                               for each in weights)):
        assert torch.isfinite(first).all() and torch.equal(first, second)
    assert read_run(tmp_path / 'run').record.state == 'finished'


@pytest.mark.parametrize('more, text', [
    ({'algorithm': 'trpo'}, 'trpo: several processes can learn together with a2c, ddpg, dqn'),
    ({'algorithm': 'sac', 'changes': {'learner.constraint.cost': 'spent'}}, 'and without a con'),
    ({'algorithm': 'sac', 'changes': {'loop.curriculum.schedule': 'linear'},
      'env': 'rl_nodes/ReachRandomised-v0', 'env_module': 'rl_nodes.envs'}, 'without loop.curr'),
    ({'algorithm': 'sac', 'ray_workers': 1}, 'without loop.curriculum and ray_workers')])
def test_what_takes_one_process_is_refused(tmp_path, monkeypatch, more, text):
    monkeypatch.setattr(Partners, 'of_environment', lambda: alone_of_two(0))
    with pytest.raises(TrainingError, match=text):
        train(TrainOptions(**{'env': 'Pendulum-v1', 'steps': 10} | more,
                           run_dir=str(tmp_path / 'run')))


def alone_of_two(rank, told=None):
    """Return partners of whom the first one gives what this one does, or something else."""
    return SimpleNamespace(rank=rank, count=2, close=lambda: None, first_says=lambda given: given,
                           first_tells=lambda given: given if told is None else told)


def test_other_settings_than_those_of_the_first_are_refused():
    ours = {'seed': 3, 'settings': {'learner': {'hidden': (8,), 'batch_size': 4}}}
    require_alike(ours, alone_of_two(1))
    told = json.dumps({'seed': 3, 'settings': {'learner': {'hidden': (8,), 'batch_size': 5}}})
    with pytest.raises(TrainingError, match=(
            'process 1 of those that learn together has other settings:\n  '
            'settings.learner.batch_size: the first one has 5, this one has 4\nStart all')):
        require_alike(ours, alone_of_two(1, told))


def test_the_newest_checkpoint_of_all_is_resumed_from(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    for steps in (100, 200, 300):
        store.save({'steps': steps}, steps)
    for theirs, found in (([300], 300), ([200, 200], 200), ([250, 200, 200], 200),
                          ([250, 150, 100], 100), ([-1], None), ([50, -1], None)):
        newest_of_theirs = iter(theirs)
        partners = SimpleNamespace(gather=lambda ours: torch.cat(
            (ours, torch.tensor([next(newest_of_theirs)]))))
        newest = newest_of_all(store, partners)
        assert (newest and newest[0]['steps']) == found


@pytest.mark.parametrize('source', [RolloutSource, EnvSource])
def test_each_process_has_other_episodes(point_env, source):
    learner = SimpleNamespace(forget=lambda ended: None)
    starts = [source(make_envs(point_env, 2), learner, 0, rank=rank)._observation[:, 0]
              for rank in (0, 1)]
    assert len(np.unique(starts)) == 4
    four = source(make_envs(point_env, 4), learner, 0)._observation[:, 0]
    np.testing.assert_array_equal(np.concatenate(starts), four)
