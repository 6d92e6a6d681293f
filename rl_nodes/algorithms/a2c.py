# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Advantage actor-critic, synchronous: one gradient step on a short rollout of many environments.

Citation: Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver and Kavukcuoglu 2016,
"Asynchronous Methods for Deep Reinforcement Learning", arXiv:1602.01783, algorithm S3, with the
workers in step.

Legend: B rows of the rollout, A advantage and G target (estimators.py), <.> the mean over them.

    L = -<A log pi(a|o)> + c_v/2 <(V - G)^2> - c_e <H>                                       (1)

Departures: Adam instead of RMSprop (its moments are the ones that every other method here keeps);
lambda may be below 1. It is PPO with one epoch of one minibatch (Huang, Kanervisto, Raffin, Wang,
Ontanon and Dossa 2022, "A2C is a special case of PPO", arXiv:2205.09123); a test compares the two.
"""

from typing import Annotated

import msgspec
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.on_policy import (
    ADAM_EPSILON,
    Batch,
    Count,
    Fraction,
    OnPolicyConfig,
    OnPolicyLearner,
)
from rl_nodes.algorithms.schedules import Scheduled
from rl_nodes.core.contract import Contract


class A2cConfig(OnPolicyConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`OnPolicyConfig`.

    :param rollout_steps: steps of each environment per gradient step.
    :param gae_lambda: see ``estimators.py``; 1 as in the paper.
    :param value_coefficient: c_v.
    :param entropy_coefficient: c_e, a number or a line ``{start, end, steps}``.
    :param max_gradient_norm: of all parameters together.
    """

    rollout_steps: Count = 8
    gae_lambda: Fraction = 1.0
    value_coefficient: Annotated[float, msgspec.Meta(ge=0.0)] = 0.5
    entropy_coefficient: Scheduled = 0.0
    max_gradient_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 0.5
    normalize_advantage: bool = False
    learning_rate: Scheduled = 7e-4


class A2c(OnPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'a2c'
    has_partners = True

    def __init__(self, contract: Contract, config: A2cConfig, seed: int) -> None:
        """See :class:`OnPolicyLearner`."""
        super().__init__(contract, config, seed)
        self.config = config
        self.rollout_length, self.gae_lambda = config.rollout_steps, config.gae_lambda
        self._adam = Adam(self.networks.flat, self.now(config.learning_rate),
                          epsilon=ADAM_EPSILON)

    def learn(self, batch: Batch) -> None:
        """Do one gradient step on eq. (1)."""
        config, networks, count = self.config, self.networks, len(batch)
        advantage = self.advantage_for(batch.advantage)
        output_gradient, own_gradient = self.head.log_probability_gradient(
            batch.output, batch.own, batch.action, advantage.mul(-1.0 / count).unsqueeze(1))
        coefficient = self.now(config.entropy_coefficient)
        if coefficient:
            more = self.head.entropy_gradient(batch.output, batch.own, -coefficient / count)
            output_gradient, own_gradient = output_gradient + more[0], own_gradient + more[1]
        networks.act(batch.observation)
        networks.act_backward(output_gradient, own_gradient)
        value_loss = self.critic_gradient(batch.observation, batch.target,
                                          config.value_coefficient)
        norm = self.clip_gradient(config.max_gradient_norm)
        self._adam.learning_rate = self.now(config.learning_rate)
        self._adam.step(networks.gradient)
        self.updates += 1
        self.record(policy_loss=-(advantage * batch.log_probability).mean().item(),
                    value_loss=value_loss, gradient_norm=norm,
                    learning_rate=self._adam.learning_rate)

    def optimisers(self) -> dict[str, Adam]:
        """Return the optimiser."""
        return {'all': self._adam}
