# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Proximal policy optimisation, clipped or with an adaptive penalty on the KL divergence.

Citation: Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal Policy Optimization
Algorithms", arXiv:1707.06347; details after Huang, Dossa, Raffin, Kanervisto and Wang 2022, "The
37 Implementation Details of Proximal Policy Optimization" (docs/algorithms/ppo.md lists them).

Legend: A advantage and G target (estimators.py), a prime marks the networks that acted,
rho = pi(a|o) / pi'(a|o), eps clip ranges, c_v and c_e coefficients, <.> mean over a minibatch.

    L_clip = -<min(rho A, clip(rho, 1 - eps, 1 + eps) A)>                                    (1)
    L_kl = -<rho A> + beta <KL(pi'||pi)>                                                     (2)
    beta <- beta / 2 if d < target / 1.5, 2 beta if d > 1.5 target, d = <KL> of the rollout  (3)
    L_V = 1/2 <(V - G)^2>,    or, clipped, with U = V' + clip(V - V', -eps_v, eps_v):
          1/2 <max((V - G)^2, (U - G)^2)>                                                    (4)
    L = L_clip or L_kl, + c_v L_V - c_e <H>                                                  (5)

Eq. (1) is not clipped where that would keep a policy from being pulled back: its gradient is zero
only for A > 0 with rho > 1 + eps and for A < 0 with rho < 1 - eps.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

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
import torch

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]
BETA_MIN, BETA_MAX = 1e-4, 1e4  # the penalty must be able to come back


class PpoConfig(OnPolicyConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`OnPolicyConfig`.

    :param rollout_steps: steps of each environment between two rounds of learning.
    :param epochs: passes over a rollout.
    :param batch_size: rows of a minibatch.
    :param gae_lambda: see ``estimators.py``.
    :param variant: ``clip``, eq. (1), or ``kl_penalty``, eq. (2).
    :param clip_range: eps, a number or a line ``{start, end, steps}``.
    :param kl_target: divergence per rollout that beta is steered to [nat], eq. (3).
    :param initial_kl_penalty: beta at the start.
    :param kl_stop: mean divergence [nat] at which the rest of a rollout's epochs is left out; None
        never does.
    :param value_clip_range: eps_v, in units of the target; None does not clip.
    :param value_coefficient: c_v.
    :param entropy_coefficient: c_e, a number or a line.
    :param max_gradient_norm: of all parameters together.
    """

    rollout_steps: Count = 2048
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    batch_size: Count = 64
    gae_lambda: Fraction = 0.95
    variant: Literal['clip', 'kl_penalty'] = 'clip'
    clip_range: Scheduled = 0.2
    kl_target: _Positive = 0.01
    initial_kl_penalty: _Positive = 1.0
    kl_stop: _Positive | None = None
    value_clip_range: _Positive | None = None
    value_coefficient: _NotNegative = 0.5
    entropy_coefficient: Scheduled = 0.0
    max_gradient_norm: _Positive = 0.5


class Ppo(OnPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'ppo'
    has_partners = True

    def __init__(self, contract: Contract, config: PpoConfig, seed: int) -> None:
        """See :class:`OnPolicyLearner`."""
        super().__init__(contract, config, seed)
        self.config = config
        self.rollout_length, self.gae_lambda = config.rollout_steps, config.gae_lambda
        self.kl_penalty = config.initial_kl_penalty
        self._adam = Adam(self.networks.flat, self.now(config.learning_rate),
                          epsilon=ADAM_EPSILON)

    def learn(self, batch: Batch) -> None:
        """Go over the rollout some times in minibatches of random rows."""
        config = self.config
        self._adam.learning_rate = self.now(config.learning_rate)
        epochs = 0
        while epochs < config.epochs and self._pass(batch):
            epochs += 1
        output = self.networks.act(self.given(batch))
        kl = self.mean_of(self.head.kl(batch.output, batch.own, output, self.networks.own))
        if config.variant == 'kl_penalty':  # eq. (3)
            if kl < config.kl_target / 1.5:
                self.kl_penalty = max(self.kl_penalty / 2.0, BETA_MIN)
            elif kl > config.kl_target * 1.5:
                self.kl_penalty = min(self.kl_penalty * 2.0, BETA_MAX)
            self.record(kl_penalty=self.kl_penalty)
        self.record(kl=kl, epochs=float(epochs), learning_rate=self._adam.learning_rate)

    def _pass(self, batch: Batch) -> bool:
        """Go once over the rollout; return False where the policy has gone too far."""
        return all(self._step(batch, rows, given) for rows, given in self.minibatches(batch))

    def minibatches(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each row once: some of them in random order, and what the networks are given."""
        order = torch.randperm(len(batch), generator=self._generator)
        for rows in order.split(self.config.batch_size):
            yield rows, batch.observation[rows]

    def given(self, batch: Batch) -> torch.Tensor:
        """Return what the networks are given now for every row, (B, O)."""
        return batch.observation

    def _step(self, batch: Batch, rows: torch.Tensor, observation: torch.Tensor) -> bool:
        """Do one gradient step on eq. (5), unless the policy has gone too far already."""
        config, networks = self.config, self.networks
        far = self.policy_gradient(batch, rows, observation)
        if config.kl_stop is not None and far > config.kl_stop:
            return False
        value_loss = self._value_gradient(observation, batch.target[rows], batch.value[rows])
        norm = self.clip_gradient(config.max_gradient_norm)
        self._adam.step(networks.gradient)
        self.updates += 1
        self.record(value_loss=value_loss, gradient_norm=norm)
        return True

    def policy_gradient(self, batch: Batch, rows: torch.Tensor,
                        observation: torch.Tensor) -> float:
        """
        Write the policy's gradient of eq. (1) or (2) with the entropy of eq. (5).

        :param rows: of the batch.
        :param observation: these rows of it.
        :return: estimate of <KL(pi'||pi)> [nat]: <rho - 1 - log rho> (Schulman 2020,
            http://joschu.net/blog/kl-approx.html).
        """
        config, head, own = self.config, self.head, self.networks.own
        count = len(rows)
        action, advantage = batch.action[rows], self.advantage_for(batch.advantage[rows])
        output = self.networks.act(observation)
        log_ratio = head.log_probability(output, own, action) - batch.log_probability[rows]
        ratio = log_ratio.exp()
        gained = ratio * advantage  # dL/d log pi = -rho A / B where it is not clipped
        weight = gained.mul(-1.0 / count)
        if config.variant == 'clip':
            clip_range = self.now(config.clip_range)
            clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
            bounded = clipped * advantage
            weight.masked_fill_(bounded < gained, 0.0)
            loss = -torch.minimum(gained, bounded).mean().item()
            self.record(clip_fraction=(clipped != ratio).float().mean().item())
        else:
            loss = -gained.mean().item()
        output_gradient, own_gradient = head.log_probability_gradient(
            output, own, action, weight.unsqueeze(1))
        if config.variant == 'kl_penalty':
            old = batch.output[rows], batch.own
            more = head.kl_gradient(*old, output, own, self.kl_penalty / count)
            output_gradient, own_gradient = output_gradient + more[0], own_gradient + more[1]
            loss += self.kl_penalty * head.kl(*old, output, own).mean().item()
        coefficient = self.now(config.entropy_coefficient)
        if coefficient:
            more = head.entropy_gradient(output, own, -coefficient / count)
            output_gradient, own_gradient = output_gradient + more[0], own_gradient + more[1]
        self.networks.act_backward(output_gradient, own_gradient)
        self.record(policy_loss=loss)
        return self.mean_of(ratio.sub_(1.0) - log_ratio)

    def _value_gradient(self, observation: torch.Tensor, target: torch.Tensor,
                        old: torch.Tensor) -> float:
        """Write the critic's gradient of c_v L_V, eq. (4), and return L_V."""
        config = self.config
        if config.value_clip_range is None:
            return self.critic_gradient(observation, target, config.value_coefficient)
        value, limit = self.networks.value(observation), config.value_clip_range
        error = value - target
        moved = value - old
        bounded_error = old + moved.clamp(-limit, limit) - target
        worse = bounded_error.square() > error.square()  # there the value is clipped: no gradient
        loss = 0.5 * torch.maximum(error.square(), bounded_error.square()).mean().item()
        self.networks.value_backward(
            error.masked_fill_(worse, 0.0).mul_(config.value_coefficient / len(target)))
        return loss

    def optimisers(self) -> dict[str, Adam]:
        """Return the optimiser."""
        return {'all': self._adam}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that learning hangs on."""
        return super().state_dict() | {'kl_penalty': self.kl_penalty}

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over weights, optimiser, statistics and penalty."""
        super().roll_back(state)
        self.kl_penalty = float(state['kl_penalty'])
