# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Deep deterministic policy gradient.

Citation: Lillicrap, Hunt, Pritzel, Heess, Erez, Tassa, Silver and Wierstra 2016, "Continuous
control with deep reinforcement learning", arXiv:1509.02971, algorithm 1. Deterministic policy
gradient: Silver, Lever, Heess, Degris, Wierstra and Riedmiller 2014.

Legend: B batch, O observation, A action, E critics (one here, two in TD3); d = terminated (never
truncated), mu(o) = tanh(net(o)) the actor, a bar marks a slow copy, <.> the mean over the batch.

    y = r + gamma (1 - d) min_e Qbar_e(o', mubar(o'))                                        (1)
    L_Q = 1/2 sum_e <(Q_e(o, a) - y)^2>                                                      (2)
    L_mu = -<Q_1(o, mu(o))>,   so  dL_mu/dmu = -1/B dQ_1/da                                  (3)
    Qbar, mubar <- target_decay (.) + (1 - target_decay) (Q, mu)                             (4)
    a_t = clip(mu(o_t) + sigma x_t, -1, 1),   x_t = rho x_{t-1} + sqrt(1 - rho^2) n_t        (5)

(5) is one process for both kinds of exploration: rho = 0 is white noise (``noise: normal``), rho =
1 - theta the Ornstein-Uhlenbeck process of the paper in steps of dt = 1 (``noise: ou``), here with
a standard deviation of sigma at all times; the paper's sigma = 0.2, theta = 0.15 is 0.38 so told.

Departures from the paper, and why:

- The target of (1) uses the slow actor, as the paper does and some teaching material does not.
- No batch normalisation, no weight decay: running statistics of the observations do the former's
  work and are part of the exported policy.
- The noise goes on over the end of an episode: it is stationary, so nothing has to be reset.
- Until ``learning_starts`` the noise has a standard deviation of ``initial_noise``: with the
  untrained mu near 0 that is nearly uniform after clipping, in one process and on the graph alike.
"""

import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from rl_nodes.algorithms.base import GaussianPolicyModule
import torch

Noise = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]


class DdpgConfig(ActorCriticConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of every actor-critic.

    :param noise: of exploration, ``normal`` (white) or ``ou`` (correlated in time), eq. (5).
    :param noise_std: sigma, a part of half the action's range.
    :param noise_correlation: rho of ``ou``, from one control step to the next.
    :param initial_noise: sigma until learning starts.
    """

    noise: Literal['normal', 'ou'] = 'normal'
    noise_std: Noise = 0.1
    noise_correlation: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.85
    initial_noise: Noise = 1.0


class Ddpg(ActorCritic):
    """The learner; see the file's header for the equations."""

    name = 'ddpg'
    sampling = 'gaussian'
    outputs, members = 1, 1

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: DdpgConfig, seed: int, privileged_size: int = 0) -> None:
        """Create networks, optimisers and buffer; see the base class."""
        super().__init__(observation_size, action_low, action_high, config, seed, privileged_size)
        self.config = config
        self.target_actor = self._new_actor()
        self.target_actor.flat.copy_(self.actor.flat)
        self.noise_correlation = config.noise_correlation if config.noise == 'ou' else 0.0
        self._actor_work = self.actor.workspace(config.batch_size)
        self._exploration = torch.zeros(0, self._action_size)  # x, one row per environment

    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """Return actions within the action bounds, shape (N, A); see the base class."""
        action = torch.tanh(self._answer(observation))
        if explore:
            action.add_(self._next_noise(len(action)), alpha=self._noise_std()).clamp_(-1.0, 1.0)
        return self._scaled(action)

    def _noise_std(self) -> float:
        return self.config.noise_std if self.ready() else self.config.initial_noise

    def _next_noise(self, rows: int) -> torch.Tensor:
        """Return x_t, eq. (5), shape (rows, A); it starts from its stationary distribution."""
        fresh = torch.randn(rows, self._action_size, generator=self._generator)
        rho = self.noise_correlation
        if rho and len(self._exploration) == rows:
            fresh.mul_(math.sqrt(1.0 - rho * rho)).add_(self._exploration, alpha=rho)
        self._exploration = fresh
        return fresh

    def update(self) -> None:
        """
        Do one gradient step on the critics and, where it is due, on the actor.

        :raises TrainingError: a loss is not finite; the weights must be rolled back.
        """
        config, rows = self.config, self.config.batch_size
        sample = self._draw()

        # Eq. (1): the target. Nothing here is differentiated.
        self._join(self._fresh, True, self._target_action(self._both[rows:]))
        future = self.target_critics.forward(self._fresh, self._critic_work)[..., 0].amin(0)
        target_b = torch.addcmul(sample.reward, future, 1.0 - sample.terminated,
                                 value=config.discount)
        critic_loss, q_mean = self._fit_critics(sample, target_b)
        logged = {'critic_loss': critic_loss, 'q_mean': q_mean}

        # Eq. (3): through the first critic and tanh into the actor; then eq. (4).
        if self._actor_due():
            raw = self.actor.forward(self._both[:rows], self._actor_work)
            action = torch.tanh(raw[0])
            self._join(self._fresh, False, action)
            q_eb1 = self.critics.forward(self._fresh, self._critic_work)
            logged['actor_loss'] = -q_eb1[0].mean().item()
            chosen = torch.zeros_like(q_eb1)
            chosen[0] = -1.0 / rows
            gradient = self._action_gradient(chosen).mul_(1.0 - action.square_())
            self.actor.backward(gradient.unsqueeze(0), self._actor_work)
            self._step(self._actor_adam, self.actor.flat_gradient)
            follow = 1.0 - config.target_decay
            self.target_critics.flat.lerp_(self.critics.flat, follow)
            self.target_actor.flat.lerp_(self.actor.flat, follow)
        self._finish(sample.reward, **logged)

    def _target_action(self, next_observation: torch.Tensor) -> torch.Tensor:
        """Return the action whose value counts in eq. (1), shape (B, A)."""
        return torch.tanh_(self.target_actor.forward(next_observation, self._actor_work)[0])

    def _actor_due(self) -> bool:
        """Return whether this step moves the actor and the slow copies, too."""
        return True

    def _vectors(self) -> dict[str, torch.Tensor]:
        return super()._vectors() | {'target_actor': self.target_actor.flat}

    def state_dict(self) -> dict[str, Any]:
        """Return what the base class does, and the noise."""
        return super().state_dict() | {'exploration': self._exploration.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the buffer is kept apart."""
        super().load_state_dict(state)
        self._exploration = state['exploration'].clone()

    def policy_module(self) -> GaussianPolicyModule:
        """Return a detached copy of the present policy for export."""
        return GaussianPolicyModule(self.normalizer.frozen(), self.actor.member(0), self._middle,
                                    self._half_range, self._noise_std()).eval()
