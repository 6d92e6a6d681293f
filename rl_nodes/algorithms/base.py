# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The verbs that a training loop calls on a learner, and the module that every policy exports."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.replay_buffer import ReplayBuffer
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN
from rl_nodes.networks.mlp import Mlp
from rl_nodes.networks.normalizer import FrozenNormalizer
import torch
from torch import nn


class Learner(ABC):
    """
    What every learner promises, however it gets its experience.

    Observations and actions at this boundary are float32 in the contract's units; whatever scaling
    a method uses inside is its own affair and is part of the policy that it exports.

    :cvar sampling: how a draw from the exported policy is made, see ``inference/bundle.py``.
    :ivar name: the algorithm's name, as in its configuration file.
    :ivar updates: gradient steps done; never goes back, not even when weights are rolled back.
    """

    sampling: ClassVar[Literal['deterministic', 'squashed_gaussian']]
    name: str
    updates: int

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return the means of the logged quantities since the last call, and forget them."""

    @abstractmethod
    def is_finite(self) -> bool:
        """Return True where every weight is finite."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, optimisers, normaliser, counters and random state."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; stored experience is kept apart."""

    @abstractmethod
    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over weights, optimisers and normaliser, but no counter and no random state."""

    @abstractmethod
    def recent_observations(self, count: int) -> np.ndarray:
        """Return at most ``count`` observations of late, shape (N, O)."""

    @abstractmethod
    def experience_state(self) -> dict[str, Any]:
        """Return a copy of the experience that learning will still use."""

    @abstractmethod
    def load_experience_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`experience_state` returned."""

    @abstractmethod
    def experience_metrics(self) -> dict[str, float]:
        """Return what is logged of stored experience."""

    @abstractmethod
    def policy_module(self) -> nn.Module:
        """
        Return a detached copy of the present policy for export.

        Its forward takes the observation, (B, O) float32, and returns what :class:`PolicyModule`
        does, or the action alone where ``sampling`` is ``deterministic``.
        """


class OffPolicyLearner(Learner):
    """
    A method that learns from stored transitions.

    :ivar buffer: the stored transitions.
    """

    sampling = 'squashed_gaussian'
    buffer: ReplayBuffer

    @abstractmethod
    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """
        Return actions within the action bounds.

        :param observation: shape (N, O).
        :param explore: sample; otherwise the deterministic action.
        :return: shape (N, A).
        """

    @abstractmethod
    def observe(self, batch: TransitionBatch) -> int:
        """Store new transitions; return how many were fit to be stored."""

    @abstractmethod
    def ready(self) -> bool:
        """Return True once enough transitions are stored for :meth:`update`."""

    @abstractmethod
    def update(self) -> None:
        """
        Do one gradient step on stored transitions.

        :raises TrainingError: a loss is not finite; the weights must be rolled back.
        """

    def recent_observations(self, count: int) -> np.ndarray:
        """Return the newest observations in the buffer, shape (N, O)."""
        return self.buffer.newest(count)

    def experience_state(self) -> dict[str, Any]:
        """Return a copy of the buffer."""
        return self.buffer.state_dict()

    def load_experience_state(self, state: dict[str, Any]) -> None:
        """Take over a buffer."""
        self.buffer.load_state_dict(state)

    def experience_metrics(self) -> dict[str, float]:
        """Return how many transitions were not fit to be stored."""
        return {'buffer_refused': float(self.buffer.refused)}


class PolicyModule(nn.Module):
    """
    A squashed Gaussian policy with its normaliser and its action scaling inside.

    ======================  ========  =====================================================
    output                  shape     meaning
    ======================  ========  =====================================================
    ``action``              (B, A)    deterministic action in the contract's units
    ``action_mean``         (B, A)    mean of the Gaussian before squashing
    ``action_std``          (B, A)    standard deviation of the Gaussian before squashing
    ======================  ========  =====================================================

    A sample is ``middle + half_range * tanh(action_mean + action_std * noise)``.
    """

    middle: torch.Tensor
    half_range: torch.Tensor

    def __init__(self, normalizer: FrozenNormalizer, network: Mlp, middle: torch.Tensor,
                 half_range: torch.Tensor) -> None:
        """
        Put the parts together.

        :param network: maps (B, O) to (B, 2A): means, then log standard deviations.
        :param middle: centre of the action bounds, shape (A,).
        :param half_range: half the distance between the bounds, shape (A,).
        """
        super().__init__()
        self.normalizer = normalizer
        self.network = network
        self.register_buffer('middle', middle.clone())
        self.register_buffer('half_range', half_range.clone())

    def forward(self, observation: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (action, action_mean, action_std); see the class."""
        output = self.network(self.normalizer(observation))
        size = output.shape[-1] // 2  # slices: what chunk() becomes is not fit for every runtime
        mean, log_std = output[:, :size], output[:, size:]
        action = self.middle + self.half_range * torch.tanh(mean)
        return action, mean, torch.exp(torch.clamp(log_std, LOG_STD_MIN, LOG_STD_MAX))
