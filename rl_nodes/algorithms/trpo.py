# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Trust region policy optimisation: the natural gradient with a guard.

Citation: Schulman, Levine, Moritz, Jordan and Abbeel 2015, "Trust Region Policy Optimization",
arXiv:1502.05477, section 6 and appendix C.

Legend: B rows of a rollout, a prime marks the policy that acted, rho = pi(a|o) / pi'(a|o),
x parameters of the policy, J Jacobian of the distribution's parameters by x, M their Fisher
information (policy_heads.py), c damping, <.> the mean over the rollout.

    maximise L = <rho A>   subject to   <KL(pi'||pi)> <= delta                               (1)
    g = grad L at x',   F v = <J^T M J v> + c v    (the Hessian of eq. (1)'s KL, damped)     (2)
    F d = g by conjugate gradients,   s = d sqrt(2 delta / d^T F d)                          (3)
    x = x' + shrink^k s for the least k with L > L' and <KL> <= delta; none: x = x'          (4)

Eq. (2) is computed forward through the Jacobian and back, exactly, not by differentiating twice.
The divergence is old first. The critic is fitted to the targets of estimators.py by Adam.
"""

from collections.abc import Callable
import math
from typing import Annotated

import msgspec
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.on_policy import (
    Batch,
    Count,
    Fraction,
    OnPolicyConfig,
    OnPolicyLearner,
)
from rl_nodes.algorithms.schedules import Scheduled
from rl_nodes.core.contract import Contract
import torch

_Few = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
RESIDUAL = 1e-10  # squared, at which conjugate gradients have converged


class TrpoConfig(OnPolicyConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`OnPolicyConfig`.

    :param rollout_steps: steps of each environment per step of the policy.
    :param gae_lambda: see ``estimators.py``.
    :param max_kl: delta [nat].
    :param damping: c.
    :param conjugate_steps: at most so many of conjugate gradients.
    :param line_search_steps: at most so many tries of eq. (4).
    :param line_search_shrink: factor from one try to the next.
    :param critic_epochs: passes over a rollout for the critic.
    :param critic_batch_size: rows of its minibatches.
    :param learning_rate: of Adam on the critic, per step; the policy needs none.
    """

    rollout_steps: Count = 2048
    gae_lambda: Fraction = 0.95
    max_kl: _Positive = 0.01
    damping: _Positive = 0.1
    conjugate_steps: _Few = 15
    line_search_steps: _Few = 10
    line_search_shrink: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.8
    critic_epochs: _Few = 10
    critic_batch_size: Count = 128
    learning_rate: Scheduled = 1e-3


class Trpo(OnPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'trpo'

    def __init__(self, contract: Contract, config: TrpoConfig, seed: int) -> None:
        """See :class:`OnPolicyLearner`."""
        super().__init__(contract, config, seed)
        self.config = config
        self.rollout_length, self.gae_lambda = config.rollout_steps, config.gae_lambda
        self._critic_adam = Adam(self.networks.critic.flat, self.now(config.learning_rate))

    def learn(self, batch: Batch) -> None:
        """Move the policy once, eq. (1) to (4), then fit the critic."""
        config, policy = self.config, self.networks.policy
        advantage = self.advantage_for(batch.advantage)
        gradient = self.surrogate_gradient(batch, advantage)
        self.networks.act(batch.observation)  # what fisher_product() differentiates
        direction, residual = conjugate_gradient(
            lambda v: self.fisher_product(batch, v), gradient, config.conjugate_steps)
        curvature = torch.dot(direction, self.fisher_product(batch, direction)).item()
        tries, kl, gain = 0, 0.0, 0.0
        if curvature > 0.0:
            step = direction * math.sqrt(2.0 * config.max_kl / curvature)
            tries, kl, gain = self._search(batch, advantage, policy.clone(), step)
        self.updates += 1
        self.record(kl=kl, surrogate_gain=gain, line_search_tries=float(tries),
                    conjugate_residual=residual)
        self._critic_adam.learning_rate = self.now(config.learning_rate)
        for _ in range(config.critic_epochs):
            order = torch.randperm(len(batch), generator=self._generator)
            for rows in order.split(config.critic_batch_size):
                loss = self.critic_gradient(batch.observation[rows], batch.target[rows], 1.0)
                self._critic_adam.step(self.networks.critic.flat_gradient)
                self.record(value_loss=loss)
        self.record(learning_rate=self._critic_adam.learning_rate)

    def surrogate_gradient(self, batch: Batch, advantage: torch.Tensor) -> torch.Tensor:
        """Return g of eq. (2), at the policy that acted."""
        self.networks.act(batch.observation)
        self.networks.act_backward(*self.head.log_probability_gradient(
            batch.output, batch.own, batch.action, (advantage / len(batch)).unsqueeze(1)))
        return self.networks.policy_gradient.clone()

    def fisher_product(self, batch: Batch, direction: torch.Tensor) -> torch.Tensor:
        """Return F v, eq. (2), at the policy that acted and has just answered the batch."""
        networks, count = self.networks, len(batch)
        own_change = direction[len(direction) - self.head.own_size:]
        output_gradient, own_gradient = self.head.fisher(
            batch.output, batch.own, networks.act_tangent(direction, count), own_change)
        networks.act_backward(output_gradient / count, own_gradient / count)
        return torch.add(networks.policy_gradient, direction, alpha=self.config.damping)

    def _search(self, batch: Batch, advantage: torch.Tensor, start: torch.Tensor,
                step: torch.Tensor) -> tuple[int, float, float]:
        """Move along a step as far as eq. (4) allows; return (tries, <KL>, L - L')."""
        config, own = self.config, self.networks.own
        for k in range(config.line_search_steps):
            self.networks.policy.copy_(
                torch.add(start, step, alpha=config.line_search_shrink ** k))
            output = self.networks.act(batch.observation)
            ratio = torch.exp(self.head.log_probability(output, own, batch.action)
                              - batch.log_probability)
            gain = ((ratio - 1.0) * advantage).mean().item()
            kl = self.head.kl(batch.output, batch.own, output, own).mean().item()
            if gain > 0.0 and kl <= config.max_kl:
                return k + 1, kl, gain
        self.networks.policy.copy_(start)
        return config.line_search_steps, 0.0, 0.0

    def optimisers(self) -> dict[str, Adam]:
        """Return the critic's; the policy has none."""
        return {'critic': self._critic_adam}


def conjugate_gradient(product: Callable[[torch.Tensor], torch.Tensor], target: torch.Tensor,
                       steps: int) -> tuple[torch.Tensor, float]:
    """
    Return x with F x close to ``target``, and the squared residual.

    Citation: Hestenes and Stiefel 1952, "Methods of Conjugate Gradients for Solving Linear
    Systems".

    :param product: v -> F v, F symmetric and positive definite.
    :param steps: at most so many products.
    """
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    square = torch.dot(residual, residual).item()
    for _ in range(steps):
        if square < RESIDUAL:
            break
        image = product(direction)
        length = square / torch.dot(direction, image).item()
        x.add_(direction, alpha=length)
        residual.sub_(image, alpha=length)
        previous, square = square, torch.dot(residual, residual).item()
        direction.mul_(square / previous).add_(residual)
    return x, square
