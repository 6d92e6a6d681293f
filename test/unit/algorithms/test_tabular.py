# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Values that textbooks print, reproduced digit by digit, and methods against each other."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from rl_nodes.algorithms.tabular import (
    evaluate_policy,
    Experience,
    iterate_policies,
    iterate_values,
    Mdp,
    q_learning,
    sarsa,
)
from rl_nodes.core.errors import TrainingError
import rl_nodes.envs  # noqa: F401 - registers the grid worlds

# Value iteration on the 4 x 3 grid, gamma 0.9, slip 0.8/0.1/0.1: the free cells row by row.
SWEEPS = {
    1: '0 0 0 1.00   0 0 -1.00   0 0 0 0',
    2: '0 0 0.72 1.00   0 0 -1.00   0 0 0 0',
    3: '0 0.52 0.78 1.00   0 0.43 -1.00   0 0 0 0',
    4: '0.37 0.66 0.83 1.00   0 0.51 -1.00   0 0 0.31 0',
    7: '0.62 0.74 0.85 1.00   0.50 0.57 -1.00   0.34 0.36 0.45 0.24',
    9: '0.64 0.74 0.85 1.00   0.55 0.57 -1.00   0.46 0.40 0.47 0.27',
    100: '0.64 0.74 0.85 1.00   0.57 0.57 -1.00   0.49 0.43 0.48 0.28'}
LIVING = '0.85 0.89 0.93 1.00   0.81 0.68 -1.00   0.77 0.73 0.70 0.47'  # gamma 1, living -0.03


def env_of(name):
    return gymnasium.make(f'rl_nodes/{name}-v0')


def mdp_of(name):
    return Mdp.of(env_of(name).unwrapped.P)


def numbers(text):
    return np.array(text.split(), float)


def assert_printed(values, text):
    """To two decimals, as printed; half a unit in the last place and rounding of floats."""
    np.testing.assert_allclose(values, numbers(text), atol=0.00501)


@pytest.mark.parametrize('sweeps', SWEEPS)
def test_value_iteration_sweep_by_sweep(sweeps):
    found = iterate_values(mdp_of('GridWorld'), 0.9, 0.0, sweeps)
    assert_printed(found.values, SWEEPS[sweeps])
    assert found.rounds <= sweeps


@pytest.mark.parametrize('iterate', [iterate_values, iterate_policies])
def test_undiscounted_with_a_cost_of_living(iterate):
    found = iterate(mdp_of('GridWorldLiving'), 1.0, 1e-10, 1000)
    assert_printed(found.values, LIVING)
    names = ''.join('NESW'[action] for action in found.policy)
    assert names[:3] + names[4:6] + names[7:] == 'EEE' + 'NN' + 'NWWW'  # without the two exits


def test_blocked_upward_slip_stays():
    """V(3,3) = 0.9 (0.8 V(4,3) + 0.1 V(3,2) + 0.1 V(3,3)): the misprint has V(2,3) at the end."""
    values = iterate_values(mdp_of('GridWorld'), 0.9, 1e-12, 1000).values
    assert values[2] == pytest.approx(0.9 * (0.8 * values[3] + 0.1 * values[5] + 0.1 * values[2]))
    second = iterate_values(mdp_of('GridWorld'), 0.9, 0.0, 2).values
    third = iterate_values(mdp_of('GridWorld'), 0.9, 0.0, 3).values
    assert third[2] == pytest.approx(0.72 + 0.09 * second[2])  # 0.7848; by the misprint 0.72


def test_evaluation_of_the_random_policy():
    """Sutton and Barto 2018, figure 4.1, k = infinity and k = 3 (printed to one decimal)."""
    mdp = mdp_of('GridWorldCorners')
    random = np.full(mdp.reward.shape, 0.25)
    found = evaluate_policy(mdp, random, 1.0, 1e-10, 10_000).values
    np.testing.assert_allclose(found, numbers(
        '0 -14 -20 -22  -14 -18 -20 -20  -20 -20 -18 -14  -22 -20 -14 0'), atol=1e-6)
    third = evaluate_policy(mdp, random, 1.0, 0.0, 3).values
    np.testing.assert_allclose(third[[1, 2, 3, 5]], [-2.4375, -2.9375, -3.0, -2.875])


def test_shortest_ways():
    found = iterate_values(mdp_of('GridWorldCorners'), 1.0, 0.0, 100)
    np.testing.assert_allclose(found.values, numbers(
        '0 -1 -2 -3  -1 -2 -3 -2  -2 -3 -2 -1  -3 -2 -1 0'))


def test_the_discount_decides_where_to_go():
    start = 12
    near = iterate_values(mdp_of('GridWorldDiscount'), 0.1, 1e-12, 100)
    far = iterate_values(mdp_of('GridWorldDiscount'), 0.99, 1e-12, 100)
    assert near.values[start] == pytest.approx(0.1 ** 3 * 1.0)
    assert far.values[start] == pytest.approx(0.99 ** 5 * 10.0)
    risky = iterate_values(mdp_of('GridWorldDiscountSlip'), 0.99, 1e-12, 1000)
    assert far.policy[start] == 1    # along the cliff
    assert risky.policy[start] == 0  # away from it


@pytest.mark.parametrize('name', ['GridWorld', 'GridWorldDiscountSlip'])
def test_policy_iteration_and_value_iteration_agree(name):
    mdp = mdp_of(name)
    values, policies = iterate_values(mdp, 0.9, 1e-12, 9999), iterate_policies(
        mdp, 0.9, 1e-12, 9999)
    np.testing.assert_allclose(values.values, policies.values, atol=1e-9)
    np.testing.assert_array_equal(values.policy, policies.policy)
    assert policies.rounds < values.rounds


def test_better_of_two_policies():
    """Policy improvement: greedy in Q of a policy is nowhere worse than it."""
    mdp = mdp_of('GridWorld')
    random = np.full(mdp.reward.shape, 0.25)
    old = evaluate_policy(mdp, random, 0.9, 1e-12, 9999)
    new = evaluate_policy(mdp, np.eye(4)[old.policy], 0.9, 1e-12, 9999)
    assert (new.values >= old.values - 1e-9).all() and (new.values > old.values + 0.1).any()


def test_policy_that_never_ends_has_no_values():
    with pytest.raises(TrainingError, match='discount below 1'):
        iterate_policies(mdp_of('GridWorldCorners'), 1.0, 1e-9, 200)


SETTINGS = Experience(discount=0.9, steps=60_000)


def test_q_learning_finds_the_optimal_values():
    env = env_of('GridWorld')
    wanted = iterate_values(Mdp.of(env.unwrapped.P), 0.9, 1e-12, 1000)
    found = q_learning(env, 11, 4, SETTINGS, seed=0)
    np.testing.assert_allclose(found.values, wanted.values, atol=0.08)
    inside = [0, 1, 2, 4, 5, 7, 8, 9]
    gap = np.sort(wanted.action_values, 1)[inside, -1] - np.sort(wanted.action_values, 1)[
        inside, -2]
    clear = np.array(inside)[gap > 0.05]
    np.testing.assert_array_equal(found.policy[clear], wanted.policy[clear])


def test_q_learning_is_off_policy_and_sarsa_is_not():
    """Where every action is random, SARSA learns the random policy's values, Q the best ones."""
    env = env_of('GridWorld')
    random = replace(SETTINGS, exploration_end=1.0)
    mdp = Mdp.of(env.unwrapped.P)
    of_random = evaluate_policy(mdp, np.full((11, 4), 0.25), 0.9, 1e-12, 1000)
    best = iterate_values(mdp, 0.9, 1e-12, 1000)
    on, off = sarsa(env, 11, 4, random, 0), q_learning(env, 11, 4, random, 0)
    np.testing.assert_allclose(on.action_values, of_random.action_values, atol=0.15)
    np.testing.assert_allclose(off.action_values, best.action_values, atol=0.12)
    assert np.abs(of_random.action_values - best.action_values).max() > 0.7


class OneStep:
    """Pays 1 for each action; the second state's episode is cut off or terminated."""

    def __init__(self, terminated):
        self.terminated = terminated

    def reset(self, *, seed=None):
        return 0, {}

    def step(self, action):
        return 0, 1.0, self.terminated, not self.terminated, {}


@pytest.mark.parametrize('learn', [q_learning, sarsa])
def test_only_termination_ends_the_future(learn):
    settings = Experience(discount=0.5, steps=2000, step_size=0.5, step_decay=0.0)
    assert learn(OneStep(True), 1, 1, settings, 0).values[0] == pytest.approx(1.0)
    assert learn(OneStep(False), 1, 1, settings, 0).values[0] == pytest.approx(2.0)


def test_both_views_of_q_learning():
    """Q + alpha (better - Q) = (1 - alpha) Q + alpha better, one update of eq. (5) by hand."""
    settings = Experience(discount=0.5, steps=1, step_size=0.25, step_decay=0.0)
    assert q_learning(OneStep(True), 1, 1, settings, 0).values[0] == 0.75 * 0.0 + 0.25 * 1.0
