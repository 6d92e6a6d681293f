# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Returns and advantages against numbers worked out by hand."""

import numpy as np
import pytest
from rl_nodes.algorithms.estimators import (
    advantages,
    explained_variance,
    full_returns,
    rewards_to_go,
)


def column(*values, kind=np.float64):
    return np.array(values, kind)[:, np.newaxis]


REWARD = column(1, 2, 3)
VALUE = column(10, 20, 30)
GOES_ON = column(False, False, False, kind=bool)


def test_advantages_by_hand():
    # delta = r + 0.5 V' - V with V' = (20, 30, 40): (1, -3, -7); carried by 0.5 * 0.8 = 0.4:
    # A_2 = -7, A_1 = -3 + 0.4 * -7 = -5.8, A_0 = 1 + 0.4 * -5.8 = -1.32
    found = advantages(REWARD, VALUE, column(20, 30, 40), GOES_ON, 0.5, 0.8)
    np.testing.assert_allclose(found[:, 0], [-1.32, -5.8, -7])


def test_nothing_is_carried_over_an_end():
    # The second step ends: termination has V' = 0, a time limit the value of what it cut off.
    ended = column(False, True, False, kind=bool)
    terminated = advantages(REWARD, VALUE, column(20, 0, 40), ended, 0.5, 0.8)
    # delta = (1, -18, -7); A_1 = -18, A_0 = 1 + 0.4 * -18 = -6.2
    np.testing.assert_allclose(terminated[:, 0], [-6.2, -18, -7])
    cut = advantages(REWARD, VALUE, column(20, 100, 40), ended, 0.5, 0.8)
    # delta_1 = 2 + 50 - 20 = 32; A_0 = 1 + 0.4 * 32 = 13.8
    np.testing.assert_allclose(cut[:, 0], [13.8, 32, -7])


def test_rewards_to_go_by_hand():
    # G_2 = 3 + 0.5 * 40 = 23, G_1 = 2 + 11.5 = 13.5, G_0 = 1 + 6.75 = 7.75
    found = rewards_to_go(REWARD, column(99, 99, 40), GOES_ON, 0.5)
    np.testing.assert_allclose(found[:, 0], [7.75, 13.5, 23])
    ended = column(False, True, False, kind=bool)
    found = rewards_to_go(REWARD, column(99, 6, 40), ended, 0.5)
    np.testing.assert_allclose(found[:, 0], [1 + 0.5 * 5, 2 + 0.5 * 6, 23])


def test_full_return_is_that_of_the_first_step_all_along():
    ended = column(False, True, False, True, kind=bool)
    reward, nothing = column(1, 2, 3, 4), np.zeros((4, 1))
    found = full_returns(reward, nothing, ended, 0.5)
    np.testing.assert_allclose(found[:, 0], [2, 2, 5, 5])
    to_go = rewards_to_go(reward, nothing, ended, 0.5)
    np.testing.assert_allclose(to_go[[0, 2]], found[[0, 2]])


def test_columns_do_not_touch():
    rng = np.random.default_rng(0)
    reward, value, following = rng.normal(size=(3, 9, 4))
    ended = rng.random((9, 4)) < 0.3
    together = advantages(reward, value, following, ended, 0.9, 0.7)
    for i in range(4):
        pick = slice(i, i + 1)
        alone = advantages(reward[:, pick], value[:, pick], following[:, pick], ended[:, pick],
                           0.9, 0.7)
        np.testing.assert_allclose(together[:, pick], alone)


def test_lambda_one_is_return_minus_value():
    rng = np.random.default_rng(1)
    reward, value = rng.normal(size=(2, 12, 3))
    ended = rng.random((12, 3)) < 0.3
    following = np.vstack([value[1:], rng.normal(size=(1, 3))])
    following[ended] = rng.normal(size=int(ended.sum()))
    found = advantages(reward, value, following, ended, 0.9, 1.0)
    np.testing.assert_allclose(found + value, rewards_to_go(reward, following, ended, 0.9))


def test_lambda_zero_trusts_the_critic_after_one_step():
    found = advantages(REWARD, VALUE, column(20, 30, 40), GOES_ON, 0.5, 0.0)
    np.testing.assert_allclose(found, REWARD + 0.5 * column(20, 30, 40) - VALUE)


@pytest.mark.parametrize(('estimate', 'wanted'), [([1, 2, 3], 1.0), ([2, 2, 2], 0.0),
                                                  ([3, 2, 1], -3.0)])
def test_explained_variance(estimate, wanted):
    assert explained_variance(np.array(estimate), np.array([1, 2, 3])) == pytest.approx(wanted)


def test_explained_variance_of_a_constant_is_nothing():
    assert explained_variance(np.ones(3), np.full(3, 5.0)) == 0.0
