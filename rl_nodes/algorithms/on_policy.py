# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What PPO, A2C, TRPO and REINFORCE share: acting, preparing a rollout, keeping and exporting.

Legend: T steps, N environments, B = rows that count among the T N, O observation, A action.

Acting evaluates the actor only. Values and log-probabilities of a rollout are computed afterwards
in one pass each, with the networks that acted, so that log pi_old is exactly what the first
gradient step sees. Statistics of observations change between rollouts only: the policy that is
learned from is the policy that acted. Where observations are normalised the first rollout gives
the first statistics and is not learned from.
"""

from abc import abstractmethod
from dataclasses import dataclass
import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.actor_critic import Width
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import BoundedPolicyModule, DiscretePolicyModule, Learner
from rl_nodes.algorithms.constraint import (
    Constraint,
    ConstraintConfig,
    PenaltyConfig,
    told,
)
from rl_nodes.algorithms.estimators import advantages, explained_variance
from rl_nodes.algorithms.scaling import RewardScaler
from rl_nodes.algorithms.schedules import Linear, Scheduled, value_at
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ExperienceError, TrainingError
from rl_nodes.data.rollout import Rollout
from rl_nodes.networks.actor_critic import ActorCriticNetworks
from rl_nodes.networks.mlp import Initialisation
from rl_nodes.networks.normalizer import ObservationNormalizer
from rl_nodes.networks.policy_heads import (
    CategoricalHead,
    CensoredGaussianHead,
    GaussianHead,
    PolicyHead,
)
from rl_nodes.networks.state_dependent_head import StateDependentHead
import torch
from torch import nn

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
ADAM_EPSILON = 1e-5  # as in OpenAI's baselines; see docs/algorithms/ppo.md
RECENT = 256         # observations kept for proving an export


class OnPolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings that all on-policy learners have.

    :param hidden: units of each hidden layer, in the actor and in the critic.
    :param activation: of the hidden layers.
    :param initialisation: of the weights, ``orthogonal`` or ``default`` (torch's own).
    :param initial_log_std: of the Gaussian, in units of half the action's range; without meaning
        for discrete actions.
    :param state_dependent_noise: steps over which a draw of noise that is a function of the state
        is held (``networks/state_dependent.py``); None for white noise. Without meaning for
        discrete actions.
    :param censored: log pi is of the action as it is clipped to its bounds, not of the draw before
        (``networks/policy_heads.py``, eq. (10)), as always where a robot's commands are all that
        is known of its actions. Without meaning for discrete actions.
    :param discount: gamma, per control step.
    :param learning_rate: of Adam, per step: a number, or ``{start, end, steps}`` for a straight
        line over control steps.
    :param normalize_observation: normalise by running mean and standard deviation.
    :param normalize_reward: divide rewards by the spread of discounted returns while learning.
    :param constraint: on what episodes cost; see ``constraint.py``.
    :param penalty: price of what steps cost and risk; see there.
    :param normalize_advantage: give the advantages of each gradient step mean 0 and spread 1.
    """

    hidden: Annotated[tuple[Width, ...], msgspec.Meta(min_length=1, max_length=8)] = (64, 64)
    activation: Literal['tanh', 'relu'] = 'tanh'
    initialisation: Initialisation = 'orthogonal'
    initial_log_std: Annotated[float, msgspec.Meta(ge=-5.0, le=2.0)] = 0.0
    state_dependent_noise: Count | None = None
    censored: bool = False
    discount: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.99
    learning_rate: Scheduled = 3e-4
    normalize_observation: bool = True
    normalize_reward: bool = False
    constraint: ConstraintConfig = ConstraintConfig()
    penalty: PenaltyConfig = PenaltyConfig()
    normalize_advantage: bool = True


@dataclass(frozen=True)
class Batch:
    """
    A rollout ready to be learned from: B rows, step by step, one environment after the other.

    :param output: of the actor that acted, (B, K).
    :param own: the head's own parameters then, (P,).
    :param target: of the critic.
    """

    observation: torch.Tensor      # (B, O), normalised
    action: torch.Tensor           # (B, A)
    output: torch.Tensor           # (B, K)
    own: torch.Tensor              # (P,)
    log_probability: torch.Tensor  # (B,)
    value: torch.Tensor            # (B,)
    advantage: torch.Tensor        # (B,)
    target: torch.Tensor           # (B,)

    def __len__(self) -> int:
        return len(self.advantage)


class OnPolicyLearner(Learner):
    """
    A method that learns from what its present policy has just done, and then forgets it.

    :ivar rollout_length: steps of each environment per rollout; whole episodes of each where
        ``whole_episodes``.
    :ivar gae_lambda: of the advantages, see ``estimators.py``; 1 for returns less values.
    """

    whole_episodes: ClassVar[bool] = False
    rollout_length: int
    gae_lambda: float = 1.0

    def __init__(self, contract: Contract, config: OnPolicyConfig, seed: int) -> None:
        """
        Create networks, optimiser and statistics.

        :param contract: sizes, action bounds, and whether actions are discrete.
        :param seed: of every random draw of this learner.
        :raises TrainingError: an action element has no finite, non-empty range.
        """
        super().__init__()
        self.shared = config
        if config.constraint.active:
            self.constraint = Constraint(config.constraint)
        low, high = (bound.astype(np.float64) for bound in contract.action.bounds())
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise TrainingError(
                f'{self.name}: action bounds {low.tolist()} to {high.tolist()}; every action '
                'element needs a finite lower bound below a finite upper one')
        self.discrete = contract.action_choices == 'discrete'
        self._middle = (0.5 * (low + high)).astype(np.float32)
        self._half_range = (0.5 * (high - low)).astype(np.float32)
        self._first_action = int(low[0])
        self.head = self._new_head(len(low), int(high[0] - low[0]) + 1)
        self.sampling = 'gaussian' if isinstance(self.head, GaussianHead) else 'deterministic'
        size = len(contract.observation.elements)
        self._generator = torch.Generator().manual_seed(seed)
        self.networks = self._new_networks(size)
        self.normalizer = ObservationNormalizer(size)
        self.reward_scaler = RewardScaler(config.discount) if config.normalize_reward else None
        self.steps = 0
        self._recent = np.zeros((0, size), np.float32)

    def _new_head(self, action_size: int, choices: int) -> PolicyHead:
        held, width = self.shared.state_dependent_noise, self.shared.hidden[-1]
        if self.discrete:
            return CategoricalHead(choices)
        if held is None:
            return (CensoredGaussianHead if self.shared.censored else GaussianHead)(action_size)
        if self.shared.censored:
            raise TrainingError(f'{self.name}: censored = true with state_dependent_noise = {held}'
                                ': only white noise is drawn anew in every step; leave one out')
        return StateDependentHead(action_size, width, held)

    def _initial_own(self) -> float:
        """Return each of the head's own parameters: hidden units of 1 give initial_log_std."""
        return self.shared.initial_log_std - 0.5 * math.log(max(1, self.head.hidden_size))

    def _new_networks(self, observation_size: int) -> ActorCriticNetworks:
        config = self.shared
        return ActorCriticNetworks(
            observation_size, self.head, config.hidden, config.activation, config.initialisation,
            self._initial_own(), self._generator)

    def _learns_alone(self) -> bool:
        return super()._learns_alone() or self.reward_scaler is not None

    # Acting ----------------------------------------------------------------------------------

    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """
        Return actions as the policy's distribution has them, to be kept in a rollout.

        :param observation: shape (N, O), float32.
        :param explore: draw; otherwise the most probable action.
        :return: shape (N, A), float32: what :meth:`command` makes an environment's action of.
        """
        output = self.networks.respond(self._perceived(observation))
        if explore:
            return self.head.draw(output, self.networks.own.numpy(), self._generator)
        return self.head.best(output)

    def _perceived(self, observation: np.ndarray) -> np.ndarray:
        """Return what the actor is given to act on, (N, O)."""
        if self.shared.normalize_observation:
            return self.normalizer.normalize(observation)
        return observation

    def remembered(self, count: int) -> np.ndarray:
        """Return a copy of what is remembered of each of N environments, float32, (N, S)."""
        return np.zeros((count, 0), np.float32)

    def forget(self, ended: np.ndarray) -> None:
        """Forget what is remembered of environments whose episode has ended, bool, (N,)."""

    def command(self, action: np.ndarray) -> np.ndarray:
        """Return actions in the contract's type, units and bounds, shape (N, A)."""
        if self.discrete:
            return action.astype(np.int64) + self._first_action
        return self._middle + self._half_range * np.clip(action, -1.0, 1.0)

    def action_of(self, command: np.ndarray) -> np.ndarray:
        """Return the continuous actions that :meth:`command` made these of, but for clipping."""
        action: np.ndarray = (command - self._middle) / self._half_range
        return action

    # Learning --------------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> None:
        """
        Learn from a rollout of the present policy.

        :raises ExperienceError: it is not finite, here or at a partner.
        :raises TrainingError: it is of another policy; or the weights are not finite, and must be
            rolled back.
        """
        if rollout.policy_version != self.updates:
            raise TrainingError(f'{self.name}: a rollout of policy {rollout.policy_version} came, '
                                f'expected {self.updates}: on-policy methods learn from what '
                                'their present policy does')
        fault = rollout.fault()
        if self.anybody(bool(fault)):
            raise ExperienceError(fault or 'the environments of another process gave values that '
                                  'are not finite')
        self.steps += self.in_all(len(rollout))
        seen = rollout.observation.reshape(-1, rollout.observation.shape[-1])
        self._recent = seen[-RECENT:].copy()
        ready = self.normalizer.count > 0 or not self.shared.normalize_observation
        reward = self._penalised(rollout)
        if self.reward_scaler is not None:
            reward = self.reward_scaler.scale(reward, rollout.ended)
        if ready:
            self.learn(self.prepare(rollout, reward))
            self._check_finite()
        if self.shared.normalize_observation:
            self.normalizer.update(self.everybodys(torch.from_numpy(seen)))
        if isinstance(self.head, StateDependentHead):
            self.head.renew()

    def _penalised(self, rollout: Rollout) -> np.ndarray:
        """Return the rewards less what the steps cost, shape (T, N), where that counts."""
        reward = rollout.reward
        if self.penalty is not None:
            reward = self.priced(
                reward.reshape(-1), rollout.observation.reshape(reward.size, -1),
                self.command(rollout.action.reshape(reward.size, -1)),
                None if rollout.cost is None else rollout.cost.reshape(-1)).reshape(reward.shape)
        if self.constraint is None:
            return reward
        cost = told(rollout.cost, self.constraint.config.cost)
        return reward - np.float32(self.constraint.multiplier) * cost

    @abstractmethod
    def learn(self, batch: Batch) -> None:
        """Do the method's gradient steps and count them."""

    def prepare(self, rollout: Rollout, reward: np.ndarray) -> Batch:
        """
        Return a rollout with values, advantages and log-probabilities.

        :param reward: as it is learned from, shape (T, N).
        """
        steps, count = reward.shape
        seen, seen_at_cuts = self._seen(rollout)
        every_value = self.networks.value(seen).numpy().copy().reshape(steps + 1, count)
        value, next_value = every_value[:-1], every_value[1:].copy()
        next_value[rollout.terminated] = 0.0
        if len(seen_at_cuts):
            next_value[rollout.cut] = self.networks.value(seen_at_cuts).numpy()
        advantage, target = self.estimate(reward, value, next_value, rollout)
        observation = seen[:steps * count]
        rows = slice(None)
        if not rollout.counted.all():
            rows = torch.from_numpy(np.flatnonzero(rollout.counted))
            observation = observation[rows]
        action = torch.from_numpy(rollout.action.reshape(steps * count, -1))[rows]
        output, own = self.networks.act(observation).clone(), self.networks.own.clone()
        parts = [torch.from_numpy(np.ascontiguousarray(part)).flatten()[rows]
                 for part in (value, advantage, target)]
        fit = explained_variance(parts[0].numpy(), parts[2].numpy())
        self.record(explained_variance=fit,
                    entropy=self.head.entropy(output, own).mean().item())
        spread = self.head.spread(output, own)
        if spread is not None:
            self.record(action_std=spread.mean().item())
        return Batch(observation, action, output, own,
                     self.head.log_probability(output, own, action), *parts)

    def estimate(self, reward: np.ndarray, value: np.ndarray, next_value: np.ndarray,
                 rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the advantages and the critic's targets, each (T, N) float32.

        :param next_value: of what really followed, 0 where nothing does, shape (T, N).
        """
        estimated = advantages(reward, value, next_value, rollout.ended, self.shared.discount,
                               self.gae_lambda)
        return estimated, estimated + value

    def _seen(self, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the networks were given: ((T + 1) N, O), and where cut off, (C, O)."""
        rows = rollout.observation.reshape(len(rollout), -1)
        return (self._normalized(np.concatenate([rows, rollout.last_observation])),
                self._normalized(rollout.cut_observation))

    def _normalized(self, observation: np.ndarray) -> torch.Tensor:
        rows = torch.from_numpy(observation)
        if self.shared.normalize_observation:
            rows = self.normalizer.normalize_into(rows, torch.empty_like(rows))
        return rows

    def advantage_for(self, advantage: torch.Tensor) -> torch.Tensor:
        """Return advantages as a gradient step weighs them: mean 0, spread 1 where so set."""
        if not self.shared.normalize_advantage or len(advantage) < 2:
            return advantage
        std, mean = torch.std_mean(self.everybodys(advantage))
        return (advantage - mean) / (std + 1e-8)

    def critic_gradient(self, observation: torch.Tensor, target: torch.Tensor,
                        weight: float) -> float:
        """Write the critic's gradient of weight · <(V - target)^2>/2 and return that loss."""
        error = self.networks.value(observation) - target
        loss = 0.5 * error.square().mean().item()
        self.networks.value_backward(error * (weight / len(target)))
        return loss

    def mean_of(self, values: torch.Tensor) -> float:
        """Return the mean of values and of those of the partners, who have as many."""
        return self.averaged(values.mean()).item()

    def now(self, setting: float | Linear) -> float:
        """Return what a scheduled setting is by now."""
        return value_at(setting, self.steps)

    def clip_gradient(self, limit: float) -> float:
        """Shorten everybody's mean gradient to a greatest Euclidean norm; return what it had."""
        norm = torch.linalg.vector_norm(self.averaged(self.networks.gradient)).item()
        if norm > limit:
            self.networks.gradient.mul_(limit / (norm + 1e-6))
        return norm

    def _check_finite(self) -> None:
        if not self.is_finite():
            raise TrainingError(f'{self.name}: the weights are not finite after update '
                                f'{self.updates}; learning diverged. Lower the learning rate or '
                                'look for absurd rewards')

    # Telling and keeping ---------------------------------------------------------------------

    def is_finite(self) -> bool:
        """Return True where every weight is finite."""
        return math.isfinite(self.networks.flat.sum().item())

    @abstractmethod
    def optimisers(self) -> dict[str, Adam]:
        """Return the optimisers by name."""

    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, optimisers, statistics, counters and random state."""
        return {'weights': self.networks.flat.clone(),
                'optimisers': {key: adam.state_dict() for key, adam in self.optimisers().items()},
                'normalizer': self.normalizer.state_dict(),
                **({} if self.reward_scaler is None else {
                    'reward_scaler': self.reward_scaler.state_dict()}),
                **({} if self.constraint is None else {
                    'constraint': self.constraint.state_dict()}),
                'updates': self.updates, 'steps': self.steps,
                'recent': self._recent.copy(), 'generator': self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.roll_back(state)
        self.updates, self.steps = int(state['updates']), int(state['steps'])
        if self.constraint is not None:
            self.constraint.load_state_dict(state['constraint'])
        self._recent = torch.as_tensor(state['recent']).numpy().copy()
        self._generator.set_state(state['generator'])

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over weights, optimisers and statistics, but no counter and no random state."""
        self.networks.flat.copy_(state['weights'])
        for key, adam in self.optimisers().items():
            adam.load_state_dict(state['optimisers'][key])
        self.normalizer.load_state_dict(state['normalizer'])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state['reward_scaler'])
        self.forget_metrics()

    def recent_observations(self, count: int) -> np.ndarray:
        """Return the last observations of the last rollout, shape (N, O)."""
        return self._recent[-count:]

    def experience_state(self) -> dict[str, Any]:
        """Return nothing: a rollout is learned from at once."""
        return {}

    def load_experience_state(self, state: dict[str, Any]) -> None:
        """Take over nothing."""

    def experience_metrics(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def policy_module(self) -> nn.Module:
        """Return a detached copy of the present policy for export."""
        return self._policy_behind(self.normalizer.frozen()).eval()

    def _policy_behind(self, normalizer: nn.Module) -> nn.Module:
        """Return the actor as a module that decides on what a normaliser answers."""
        parts = normalizer, self.networks.actor.member(0)
        if self.discrete:
            return DiscretePolicyModule(*parts, self._first_action)
        bounds = torch.from_numpy(self._middle), torch.from_numpy(self._half_range)
        if self.sampling == 'gaussian':
            return ClippedGaussianModule(*parts, *bounds, self.networks.own)
        return ClippedPolicyModule(*parts, *bounds)


class ClippedPolicyModule(BoundedPolicyModule):
    """The most probable action of a Gaussian, (B, A) in the contract's units and bounds."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the action for (B, O)."""
        mean = self.network(self.normalizer(observation))
        return self.middle + self.half_range * torch.clamp(mean, -1.0, 1.0)


class ClippedGaussianModule(BoundedPolicyModule):
    """
    The same, and the Gaussian; a sample is ``clip(action_mean + action_std * noise, low, high)``.

    ======================  ========  =====================================================
    output                  shape     meaning
    ======================  ========  =====================================================
    ``action``              (B, A)    the mean, clipped to the contract's bounds
    ``action_mean``         (B, A)    mean of the Gaussian in the contract's units
    ``action_std``          (B, A)    its standard deviation in the contract's units
    ======================  ========  =====================================================
    """

    std: torch.Tensor

    def __init__(self, normalizer: nn.Module, network: nn.Module, middle: torch.Tensor,
                 half_range: torch.Tensor, log_std: torch.Tensor) -> None:
        """
        Put the parts together.

        :param log_std: in units of half the action's range, shape (A,).
        """
        super().__init__(normalizer, network, middle, half_range)
        self.register_buffer('std', half_range * torch.exp(log_std))

    def forward(self, observation: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (action, action_mean, action_std) for (B, O)."""
        mean = self.middle + self.half_range * self.network(self.normalizer(observation))
        action = torch.clamp(mean, self.middle - self.half_range, self.middle + self.half_range)
        return action, mean, self.std + 0.0 * mean
