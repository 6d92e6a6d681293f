# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Behaviour cloning: what a demonstrator did in a state is what the policy learns to do.

D. A. Pomerleau 1989, ALVINN. Legend: N transitions, O observation, A action; a the demonstrated
action scaled to [-1, 1], m and s what the network answers. Either head minimises, over the
demonstrated transitions,

    deterministic        L = mean (tanh m - a)²                                               (1)
    squashed_gaussian    L = - mean log pi(a), pi the density of tanh(m + s noise)            (2)

by Adam with minibatches. Observations are normalised by the mean and deviation of the training
part, which the exported policy carries. The weights with the least loss on episodes left out count
(early stopping). In (2) actions are kept EDGE away from their bounds, where tanh has no inverse.

Errors add up: a policy that errs with probability e per step may lose in the order of e T² over T
steps, as it meets states that nobody has shown (S. Ross and D. Bagnell 2010). Corrections by a
person who takes over (origin INTERVENTION) show just these.
"""

from collections.abc import Callable
import copy
from typing import Annotated, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.base import BoundedPolicyModule, PolicyModule
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.networks.distributions import log_probability_of, LOG_STD_MAX, LOG_STD_MIN
from rl_nodes.networks.mlp import Mlp
from rl_nodes.networks.normalizer import ObservationNormalizer
import torch
from torch import nn

EDGE = 1e-3     # of half an action's range

_Count = Annotated[int, msgspec.Meta(ge=1)]


class BcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of behaviour cloning.

    :param head: what the policy answers, eq. (1) or (2).
    :param hidden: widths of the hidden layers.
    :param learning_rate: of Adam, per step.
    :param batch_size: transitions per gradient step.
    :param epochs: most passes over the training data.
    :param patience: epochs without a better validation loss after which training ends.
    :param validation: share of the episodes that is only validated on.
    """

    head: Literal['deterministic', 'squashed_gaussian'] = 'deterministic'
    hidden: Annotated[tuple[_Count, ...], msgspec.Meta(min_length=1)] = (256, 256)
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    batch_size: _Count = 256
    epochs: _Count = 200
    patience: _Count = 25
    validation: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.1


class DeterministicModule(BoundedPolicyModule):
    """A policy that answers with ``action`` alone, (B, A), squashed into the bounds."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the action, shape (B, A)."""
        return self.middle + self.half_range * torch.tanh(
            self.network(self.normalizer(observation)))


class BehaviourCloning:
    """
    Equations (1) and (2).

    :param observation_size: O.
    :param action: bounds of the actions; finite.
    :param config: see there.
    :param seed: of weights and minibatches.
    :ivar epochs: passes over the data so far.
    :ivar updates: gradient steps so far.
    :ivar losses: (training, validation) loss of each epoch.
    """

    name = 'bc'

    def __init__(self, observation_size: int, action: ArraySpec, config: BcConfig,
                 seed: int) -> None:
        self.config = config
        low, high = action.bounds()
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise TrainingError('bc needs actions with finite bounds')
        self._middle = torch.tensor((low + high) / 2, dtype=torch.float32)
        self._half = torch.tensor((high - low) / 2, dtype=torch.float32)
        self._generator = torch.Generator().manual_seed(seed)
        width = len(low) * (1 if config.head == 'deterministic' else 2)
        self._network = Mlp((observation_size, *config.hidden, width), 'relu', 'default',
                            generator=self._generator)
        self._normalizer = ObservationNormalizer(observation_size)
        self._size = len(low)
        self.epochs, self.updates = 0, 0
        self.losses: list[tuple[float, float]] = []

    def fit(self, observation: np.ndarray, action: np.ndarray, episode: np.ndarray,
            report: Callable[[int, float, float], None] = lambda *_: None,
            stopped: Callable[[], bool] = lambda: False) -> float:
        """
        Learn from demonstrated transitions; return the least validation loss.

        :param observation: shape (N, O).
        :param action: within the bounds, shape (N, A).
        :param episode: which episode each is of, shape (N,); at least two.
        :param report: gets (epoch, training loss, validation loss).
        :param stopped: asked after each epoch.
        :raises TrainingError: too little to learn from, or a loss that is not finite.
        """
        held_out = self._held_out(episode)
        x = torch.from_numpy(np.ascontiguousarray(observation, np.float32))
        a = (torch.from_numpy(np.ascontiguousarray(action, np.float32)) - self._middle) \
            / self._half
        if not (torch.isfinite(x).all() and torch.isfinite(a).all()):
            raise TrainingError('bc: a demonstrated observation or action is not finite')
        a = a.clamp(-1.0, 1.0)
        self._normalizer.update(x[~held_out])
        x = self._normalizer.normalize_into(x, torch.empty_like(x))
        optimiser = torch.optim.Adam(self._network.parameters(), self.config.learning_rate)
        train_x, train_a, check_x, check_a = x[~held_out], a[~held_out], x[held_out], a[held_out]
        best, best_weights, waited = float('inf'), self._network.state_dict(), 0
        while self.epochs < self.config.epochs and waited < self.config.patience:
            loss = self._pass(train_x, train_a, optimiser)
            self.epochs += 1
            with torch.no_grad():
                checked = float(self._loss(check_x, check_a))
            if not (np.isfinite(loss) and np.isfinite(checked)):
                raise TrainingError(f'bc: loss {loss}, validation loss {checked} in epoch '
                                    f'{self.epochs}; lower learning_rate')
            self.losses.append((loss, checked))
            report(self.epochs, loss, checked)
            waited += 1
            if checked < best:
                best, best_weights, waited = checked, copy.deepcopy(
                    self._network.state_dict()), 0
            if stopped():
                break
        self._network.load_state_dict(best_weights)
        return best

    def policy_module(self) -> nn.Module:
        """Return a detached copy of the policy for export."""
        kind = DeterministicModule if self.config.head == 'deterministic' else PolicyModule
        return kind(self._normalizer.frozen(), copy.deepcopy(self._network), self._middle,
                    self._half)

    def _held_out(self, episode: np.ndarray) -> torch.Tensor:
        """Return which transitions are only validated on, whole episodes of them."""
        there = np.unique(episode)
        if len(there) < 2:
            raise TrainingError(f'bc: {len(there)} demonstrated episode; at least two are needed, '
                                'one of them to validate on')
        count = max(1, round(self.config.validation * len(there)))
        order = torch.randperm(len(there), generator=self._generator).numpy()
        return torch.from_numpy(np.isin(episode, there[order[:count]]))

    def _pass(self, x: torch.Tensor, a: torch.Tensor, optimiser: torch.optim.Adam) -> float:
        total = 0.0
        for rows in torch.randperm(len(x), generator=self._generator).split(
                self.config.batch_size):
            loss = self._loss(x[rows], a[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.updates += 1
            total += float(loss.detach()) * len(rows)
        return total / len(x)

    def _loss(self, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        output = self._network(x)
        if self.config.head == 'deterministic':
            return (torch.tanh(output) - a).square().mean()
        log_std = output[:, self._size:].clamp(LOG_STD_MIN, LOG_STD_MAX)
        inside = a.clamp(EDGE - 1.0, 1.0 - EDGE)
        return -log_probability_of(inside, output[:, :self._size], log_std).mean()
