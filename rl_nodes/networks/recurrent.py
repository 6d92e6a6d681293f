# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A memory, a GRU or an LSTM, and an actor and a critic that share one.

Citations: Cho et al. 2014, arXiv:1406.1078 (GRU); Hochreiter and Schmidhuber 1997, "Long
Short-Term Memory", Neural Computation 9(8); in reinforcement learning: Hausknecht and Stone 2015,
"Deep Recurrent Q-Learning for Partially Observable MDPs", arXiv:1507.06527.

    h_t, s_t = memory(o_t, s_{t-1}),   actor and critic are given [o_t, h_t]                 (1)

Legend: O observation, M units of the memory, S numbers of its state s (M of a GRU, 2 M of an
LSTM), N environments, L steps and K sequences, B rows.

    parameters = [ actor | own parameters of the head | critic | memory ]

The memory's gradient over whole sequences is torch's (autograd through its kernels); that of actor
and critic is written out as elsewhere and sent on to it.
"""

from collections.abc import Sequence
from typing import Literal

from rl_nodes.networks.actor_critic import ActorCriticNetworks
from rl_nodes.networks.mlp import Initialisation
from rl_nodes.networks.policy_heads import PolicyHead
import torch
from torch import nn

MemoryKind = Literal['gru', 'lstm']
_LAYERS: dict[str, type[nn.RNNBase]] = {'gru': nn.GRU, 'lstm': nn.LSTM}
_GATES = {'gru': 3, 'lstm': 4}
_STATES = {'gru': ('h',), 'lstm': ('h', 'c')}


class Memory:
    """
    A GRU or an LSTM whose parameters are one vector, as is their gradient.

    :ivar states: names of the parts of s, M numbers each.
    """

    def __init__(self, inputs: int, kind: MemoryKind, units: int, generator: torch.Generator,
                 storage: tuple[torch.Tensor, torch.Tensor] | None = None) -> None:
        """
        Create it, its weights uniform within 1/sqrt(M), as torch does.

        :param inputs: O.
        :param units: M.
        :param storage: room for ``flat`` and ``flat_gradient``, each of :func:`memory_count`
            elements, where they are part of longer vectors; None makes them.
        """
        self.kind, self.units, self.states = kind, units, _STATES[kind]
        self._inputs = inputs
        count = memory_count(inputs, kind, units)
        self.flat, self.flat_gradient = storage or (torch.zeros(count), torch.zeros(count))
        self._layer = self._new_layer()
        start = 0
        for parameter in self._layer.parameters():
            part = slice(start, start + parameter.numel())
            parameter.data = self.flat[part].view_as(parameter)
            parameter.grad = self.flat_gradient[part].view_as(parameter)
            start = part.stop
        self.flat.uniform_(-units ** -0.5, units ** -0.5, generator=generator)

    def _new_layer(self) -> nn.RNNBase:
        with torch.random.fork_rng(devices=()):  # its weights are drawn from our generator
            return _LAYERS[self.kind](self._inputs, self.units)

    @property
    def state_size(self) -> int:
        """Return S."""
        return self.units * len(self.states)

    @torch.no_grad()
    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return h after one step, (N, M), and the state after it, (N, S).

        :param x: normalised observations, (N, O).
        :param state: before it, (N, S).
        """
        h, after = self._layer(x.unsqueeze(0), self._parts(state))
        return h[0], after[0] if isinstance(after, torch.Tensor) else torch.cat(after, 2)[0]

    def unroll(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """
        Return h after each step, (L, K, M), through which gradients flow.

        :param x: normalised observations of sequences, (L, K, O).
        :param state: at the beginning of each sequence, (K, S).
        """
        h: torch.Tensor = self._layer(x, self._parts(state))[0]
        return h

    def backward(self, h: torch.Tensor, gradient: torch.Tensor) -> None:
        """Write ``flat_gradient`` for the gradient of a loss by (parts of) what unroll gave."""
        self.flat_gradient.zero_()
        torch.autograd.backward([h], [gradient])

    def _parts(self, state: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        parts = tuple(part.contiguous().unsqueeze(0) for part in state.split(self.units, 1))
        return parts if len(parts) > 1 else parts[0]

    def plain(self) -> nn.RNNBase:
        """Return a copy as a plain module."""
        layer = self._new_layer()
        layer.load_state_dict(self._layer.state_dict())
        return layer


def memory_count(inputs: int, kind: MemoryKind, units: int) -> int:
    """Return how many parameters a memory has."""
    return _GATES[kind] * units * (inputs + units + 2)


class RecurrentNetworks(ActorCriticNetworks):
    """
    Actor and critic of :class:`ActorCriticNetworks` behind a memory, eq. (1).

    :ivar states: names of the parts of s, M numbers each.
    """

    def __init__(self, observation_size: int, head: PolicyHead, hidden: Sequence[int],
                 activation: Literal['relu', 'tanh'], initialisation: Initialisation,
                 initial_own: float, generator: torch.Generator, kind: MemoryKind,
                 units: int) -> None:
        """
        Create the networks.

        :param units: M.
        """
        super().__init__(
            observation_size + units, head, hidden, activation, initialisation, initial_own,
            generator, more=memory_count(observation_size, kind, units))
        self._memory = Memory(observation_size, kind, units, generator,
                              (self.more, self.more_gradient))
        self.states, self.state_size = self._memory.states, self._memory.state_size
        self.behind = slice(observation_size, observation_size + units)
        self._remembered = torch.zeros(0)
        self._sent: torch.Tensor | None = None

    def remember(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return what actor and critic are given at one step, (N, O + M), and the state after it.

        :param x: normalised observations, (N, O).
        :param state: before it, (N, S).
        """
        h, following = self._memory.step(x, state)
        return torch.cat((x, h), 1), following

    def unroll(self, x: torch.Tensor, there: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """
        Return what actor and critic are given at each step that is there, (B, O + M).

        :param x: normalised observations of sequences, (L, K, O).
        :param there: where they are not padding, bool, (L, K).
        :param state: at the beginning of each sequence, (K, S).
        """
        self._remembered = self._memory.unroll(x, state)[there]
        return torch.cat((x[there], self._remembered.detach()), 1)

    def act_backward(self, output_gradient: torch.Tensor,
                     own_gradient: torch.Tensor) -> torch.Tensor | None:
        """Write the actor's gradient; what goes on to the memory waits for the critic's."""
        self._sent = super().act_backward(output_gradient, own_gradient)
        return self._sent

    def value_backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Write the critic's gradient, and the memory's by both for the last :meth:`unroll`."""
        sent = super().value_backward(gradient)
        parts = [part for part in (self._sent, sent) if part is not None]
        self._memory.backward(self._remembered, torch.stack(parts).sum(0))
        return sent

    def memory(self) -> nn.RNNBase:
        """Return a copy of the memory as a plain module."""
        return self._memory.plain()
