# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A run that is killed at any moment and resumed has the curve of one that was not, bit by bit.

With ``loop.checkpoint_every_steps``, in one process or several that learn together, on the CPU.
"""

import contextlib
import io
import random
import subprocess
import sys

import gymnasium
import numpy as np
from partner_processes import ended, meeting, start
import pytest
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.runs.record import read_rows, read_run
from rl_nodes.training.checkpoint import CheckpointStore
from rl_nodes.training.demonstrations import NEEDED
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress
import torch

LOOP = """
loop: {n_envs: 2, evaluate_every_steps: 190, evaluation_episodes: 1, confirmation_episodes: 1,
       checkpoint_every_steps: 100, log_every_s: 0.001}
"""
SETTINGS = {
    'sac': 'algorithm: sac\nlearner: {hidden: [16], batch_size: 16, buffer_size: 500, '
           'learning_starts: 50}' + LOOP,
    'td3': 'algorithm: td3\nlearner: {hidden: [16], batch_size: 16, buffer_size: 500, '
           'learning_starts: 50}' + LOOP,
    'ppo': 'algorithm: ppo\nlearner: {hidden: [16], rollout_steps: 20, batch_size: 20, '
           'epochs: 3}' + LOOP,
    'recurrent_ppo': 'algorithm: recurrent_ppo\nlearner: {hidden: [16], memory_size: 8, '
                     'rollout_steps: 20, batch_size: 20, epochs: 3, '
                     'state_dependent_noise: 8}' + LOOP,
    'recurrent_sac': 'algorithm: recurrent_sac\nlearner: {hidden: [16], memory_size: 8, '
                     'sequence_length: 4, burn_in: 4, batch_size: 16, buffer_size: 300, '
                     'learning_starts: 50}' + LOOP,
    'sac_smooth': 'algorithm: sac\nlearner: {hidden: [16], batch_size: 16, buffer_size: 500, '
                  'learning_starts: 50, state_dependent_noise: 8}' + LOOP,
    'rainbow': 'algorithm: dqn\nlearner: {hidden: [16, 16], batch_size: 16, buffer_size: 500, '
               'learning_starts: 50, double: true, dueling: true, n_step: 3, prioritized: true, '
               'categorical: true, value_min: 0.0, noisy: factorised}' + LOOP,
}
SCRIPT = """
import sys
from rl_nodes.cli import main
sys.exit(main(['train', *sys.argv[1:]]))
"""


def curve(folder):
    """Return every evaluation without the time that it came at."""
    return [{name: value for name, value in row.items() if name != 'wall_s'}
            for row in read_rows(folder / 'metrics.jsonl') if row['kind'] == 'evaluation']


def weights(folder, process=''):
    """Return the learner and its experience at the end."""
    state, _ = CheckpointStore(folder / 'checkpoints' / process).load_newest()
    return {'learner': state['learner'], 'buffer': state['buffer']}


@contextlib.contextmanager
def second_process(monkeypatch, words):
    """Let this process be the first of two that learn together."""
    here, there = meeting(2)
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    child = start(['-c', SCRIPT, *words], there)
    try:
        yield
        assert ended(child) == (0, '')
    finally:
        child.kill()
        child.communicate()


def assert_same(first, second, where=''):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key, value in first.items():
            assert_same(value, second[key], f'{where}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second)):
            assert_same(a, b, f'{where}[{index}]')
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def shown(env_id, folder):
    """Return the path of a data set, some steps with random actions."""
    env, rows = gymnasium.make(env_id), []
    env.action_space.seed(3)
    observation, _ = env.reset(seed=3)
    for _ in range(90):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, np.atleast_1d(action), reward, following, terminated,
                     truncated))
        observation = env.reset()[0] if terminated or truncated else following
    names = (*NEEDED, 'truncated')
    np.savez(folder / 'shown.npz', **dict(zip(names, map(np.array, zip(*rows)))))
    return folder / 'shown.npz'


@pytest.mark.parametrize('algorithm, given', [
    ('sac', ()), ('ppo', ()), *(pytest.param(*each, marks=pytest.mark.slow)
                                      for each in (
        ('recurrent_ppo', ()), ('recurrent_sac', ()), ('td3', ()), ('sac_smooth', ()),
        ('rainbow', ()), ('rainbow', ('prefill',)), ('recurrent_sac', ('prefill',)),
        ('sac', ('prefill', 'demonstrations'))))])
def test_the_curve_is_the_same(tmp_path, algorithm, given):
    (tmp_path / 'small.yaml').write_text(SETTINGS[algorithm])
    words = {'env': 'CartPole-v1' if algorithm == 'rainbow' else 'Pendulum-v1',
             'algorithm': str(tmp_path / 'small.yaml'), 'steps': 400, 'film': False}
    words |= {name: str(shown(words['env'], tmp_path)) for name in given}
    whole = train(TrainOptions(**words, run_dir=str(tmp_path / 'whole')),
                  Progress(io.StringIO()))

    killed = tmp_path / 'killed'
    chance = random.Random(algorithm)
    child = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, *(f'{name}:={value}' for name, value in words.items()),
         f'run_dir:={killed}'], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    rows, enough = [], chance.randrange(110, 390)
    while not rows or rows[-1]['step'] < enough:
        assert child.poll() is None, child.stderr.read()
        rows = read_rows(killed / 'metrics.jsonl')
    child.kill()
    child.communicate()
    assert read_run(killed).record.state == 'interrupted'
    assert list((killed / 'checkpoints').glob('*.pt'))

    result = train(TrainOptions(**words, run_dir=str(killed), resume=True),
                   Progress(io.StringIO()))
    assert result.steps == whole.steps >= 400
    assert curve(killed) == curve(tmp_path / 'whole')
    assert len(curve(killed)) >= 2
    assert_same(weights(killed), weights(tmp_path / 'whole'))
    assert PolicyBundle.load(result.policy).onnx \
        == PolicyBundle.load(tmp_path / 'whole' / 'policy.onnx').onnx


@pytest.mark.slow
@pytest.mark.parametrize('algorithm', ['sac', 'ppo', 'recurrent_sac', 'td3', 'rainbow'])
def test_one_of_two_processes_is_killed(tmp_path, monkeypatch, algorithm):
    """The other one says so, and both go on bit by bit like two that nobody disturbed."""
    (tmp_path / 'small.yaml').write_text(SETTINGS[algorithm])
    given = {'env': 'CartPole-v1' if algorithm == 'rainbow' else 'Pendulum-v1',
             'algorithm': str(tmp_path / 'small.yaml'), 'steps': 400, 'film': False}
    words = [f'{name}:={value}' for name, value in given.items()]
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    with second_process(monkeypatch, [*words, f'run_dir:={whole}']):
        train(TrainOptions(**given, run_dir=str(whole)), Progress(io.StringIO()))

    first, second = [start(['-c', SCRIPT, *words, f'run_dir:={killed}'], variables)
                     for variables in meeting(2)]
    rows, enough = [], random.Random(algorithm).randrange(110, 390)
    theirs = killed / 'checkpoints' / 'process_1'
    while not rows or rows[-1]['step'] < enough or not list(theirs.glob('*.pt')):
        assert first.poll() is None, first.communicate()[1]
        rows = read_rows(killed / 'metrics.jsonl')
    second.kill()
    second.communicate()
    status, said = ended(first)
    assert status == 1
    assert 'error: process 0 of those that learn together lost another one' in said
    assert read_run(killed).record.state == 'failed'

    with second_process(monkeypatch, [*words, f'run_dir:={killed}', 'resume:=true']):
        result = train(TrainOptions(**given, run_dir=str(killed), resume=True),
                       Progress(io.StringIO()))
    assert result.steps >= 400
    assert curve(killed) == curve(whole)
    for process in ('', 'process_1'):
        assert_same(weights(killed, process), weights(whole, process))
    assert_same(*(weights(whole, process)['learner']['weights'] for process in ('', 'process_1')))
    assert (weights(whole)['buffer'] != {}) == (algorithm != 'ppo')
