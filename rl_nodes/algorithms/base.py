# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The verbs that a training loop calls on a learner, and the module that every policy exports."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
import math
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.constraint import Constraint, Penalty
from rl_nodes.algorithms.partners import Partners
from rl_nodes.algorithms.possible_values import PossibleValues
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.replay_buffer import ReplayBuffer
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN
from rl_nodes.networks.normalizer import ObservationNormalizer
import torch
from torch import nn


class Learner(ABC):
    """
    What every learner promises, however it gets its experience.

    Observations and actions at this boundary have the contract's units; whatever scaling a method
    uses inside is its own affair and is part of the policy that it exports.

    :ivar name: the algorithm's name, as in its configuration file.
    :ivar sampling: how an action is drawn for exploration, as the policy's manifest says it.
    :ivar noise_correlation: of the exploration noise from one step to the next, 0 where white.
    :ivar memory: shape of each of the policy's state tensors by name; none without a memory.
    :ivar constraint: on what episodes cost; None for none. Its multiplier is the training loop's
        to move, and does not go back where weights are rolled back.
    :ivar penalty: what is taken off rewards before they are learned from; None for nothing.
    :ivar partners: processes that learn together with this one; None where it learns alone.
    :ivar autograd: whether torch must record what gradients are taken of; where they are written
        out the training loop spares it that, a tenth of the time.
    :ivar updates: gradient steps done; never goes back, not even when weights are rolled back.
    """

    name: str
    sampling: Literal['deterministic', 'squashed_gaussian', 'gaussian']
    noise_correlation: float = 0.0
    memory: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    constraint: Constraint | None = None
    penalty: Penalty | None = None
    has_partners: ClassVar[bool] = False  # whether it can learn together with other processes
    partners: Partners | None = None
    autograd: ClassVar[bool] = False
    updates: int
    _generator: torch.Generator

    def __init__(self) -> None:
        self.updates = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def learn_from(self, demonstrations: TransitionBatch) -> int:
        """
        Let a share of every batch come from given transitions, which are never dropped.

        :param demonstrations: in the contract's units; to be given again after a restart.
        :return: how many were fit to be learned from.
        :raises TrainingError: this method has no use for them, or none is fit.
        """
        raise TrainingError(f'{self.name} does not learn from demonstrations; ddpg, sac and td3 '
                            'do')

    def join(self, partners: Partners, seed: int) -> None:
        """
        Learn together with other processes from now on.

        :param seed: of the run; each process explores in its own way.
        :raises TrainingError: this method, or one of its settings, cannot.
        """
        if self._learns_alone():
            raise TrainingError(
                f'{self.name}: several processes can learn together with a2c, ddpg, dqn, ppo, '
                'recurrent_sac, sac and td3, on the processor (device: cpu), without '
                'normalize_reward and without a constraint')
        self.partners = partners
        if partners.rank:
            state = np.random.SeedSequence([seed, partners.rank]).generate_state(2)
            self._generator.manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)

    def _learns_alone(self) -> bool:
        """Return whether the method, or one of its settings, takes one process."""
        return not self.has_partners or self.constraint is not None

    def averaged(self, values: torch.Tensor) -> torch.Tensor:
        """Return values, replaced by the mean of them and of those of the partners."""
        if self.partners is not None:
            self.partners.average(values)
        return values

    def anybody(self, here: bool) -> bool:
        """Return whether something is so here or at a partner."""
        return bool(self.averaged(torch.tensor(float(here))))

    def everybodys(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows with those of the partners, who have as many."""
        return rows if self.partners is None else self.partners.gather(rows)

    def in_all(self, count: int) -> int:
        """Return how many that are together with those of the partners, who have as many."""
        return count if self.partners is None else count * self.partners.count

    def priced(self, reward: np.ndarray, observation: np.ndarray, action: np.ndarray,
               cost: np.ndarray | None) -> np.ndarray:
        """
        Return rewards as they are learned from, shape (N,), the penalty being logged.

        :param reward: as the environment gave them, shape (N,).
        :param observation: shape (N, O).
        :param action: in the contract's units, shape (N, A).
        :param cost: of each step, shape (N,); None where nobody asks for it.
        """
        if self.penalty is None or not len(reward):
            return reward
        taken = self.penalty.of(observation, action, cost)
        self.record(penalty=float(taken.mean()))
        return reward - taken

    def record(self, **values: float) -> None:
        """Add to the logged quantities."""
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] = self._counts.get(key, 0) + 1

    def metrics(self) -> dict[str, float]:
        """Return the means of the logged quantities since the last call, and forget them."""
        means = {key: value / self._counts[key] for key, value in self._sums.items()}
        self.forget_metrics()
        return means

    def forget_metrics(self) -> None:
        """Begin the means of the logged quantities anew."""
        self._sums, self._counts = {}, {}

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

        Its forward takes the observation, (B, O) float32, and returns ``action`` and, for a
        sampling other than deterministic, ``action_mean`` and ``action_std``.
        """


class OffPolicyLearner(Learner):
    """
    A method that learns from stored transitions.

    :ivar buffer: the stored transitions.
    """

    buffer: ReplayBuffer
    _possible: PossibleValues

    @abstractmethod
    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """
        Return actions within the action bounds.

        :param observation: shape (N, O).
        :param explore: sample; otherwise the deterministic action.
        :return: shape (N, A).
        """

    def forget(self, ended: np.ndarray) -> None:
        """Forget what is remembered of environments whose episode has ended, bool, (N,)."""

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

        :raises TrainingError: a loss is not finite, or values are far from any return; the weights
            must be rolled back.
        """

    def _step(self, adam: Adam, gradient: torch.Tensor) -> None:
        """Let an optimiser step by a gradient, the mean one where there are partners."""
        adam.step(self.averaged(gradient))

    def _take_note(self, normalizer: ObservationNormalizer, rows: np.ndarray) -> None:
        """Merge observations that are finite, and those of the partners, into statistics."""
        everybodys = self.everybodys(torch.from_numpy(rows))
        normalizer.update(everybodys[torch.isfinite(everybodys).all(1)])

    def _finish(self, reward: torch.Tensor, bonus: float = 0.0, **values: float) -> None:
        """
        Count the step and log it.

        :param reward: of the rows that were learned from, shape (B,).
        :param bonus: greatest further pay of a step.
        :raises TrainingError: a value is not finite, or far from any return; the weights must be
            rolled back.
        """
        self.updates += 1
        self.record(**values)
        said = ''
        if self.partners is not None:  # hold the same weights, and so say the same of them
            said = '' if self.is_finite() else 'the weights are not finite'
        elif not all(map(math.isfinite, values.values())):
            said = ', '.join(f'{key} {value:g}' for key, value in values.items())
        else:
            said = self._possible.complaint(values['q_mean'], reward, bonus)
        if said:
            raise TrainingError(
                f'{self.name}: update {self.updates}: {said}; learning diverged. Lower the '
                'learning rates or look for absurd rewards')

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


class BoundedPolicyModule(nn.Module):
    """
    A policy with its normaliser and its action scaling inside; ``forward`` says what it answers.

    :param network: maps normalised observations (B, O) to what the actions are made of.
    :param middle: centre of the action bounds, shape (A,).
    :param half_range: half the distance between the bounds, shape (A,).
    """

    middle: torch.Tensor
    half_range: torch.Tensor

    def __init__(self, normalizer: nn.Module, network: nn.Module, middle: torch.Tensor,
                 half_range: torch.Tensor) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.network = network
        self.register_buffer('middle', middle.clone())
        self.register_buffer('half_range', half_range.clone())


class PolicyModule(BoundedPolicyModule):
    """
    A squashed Gaussian policy; its network maps (B, O) to (B, 2A): means, then log deviations.

    ======================  ========  =====================================================
    output                  shape     meaning
    ======================  ========  =====================================================
    ``action``              (B, A)    deterministic action in the contract's units
    ``action_mean``         (B, A)    mean of the Gaussian before squashing
    ``action_std``          (B, A)    standard deviation of the Gaussian before squashing
    ======================  ========  =====================================================

    A sample is ``middle + half_range * tanh(action_mean + action_std * noise)``.
    """

    def forward(self, observation: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (action, action_mean, action_std); see the class."""
        output = self.network(self.normalizer(observation))
        size = output.shape[-1] // 2  # slices: what chunk() becomes is not fit for every runtime
        mean, log_std = output[:, :size], output[:, size:]
        action = self.middle + self.half_range * torch.tanh(mean)
        return action, mean, torch.exp(torch.clamp(log_std, LOG_STD_MIN, LOG_STD_MAX))


class GaussianPolicyModule(BoundedPolicyModule):
    """
    A deterministic policy, and the noise that is added to it while it learns.

    ======================  ========  =====================================================
    output                  shape     meaning
    ======================  ========  =====================================================
    ``action``              (B, A)    deterministic action in the contract's units
    ``action_mean``         (B, A)    mean of the Gaussian in the contract's units
    ``action_std``          (B, A)    its standard deviation in the contract's units
    ======================  ========  =====================================================

    A sample is ``clip(action_mean + action_std * noise, low, high)``.
    """

    noise_std: torch.Tensor

    def __init__(self, normalizer: nn.Module, network: nn.Module, middle: torch.Tensor,
                 half_range: torch.Tensor, noise_std: float) -> None:
        """
        Put the parts together.

        :param network: maps (B, O) to (B, A), squashed here.
        :param noise_std: a part of half the action's range.
        """
        super().__init__(normalizer, network, middle, half_range)
        self.register_buffer('noise_std', noise_std * half_range)

    def forward(self, observation: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (action, action_mean, action_std); see the class."""
        squashed = torch.tanh(self.network(self.normalizer(observation)))
        mean = self.middle + self.half_range * squashed
        action = torch.clamp(mean, self.middle - self.half_range, self.middle + self.half_range)
        return action, mean, self.noise_std + 0.0 * mean


class DiscretePolicyModule(nn.Module):
    """
    The choice of the best action: ``action`` (B, 1), int64, counted from ``first``.

    :param values: maps normalised observations (B, O) to one number per action (B, n), its value
        or its logit; the greatest is chosen.
    :param first: number of the first action.
    """

    first: torch.Tensor

    def __init__(self, normalizer: nn.Module, values: nn.Module, first: int) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.values = values
        self.register_buffer('first', torch.tensor(first))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the action; see the class."""
        values = self.values(self.normalizer(observation))
        return self.first + torch.argmax(values, dim=1, keepdim=True)
