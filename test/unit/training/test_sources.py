# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transitions from vector environments are what the single environments really did."""

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.training.settings import load_settings, make_learner
from rl_nodes.training.sources import contract_of, environment_maker, EnvSource, make_envs

PARTIAL = 'rl_nodes/CartpoleSwingUpPartial-v0'


def test_transitions_connect_and_end_with_the_true_observation(point_env, small_sac):
    source = EnvSource(make_envs(point_env, 3), small_sac(), seed=0)
    batches = [source.collect() for _ in range(40)]
    rows = {}
    for batch in batches:
        assert len(batch) == 3
        for i in range(3):
            rows.setdefault(int(batch.episode[i]), []).append((batch, i))
    assert len(rows) > 12
    for episode in rows.values():
        for (batch, i), (following, j) in zip(episode, episode[1:]):
            assert not batch.terminated[i]
            assert not batch.truncated[i]
            assert np.array_equal(batch.next_observation[i], following.observation[j])
        assert [int(batch.step[i]) for batch, i in episode] == list(range(len(episode)))
        for batch, i in episode:
            x = batch.observation[i, 0] + batch.action[i, 0]
            assert batch.next_observation[i, 0] == pytest.approx(x, abs=1e-5)
            assert batch.next_observation[i, 1] == batch.step[i] + 1
            assert batch.success[i] == (abs(batch.next_observation[i, 0]) < 0.2)
            assert batch.truncated[i] == (batch.step[i] == 4)
            assert batch.terminated[i] == (abs(batch.next_observation[i, 0]) > 3.0)


def test_several_steps_per_collect(point_env, small_sac):
    batch = EnvSource(make_envs(point_env, 2), small_sac(), 0, steps_per_collect=4).collect()
    assert len(batch) == 8
    assert batch.step.tolist()[:4] == [0, 0, 1, 1]


def test_same_seed_same_experience(point_env, small_sac):
    first, second = (EnvSource(make_envs(point_env, 2), small_sac(), 7) for _ in range(2))
    for _ in range(10):
        assert np.array_equal(first.collect().observation, second.collect().observation)


@pytest.mark.parametrize('env_id', ['', PARTIAL], ids=['in turn', 'in workers'])
def test_what_only_critics_see_belongs_to_the_states_beside_it(env_id):
    """Of the swing-up: the speeds that the newest two frames of the next state differ by."""
    make = environment_maker(PARTIAL, 'rl_nodes.envs')

    class Pusher:
        updates = 0

        def act(self, observation):
            return np.full((len(observation), 1), 0.9, np.float32)

        def forget(self, ended):
            """Remember nothing anyhow."""

    source = EnvSource(make_envs(make, 2, env_id), Pusher(), seed=0)
    batch = TransitionBatch.concatenate([source.collect() for _ in range(120)])
    source.close()
    ended = batch.terminated | batch.truncated
    assert ended.sum() >= 2
    for i in range(2):  # environments
        rows = slice(i, None, 2)
        going_on = ~ended[rows][:-1]
        np.testing.assert_array_equal(batch.next_privileged[rows][:-1][going_on],
                                      batch.privileged[rows][1:][going_on])
        starts = batch.privileged[rows][batch.step[rows] == 0]
        assert len(starts) > 1 and not starts.any()  # every episode starts at rest
    speed = (batch.next_observation[:, 3] - batch.next_observation[:, 2]) * 50.0
    np.testing.assert_allclose(batch.next_privileged[:, 0], speed, atol=0.2)
    assert batch.next_privileged[ended].any(axis=1).all()


def env_with(observation=None, action=None):
    env = gymnasium.Env()
    env.observation_space = observation or spaces.Box(-1, 1, (2,), np.float32)
    env.action_space = action or spaces.Box(-1, 1, (1,), np.float32)
    return env


@pytest.mark.parametrize(('env', 'message'), [
    (env_with(action=spaces.MultiDiscrete([3, 2])), 'one dimension'),
    (env_with(observation=spaces.Dict({'a': spaces.Box(-1, 1, (2,))})), 'FlattenObservation'),
    (env_with(observation=spaces.Box(0, 255, (8, 8, 3), np.uint8)), 'one dimension'),
    (env_with(observation=spaces.Box(-1, 1, (0,))), 'not empty'),
    (env_with(observation=spaces.MultiBinary(3)), 'FlattenObservation'),
    (env_with(action=spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(2)))), 'TransformAct'),
    (env_with(action=spaces.MultiBinary(3)), 'or one Discrete'),
    (env_with(action=spaces.Box(-np.inf, np.inf, (2,))), 'unbounded'),
    (env_with(action=spaces.Box(0, 9, (2,), np.int64)), 'takes whole numbers'),
])
def test_spaces_that_do_not_fit_are_refused(env, message):
    with pytest.raises(TrainingError, match=message):
        contract_of(env, 'task')


def test_contract_has_the_spaces_bounds(point_env):
    contract = contract_of(point_env(), 'point')
    assert contract.action.low == (-2.0,)
    assert contract.observation.high == (None, None)
    assert contract.task == 'point'


def test_discrete_actions_are_counted_and_learned_with_methods_for_them():
    contract = contract_of(env_with(action=spaces.Discrete(3, start=2)), 'choice')
    assert contract.action_choices == 'discrete'
    assert [bound.tolist() for bound in contract.action.bounds()] == [[2], [4]]
    with pytest.raises(TrainingError, match='td3 chooses continuous actions, but those of choice '
                                            'are discrete; methods that fit: a2c, dqn, ppo'):
        make_learner(load_settings('td3'), contract, 0)
    continuous = contract_of(env_with(), 'swing')
    with pytest.raises(TrainingError, match='methods that fit: a2c, ddpg, ppo,'):
        make_learner(load_settings('rainbow'), continuous, 0)


def test_own_contract_is_used(point_env):
    own = contract_of(point_env(), 'its own')
    env = point_env()
    env.contract = own
    assert contract_of(env, 'other') is own


def test_environments_are_made_with_what_is_given():
    env = environment_maker('CartPole-v1', arguments={'max_episode_steps': 3})()
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    given = {'backend': 'mujoco'}
    make = environment_maker('rl_nodes/Reach-v0', 'rl_nodes.envs', arguments=given)
    envs = make_envs(make, 2, 'rl_nodes/Reach-v0', arguments=given)
    assert envs.spec.kwargs['backend'] == 'mujoco'
    envs.close()
    with pytest.raises(TrainingError, match="with sise=3: TypeError.*'sise'"):
        environment_maker('CartPole-v1', arguments={'sise': 3})()


@pytest.mark.parametrize(('env_id', 'module', 'message'), [
    ('Pendulom-v1', '', 'unknown'), ('Pendulum-v1', 'no_such_module_here', 'cannot be imported')])
def test_unknown_environments(env_id, module, message):
    with pytest.raises(TrainingError, match=message):
        environment_maker(env_id, module)
