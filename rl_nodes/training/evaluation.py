# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixed-seed evaluation of an exported policy: what is deployed is what is measured."""

from collections.abc import Sequence
import math
from typing import Any, Protocol

import gymnasium
import msgspec
import numpy as np
from rl_nodes.core.errors import BackendError, TrainingError

EVALUATION_SEED = 1_000_000  # scheduled evaluations: the same episodes each time
FRESH_SEED = 2_000_000       # confirmations: never seen in training or in a scheduled evaluation
FILM_SEED = 4_000_000        # the episode that is drawn
MAX_EPISODE_STEPS = 100_000


class Policy(Protocol):
    """What evaluation needs of a policy."""

    def reset(self) -> None:
        """Begin an episode: forget what is remembered."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return the deterministic action, shape (A,), for an observation of shape (O,)."""


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The episodes of one evaluation, one entry each.

    :param seeds: of the resets.
    :param returns: undiscounted sums of rewards.
    :param discounted_returns: sums of gamma^t r_t.
    :param lengths: control steps.
    :param successes: the environment's ``success`` at the last step; empty where it has none.
    :param final_info: name -> last value, for every number in the environment's info.
    :param costs: sums of what steps cost; empty where nobody asks.
    """

    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    discounted_returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...]
    final_info: dict[str, tuple[float, ...]]
    costs: tuple[float, ...] = ()

    @property
    def mean_return(self) -> float:
        """Return the mean undiscounted return."""
        return float(np.mean(self.returns))

    @property
    def std_return(self) -> float:
        """Return the standard deviation of the undiscounted return over episodes."""
        return float(np.std(self.returns))

    @property
    def success_rate(self) -> float | None:
        """Return the part of successful episodes; None where the environment does not say."""
        return float(np.mean(self.successes)) if self.successes else None

    @property
    def rank(self) -> tuple[float, float]:
        """Return what orders policies: success first, then return."""
        rate = self.success_rate
        return (-1.0 if rate is None else rate, self.mean_return)

    def summary(self) -> dict[str, float]:
        """Return the named means that are logged and stored with a policy."""
        values = {'episodes': float(len(self.returns)), 'return': self.mean_return,
                  'return_std': self.std_return,
                  'return_discounted': float(np.mean(self.discounted_returns)),
                  'length': float(np.mean(self.lengths))}
        if self.success_rate is not None:
            values['success_rate'] = self.success_rate
        if self.costs:
            values['cost'] = float(np.mean(self.costs))
        return values | {f'final_{name}': float(np.mean(column))
                         for name, column in self.final_info.items()}

    def text(self) -> str:
        """Return one line for people."""
        rate = '' if self.success_rate is None else f'success {self.success_rate:.0%}, '
        cost = f', cost {np.mean(self.costs):.2f}' if self.costs else ''
        return (f'{rate}return {self.mean_return:.2f} ± {self.std_return:.2f}{cost} '
                f'over {len(self.returns)} episodes')


def evaluate(env: gymnasium.Env, policy: Policy, seeds: Sequence[int],
             discount: float = 0.99, cost: str = '') -> Evaluation:
    """
    Run one episode per seed with the deterministic policy.

    :param env: has a time limit; its action space is the policy's. Where that is ``Discrete``, the
        policy's one number is the action.
    :param seeds: at least one.
    :param cost: number in the environment's info whose sums are told, too; empty for none.
    :raises TrainingError: no seeds, an episode that does not end, or a step without its cost.
    :raises BackendError: a reward is not finite: such episodes tell nothing of the policy.
    """
    if not seeds:
        raise TrainingError('evaluation: no seeds given, expected at least one')
    returns, discounted, lengths, costs = [], [], [], []
    finals: list[dict[str, Any]] = []
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    for seed in seeds:
        total, weighted, weight, length, spent, done = 0.0, 0.0, 1.0, 0, 0.0, False
        observation, info = env.reset(seed=int(seed))
        policy.reset()
        while not done:
            action = policy.act(np.asarray(observation, np.float32)).copy()
            observation, reward, terminated, truncated, info = env.step(
                action[0] if discrete else action)
            total += float(reward)
            if not math.isfinite(total):
                raise BackendError(f'evaluation: the environment rewarded step {length + 1} of '
                                   f'the episode of seed {seed} with {reward}')
            if cost:
                if cost not in info:
                    raise TrainingError(f'evaluation: step {length + 1} does not tell its {cost!r}'
                                        f', which is limited; its info has {", ".join(info)}')
                spent += float(info[cost])
            weighted += weight * float(reward)
            weight *= discount
            length += 1
            done = bool(terminated or truncated)
            if length > MAX_EPISODE_STEPS:
                raise TrainingError(f'evaluation: an episode passed {MAX_EPISODE_STEPS} steps; '
                                    'give the environment a time limit (max_episode_steps)')
        returns.append(total)
        discounted.append(weighted)
        lengths.append(length)
        costs.append(spent)
        finals.append(info)
    names = [name for name in finals[0] if name != 'success' and all(
        isinstance(final.get(name), (int, float, np.number)) for final in finals)]
    return Evaluation(
        seeds=tuple(int(seed) for seed in seeds), returns=tuple(returns),
        discounted_returns=tuple(discounted), lengths=tuple(lengths),
        successes=tuple(bool(final['success']) for final in finals)
        if all('success' in final for final in finals) else (),
        final_info={name: tuple(float(final[name]) for final in finals) for name in names},
        costs=tuple(costs) if cost else ())
