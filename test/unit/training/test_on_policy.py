# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts of known environments, and a short run from the options to the files it leaves."""

import io
import json
import shutil
import threading

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.progress import Progress


class Counter(gymnasium.Env):
    """Observes how many steps it has made; its ends are told beforehand."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3, start=1)

    def __init__(self, number, terminates_at, truncates_at):
        self.number, self.ends = number, (terminates_at, truncates_at)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([self.number, 0], np.float32), {}

    def step(self, action):
        self.t += 1
        ended = [self.t == end for end in self.ends]
        return (np.array([self.number, self.t], np.float32), float(action), *ended,
                {'success': ended[0]})


class Always:
    """Stands for a learner: draws 0, 1, 2, 0 ... and commands one more."""

    whole_episodes, rollout_length, updates, name = False, 7, 42, 'always'
    drawn = 0

    def __init__(self):
        self.made = []

    def act(self, observation):
        Always.drawn += 1
        self.made = [made + 1 for made in self.made or [0] * len(observation)]
        return np.full((len(observation), 1), Always.drawn % 3, np.float32)

    def command(self, action):
        return action.astype(np.int64) + 1

    def remembered(self, count):
        """Return how many steps each environment has made in its episode."""
        return np.array(self.made, np.float32)[:, None] if self.made else np.zeros((count, 1))

    def forget(self, ended):
        self.made = [0 if end else made for made, end in zip(self.made, ended)]


@pytest.fixture
def collect():
    def make(ends, **settings):
        envs = gymnasium.vector.SyncVectorEnv(
            [lambda i=i, end=end: Counter(i, *end) for i, end in enumerate(ends)],
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
        learner = Always()
        for name, value in settings.items():
            setattr(learner, name, value)
        source = RolloutSource(envs, learner, 0)
        return lambda: source.collect_rollout(threading.Event())
    return make


def test_rollout_of_fixed_length(collect):
    again = collect([(3, 99), (99, 5)])
    rollout = again()
    np.testing.assert_array_equal(rollout.observation[:, 0, 1], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(rollout.observation[:, 1, 1], [0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(np.argwhere(rollout.terminated), [[2, 0], [5, 0]])
    np.testing.assert_array_equal(np.argwhere(rollout.truncated), [[4, 1]])
    np.testing.assert_array_equal(rollout.cut_observation, [[1, 5]])  # not the next episode's 0
    np.testing.assert_array_equal(rollout.last_observation, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(rollout.reward, rollout.action[..., 0] + 1)
    assert rollout.counted.all() and rollout.policy_version == 42
    assert [(length, success) for _, length, success in rollout.episodes] == [
        (3, True), (5, False), (3, True)]
    first = rollout.episodes[0][0]
    assert first == rollout.reward[:3, 0].sum()
    following = again()
    np.testing.assert_array_equal(following.observation[0], rollout.last_observation)
    np.testing.assert_array_equal(rollout.memory, [[0], [0]])
    np.testing.assert_array_equal(following.memory, [[1], [2]])  # forgotten where one ended


def test_rollout_of_whole_episodes(collect):
    again = collect([(2, 99), (99, 5)], whole_episodes=True, rollout_length=2)
    for _ in range(2):
        rollout = again()
        assert rollout.reward.shape == (10, 2)
        np.testing.assert_array_equal(rollout.observation[0, :, 1], [0, 0])
        np.testing.assert_array_equal(rollout.counted[:, 0], np.arange(10) < 4)
        assert rollout.counted[:, 1].all()
        assert sorted(length for _, length, _ in rollout.episodes) == [2, 2, 5, 5]


def test_whole_episodes_begin_anew(collect):
    again = collect([(2, 99), (3, 99)], whole_episodes=True, rollout_length=1)
    for _ in range(3):
        rollout = again()
        np.testing.assert_array_equal(rollout.observation[0, :, 1], [0, 0])
        assert [length for _, length, _ in rollout.episodes] == [2, 3]


def test_episode_that_both_terminates_and_is_cut_has_no_value_to_come(collect):
    rollout = collect([(3, 3)])()
    assert rollout.terminated[2, 0] and not rollout.cut.any()
    assert rollout.cut_observation.shape == (0, 2)


def test_a_restart_begins_with_an_empty_memory():
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: Counter(0, 99, 99)], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    source, never = RolloutSource(envs, Always(), 0), threading.Event()
    assert source.collect_rollout(never).memory == 0
    assert source.collect_rollout(never).memory == 7
    source.restart(14)
    assert source.collect_rollout(never).memory == 0


def test_stop_leaves_an_unfinished_rollout():
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: Counter(0, 3, 99)], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    stop = threading.Event()
    stop.set()
    assert RolloutSource(envs, Always(), 0).collect_rollout(stop) is None


def test_endless_episodes_are_refused(collect, monkeypatch):
    monkeypatch.setattr('rl_nodes.training.on_policy.MAX_ROLLOUT_STEPS', 20)
    with pytest.raises(TrainingError, match='needs episodes that end'):
        collect([(999, 999)], whole_episodes=True, rollout_length=1)()


CONFIG = """
algorithm: ppo
learner: {hidden: [32], rollout_steps: 25, epochs: 4, batch_size: 50, learning_rate: 0.01}
loop: {n_envs: 2, evaluate_every_steps: 500, evaluation_episodes: 5, confirmation_episodes: 6}
"""


@pytest.fixture
def options(tmp_path, point_env):
    gymnasium.register('rl_nodes_test/Point-v0', entry_point=lambda: point_env())
    (tmp_path / 'small.yaml').write_text(CONFIG)

    def make(name='run', **others):
        return TrainOptions(**({'env': 'rl_nodes_test/Point-v0', 'steps': 1000,
                                'algorithm': str(tmp_path / 'small.yaml'),
                                'run_dir': str(tmp_path / name)} | others))
    yield make
    gymnasium.registry.pop('rl_nodes_test/Point-v0')


def test_run_resume_and_what_they_leave(options, tmp_path):
    stream = io.StringIO()
    result = train(options(), Progress(stream))
    assert (result.reason, result.steps) == ('steps', 1000)
    rows = [json.loads(line) for line in
            (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert {row['kind'] for row in rows} == {'train', 'evaluation'}
    assert {'policy_loss', 'value_loss', 'kl', 'entropy', 'explained_variance', 'clip_fraction',
            'action_std', 'return'} <= rows[-2].keys() | rows[-1].keys()
    bundle = PolicyBundle.load(result.policy)
    assert bundle.manifest.sampling == 'gaussian'
    assert bundle.manifest.algorithm == 'ppo'
    assert abs(PolicyRuntime(bundle).act(np.array([0.5, 0.0], np.float32))) <= 2.0

    resumed = train(options(steps=1200, resume=True), Progress(stream))
    assert resumed.steps == 1200
    assert resumed.updates > result.updates
    assert 'resumed at step 1,000' in stream.getvalue()


@pytest.mark.parametrize('method', ['ppo', 'a2c', 'reinforce'])
@pytest.mark.parametrize('name, value', [('reward', np.nan), ('observation', np.inf)])
def test_what_an_environment_gives_is_no_divergence(tmp_path, point_env, method, name, value):
    """The rollout with a value that is not finite is left out, and the weights stay."""
    class Faulty(point_env):
        made, at = 0, (120, 121)

        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            Faulty.made += 1
            if Faulty.made in Faulty.at:
                reward = value if name == 'reward' else reward
                observation = observation + (0.0 if name == 'reward' else value)
                truncated = True
            return observation, reward, terminated, truncated, info

    gymnasium.register('rl_nodes_test/Faulty-v0', entry_point=Faulty,
                       disable_env_checker=True)
    length = 'episodes_per_rollout: 2' if method == 'reinforce' else 'rollout_steps: 25'
    (tmp_path / 'small.yaml').write_text(
        f'algorithm: {method}\nlearner: {{hidden: [8], {length}}}\nloop: {{n_envs: 2}}')
    said, given = io.StringIO(), {'env': 'rl_nodes_test/Faulty-v0', 'steps': 400, 'film': False,
                                  'algorithm': str(tmp_path / 'small.yaml')}
    try:
        result = train(TrainOptions(**given, run_dir=str(tmp_path / 'once')), Progress(said))
        assert result.reason == 'steps' and result.updates > 0
        assert f'{name} of an episode {value}' in said.getvalue() or (
            f'the environments gave {name} {value} (environment 1, step ' in said.getvalue())
        assert said.getvalue().count('nothing is learned from this rollout') == 1
        assert 'DIVERGED' not in said.getvalue() and 'train return nan' not in said.getvalue()
        Faulty.at = range(10**6)
        with pytest.raises(BackendError, match=f'3 rollouts in a row were not finite.*{value}'):
            train(TrainOptions(**given, run_dir=str(tmp_path / 'always')), Progress(said))
    finally:
        gymnasium.registry.pop('rl_nodes_test/Faulty-v0')


def test_killed_and_resumed_runs_repeat(options, tmp_path):
    """Whatever came before, the same checkpoint goes on to the same bits."""
    train(options(), Progress(io.StringIO()))
    policies = []
    for name in ('first', 'second'):
        shutil.copytree(tmp_path / 'run', tmp_path / name)
        result = train(options(name, steps=1500, resume=True), Progress(io.StringIO()))
        policies.append(PolicyBundle.load(result.policy))
    assert policies[0].onnx == policies[1].onnx


def test_discrete_run_ends_in_a_policy_that_evaluates(tmp_path):
    (tmp_path / 'small.yaml').write_text(CONFIG)
    result = train(TrainOptions(env='CartPole-v1', algorithm=str(tmp_path / 'small.yaml'),
                                steps=600, run_dir=str(tmp_path / 'run')),
                   Progress(io.StringIO()))
    contract = PolicyBundle.load(result.policy).manifest.contract
    assert contract.action_choices == 'discrete' and contract.action.high == (1.0,)
    assert result.evaluation.mean_return > 0
