# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Soft actor-critic with a memory, learned from windows of stored episodes.

Citations: Kapturowski, Ostrovski, Dabney, Quan and Munos 2019, "Recurrent Experience Replay in
Distributed Reinforcement Learning" (R2D2), ICLR, section 3; Ni, Eysenbach and Salakhutdinov 2022,
"Recurrent Model-Free RL Can Be a Strong Baseline for Many POMDPs", arXiv:2110.05038, section 4
(memories of their own for actor and critics). The losses are those of ``sac.py``, (1) to (5), with

    h_t, s_t = memory(o_t, s_{t-1}),   every network is given [o_t, h_t] for o_t.            (6)

Legend: O observation, A action, M units of a memory, L steps of a window and one more, K steps of
burn-in, S windows, B = L S rows, in the order of time; <.> is the mean over the rows that are no
padding.

Before a window each memory runs through its burn-in without a gradient, from zeros: exactly what
it remembers where the episode is not older, nearly so otherwise. Departures, and why:

- What was remembered while acting is not stored and used besides: on a robot it is remembered
  elsewhere, and experience does not carry it.
- Memories see observations, not the last action and reward: so does the policy that is exported.
- One memory serves both critics. The actor moves before the critics in a step, so that this memory
  runs once; (3) is otherwise at critics that are one step newer.
"""

from typing import Annotated

import msgspec
import numpy as np
from rl_nodes.algorithms.actor_critic import Width
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import OffPolicyLearner, PolicyModule
from rl_nodes.algorithms.recurrent_ppo import RecurrentPolicyModule
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.sequence_replay import SequenceReplay, Windows
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN, squash, squash_backward
from rl_nodes.networks.recurrent import Memory, MemoryKind
import torch
from torch import nn


class RecurrentSacConfig(SacConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`SacConfig`.

    :param memory: ``gru`` or ``lstm``.
    :param memory_size: M.
    :param sequence_length: L; ``batch_size`` is a multiple of it, in steps.
    :param burn_in: K.
    """

    memory: MemoryKind = 'gru'
    memory_size: Width = 64
    sequence_length: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 32
    burn_in: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 16


class RecurrentSac(Sac):
    """The learner; see the file's header for the equations."""

    name = 'recurrent_sac'
    autograd = True
    config: RecurrentSacConfig
    buffer: SequenceReplay

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: RecurrentSacConfig, seed: int, privileged_size: int = 0) -> None:
        """
        Create networks, optimisers and buffer; see the base class.

        :raises TrainingError: settings of SAC that do not go with a memory.
        """
        _require_fit(config)
        self._units = config.memory_size
        super().__init__(observation_size, action_low, action_high, config, seed, privileged_size)
        self.actor_memory, self.critic_memory, self.target_memory = (
            Memory(observation_size, config.memory, self._units, self._generator)
            for _ in range(3))
        self.target_memory.flat.copy_(self.critic_memory.flat)
        self._actor_memory_adam = Adam(self.actor_memory.flat, config.actor_learning_rate)
        self._critic_memory_adam = Adam(self.critic_memory.flat, config.critic_learning_rate)
        self.memory = dict.fromkeys(self.actor_memory.states, (1, 1, self._units))
        self._behind = slice(observation_size, observation_size + self._units)
        self._windows = config.batch_size // config.sequence_length
        self._actor_work = self.actor.workspace(config.batch_size + self._windows)
        self._state = torch.zeros(0, self.actor_memory.state_size)

    @property
    def _given(self) -> int:
        return self._observation_size + self._units

    def _new_buffer(self, capacity: int) -> SequenceReplay:
        return SequenceReplay(capacity, self._observation_size, self._action_size,
                              self._privileged_size, costs=self.constraint is not None)

    # Acting and storing ----------------------------------------------------------------------

    def _answer(self, observation: np.ndarray) -> torch.Tensor:
        """Return the actor's outputs, (N, 2A), and remember; another N begins anew."""
        rows = len(observation)
        if rows not in self._acting:
            self._acting[rows] = self.actor.workspace(rows)
        if len(self._state) != rows:
            self._state = torch.zeros(rows, self.actor_memory.state_size)
        x = self._seen_as(torch.tensor(observation, dtype=torch.float32))
        h, self._state = self.actor_memory.step(x, self._state)
        return self.actor.forward(torch.cat((x, h), 1), self._acting[rows])[0]

    def _seen_as(self, observation: torch.Tensor) -> torch.Tensor:
        """Return observations as memories are given them, shape (..., O)."""
        rows = observation.reshape(-1, self._observation_size)
        seen = torch.empty_like(rows)
        self._prepare(self.normalizer, rows, seen)
        return seen.view(observation.shape)

    def forget(self, ended: np.ndarray) -> None:
        """Forget what is remembered of environments whose episode has ended, bool, (N,)."""
        if len(self._state) == len(ended):
            self._state = self._state.masked_fill(torch.from_numpy(ended)[:, None], 0.0)

    def learn_from(self, demonstrations: TransitionBatch) -> int:
        """Refuse demonstrations; see the base class."""
        return OffPolicyLearner.learn_from(self, demonstrations)

    # Learning --------------------------------------------------------------------------------

    def update(self) -> None:
        """
        Do one gradient step on actor, critics, memories and temperature.

        :raises TrainingError: a loss is not finite; the weights must be rolled back.
        """
        config, rows, count = self.config, self.config.batch_size, self._windows
        windows = self.buffer.windows(count, config.burn_in, config.sequence_length,
                                      self._generator)
        sample = windows.sample
        self._complete(sample)
        total = self.averaged(windows.there.sum().float())
        part = windows.there.reshape(-1, 1) / total  # of each row in a mean
        temperature = self.log_temperature.exp().item()
        x = self._seen_as(torch.cat((  # o_0 and all that follow
            sample.observation[:count], sample.next_observation))).view(-1, count,
                                                                        self._observation_size)
        actor_start, critic_start, target_start = self._starts(windows)

        # a ~ pi(.|o) and a' ~ pi(.|o'): row r + S follows row r.
        h_actor = self.actor_memory.unroll(x, actor_start)
        output = self.actor.forward(self._joined(x, h_actor), self._actor_work)[0]
        output = torch.cat((output[:rows], output[count:]))
        mean, raw_log_std = output.chunk(2, 1)
        log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = self._noise.normal_(generator=self._generator)
        action, log_probability = squash(mean, log_std, noise)

        # Eq. (1): the target. Nothing here is differentiated.
        with torch.no_grad():
            h_target = self.target_memory.unroll(x, target_start)[1:]
        self._both[rows:] = self._joined(x[1:], h_target)
        self._join(self._fresh, True, action[rows:])
        target_eb = self.target_critics.forward(self._fresh, self._critic_work)[..., 0]
        future = target_eb.amin(0).sub_(log_probability[rows:], alpha=temperature)
        target_b1 = self._target(sample, future).unsqueeze(1)

        # Eq. (3), as in sac.py, and on into the actor's memory.
        h_critic = self.critic_memory.unroll(x[:-1], critic_start)
        self._both[:rows] = self._joined(x[:-1], h_critic)
        self._join(self._fresh, False, action[:rows])
        q_eb1 = self.critics.forward(self._fresh, self._critic_work)
        q_minimum = q_eb1.amin(0)
        entropy = -(log_probability[:rows] @ part).item()
        actor_loss = -temperature * entropy - (q_minimum * part).sum().item()
        action_gradient = self._action_gradient((q_eb1 == q_minimum).float().mul_(-part))
        mean_gradient, log_std_gradient = squash_backward(
            action[:rows], log_std[:rows], noise[:rows], action_gradient, temperature * part)
        log_std_gradient.mul_(raw_log_std[:rows] == log_std[:rows])
        torch.cat((mean_gradient, log_std_gradient), 1, out=self._output_gradient[0])
        sent = self.actor.backward(self._output_gradient, self._actor_work, inputs=self._behind,
                                   rows=slice(0, rows))

        # Eq. (2), likewise.
        self._join(self._stored, False, sample.action)
        q_eb1 = self.critics.forward(self._stored, self._critic_work)
        q_mean = (q_eb1 * part).sum().item() / self.members
        error_eb1 = q_eb1.sub_(target_b1)
        critic_loss = 0.5 * (error_eb1.square() * part).sum().item()
        sent_back = self.critics.backward(error_eb1.mul_(part), self._critic_work,
                                          inputs=self._behind)

        self._step(self._actor_adam, self.actor.flat_gradient)
        self._step(self._critic_adam, self.critics.flat_gradient)
        for memory, adam, h, gradient in (
                (self.actor_memory, self._actor_memory_adam, h_actor[:-1], sent),
                (self.critic_memory, self._critic_memory_adam, h_critic, sent_back)):
            if gradient is None:
                raise TrainingError(f'{self.name}: a memory got no gradient')
            memory.backward(h, gradient.view_as(h))
            self._step(adam, memory.flat_gradient)
        self._step(self._temperature_adam, torch.full((1,), entropy - self._target_entropy))
        follow = 1.0 - config.target_decay
        self.target_critics.flat.lerp_(self.critics.flat, follow)
        self.target_memory.flat.lerp_(self.critic_memory.flat, follow)
        self._finish(sample.reward, temperature * self._most_surprise, critic_loss=critic_loss,
                     actor_loss=actor_loss, entropy=entropy, temperature=temperature,
                     q_mean=q_mean)

    def _starts(self, windows: Windows) -> list[torch.Tensor]:
        """Return what each memory remembers at the beginning of each window, (S, state)."""
        before, starts = self._seen_as(windows.before), []
        for memory in (self.actor_memory, self.critic_memory, self.target_memory):
            state = torch.zeros(self._windows, memory.state_size)
            for x, known in zip(before, windows.known):
                state = memory.step(x, state)[1].masked_fill(~known.unsqueeze(1), 0.0)
            starts.append(state)
        return starts

    def _joined(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Return [o, h] of (L, S, ...) as rows, (L S, O + M)."""
        return torch.cat((x, h.detach()), 2).view(-1, self._given)

    def _vectors(self) -> dict[str, torch.Tensor]:
        return super()._vectors() | {
            'actor_memory': self.actor_memory.flat, 'critic_memory': self.critic_memory.flat,
            'target_memory': self.target_memory.flat}

    def _optimisers(self) -> dict[str, Adam]:
        return super()._optimisers() | {'actor_memory': self._actor_memory_adam,
                                        'critic_memory': self._critic_memory_adam}

    def roll_back(self, state: dict) -> None:
        """Take over what the base class does; what is remembered may not be finite: forget it."""
        super().roll_back(state)
        self._state = self._state[:0]

    def policy_module(self) -> nn.Module:
        """Return a detached copy of the present policy for export."""
        return RecurrentPolicyModule(self.normalizer.frozen(), self.actor_memory.plain(),
                                     PolicyModule(nn.Identity(), self.actor.member(0),
                                                  self._middle, self._half_range)).eval()


def _require_fit(config: RecurrentSacConfig) -> None:
    """Refuse settings of SAC that do not go with a memory."""
    if config.variant != 'twin_q' or config.state_dependent_noise is not None:
        raise TrainingError('recurrent_sac has variant: twin_q and state_dependent_noise: null '
                            f'alone, got {config.variant} and {config.state_dependent_noise}; '
                            'sac has the others')
    if config.device != 'cpu':
        raise TrainingError(f'recurrent_sac: device = {config.device}; its memories are run step '
                            'by step on the processor: cpu alone')
    if config.batch_size % config.sequence_length:
        raise TrainingError(f'recurrent_sac: batch_size = {config.batch_size} is not a multiple '
                            f'of sequence_length = {config.sequence_length}')
