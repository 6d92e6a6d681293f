# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every on-policy learner promises. A new one joins by one entry in LEARNERS."""

from dataclasses import replace

from learner_promises import (
    assert_identical,
    assert_needs_no_more_record_than_it_says,
    assert_no_global_random_state,
    assert_state_is_a_copy,
    leaves,
)
import numpy as np
import pytest
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.recurrent_ppo import RecurrentPpo, RecurrentPpoConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
from rl_nodes.algorithms.trpo import Trpo, TrpoConfig
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.rollout import Rollout
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.training.checkpoint import CheckpointStore
import torch

OBSERVATION, STEPS, COUNT = 4, 10, 3
LEARNERS = {
    'ppo': (Ppo, PpoConfig(hidden=(16, 16), rollout_steps=STEPS, batch_size=16, epochs=2,
                           normalize_reward=True)),
    'recurrent_ppo': (RecurrentPpo, RecurrentPpoConfig(
        hidden=(16,), memory_size=8, rollout_steps=STEPS, batch_size=16, epochs=2)),
    'recurrent_ppo_lstm': (RecurrentPpo, RecurrentPpoConfig(
        hidden=(16,), memory='lstm', memory_size=8, rollout_steps=STEPS, epochs=2)),
    'ppo_state_dependent': (Ppo, PpoConfig(hidden=(16,), rollout_steps=STEPS, epochs=2,
                                           state_dependent_noise=4)),
    'ppo_kl': (Ppo, PpoConfig(hidden=(16,), rollout_steps=STEPS, variant='kl_penalty')),
    'a2c': (A2c, A2cConfig(hidden=(16, 16), activation='relu', rollout_steps=STEPS)),
    'reinforce': (Reinforce, ReinforceConfig(hidden=(16, 16), episodes_per_rollout=1)),
    'trpo': (Trpo, TrpoConfig(hidden=(16, 16), rollout_steps=STEPS, critic_epochs=2))}


def spec(name, low, high, dtype='float32'):
    return ArraySpec(name, tuple(f'{name}/{i}' for i in range(len(low))), ('1',) * len(low),
                     tuple(low), tuple(high), dtype)


def contract(discrete):
    action = spec('action', [1.0], [4.0], 'int64') if discrete else spec(
        'action', [-1.0, -3.0], [1.0, 2.0])
    return Contract('', 'test', 0.0, 'effort', (),
                    spec('observation', [None] * OBSERVATION, [None] * OBSERVATION), action,
                    'environment')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(params=[False, True], ids=['continuous', 'discrete'])
def discrete(request):
    return request.param


@pytest.fixture(params=[
    pytest.param(made, id=name, marks=[] if name == 'ppo' else pytest.mark.slow)
    for name, made in LEARNERS.items()])
def make(request, discrete):
    kind, config = request.param
    return lambda seed: kind(contract(discrete), config, seed)


def live(learner, seed):
    """Return what the learner's policy did in a made-up world."""
    rng = np.random.default_rng(seed)
    observation = rng.normal(2.0, 3.0, (STEPS + 1, COUNT, OBSERVATION)).astype(np.float32)
    terminated, truncated = rng.random((2, STEPS, COUNT)) < 0.1
    truncated[-1] |= learner.whole_episodes
    cut = int((truncated & ~terminated).sum())
    learner.forget(np.ones(COUNT, bool))
    memory, actions = learner.remembered(COUNT), []
    for row, ended in zip(observation, terminated | truncated):
        actions.append(learner.act(row))
        learner.forget(ended)
    return Rollout(
        observation[:-1], np.stack(actions),
        rng.normal(size=(STEPS, COUNT)).astype(np.float32), terminated, truncated,
        np.ones((STEPS, COUNT), bool), observation[-1],
        rng.normal(2.0, 3.0, (cut, OBSERVATION)).astype(np.float32), learner.updates, memory)


def go_on(learner, first, last):
    for seed in range(first, last):
        learner.update(live(learner, seed))


def test_actions_and_commands(make, discrete):
    learner = make(0)
    rows = np.random.default_rng(0).normal(size=(50, OBSERVATION)).astype(np.float32)
    action = learner.act(rows)
    assert (action.shape, action.dtype) == ((50, 1 if discrete else 2), np.float32)
    command = learner.command(action)
    if discrete:
        assert (command.shape, command.dtype) == ((50, 1), np.int64)
        assert set(command[:, 0].tolist()) == {1, 2, 3, 4}
    else:
        assert command.dtype == np.float32
        assert (command >= [-1.0, -3.0]).all() and (command <= [1.0, 2.0]).all()
        assert (np.abs(action) > 1.0).any()  # what the distribution gave, not what fits


def test_exported_policy_does_what_the_learner_thinks_best(make):
    learner = make(0)
    go_on(learner, 0, 4)
    bundle = PolicyExporter(learner.policy_module(), contract(learner.discrete), 'test',
                            learner.name, learner.sampling, memory=tuple(
                                StateTensor(f'{name}_in', f'{name}_out', shape)
                                for name, shape in learner.memory.items())).export(
        learner.policy_module(), 1, learner.updates, learner.recent_observations(256))
    policy = PolicyRuntime(bundle)
    for row in learner.recent_observations(20):
        wanted = learner.command(learner.act(row[np.newaxis], explore=False))
        found = policy.act(row)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted[0], atol=1e-5)


def test_statistics_are_in_the_export(make):
    learner = make(0)
    go_on(learner, 0, 2)
    normalizer = learner.policy_module().normalizer
    np.testing.assert_allclose(normalizer.mean, 2.0, atol=1.5)
    np.testing.assert_allclose(1.0 / normalizer.scale, 3.0, atol=1.0)


def test_first_rollout_gives_statistics_only(make):
    learner = make(0)
    before = learner.networks.flat.clone()
    go_on(learner, 0, 1)
    assert learner.updates == 0 and torch.equal(learner.networks.flat, before)
    go_on(learner, 1, 2)
    assert learner.updates > 0 and not torch.equal(learner.networks.flat, before)


def test_same_seed_same_learner(make):
    first, second, other = make(5), make(5), make(6)
    for learner in (first, second, other):
        go_on(learner, 0, 4)
    assert_identical(first, second)
    assert not torch.equal(first.networks.flat, other.networks.flat)


def test_resumed_equals_uninterrupted(make, tmp_path):
    uninterrupted, interrupted = make(5), make(5)
    go_on(uninterrupted, 0, 8)
    go_on(interrupted, 0, 4)
    store = CheckpointStore(tmp_path)
    store.save({'learner': interrupted.state_dict()}, 1)
    state, _ = store.load_newest()
    resumed = make(99)
    resumed.load_state_dict(state['learner'])
    go_on(resumed, 4, 8)
    assert_identical(uninterrupted, resumed)


def test_state_is_a_copy(make):
    assert_state_is_a_copy(make(0), go_on, 3)


def test_no_more_of_autograd_than_it_says(make):
    assert_needs_no_more_record_than_it_says(make, go_on, 3)


def test_no_global_random_state(make):
    assert_no_global_random_state(make(0), go_on, 3)


def test_what_an_older_policy_did_is_refused(make):
    learner = make(0)
    go_on(learner, 0, 1)
    old = live(learner, 1)
    learner.update(old)
    with pytest.raises(TrainingError, match=f'of policy 0 came, expected {learner.updates}'):
        learner.update(old)


@pytest.mark.parametrize('name', ['observation', 'reward', 'last_observation'])
def test_what_is_not_finite_is_refused_and_changes_nothing(make, name):
    learner = make(0)
    go_on(learner, 0, 2)
    rollout = live(learner, 2)
    bad = getattr(rollout, name).copy()
    bad.flat[3] = np.nan
    before = learner.state_dict()
    with pytest.raises(TrainingError, match=name.removeprefix('last_')):
        learner.update(replace(rollout, **{name: bad}))
    after = learner.state_dict()
    assert all(torch.equal(torch.as_tensor(leaf), torch.as_tensor(leaves(after)[key]))
               for key, leaf in leaves(before).items())


def test_demonstrations_are_refused(make):
    learner = make(0)
    with pytest.raises(TrainingError, match=f'{learner.name} does not learn from demonstrations'):
        learner.learn_from(None)
