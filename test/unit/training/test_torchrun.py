# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One run in several processes that torchrun starts."""

import os
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.runs.record import read_run
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.sources import make_envs

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


@pytest.mark.parametrize('algorithm, changes, text', [
    ('sac', {}, 'sac learns in one process'),
    ('trpo', {}, 'trpo: several processes can learn together with a2c and ppo'),
    ('ppo', {'loop.checkpoint_every_steps': '100'}, 'without loop.curriculum and')])
def test_what_takes_one_process_is_refused(tmp_path, monkeypatch, algorithm, changes, text):
    monkeypatch.setattr(Partners, 'of_environment', lambda: SimpleNamespace(
        rank=0, count=2, close=lambda: None))
    with pytest.raises(TrainingError, match=text):
        train(TrainOptions(env='Pendulum-v1', algorithm=algorithm, changes=changes, steps=10,
                           run_dir=str(tmp_path / 'run')))


def test_each_process_has_other_episodes(point_env):
    learner = SimpleNamespace(forget=lambda ended: None)
    starts = [RolloutSource(make_envs(point_env, 2), learner, 0, rank=rank)._observation[:, 0]
              for rank in (0, 1)]
    assert len(np.unique(starts)) == 4
    four = RolloutSource(make_envs(point_env, 4), learner, 0)._observation[:, 0]
    np.testing.assert_array_equal(np.concatenate(starts), four)
