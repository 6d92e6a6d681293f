# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Methods that keep a number for each state or each pair of state and action.

Citation: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", second edition: their
eq. (4.5), section 4.3, eq. (4.10), (6.8) and (6.7). Step sizes: Even-Dar and Mansour 2003,
"Learning Rates for Q-learning", Journal of Machine Learning Research 5.

Legend: S states, A actions; P(s'|s,a) probability of going on to s', which adds up to less than 1
where an episode may terminate; R(s,a) expected reward; d terminated (never truncated), n(s,a)
visits.

    evaluation         V(s) <- sum_a pi(a|s) [R(s,a) + gamma sum_s' P(s'|s,a) V(s')]         (1)
    improvement        pi(s) = argmax_a Q(s,a),  Q(s,a) = R(s,a) + gamma sum_s' P V(s')      (2)
    policy iteration   (1) until it stands still, then (2), until pi does                    (3)
    value iteration    V(s) <- max_a Q(s,a)                                                  (4)
    Q-learning         Q(s,a) <- Q(s,a) + alpha [r + gamma (1 - d) max_a' Q(s',a') - Q(s,a)] (5)
    SARSA              as (5) with Q(s',a') of the a' that is really taken next              (6)
    step size          alpha = initial / n(s,a)^decay                                        (7)

Sweeps are synchronous: every V on the right-hand side is of the sweep before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rl_nodes.core.errors import TrainingError

# As toy_text environments of Gymnasium have it: state -> action -> (p, s', r, terminated), ...
TransitionTable = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
_TIE = 1e-9  # values closer than this are the same: the action named first is taken


@dataclass(frozen=True, eq=False)
class Mdp:
    """
    A Markov decision process with few states.

    :param going_on: P, shape (S, A, S).
    :param reward: R, shape (S, A).
    """

    going_on: np.ndarray
    reward: np.ndarray

    @classmethod
    def of(cls, table: TransitionTable) -> 'Mdp':
        """Return the process in a table of transitions."""
        states, actions = len(table), len(table[0])
        going_on, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
        for state, row in table.items():
            for action, outcomes in row.items():
                for probability, following, gained, terminated in outcomes:
                    reward[state, action] += probability * gained
                    going_on[state, action, following] += probability * (not terminated)
        return cls(going_on, reward)

    def action_values(self, values: np.ndarray, discount: float) -> np.ndarray:
        """Return Q for V, eq. (2), shape (S, A)."""
        found: np.ndarray = self.reward + discount * self.going_on @ values
        return found


@dataclass(frozen=True, eq=False)
class Solution:
    """
    What a method came to.

    :param values: V, shape (S,).
    :param action_values: Q, shape (S, A).
    :param rounds: sweeps, improvements or steps, as the method counts.
    """

    values: np.ndarray
    action_values: np.ndarray
    rounds: int

    @property
    def policy(self) -> np.ndarray:
        """Return the greedy action of each state, shape (S,)."""
        return greedy(self.action_values)


def greedy(action_values: np.ndarray) -> np.ndarray:
    """Return the first of the best actions in each state, shape (S,)."""
    best: np.ndarray = action_values.max(1, keepdims=True) - action_values <= _TIE
    return best.argmax(1)


def evaluate_policy(mdp: Mdp, policy: np.ndarray, discount: float, tolerance: float,
                    sweeps: int) -> Solution:
    """
    Return the values of a policy, eq. (1), from V = 0.

    :param policy: pi, shape (S, A).
    :param tolerance: greatest change of a value in the last sweep.
    :param sweeps: at most so many.
    """
    return _swept(mdp, lambda q: (policy * q).sum(1), discount, tolerance, sweeps)


def iterate_values(mdp: Mdp, discount: float, tolerance: float, sweeps: int) -> Solution:
    """Return the optimal values, eq. (4), from V = 0; parameters as of evaluate_policy()."""
    return _swept(mdp, lambda q: q.max(1), discount, tolerance, sweeps)


def _swept(mdp: Mdp, backup: Callable[[np.ndarray], np.ndarray], discount: float,
           tolerance: float, sweeps: int) -> Solution:
    values, done, change = np.zeros(len(mdp.reward)), 0, np.inf
    while done < sweeps and change > tolerance:
        following = backup(mdp.action_values(values, discount))
        change, values, done = float(np.abs(following - values).max()), following, done + 1
    return Solution(values, mdp.action_values(values, discount), done)


def iterate_policies(mdp: Mdp, discount: float, tolerance: float, sweeps: int) -> Solution:
    """
    Return the optimal policy with its values, eq. (3), starting with the first action everywhere.

    :param sweeps: at most so many for each evaluation, and at most so many improvements.
    :raises TrainingError: a policy has no finite values, which needs gamma = 1 and an episode that
        it never ends.
    """
    states, actions = mdp.reward.shape
    policy = np.zeros(states, int)
    for rounds in range(1, sweeps + 1):
        found = evaluate_policy(mdp, np.eye(actions)[policy], discount, tolerance, sweeps)
        if discount == 1.0 and found.rounds == sweeps:
            raise TrainingError(f'policy iteration: after {sweeps} sweeps the values of policy '
                                f'{rounds} still change; choose a discount below 1, or '
                                'value_iteration')
        better = found.action_values.max(1) > found.action_values[np.arange(states), policy] + _TIE
        if not better.any():
            break
        policy = np.where(better, found.policy, policy)
    return Solution(found.values, found.action_values, rounds)


class Environment(Protocol):
    """What learning from experience needs: a Gymnasium environment of discrete spaces."""

    def reset(self, *, seed: int | None = None) -> tuple[int, dict]:
        """Return (first state, information)."""

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        """Return (state, reward, terminated, truncated, information)."""


@dataclass(frozen=True)
class Experience:
    """
    How to learn from steps in an environment.

    :param discount: gamma.
    :param steps: to make.
    :param step_size: initial alpha, eq. (7).
    :param step_decay: exponent of eq. (7); 0 keeps alpha, above 0.5 lets values settle.
    :param exploration: probability of a random action at the start; falls to ``exploration_end``
        along a line over ``exploration_fraction`` of the steps.
    """

    discount: float
    steps: int
    step_size: float = 1.0
    step_decay: float = 0.6
    exploration: float = 1.0
    exploration_end: float = 0.1
    exploration_fraction: float = 0.5


def q_learning(env: Environment, states: int, actions: int, settings: Experience,
               seed: int) -> Solution:
    """Return what eq. (5) learns; the policy that it learns is greedy, whatever acts."""
    return _experienced(env, states, actions, settings, seed, on_policy=False)


def sarsa(env: Environment, states: int, actions: int, settings: Experience,
          seed: int) -> Solution:
    """Return what eq. (6) learns: values of the exploring policy that acts."""
    return _experienced(env, states, actions, settings, seed, on_policy=True)


def _experienced(env: Environment, states: int, actions: int, settings: Experience, seed: int,
                 on_policy: bool) -> Solution:
    rng = np.random.default_rng(seed)
    table, visits = np.zeros((states, actions)), np.zeros((states, actions))

    def act(state: int, step: int) -> int:
        done = min(1.0, step / max(1.0, settings.exploration_fraction * settings.steps))
        epsilon = settings.exploration + done * (settings.exploration_end - settings.exploration)
        if rng.random() < epsilon:
            return int(rng.integers(actions))
        best = np.flatnonzero(table[state] >= table[state].max() - _TIE)
        return int(best[rng.integers(len(best))])

    state = int(env.reset(seed=seed)[0])
    action = act(state, 0)
    for step in range(1, settings.steps + 1):
        following, reward, terminated, truncated, _ = env.step(action)
        following = int(following)
        next_action = act(following, step)
        future = table[following, next_action] if on_policy else table[following].max()
        visits[state, action] += 1.0
        alpha = settings.step_size / visits[state, action] ** settings.step_decay
        target = reward + settings.discount * (0.0 if terminated else future)
        table[state, action] += alpha * (target - table[state, action])
        state, action = following, next_action
        if terminated or truncated:
            state = int(env.reset()[0])
            action = act(state, step)
    return Solution(table.max(1), table, settings.steps)
