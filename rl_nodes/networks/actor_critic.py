# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
An actor and a critic whose parameters lie in one vector.

    parameters = [ actor | own parameters of the head | critic | more, of a subclass ]

so that one optimiser step, one gradient norm and one Fisher product are a few vector operations.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from rl_nodes.networks.mlp import Initialisation, parameter_count, StackedMlp, Workspace
from rl_nodes.networks.policy_heads import PolicyHead
import torch

_SIZES_KEPT = 8  # batch sizes whose buffers stay; whole episodes have any number of rows


class ActorCriticNetworks:
    """
    Two perceptrons of the same hidden layers.

    :ivar flat: all parameters, shape (P,); ``policy``, ``own`` and ``critic.flat`` are parts.
    :ivar gradient: theirs; ``policy_gradient`` and ``own_gradient`` are parts.
    :ivar behind: columns of the observation whose gradient the backward passes return.
    """

    behind: slice | None = None

    def __init__(self, observation_size: int, head: PolicyHead, hidden: Sequence[int],
                 activation: Literal['relu', 'tanh'], initialisation: Initialisation,
                 initial_own: float, generator: torch.Generator, more: int = 0) -> None:
        """
        Create the networks.

        :param head: what the actor's outputs mean.
        :param hidden: units of each hidden layer, in the actor and in the critic.
        :param initial_own: of each of the head's own parameters.
        :param more: parameters of a subclass, zeros.
        """
        self.head = head
        actor_sizes = (observation_size, *hidden, head.outputs)
        critic_sizes = (observation_size, *hidden, 1)
        of_actor = parameter_count(actor_sizes)
        of_policy = of_actor + head.own_size
        of_both = of_policy + parameter_count(critic_sizes)
        self.flat = torch.zeros(of_both + more)
        self.gradient = torch.zeros_like(self.flat)
        self.more, self.more_gradient = self.flat[of_both:], self.gradient[of_both:]
        self.policy, self.policy_gradient = self.flat[:of_policy], self.gradient[:of_policy]
        self.own, self.own_gradient = (vector[of_actor:of_policy]
                                       for vector in (self.flat, self.gradient))
        # The small last layer makes the first policy nearly the same in every state.
        self.actor = StackedMlp(
            1, actor_sizes, initialisation, 0.01, generator, activation=activation,
            storage=(self.flat[:of_actor], self.gradient[:of_actor]))
        self.critic = StackedMlp(
            1, critic_sizes, initialisation, 1.0, generator, activation=activation,
            storage=(self.flat[of_policy:of_both], self.gradient[of_policy:of_both]))
        self.own.fill_(initial_own)
        self._layers = [(weight[0].numpy(), bias[0].numpy())
                        for weight, bias in zip(self.actor.weights, self.actor.biases)]
        self._workspaces: dict[tuple[str, int], Workspace] = {}

    def respond(self, observation: np.ndarray) -> np.ndarray:
        """
        Return the actor's outputs for few rows, without what a backward pass needs.

        In numpy, on the same memory: for a handful of rows that costs a third of torch.

        :param observation: normalised, shape (N, O), float32.
        :return: shape (N, K), float32; H more where the head wants the last hidden layer.
        """
        h = hidden = observation
        last = len(self._layers) - 1
        for k, (weight, bias) in enumerate(self._layers):
            hidden = h
            h = h @ weight
            h += bias
            if k < last:
                if self.actor.activation == 'tanh':
                    np.tanh(h, out=h)
                else:
                    np.maximum(h, 0.0, out=h)
        return np.concatenate((h, hidden), 1) if self.head.hidden_size else h

    def act(self, observation: torch.Tensor) -> torch.Tensor:
        """
        Return the actor's outputs, valid until the next call of this size.

        :return: shape (B, K); H more where the head wants the last hidden layer.
        """
        work = self._workspace('actor', len(observation))
        output = self.actor.forward(observation, work)[0]
        return torch.cat((output, work.hidden[-2][0]), 1) if self.head.hidden_size else output

    def act_backward(self, output_gradient: torch.Tensor,
                     own_gradient: torch.Tensor) -> torch.Tensor | None:
        """Write ``policy_gradient`` for the last :meth:`act` of this size."""
        self.own_gradient.copy_(own_gradient)
        return self.actor.backward(
            output_gradient.unsqueeze(0), self._workspace('actor', len(output_gradient)),
            inputs=self.behind)

    def act_tangent(self, direction: torch.Tensor, rows: int) -> torch.Tensor:
        """Return how the outputs of the last :meth:`act` of this size change, shape (B, K)."""
        inside = len(self.policy) - self.head.own_size
        return self.actor.tangent(direction[:inside], self._workspace('actor', rows))[0]

    def value(self, observation: torch.Tensor) -> torch.Tensor:
        """Return V, shape (B,), valid until the next call of this size."""
        work = self._workspace('critic', len(observation))
        return self.critic.forward(observation, work)[0, :, 0]

    def value_backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Write the critic's gradient for the last :meth:`value` of this size."""
        return self.critic.backward(
            gradient.view(1, -1, 1), self._workspace('critic', len(gradient)), inputs=self.behind)

    def _workspace(self, network: str, rows: int) -> Workspace:
        found = self._workspaces.pop((network, rows), None)
        if found is None:
            found = (self.actor if network == 'actor' else self.critic).workspace(rows)
            if len(self._workspaces) >= _SIZES_KEPT:
                del self._workspaces[next(iter(self._workspaces))]
        self._workspaces[network, rows] = found  # last: the one used longest ago goes first
        return found
