# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
REINFORCE: the Monte Carlo policy gradient of whole episodes.

Citation: Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning", Machine Learning 8; reward-to-go and baselines: Sutton, McAllester, Singh
and Mansour 2000, "Policy Gradient Methods for Reinforcement Learning with Function Approximation".

Legend: M episodes of a rollout, B steps in all of them; G(tau) and G_t as in estimators.py.

    g = 1/B sum over episodes and t of (R - b) grad log pi(a_t|o_t)                          (1)
    R = G(tau) (``full_return``) or G_t (``reward_to_go``)                                   (2)
    b = 0, the mean of R over the B steps, or V(o_t), fitted to R by 1/2 <(V - R)^2>         (3)

``batch`` takes one step along g; ``per_step`` takes one step along (R - b) grad log pi(a_t|o_t)
after the other, in the order of time: sooner and noisier.

Departures: Adam takes the steps; the sum is divided by B, not by M, so that a step does not grow
with the length of episodes. G of an episode that a time limit cut off continues with V of its last
observation where there is a V; without one it ends there, as in the paper.
"""

from typing import Annotated, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.estimators import full_returns, rewards_to_go
from rl_nodes.algorithms.on_policy import Batch, OnPolicyConfig, OnPolicyLearner
from rl_nodes.algorithms.schedules import Scheduled
from rl_nodes.core.contract import Contract
from rl_nodes.data.rollout import Rollout
import torch

_Few = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class ReinforceConfig(OnPolicyConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`OnPolicyConfig`.

    :param episodes_per_rollout: whole episodes of each environment per rollout.
    :param estimator: R, eq. (2).
    :param baseline: b, eq. (3).
    :param update: ``batch`` or ``per_step``.
    :param critic_learning_rate: of Adam on V.
    :param critic_steps: gradient steps on V per rollout, over all of its rows.
    """

    episodes_per_rollout: _Few = 10
    estimator: Literal['full_return', 'reward_to_go'] = 'reward_to_go'
    baseline: Literal['none', 'mean', 'value'] = 'value'
    update: Literal['batch', 'per_step'] = 'batch'
    critic_learning_rate: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1e-3
    critic_steps: _Few = 20
    learning_rate: Scheduled = 1e-3
    normalize_advantage: bool = False


class Reinforce(OnPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'reinforce'
    whole_episodes = True

    def __init__(self, contract: Contract, config: ReinforceConfig, seed: int) -> None:
        """See :class:`OnPolicyLearner`."""
        super().__init__(contract, config, seed)
        self.config = config
        self.rollout_length = config.episodes_per_rollout
        self._adam = Adam(self.networks.policy, self.now(config.learning_rate))
        self._critic_adam = Adam(self.networks.critic.flat, config.critic_learning_rate)

    def estimate(self, reward: np.ndarray, value: np.ndarray, next_value: np.ndarray,
                 rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return R - b and R, eq. (2) and (3)."""
        baseline, counted = self.config.baseline, rollout.counted
        future = next_value if baseline == 'value' else np.zeros_like(next_value)
        estimator = full_returns if self.config.estimator == 'full_return' else rewards_to_go
        returns = estimator(reward, future, rollout.ended, self.shared.discount)
        if baseline == 'value':
            return returns - value, returns
        mean = returns[counted].mean() if baseline == 'mean' else 0.0
        return returns - mean, returns

    def learn(self, batch: Batch) -> None:
        """Take one step, or one for each row, along eq. (1)."""
        self._adam.learning_rate = self.now(self.config.learning_rate)
        advantage = self.advantage_for(batch.advantage)
        if self.config.update == 'batch':
            self._step(batch.observation, batch.action, advantage / len(batch))
        else:
            rows = (part.split(1) for part in (batch.observation, batch.action, advantage))
            for observation, action, weight in zip(*rows):
                self._step(observation, action, weight)
        if self.config.baseline == 'value':
            for _ in range(self.config.critic_steps):
                loss = self.critic_gradient(batch.observation, batch.target, 1.0)
                self._critic_adam.step(self.networks.critic.flat_gradient)
            self.record(value_loss=loss)
        self.record(policy_loss=-(advantage * batch.log_probability).mean().item(),
                    learning_rate=self._adam.learning_rate)

    def _step(self, observation: torch.Tensor, action: torch.Tensor,
              weight: torch.Tensor) -> None:
        output = self.networks.act(observation)
        self.networks.act_backward(*self.head.log_probability_gradient(
            output, self.networks.own, action, -weight.unsqueeze(1)))
        self._adam.step(self.networks.policy_gradient)
        self.updates += 1

    def optimisers(self) -> dict[str, Adam]:
        """Return both optimisers."""
        return {'policy': self._adam, 'critic': self._critic_adam}
