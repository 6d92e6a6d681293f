# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
PPO with a memory, for tasks whose observation does not tell everything.

PPO as in ``ppo.py`` with the networks of ``networks/recurrent.py``: actor and critic are given the
observation beside what a GRU or an LSTM makes of it and of all before it in the episode.

- A memory is empty at the first step of an episode. A rollout may begin within one: what was
  remembered there, by the policy that acted, is kept with it and is what the sequence starts from.
- Minibatches are whole sequences of a rollout, cut where episodes end, padded and masked, about
  ``batch_size`` steps of them; the gradient flows back to the beginning of each (truncated only by
  the rollout), and the memory is run anew with the present weights for each gradient step.
- Values after the last step, and those of episodes that were cut off, are of the observation there
  with the memory there.
"""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from rl_nodes.algorithms.actor_critic import Width
from rl_nodes.algorithms.on_policy import Batch
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.core.contract import Contract
from rl_nodes.data.rollout import Rollout
from rl_nodes.data.sequences import Sequences
from rl_nodes.networks.recurrent import MemoryKind, RecurrentNetworks
import torch
from torch import nn


class RecurrentPpoConfig(PpoConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of :class:`PpoConfig`.

    :param memory: ``gru`` or ``lstm``.
    :param memory_size: its units.
    """

    memory: MemoryKind = 'gru'
    memory_size: Width = 64


class RecurrentPpo(Ppo):
    """The learner; see the file's header."""

    name = 'recurrent_ppo'
    autograd = True
    has_partners = False  # sequences of one process are not as many as another's
    networks: RecurrentNetworks

    def __init__(self, contract: Contract, config: RecurrentPpoConfig, seed: int) -> None:
        """See :class:`OnPolicyLearner`."""
        super().__init__(contract, config, seed)
        self.memory = dict.fromkeys(self.networks.states, (1, 1, config.memory_size))
        self._state = torch.zeros(0, self.networks.state_size)
        self._initial = self._state
        self._rows = torch.zeros(0)
        self._sequences = Sequences(np.ones((1, 1), bool))

    def _new_networks(self, observation_size: int) -> RecurrentNetworks:
        config = cast(RecurrentPpoConfig, self.shared)
        return RecurrentNetworks(
            observation_size, self.head, config.hidden, config.activation, config.initialisation,
            self._initial_own(), self._generator, config.memory, config.memory_size)

    # Acting ----------------------------------------------------------------------------------

    def _perceived(self, observation: np.ndarray) -> np.ndarray:
        """Return what the actor is given, (N, O + M), and remember; another N begins anew."""
        if len(self._state) != len(observation):
            self._state = torch.zeros(len(observation), self.networks.state_size)
        given, self._state = self.networks.remember(
            torch.from_numpy(super()._perceived(observation)), self._state)
        return given.numpy()

    def remembered(self, count: int) -> np.ndarray:
        """Return a copy of what is remembered of each of N environments, float32, (N, S)."""
        if len(self._state) != count:
            self._state = torch.zeros(count, self.networks.state_size)
        return self._state.numpy().copy()

    def forget(self, ended: np.ndarray) -> None:
        """Forget what is remembered of environments whose episode has ended, bool, (N,)."""
        if len(self._state) == len(ended):
            self._state = self._state.masked_fill(torch.from_numpy(ended)[:, None], 0.0)

    # Learning --------------------------------------------------------------------------------

    def _seen(self, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the networks were given, step by step: see the base class."""
        rows, at_cuts = super()._seen(rollout)
        ended, cut = (torch.from_numpy(mask) for mask in (rollout.ended, rollout.cut))
        steps, count = ended.shape
        self._rows, self._initial = rows, torch.from_numpy(rollout.memory)
        self._sequences = Sequences(rollout.ended)
        given, given_at_cuts, state, first = [], [at_cuts.new_zeros(0, 0)], self._initial, 0
        for t, x in enumerate(rows.view(steps + 1, count, -1)):
            features, state = self.networks.remember(x, state)
            given.append(features)
            if t == steps:
                break
            if cut[t].any():
                last = first + int(cut[t].sum())
                given_at_cuts.append(self.networks.remember(at_cuts[first:last],
                                                            state[cut[t]])[0])
                first = last
            state = state.masked_fill(ended[t].unsqueeze(1), 0.0)
        return torch.cat(given), torch.cat(given_at_cuts[1:] or given_at_cuts)

    def minibatches(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each sequence once: rows, and what the networks are given with these weights."""
        for chosen in self._sequences.minibatches(self.config.batch_size, self._generator):
            yield self._unrolled(chosen)

    @torch.no_grad()
    def given(self, batch: Batch) -> torch.Tensor:
        """Return what the networks are given now for every row, (B, O + M)."""
        rows, given = self._unrolled(np.arange(len(self._sequences)))
        return torch.empty_like(given).index_copy_(0, rows, given)

    def _unrolled(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the memory over sequences; return their rows and what the networks are given."""
        sequences = self._sequences
        index, there = sequences.padded(chosen)
        initial = self._initial[torch.from_numpy(sequences.environment[chosen])]
        begins = torch.from_numpy(sequences.start[chosen] > 0)
        given = self.networks.unroll(self._rows[index], there,
                                     initial.masked_fill(begins[:, None], 0.0))
        return index[there], given

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over what the base class does; what is remembered may not be finite: forget it."""
        super().roll_back(state)
        self._state = self._state[:0]

    def policy_module(self) -> nn.Module:
        """Return a detached copy of the present policy for export."""
        return RecurrentPolicyModule(self.normalizer.frozen(), self.networks.memory(),
                                     self._policy_behind(nn.Identity())).eval()


class RecurrentPolicyModule(nn.Module):
    """
    A policy with a memory: from (observation (1, O), states) to (its outputs (1, A), new states).

    :param memory: a GRU with the state h, or an LSTM with h and c, each (1, 1, M).
    :param policy: decides on [normalised observation, h], (1, O + M).
    """

    def __init__(self, normalizer: nn.Module, memory: nn.RNNBase, policy: nn.Module) -> None:
        super().__init__()
        self.normalizer, self.memory, self.policy = normalizer, memory, policy

    def forward(self, observation: torch.Tensor, h: torch.Tensor,
                c: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Return (action or what else the policy answers, new states); see the class."""
        x = self.normalizer(observation)
        answer, after = self.memory(x.unsqueeze(0), h if c is None else (h, c))
        decided = self.policy(torch.cat((x, answer[0]), 1))
        decided = decided if isinstance(decided, tuple) else (decided,)
        return (*decided, after) if c is None else (*decided, *after)
