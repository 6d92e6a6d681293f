# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What each method leaves as ONNX file: the same actions, the same exploration, or a refusal."""

import io

import gymnasium
import numpy as np
import pytest
from rl_nodes.core.errors import BundleError, GraphError
from rl_nodes.core.types import RobotState
from rl_nodes.graph import build
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress
from rl_nodes.training.settings import make_learner, settings_from
from rl_nodes.training.sources import contract_of, EnvSource, make_envs
import torch

STATE = RobotState(0, '1@0', np.zeros(1), np.zeros(1), np.zeros(1))
SMALL = {'hidden': [16, 16], 'learning_starts': 20, 'batch_size': 8, 'buffer_size': 1000}


def exported(env, algorithm, **settings):
    contract = contract_of(env, 'point')
    learner = make_learner(settings_from(
        {'algorithm': algorithm, 'learner': SMALL | settings}, 'test'), contract, 0)
    module = learner.policy_module()
    exporter = PolicyExporter(module, contract, 'point', algorithm, learner.sampling,
                              noise_correlation=learner.noise_correlation)
    return learner, exporter, exporter.export(module, 1, 0)


@pytest.mark.parametrize(('noise', 'correlation'), [('normal', 0.0), ('ou', 0.9)])
def test_a_server_explores_as_the_learner_does(point_env, noise, correlation):
    """Noise over time, at the place where actions are computed, from the file alone."""
    learner, _, bundle = exported(point_env(), 'ddpg', noise=noise, noise_correlation=0.9,
                                  initial_noise=0.2)
    policy = PolicyRuntime(PolicyBundle.from_parts(bundle.onnx, bundle.manifest_json()))
    observation = np.array([0.3, 1.0], np.float32)
    actor = SingleActor(policy, np.random.default_rng(0))
    x = np.array([actor.act(observation, STATE)[0] for _ in range(4000)])
    assert x.std() == pytest.approx(0.2 * 2.0, rel=0.1)
    assert np.corrcoef(x[:-1], x[1:])[0, 1] == pytest.approx(correlation, abs=0.04)
    calm = SingleActor(policy, None).act(observation, STATE).copy()
    np.testing.assert_allclose(calm, learner.act(observation[None], explore=False)[0], atol=1e-5)
    assert abs(x.mean() - calm[0]) < 0.1


def test_state_dependent_spread_is_in_the_file(point_env):
    learner, _, bundle = exported(point_env(), 'sac', state_dependent_noise=4)
    actor = SingleActor(PolicyRuntime(bundle), np.random.default_rng(0))
    _, _, std = learner.policy_module()(torch.tensor([[0.3, 1.0]]))
    x = np.array([actor.act(np.array([0.3, 1.0], np.float32), STATE)[0] for _ in range(4000)])
    assert np.arctanh(x / 2.0).std() == pytest.approx(std.item(), rel=0.1)


def test_noise_that_a_later_version_lowers_is_in_the_file(point_env):
    learner, exporter, _ = exported(point_env(), 'td3', initial_noise=1.0, noise_std=0.1)
    source = EnvSource(make_envs(point_env, 1), learner, 0)
    for _ in range(20):  # learning may start
        learner.observe(source.collect())
    source.close()
    later = exporter.export(learner.policy_module(), 2, 1)
    actor = SingleActor(PolicyRuntime(later), np.random.default_rng(0))
    x = np.array([actor.act(np.zeros(2, np.float32), STATE)[0] for _ in range(2000)])
    assert x.std() == pytest.approx(0.2, rel=0.1)
    assert later.manifest.sampling == 'gaussian'


def test_sampled_actions_stay_within_the_bounds(point_env):
    _, _, bundle = exported(point_env(), 'td3', initial_noise=2.0)
    policy, rng = PolicyRuntime(bundle), np.random.default_rng(0)
    x = np.array([policy.sample(np.zeros(2, np.float32), rng)[0] for _ in range(200)])
    assert np.abs(x).max() == 2.0


def test_a_mean_that_is_not_the_action_is_refused(point_env):
    learner, exporter, _ = exported(point_env(), 'td3')
    module = learner.policy_module()
    module.forward = lambda o: (torch.zeros(len(o), 1), torch.ones(len(o), 1),
                                torch.full((len(o), 1), 0.5))
    with pytest.raises(BundleError, match='action is not action_mean clipped'):
        exporter.export(module, 2, 1)


@pytest.mark.parametrize('algorithm', ['dqn', 'rainbow', 'ppo_cartpole'])
def test_a_discrete_run_leaves_a_policy_that_plays_and_no_robot_takes(tmp_path, algorithm):
    result = train(TrainOptions(env='CartPole-v1', algorithm=algorithm, steps=1100,
                                run_dir=str(tmp_path)), Progress(io.StringIO()))
    assert result.updates > 0
    policy = PolicyRuntime(PolicyBundle.load(result.policy))
    env = gymnasium.make('CartPole-v1')
    observation, _ = env.reset(seed=0)
    action = policy.act(observation)
    assert (action.dtype, action.shape) == (np.int64, (1,))
    assert env.action_space.contains(action[0])
    with pytest.raises(GraphError, match='chooses one of several actions by its number'):
        build('deploy', {'policy': str(result.policy)}, {})


def test_values_so_near_that_rounding_decides_are_no_defect(point_env):
    env = point_env()
    env.action_space = gymnasium.spaces.Discrete(3)
    learner, exporter, _ = exported(env, 'dqn')

    def forward(observation):
        chosen = torch.zeros(len(observation), 1, dtype=torch.int64)
        chosen[:wrong] = 2
        return chosen

    module = learner.policy_module()
    for parameter in module.parameters():
        parameter.data.zero_()  # the file chooses 0 everywhere
    module.forward = forward
    wrong = 0
    exporter.export(module, 2, 1)
    wrong = 60
    with pytest.raises(BundleError, match='choose another action for .* of'):
        exporter.export(module, 3, 1)
