# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Soft actor-critic: twin critics with automatic temperature, or the earlier form with V(o).

Citation: Haarnoja, Zhou, Hartikainen, Tucker, Ha, Tan, Kumar, Zhu, Gupta, Abbeel and Levine 2018,
"Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905. Twin critics: Fujimoto, van
Hoof and Meger 2018, arXiv:1802.09477.

Legend: B batch, O observation, A action, P privileged, E = 2 critics; d = terminated (never
truncated), alpha temperature, a bar marks the slow copy of the critics, <.> the mean over the
batch.

    y = r + gamma (1 - d) [min_e Qbar_e(o', a') - alpha log pi(a'|o')],   a' ~ pi(.|o')      (1)
    L_Q = 1/2 sum_e <(Q_e(o, a) - y)^2>                                                      (2)
    L_pi = <alpha log pi(a|o) - min_e Q_e(o, a)>,   a = tanh(m(o) + s(o) n),  n ~ N(0, 1)    (3)
    L_alpha = -log alpha (<log pi(a|o)> + H),   H = target entropy, -1 nat per action        (4)
    Qbar <- target_decay Qbar + (1 - target_decay) Q                                         (5)

``variant: v_network`` is the form of Haarnoja, Zhou, Abbeel and Levine 2018, arXiv:1801.01290,
algorithm 1, whose temperature is given (theirs is 1, with scaled rewards) and stays. A value
network V and its slow copy take the place of the slow critics; per step V is fitted first, then
the critics, then the actor by (3), then the slow copy:

    L_V = 1/2 <(V(o) - min_e Q_e(o, a) + alpha log pi(a|o))^2>,   a ~ pi(.|o)                (6)
    y = r + gamma (1 - d) Vbar(o'),   Vbar <- target_decay Vbar + (1 - target_decay) V       (7)

``state_dependent_noise`` takes s(o) from noise that is a function of the state, exp(l) of
``networks/state_dependent.py``, where the actor gives m alone; such noise is held for some steps
while acting, and drawn for each row while learning, where it has the same distribution.

Departures from the paper, and why:

- (4) has log alpha where the paper has alpha, as in the authors' code: the step does not shrink
  with alpha, and alpha stays positive.
- The actor is evaluated once for o and o' together; it has not changed in between.
- What is shared with TD3 and DDPG is told in ``actor_critic.py``.
- No uniformly random start: the untrained policy (m near 0, s near 1) is nearly uniform already.
"""

import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.actor_critic import ActorCritic, ActorCriticConfig, Rate
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import PolicyModule
from rl_nodes.data.replay_buffer import ReplaySample
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN, squash, squash_backward
from rl_nodes.networks.mlp import StackedMlp
from rl_nodes.networks.state_dependent import (
    HeldNoise,
    log_spread,
    log_spread_backward,
    WithSpread,
)
import torch
from torch import nn


class SacConfig(ActorCriticConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of every actor-critic.

    :param variant: ``twin_q``, eq. (1) to (5), or ``v_network``, eq. (6) and (7).
    :param temperature_learning_rate: of Adam on log alpha, per step; of ``twin_q`` only.
    :param initial_temperature: alpha at the start, in ``v_network`` for ever [reward per nat].
    :param target_entropy_per_action: H divided by the number of action elements [nat]; of
        ``twin_q`` only.
    :param state_dependent_noise: steps over which a draw of noise that is a function of the state
        is held while acting; None for white noise.
    """

    variant: Literal['twin_q', 'v_network'] = 'twin_q'
    temperature_learning_rate: Rate = 3e-4
    initial_temperature: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 1.0
    target_entropy_per_action: Annotated[float, msgspec.Meta(ge=-10.0, le=0.6)] = -1.0
    state_dependent_noise: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Sac(ActorCritic):
    """The learner; see the file's header for the equations."""

    name = 'sac'
    sampling = 'squashed_gaussian'
    outputs, members = 2, 2

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: SacConfig, seed: int, privileged_size: int = 0) -> None:
        """Create networks, optimisers and buffer; see the base class."""
        held = config.state_dependent_noise
        self.outputs = 2 if held is None else 1
        super().__init__(observation_size, action_low, action_high, config, seed, privileged_size)
        self.config = config
        self._held: HeldNoise | None = None
        if held is not None:
            self._held, width = HeldNoise(held), config.hidden[-1]
            # Hidden units of 1 give s = 1.
            self.spread = torch.full((width, self._action_size), -0.5 * math.log(width),
                                     device=self.device)
            self._spread_adam = Adam(self.spread, config.actor_learning_rate)
        self.log_temperature = torch.tensor([math.log(config.initial_temperature)])
        self._target_entropy = config.target_entropy_per_action * self._action_size
        self._most_surprise = -LOG_STD_MIN * self._action_size  # about the greatest log pi [nat]
        self._temperature_adam = Adam(self.log_temperature, config.temperature_learning_rate)

        rows = config.batch_size
        self._actor_work = self.actor.workspace(2 * rows)
        self._noise = torch.zeros(2 * rows, self._action_size)
        self._output_gradient = torch.zeros(1, rows, self.outputs * self._action_size,
                                            device=self.device)
        if config.variant == 'v_network':
            sizes = (self._critic_width, *config.hidden, 1)
            self.value, self.target_value = (StackedMlp(
                1, sizes, config.initialisation, 1.0, self._generator, config.reduced_precision,
                config.critic_layer_norm, device=self.device) for _ in range(2))
            self.target_value.flat.copy_(self.value.flat)
            self._value_adam = Adam(self.value.flat, config.critic_learning_rate)
            self._value_work = self.value.workspace(rows)

    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """Return actions within the action bounds, shape (N, A); see the base class."""
        output = self._answer(observation)
        mean = output[:, :self._action_size]
        if explore and self._held is not None:
            hidden = self._acting[len(mean)].hidden[-2][0]
            mean = mean + self._held(hidden, self.spread.cpu(), self._generator)
        elif explore:
            log_std = output[:, self._action_size:]
            noise = torch.randn(mean.shape, generator=self._generator)
            mean = torch.addcmul(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp_(), noise)
        return self._scaled(torch.tanh(mean))

    def update(self) -> None:
        """
        Do one gradient step on critics, actor and temperature.

        :raises TrainingError: a loss is not finite; the weights must be rolled back.
        """
        rows, earlier = self.config.batch_size, self.config.variant == 'v_network'
        sample = self._draw()
        temperature = math.exp(self.log_temperature.item())

        # a ~ pi(.|o) and a' ~ pi(.|o') in one pass.
        output = self.actor.forward(self._both, self._actor_work)[0]
        mean, hidden = output[:, :self._action_size], self._actor_work.hidden[-2][0]
        raw_log_std = output[:, self._action_size:] if self._held is None else log_spread(
            hidden, self.spread)
        log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = self._noise.normal_(generator=self._generator).to(self.device)
        action, log_probability = squash(mean, log_std, noise)

        # Eq. (1), or (6) and (7): the target. Nothing here is differentiated.
        logged = {}
        if earlier:
            logged['value_loss'] = self._fit_value(
                action[:rows], log_probability[:rows], temperature)
            future = self.target_value.forward(
                self._seen(following=True), self._value_work)[0, :, 0]
        else:
            self._join(self._fresh, True, action[rows:])
            target_eb = self.target_critics.forward(self._fresh, self._critic_work)[..., 0]
            future = target_eb.amin(0).sub_(log_probability[rows:], alpha=temperature)
        critic_loss, q_mean = self._fit_critics(sample, self._target(sample, future))

        # Eq. (3): dL_pi/dQ_e = -1/B where e is the smaller critic, then through tanh and Gaussian.
        self._join(self._fresh, False, action[:rows])
        q_eb1 = self.critics.forward(self._fresh, self._critic_work)
        q_minimum = q_eb1.amin(0)
        entropy = -log_probability[:rows].mean().item()
        actor_loss = -temperature * entropy - q_minimum.mean().item()
        chosen = (q_eb1 == q_minimum).float()
        action_gradient = self._action_gradient(chosen.mul_(-1.0 / rows))
        mean_gradient, log_std_gradient = squash_backward(
            action[:rows], log_std[:rows], noise[:rows], action_gradient, temperature / rows)
        log_std_gradient.mul_(raw_log_std[:rows] == log_std[:rows])
        if self._held is None:
            torch.cat((mean_gradient, log_std_gradient), 1, out=self._output_gradient[0])
        else:
            self._output_gradient[0].copy_(mean_gradient)
            self._step(self._spread_adam, log_spread_backward(
                hidden[:rows], self.spread, raw_log_std[:rows], log_std_gradient))
        self.actor.backward(self._output_gradient, self._actor_work, rows=slice(0, rows))
        self._step(self._actor_adam, self.actor.flat_gradient)

        # Eq. (4) and (5), or (7).
        follow = 1.0 - self.config.target_decay
        if earlier:
            self.target_value.flat.lerp_(self.value.flat, follow)
        else:
            self._step(self._temperature_adam, torch.full((1,), entropy - self._target_entropy))
            self.target_critics.flat.lerp_(self.critics.flat, follow)
        self._finish(sample.reward, temperature * self._most_surprise, critic_loss=critic_loss,
                     actor_loss=actor_loss, entropy=entropy, temperature=temperature,
                     q_mean=q_mean, **logged)

    def _target(self, sample: ReplaySample, future: torch.Tensor) -> torch.Tensor:
        """Return y, shape (B,): a step that was cut off has a future, one that ended has none."""
        return torch.addcmul(sample.reward, future, 1.0 - sample.terminated,
                             value=self.config.discount)

    def _seen(self, following: bool) -> torch.Tensor:
        """Return what V sees, [o, x] or [o', x'], shape (B, O + P)."""
        return self._join(self._fresh, following, torch.zeros(()))[:, :self._critic_width]

    def _fit_value(self, action: torch.Tensor, log_probability: torch.Tensor,
                   temperature: float) -> float:
        """Do one step on V, eq. (6), and return its loss."""
        rows = len(action)
        self._join(self._fresh, False, action)
        q_eb = self.critics.forward(self._fresh, self._critic_work)[..., 0]
        target_b = q_eb.amin(0).sub_(log_probability, alpha=temperature)
        error_1b1 = self.value.forward(self._fresh[:, :self._critic_width], self._value_work)
        error_1b1.sub_(target_b.unsqueeze(-1))
        loss = 0.5 * torch.linalg.vector_norm(error_1b1).item() ** 2 / rows
        self.value.backward(error_1b1.mul_(1.0 / rows), self._value_work)
        self._step(self._value_adam, self.value.flat_gradient)
        return loss

    def _vectors(self) -> dict[str, torch.Tensor]:
        vectors = super()._vectors() | {'log_temperature': self.log_temperature}
        if self.config.variant == 'v_network':
            del vectors['target_critics']
            vectors |= {'value': self.value.flat, 'target_value': self.target_value.flat}
        return vectors if self._held is None else vectors | {'spread': self.spread.view(-1)}

    def _optimisers(self) -> dict[str, Adam]:
        return super()._optimisers() | (
            {'value': self._value_adam} if self.config.variant == 'v_network'
            else {'temperature': self._temperature_adam}) | (
            {} if self._held is None else {'spread': self._spread_adam})

    def state_dict(self) -> dict[str, Any]:
        """Return what the base class does, and the noise that is held."""
        return super().state_dict() | (
            {} if self._held is None else {'held_noise': self._held.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the buffer is kept apart."""
        super().load_state_dict(state)
        if self._held is not None:
            self._held.load_state_dict(state['held_noise'])

    def policy_module(self) -> PolicyModule:
        """Return a detached copy of the present policy for export."""
        network: nn.Module = self.actor.member(0)
        if self._held is not None:
            network = WithSpread(self.actor.member(0), self.spread.cpu())
        return PolicyModule(self.normalizer.frozen(), network, self._middle,
                            self._half_range).eval()
