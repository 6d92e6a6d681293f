# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What an environment may do wrong, and what is said of it."""

import re
import threading

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.envs.checked_env import CheckedEnv, Watch

GOOD = np.zeros(2, np.float32)
NAN = np.full(2, np.nan, np.float32)


class Scripted(gymnasium.Env):
    """Answers with what it is given, or raises it."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, answer):
        self.answer = answer

    def reset(self, *, seed=None, options=None):
        return self.step(None)

    def step(self, action):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


@pytest.mark.parametrize(('answer', 'message'), [
    (ValueError('no cable'), r'failed: ValueError: no cable \(test_checked_env.py:'),
    ((GOOD, 0.0, False, {}), 'expected five values'),
    ((np.zeros(3), 0.0, False, False, {}), r'returned float64\[3\].*an observation of Box'),
    (([[0.0], [0.0, 1.0]], 0.0, False, False, {}), 'expected an observation of Box'),
    ((['a', 'b'], 0.0, False, False, {}), 'expected an observation of Box'),
    ((None, 0.0, False, False, {}), 'returned None; expected an observation of Box'),
    ((NAN, 0.0, False, False, {}), 'expected finite numbers to act on'),
    ((GOOD, None, False, False, {}), 'returned None; expected one number as reward'),
    ((GOOD, np.zeros(2), False, False, {}), 'expected one number as reward'),
    ((GOOD, 0.0, 'no', False, {}), "returned 'no'; expected True or False for terminated"),
    ((GOOD, 0.0, False, None, {}), 'expected True or False for truncated'),
    ((GOOD, 0.0, False, False, None), 'returned None; expected a dict as info')])
def test_a_wrong_step_is_named(answer, message):
    with pytest.raises(BackendError, match=rf'step\(\) of Arm-v0 .*{message}'):
        CheckedEnv(Scripted(answer), 'Arm-v0').step(None)


@pytest.mark.parametrize(('observation', 'fits'), [
    (np.zeros(2, np.uint8), True), (np.zeros(2, bool), True), (np.zeros(2, np.int64), False),
    (np.zeros(2, np.float32), False)])
def test_whole_numbers_are_observed_as_whole_numbers(observation, fits):
    scripted = Scripted((observation, 0.0, False, False, {}))
    scripted.observation_space = spaces.Box(0, 255, (2,), np.uint8)
    env = CheckedEnv(scripted, 'Arm-v0')
    if fits:
        assert env.step(None) is scripted.answer
    else:
        with pytest.raises(BackendError, match=r'expected an observation of Box\(0, 255'):
            env.step(None)


@pytest.mark.parametrize('answer', [
    (GOOD, 0.0, False, False, {}), ([0.0, 1.0], 1, np.bool_(True), False, {}),
    (GOOD, np.float32(1.0), False, False, {}), (GOOD, np.zeros(1), 0, 1, {}),
    (GOOD, float('nan'), False, False, {}),  # learners refuse that themselves,
    (NAN, 0.0, True, False, {})])            # as what nobody has to act on
def test_what_can_be_used_passes_as_it_is(answer):
    assert CheckedEnv(Scripted(answer), 'Arm-v0').step(None) is answer


@pytest.mark.parametrize(('answer', 'message'), [
    (GOOD, 'expected a pair'), ((GOOD, None), 'a dict as info'), ((NAN, {}), 'finite numbers')])
def test_a_wrong_reset_is_named(answer, message):
    with pytest.raises(BackendError, match=rf'reset\(\) of Arm-v0 .*{message}'):
        CheckedEnv(Scripted(answer), 'Arm-v0').reset(seed=0)


def test_an_error_of_this_package_says_what_it_is():
    with pytest.raises(ConfigError, match='^as it came$'):
        CheckedEnv(Scripted(ConfigError('as it came')), 'Arm-v0').step(None)


def test_a_call_that_hangs_is_told_once_with_its_place():
    told, said = threading.Event(), []

    def say(text):
        said.append(text)
        told.set()

    def answer():
        assert told.wait(60.0)
        return GOOD, 0.0, False, False, {}

    with Watch(0.01, say) as watch:
        env = CheckedEnv(Scripted(answer), 'Arm-v0', watch)
        env.step(None)
        assert watch.hangs() == ''
    assert len(said) == 1
    assert re.match(r'ALARM: step\(\) of Arm-v0 has not returned for \d s \(thr', said[0])
