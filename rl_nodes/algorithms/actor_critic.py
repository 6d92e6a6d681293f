# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What SAC, TD3 and DDPG share: an actor, E critics with a slow copy, replay, and their bookkeeping.

Legend: B batch, O observation, A action, P privileged, E critics.

- Gradients are written out (``networks/mlp.py``) instead of taken by autograd: same numbers (tests
  compare them), half the time on a CPU core.
- Products of hidden layers are computed in bfloat16 where the processor can (sums, weights, first
  and last layers and the exported policy are float32); ``reduced_precision: false`` turns it off.
- Observations are normalised by running statistics, actions are learned in [-1, 1].
- ``critic_observation: privileged`` gives the critics, which only training needs, the task's
  privileged signals x too: Q(o, x, a). The actor, and so the exported policy, sees o alone
  (asymmetric actor-critic: Pinto, Andrychowicz, Welinder, Zaremba and Abbeel 2017,
  arXiv:1710.06542).
- Demonstrations, where there are some, are kept apart from what is experienced and fill a fixed
  share of every batch (Ball, Smith, Kostrikov and Levine 2023, arXiv:2302.02948, section 4.1).
"""

from dataclasses import replace
from functools import partial
import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import OffPolicyLearner
from rl_nodes.algorithms.constraint import (
    Constraint,
    ConstraintConfig,
    PenaltyConfig,
    told,
)
from rl_nodes.algorithms.possible_values import PossibleValues
from rl_nodes.core.errors import SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.replay_buffer import ReplayBuffer, ReplaySample
from rl_nodes.networks.devices import device_called
from rl_nodes.networks.mlp import Initialisation, PROCESSOR, StackedMlp, Workspace
from rl_nodes.networks.normalizer import ObservationNormalizer
import torch

Width = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Rate = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]


class ActorCriticConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of every learner with an actor and critics.

    :param hidden: units of each hidden layer, in the actor and in each critic.
    :param batch_size: transitions per gradient step.
    :param buffer_size: transitions kept for replay.
    :param learning_starts: transitions stored before the first gradient step.
    :param discount: gamma, per control step.
    :param target_decay: part of the slow copies that stays at each step.
    :param actor_learning_rate: of Adam, per step.
    :param critic_learning_rate: of Adam, per step.
    :param normalize_observation: normalise by running mean and standard deviation.
    :param critic_observation: what the critics see: ``observation``, as the policy does, or
        ``privileged``, which adds the task's privileged signals.
    :param critic_layer_norm: normalise every hidden layer of the critics, which bounds what they
        say of actions that nobody has tried (Ball et al. 2023, section 4.2).
    :param demonstration_share: part of every batch that is drawn from the demonstrations, where
        there are some.
    :param constraint: on what episodes cost; see ``constraint.py``.
    :param penalty: price of what steps cost and risk; see there.
    :param initialisation: of the weights, ``orthogonal`` or ``default`` (torch's own).
    :param device: where gradient steps are computed: ``cpu``, an accelerator as torch calls it
        (``cuda``, ``cuda:1``), or ``auto`` for one where there is one. Acting and replay stay on
        the processor.
    :param reduced_precision: multiply hidden layers in bfloat16 (sums in float32) while training
        where the processor has instructions for it; the exported policy is always float32.
    """

    hidden: Annotated[tuple[Width, ...], msgspec.Meta(min_length=1, max_length=8)] = (256, 256)
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    buffer_size: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 1_000_000
    learning_starts: Annotated[int, msgspec.Meta(ge=1)] = 1000
    discount: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.99
    target_decay: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.995
    actor_learning_rate: Rate = 3e-4
    critic_learning_rate: Rate = 3e-4
    normalize_observation: bool = True
    critic_observation: Literal['observation', 'privileged'] = 'observation'
    critic_layer_norm: bool = False
    demonstration_share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.5
    constraint: ConstraintConfig = ConstraintConfig()
    penalty: PenaltyConfig = PenaltyConfig()
    initialisation: Initialisation = 'default'
    device: str = 'cpu'
    reduced_precision: bool = True


class ActorCritic(OffPolicyLearner):
    """
    Networks, buffer, normalisers and state; a method adds its losses in ``update``.

    :cvar outputs: of the actor, per action element.
    :cvar members: E.
    """

    outputs: int
    members: int
    has_partners = True

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: ActorCriticConfig, seed: int, privileged_size: int = 0) -> None:
        """
        Create networks, optimisers and buffer.

        :param observation_size: O.
        :param action_low: least action per element, finite, shape (A,).
        :param action_high: greatest action per element, finite, shape (A,).
        :param seed: of every random draw of this learner.
        :param privileged_size: P of the task, 0 where it has no such signals.
        :raises TrainingError: an action element has no finite, non-empty range, or the critics
            are to see privileged signals and there are none.
        """
        super().__init__()
        self._settings = config
        self.device = device_called(config.device)
        self._possible = PossibleValues(config.discount)
        if config.critic_observation == 'observation':
            privileged_size = 0
        elif not privileged_size:
            raise TrainingError(f'{self.name}: critic_observation: privileged, but the task lists '
                                'no privileged signals; add privileged: [...] to its YAML')
        low, high = (np.asarray(bound, np.float64) for bound in (action_low, action_high))
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise TrainingError(
                f'{self.name}: action bounds {low.tolist()} to {high.tolist()}; every action '
                'element needs a finite lower bound below a finite upper one')
        self._middle = torch.from_numpy((0.5 * (low + high)).astype(np.float32))
        self._half_range = torch.from_numpy((0.5 * (high - low)).astype(np.float32))
        self._observation_size, self._action_size = observation_size, len(low)
        self._privileged_size = privileged_size
        self._generator = torch.Generator().manual_seed(seed)
        if config.constraint.active:
            self.constraint = Constraint(config.constraint)
        self.buffer = self._new_buffer(config.buffer_size)
        self.demonstrations: ReplayBuffer | None = None
        self.normalizer = ObservationNormalizer(observation_size)
        self.privileged_normalizer = ObservationNormalizer(privileged_size) \
            if privileged_size else None

        self._critic_width = self._given + privileged_size  # of what comes before the action
        self._critic_sizes = (self._critic_width + self._action_size, *config.hidden, 1)
        self.actor = self._new_actor()
        self.critics, self.target_critics = self._new_critics(), self._new_critics()
        self.target_critics.flat.copy_(self.critics.flat)
        self._actor_adam = Adam(self.actor.flat, config.actor_learning_rate)
        self._critic_adam = Adam(self.critics.flat, config.critic_learning_rate)

        rows = config.batch_size
        self._acting: dict[int, Workspace] = {}
        self._actor_here = self.actor if self.device == PROCESSOR else self._new_actor(PROCESSOR)
        self._copied = -1  # updates behind the weights of _actor_here
        self._critic_work = self.critics.workspace(rows)
        zeros, width = partial(torch.zeros, device=self.device), self._critic_sizes[0]
        self._both = zeros(2 * rows, self._given)  # o, then o'
        self._privileged = zeros(2 * rows, privileged_size)
        self._stored = zeros(rows, width)          # [o, x, stored a]
        self._fresh = zeros(rows, width)           # [o, x, mu(o)], and that of o'

    @property
    def _given(self) -> int:
        """Return how many numbers the networks are given of an observation."""
        return self._observation_size

    def _learns_alone(self) -> bool:
        return super()._learns_alone() or self.device != PROCESSOR

    def _new_buffer(self, capacity: int) -> ReplayBuffer:
        return ReplayBuffer(capacity, self._observation_size, self._action_size,
                            self._privileged_size, costs=self.constraint is not None)

    def _new_actor(self, device: torch.device | None = None) -> StackedMlp:
        config = self._settings
        sizes = (self._given, *config.hidden, self.outputs * self._action_size)
        generator = self._generator if device is None else torch.Generator()  # a copy draws none
        return StackedMlp(1, sizes, config.initialisation, 0.01, generator,
                          config.reduced_precision, device=device or self.device)

    def _new_critics(self) -> StackedMlp:
        config = self._settings
        return StackedMlp(self.members, self._critic_sizes, config.initialisation, 1.0,
                          self._generator, config.reduced_precision, config.critic_layer_norm,
                          device=self.device)

    # Acting and storing ----------------------------------------------------------------------

    def _answer(self, observation: np.ndarray) -> torch.Tensor:
        """Return the actor's outputs, shape (N, outputs * A), on the processor."""
        rows, actor = len(observation), self._actor_here
        if rows not in self._acting:
            self._acting[rows] = actor.workspace(rows)
        if actor is not self.actor and self._copied != self.updates:
            actor.flat.copy_(self.actor.flat)
            self._copied = self.updates
        x = torch.from_numpy(np.array(observation, np.float32))
        if self._settings.normalize_observation:
            self.normalizer.normalize_into(x, x)
        return actor.forward(x, self._acting[rows])[0]

    def _scaled(self, action: torch.Tensor) -> np.ndarray:
        """Return actions in [-1, 1] in the contract's units."""
        return torch.addcmul(self._middle, self._half_range, action).numpy()

    def observe(self, batch: TransitionBatch) -> int:
        """
        Store new transitions and update the observation statistics.

        :param batch: actions in the contract's units; those outside the bounds count as at them.
        :return: rows stored; rows with a non-finite value are counted in the buffer and dropped.
        :raises SpecError: the batch has other widths than this learner.
        :raises TrainingError: costs are limited or have a price, and it has none.
        """
        return self._store(self.buffer, batch)

    def learn_from(self, demonstrations: TransitionBatch) -> int:
        """
        Let a share of every batch come from given transitions; see the base class.

        :return: rows that are fit to be learned from.
        :raises SpecError: they have other widths than this learner.
        :raises TrainingError: none of them is fit.
        """
        buffer = self._new_buffer(max(1, len(demonstrations)))
        stored = self._store(buffer, demonstrations)
        if not stored:
            raise TrainingError(f'{self.name}: none of {len(demonstrations)} demonstrated '
                                'transitions is finite; record others')
        self.demonstrations = buffer
        return stored

    def _store(self, buffer: ReplayBuffer, batch: TransitionBatch) -> int:
        if batch.action.shape != (len(batch), self._action_size):
            raise SpecError(f'{self.name}: actions have shape {list(batch.action.shape)}, expected'
                            f' {[len(batch), self._action_size]}; the data is from another robot')
        if self.constraint is not None:
            told(batch.cost, self.constraint.config.cost)
        reward = self.priced(batch.reward, batch.observation, batch.action, batch.cost)
        scaled = (batch.action - self._middle.numpy()) / self._half_range.numpy()
        stored = buffer.add(replace(batch, action=np.clip(scaled, -1.0, 1.0), reward=reward))
        if self._settings.normalize_observation:
            self._take_note(self.normalizer, batch.observation)
            if self.privileged_normalizer is not None and batch.privileged is not None:
                self._take_note(self.privileged_normalizer, batch.privileged)
        return stored

    def ready(self) -> bool:
        """Return True once ``learning_starts`` transitions have come."""
        return self.in_all(self.buffer.added) >= self._settings.learning_starts \
            and len(self.buffer) > 0

    # Learning --------------------------------------------------------------------------------

    def _draw(self) -> ReplaySample:
        """
        Draw a batch; what the networks are to see of it is then in ``_both`` and so on.

        What is returned is where the networks are, but for what was observed.

        Rewards are less what the steps cost at the present multiplier, however old they are.
        """
        rows = self._settings.batch_size
        if self.demonstrations is None:
            sample = self.buffer.sample(rows, self._generator)
        else:
            shown = min(max(1, round(rows * self._settings.demonstration_share)), rows - 1)
            sample = ReplaySample.concatenate(
                self.buffer.sample(rows - shown, self._generator),
                self.demonstrations.sample(shown, self._generator))
        self._prepare(self.normalizer, sample.observation, self._both[:rows])
        self._prepare(self.normalizer, sample.next_observation, self._both[rows:])
        self._complete(sample)
        return sample.outcome_on(self.device)

    def _complete(self, sample: ReplaySample) -> None:
        """Take off the rewards what is limited; write what the critics see besides."""
        rows = len(sample.reward)
        if self.constraint is not None and sample.cost is not None:
            sample.reward.sub_(sample.cost, alpha=self.constraint.multiplier)
        if self.privileged_normalizer is not None:
            self._prepare(self.privileged_normalizer, sample.privileged, self._privileged[:rows])
            self._prepare(self.privileged_normalizer, sample.next_privileged,
                          self._privileged[rows:])

    def _prepare(self, normalizer: ObservationNormalizer, sample: torch.Tensor | None,
                 out: torch.Tensor) -> None:
        """Write what the networks are to see of a sample."""
        if self._settings.normalize_observation:
            normalizer.normalize_into(sample, out)
        else:
            out.copy_(sample)

    def _join(self, out: torch.Tensor, following: bool, action: torch.Tensor) -> torch.Tensor:
        """Write the critics' input [o, x, a], or [o', x', a], shape (B, O + P + A)."""
        rows = len(out)
        part = slice(rows, 2 * rows) if following else slice(0, rows)
        out[:, :self._given] = self._both[part]
        if self.privileged_normalizer is not None:
            out[:, self._given:self._critic_width] = self._privileged[part]
        out[:, self._critic_width:] = action
        return out

    def _fit_critics(self, sample: ReplaySample, target_b: torch.Tensor) -> tuple[float, float]:
        """
        Do one step on L_Q = 1/2 sum_e <(Q_e(o, a) - y)^2>, so dL_Q/dQ = (Q - y) / B.

        :param target_b: y, shape (B,); nothing flows back through it.
        :return: L_Q, and the mean of Q before the step.
        """
        rows = len(target_b)
        self._join(self._stored, False, sample.action)
        q_eb1 = self.critics.forward(self._stored, self._critic_work)
        q_mean = q_eb1.mean().item()
        error_eb1 = q_eb1.sub_(target_b.unsqueeze(-1))
        loss = 0.5 * torch.linalg.vector_norm(error_eb1).item() ** 2 / rows
        self.critics.backward(error_eb1.mul_(1.0 / rows), self._critic_work)
        self._step(self._critic_adam, self.critics.flat_gradient)
        return loss, q_mean

    def _action_gradient(self, q_gradient_eb1: torch.Tensor) -> torch.Tensor:
        """Return what the last pass of the critics sends back to the action, shape (B, A)."""
        gradient = self.critics.backward(
            q_gradient_eb1, self._critic_work, weights=False,
            inputs=slice(self._critic_width, self._critic_width + self._action_size))
        if gradient is None:
            raise TrainingError(f'{self.name}: the critics gave no gradient')
        return gradient

    # Keeping ---------------------------------------------------------------------------------

    def is_finite(self) -> bool:
        """Return True where every weight is finite."""
        return all(math.isfinite(vector.sum().item()) for vector in self._vectors().values())

    def _vectors(self) -> dict[str, torch.Tensor]:
        """Return every weight, by name."""
        return {'actor': self.actor.flat, 'critics': self.critics.flat,
                'target_critics': self.target_critics.flat}

    def _optimisers(self) -> dict[str, Adam]:
        return {'actor': self._actor_adam, 'critics': self._critic_adam}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, optimisers, normaliser, counters and random state."""
        return {'weights': {key: vector.to('cpu', copy=True)
                            for key, vector in self._vectors().items()},
                'optimisers': {key: adam.state_dict() for key, adam in self._optimisers().items()},
                'normalizer': self.normalizer.state_dict(),
                **({} if self.privileged_normalizer is None else {
                    'privileged_normalizer': self.privileged_normalizer.state_dict()}),
                **({} if self.constraint is None else {
                    'constraint': self.constraint.state_dict()}),
                'updates': self.updates,
                'generator': self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the buffer is kept apart."""
        self.roll_back(state)
        self.updates = int(state['updates'])
        if self.constraint is not None:
            self.constraint.load_state_dict(state['constraint'])
        self._generator.set_state(state['generator'])

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over weights, optimisers and normaliser, but no counter and no random state."""
        for key, vector in self._vectors().items():
            vector.copy_(state['weights'][key])
        for key, adam in self._optimisers().items():
            adam.load_state_dict(state['optimisers'][key])
        self.normalizer.load_state_dict(state['normalizer'])
        if self.privileged_normalizer is not None:
            self.privileged_normalizer.load_state_dict(state['privileged_normalizer'])
        self._copied = -1
        self.forget_metrics()
