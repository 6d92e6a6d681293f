# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Environments in Ray actors do bit by bit what they do in turn in one process."""

import io
from types import SimpleNamespace

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
import numpy as np
import pytest
from rl_nodes.cluster import require_ray
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.envs.ray_env import joined, RayVectorEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress


def assert_same(first, second, where=''):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key, value in first.items():
            assert_same(value, second[key], f'{where}.{key}')
    elif isinstance(first, np.ndarray) and first.dtype == object:
        assert len(first) == len(second), where
        for a, b in zip(first, second):
            assert (a is None) == (b is None), where
            assert a is None or np.array_equal(a, b), where
    else:
        assert np.array_equal(first, second), where


def test_what_shares_say_is_joined():
    ended = np.array([None, np.ones(2)], object)
    whole = joined([{'success': np.array([True])},
                    {'success': np.array([False, True]), 'final_obs': ended,
                     'final_info': {'x': np.array([0.0, 3.0]), '_x': np.array([False, True])}}],
                   [1, 2])
    assert whole['success'].tolist() == [True, False, True]
    assert whole['final_obs'][:2].tolist() == [None, None]
    assert whole['final_info']['x'].tolist() == [0.0, 0.0, 3.0]
    assert whole['final_info']['_x'].tolist() == [False, False, True]


def test_without_ray_one_is_told_what_to_install(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ConfigError, match=r'pip install "rl_nodes\[ray\]"'):
        require_ray()


@pytest.mark.parametrize('silent, text', [
    (True, 'the Ray actor of the environments 3 to 4 has not answered for 120 s'),
    (False, 'the Ray actor of the environments 3 to 4 failed: step() of X-v0 failed: on fire')])
def test_the_environments_that_fail_are_named(silent, text):
    class RayError(Exception):
        pass

    class GetTimeoutError(RayError):
        pass

    def get(references, timeout):
        if references not in ('well', ['well']):
            raise GetTimeoutError('no') if silent else RayError(
                'Traceback\nrl_nodes.core.errors.BackendError: step() of X-v0 failed: on fire\n')

    envs = object.__new__(RayVectorEnv)
    envs._ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(
        RayError=RayError, GetTimeoutError=GetTimeoutError))
    envs._slices = [slice(0, 3), slice(3, 5)]
    with pytest.raises(BackendError) as caught:
        envs._answers(['well', 'badly'])
    assert str(caught.value) == text


@pytest.fixture(scope='module')
def ray():
    found = pytest.importorskip('ray')
    yield require_ray()
    found.shutdown()


def test_bit_identical_to_environments_in_turn(ray):
    ours = RayVectorEnv('CartPole-v1', '', 5, 2)
    theirs = SyncVectorEnv([lambda: gymnasium.make('CartPole-v1')] * 5,
                           autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space
    for given in (7, [3, 1, 4, 1, 5]):
        for a, b in zip(ours.reset(seed=given), theirs.reset(seed=given)):
            assert_same(a, b)
    random, ends = np.random.default_rng(0), 0
    for _ in range(60):
        action = random.integers(0, 2, 5)
        for a, b in zip(ours.step(action), (answer := theirs.step(action))):
            assert_same(a, b)
        ends += answer[2].sum()
    assert ends > 3
    ours.close()


def test_training_with_actors_gives_the_same_policy(ray, tmp_path):
    (tmp_path / 'small.yaml').write_text(
        'algorithm: ppo\nlearner: {hidden: [8], rollout_steps: 25, batch_size: 50}\n'
        'loop: {n_envs: 3, evaluate_every_steps: 1000, evaluate_every_s: 1000, '
        'evaluation_episodes: 2, confirmation_episodes: 2}\n')
    policies = []
    for workers in (0, 2):
        result = train(TrainOptions(
            env='CartPole-v1', algorithm=str(tmp_path / 'small.yaml'), steps=300, film=False,
            run_dir=str(tmp_path / str(workers)), ray_workers=workers),
            Progress(io.StringIO()))
        policies.append(PolicyBundle.load(result.policy).onnx)
    assert policies[0] == policies[1]


def test_an_environment_that_breaks_ends_training_with_its_reason(ray):
    with pytest.raises(BackendError, match='the Ray actor of the environments 0 to 0.*NoSuch'):
        RayVectorEnv('NoSuch-v0', '', 2, 2)
    envs = RayVectorEnv('CartPole-v1', '', 3, 2)
    envs.reset(seed=0)
    ray.kill(envs._actors[1])
    with pytest.raises(BackendError, match='Ray actor of the environments 2 to 2 failed: .*dead'):
        envs.step(np.zeros(3, np.int64))
    envs.close()
