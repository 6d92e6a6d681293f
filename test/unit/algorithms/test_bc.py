# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Cloning a known demonstrator, stopping early, and what is refused."""

import numpy as np
import pytest
from rl_nodes.algorithms.bc import BcConfig, BehaviourCloning
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
import torch

ACTION = ArraySpec('action', ('a', 'b'), ('1', '1'), (-2.0, 0.0), (2.0, 1.0))


pytestmark = pytest.mark.usefixtures('one_thread')


def demonstrated(count=2000, noise=0.0):
    """A linear demonstrator of badly scaled observations, in 20 episodes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)) * [100.0, 1.0, 0.01] + [500.0, 0.0, 0.0]
    a = np.stack([np.tanh((x[:, 0] - 500) / 100) * 1.5, 0.5 + 0.4 * np.sin(x[:, 1])], 1)
    a += noise * rng.normal(size=a.shape)
    return x.astype(np.float32), a.astype(np.float32), np.arange(count) * 20 // count


def answers(learner, x):
    module = learner.policy_module().eval()
    with torch.no_grad():
        return module(torch.from_numpy(x))


@pytest.mark.parametrize('head', ['deterministic', 'squashed_gaussian'])
def test_a_demonstrator_is_found_again(head):
    x, a, episode = demonstrated()
    learner = BehaviourCloning(3, ACTION, BcConfig(
        head=head, hidden=(64, 64), batch_size=64, epochs=30), 0)
    learner.fit(x, a, episode)
    answer = answers(learner, x)
    action = (answer if head == 'deterministic' else answer[0]).numpy()
    assert np.abs(action - a).mean() < 0.03
    if head == 'squashed_gaussian':
        assert float(answer[2].mean()) < 0.15  # sure of it


def test_the_gaussian_head_learns_how_sure_the_demonstrator_was():
    x, a, episode = demonstrated(4000, noise=0.1)
    inside = np.clip(a, [-1.9, 0.05], [1.9, 0.95])
    learner = BehaviourCloning(3, ACTION, BcConfig(
        head='squashed_gaussian', hidden=(64,), batch_size=64, epochs=60), 0)
    learner.fit(x, inside, episode)
    middle = np.array([[500.0, 0.0, 0.0]], np.float32)
    # d tanh = 1 in the middle, so the deviation is that of the action over half its range
    np.testing.assert_allclose(answers(learner, middle)[2].numpy()[0], [0.05, 0.2], rtol=0.5)


def test_the_same_seed_gives_the_same_policy_and_the_best_weights_count():
    x, a, episode = demonstrated(400, noise=0.3)
    a = np.clip(a, [-2, 0], [2, 1])
    config = BcConfig(hidden=(64, 64), epochs=100, patience=8)
    learners = [BehaviourCloning(3, ACTION, config, 7) for _ in range(2)]
    best = [learner.fit(x, a, episode) for learner in learners]
    assert best[0] == best[1] == min(checked for _, checked in learners[0].losses)
    np.testing.assert_array_equal(answers(learners[0], x), answers(learners[1], x))
    assert learners[0].epochs < 100  # ended early
    held_out = learners[0]._held_out  # whole episodes are left out
    assert len(np.unique(episode[held_out(episode).numpy()])) == 2


def test_what_cannot_be_learned_from_is_refused():
    x, a, episode = demonstrated(100)
    learner = BehaviourCloning(3, ACTION, BcConfig(hidden=(8,)), 0)
    with pytest.raises(TrainingError, match='at least two'):
        learner.fit(x, a, np.zeros(100))
    a[3] = np.nan
    with pytest.raises(TrainingError, match='not finite'):
        learner.fit(x, a, episode)
    endless = ArraySpec('action', ('a',), ('1',), (-np.inf,), (np.inf,))
    with pytest.raises(TrainingError, match='finite bounds'):
        BehaviourCloning(3, endless, BcConfig(), 0)
