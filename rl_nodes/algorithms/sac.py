# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Soft actor-critic with twin critics and automatic temperature.

Citation: Haarnoja, Zhou, Hartikainen, Tucker, Ha, Tan, Kumar, Zhu, Gupta, Abbeel and Levine 2018,
"Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905. Twin critics: Fujimoto, van
Hoof and Meger 2018, arXiv:1802.09477.

Legend: B batch, O observation, A action, P privileged, E = 2 critics; d = terminated (never
truncated), alpha temperature, a bar marks the slow copy of the critics, <.> the mean over the
batch.

    y = r + gamma (1 - d) [min_e Qbar_e(o', a') - alpha log pi(a'|o')],   a' ~ pi(.|o')      (1)
    L_Q = 1/2 sum_e <(Q_e(o, a) - y)^2>                                                      (2)
    L_pi = <alpha log pi(a|o) - min_e Q_e(o, a)>,   a = tanh(m(o) + s(o) n),  n ~ N(0, 1)    (3)
    L_alpha = -log alpha (<log pi(a|o)> + H),   H = target entropy, -1 nat per action        (4)
    Qbar <- target_decay Qbar + (1 - target_decay) Q                                         (5)

Departures from the paper, and why:

- (4) has log alpha where the paper has alpha, as in the authors' code: the step does not shrink
  with alpha, and alpha stays positive.
- Gradients are written out (``networks/mlp.py``, ``networks/distributions.py``) instead of taken
  by autograd: same numbers (a test compares them), half the time on a CPU core.
- The actor is evaluated once for o and o' together; it has not changed in between.
- Products of hidden layers are computed in bfloat16 where the processor can (sums, weights, first
  and last layers and the exported policy are float32); ``reduced_precision: false`` turns it off.
- Observations are normalised by running statistics, actions are learned in [-1, 1].
- ``critic_observation: privileged`` gives the critics, which only training needs, the task's
  privileged signals x too: Q(o, x, a). The actor, and so the exported policy, sees o alone
  (asymmetric actor-critic: Pinto, Andrychowicz, Welinder, Zaremba and Abbeel 2017,
  arXiv:1710.06542).
- No uniformly random start: the untrained policy (m near 0, s near 1) is nearly uniform already.
"""

from dataclasses import replace
import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import OffPolicyLearner, PolicyModule
from rl_nodes.core.errors import SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.replay_buffer import ReplayBuffer
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN, squash, squash_backward
from rl_nodes.networks.mlp import Initialisation, StackedMlp, Workspace
from rl_nodes.networks.normalizer import ObservationNormalizer
import torch

_Width = Annotated[int, msgspec.Meta(ge=1, le=8192)]
_Rate = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]


class SacConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner.

    :param hidden: units of each hidden layer, in the actor and in each critic.
    :param batch_size: transitions per gradient step.
    :param buffer_size: transitions kept for replay.
    :param learning_starts: transitions stored before the first gradient step.
    :param discount: gamma, per control step.
    :param target_decay: part of the slow critics that stays at each step, eq. (5).
    :param actor_learning_rate: of Adam, per step.
    :param critic_learning_rate: of Adam, per step.
    :param temperature_learning_rate: of Adam on log alpha, per step.
    :param initial_temperature: alpha at the start [reward per nat].
    :param target_entropy_per_action: H divided by the number of action elements [nat].
    :param normalize_observation: normalise by running mean and standard deviation.
    :param critic_observation: what the critics see: ``observation``, as the policy does, or
        ``privileged``, which adds the task's privileged signals.
    :param initialisation: of the weights, ``orthogonal`` or ``default`` (torch's own).
    :param reduced_precision: multiply hidden layers in bfloat16 (sums in float32) while training
        where the processor has instructions for it; the exported policy is always float32.
    """

    hidden: Annotated[tuple[_Width, ...], msgspec.Meta(min_length=1, max_length=8)] = (256, 256)
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    buffer_size: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 1_000_000
    learning_starts: Annotated[int, msgspec.Meta(ge=1)] = 1000
    discount: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.99
    target_decay: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.995
    actor_learning_rate: _Rate = 3e-4
    critic_learning_rate: _Rate = 3e-4
    temperature_learning_rate: _Rate = 3e-4
    initial_temperature: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 1.0
    target_entropy_per_action: Annotated[float, msgspec.Meta(ge=-10.0, le=0.6)] = -1.0
    normalize_observation: bool = True
    critic_observation: Literal['observation', 'privileged'] = 'observation'
    initialisation: Initialisation = 'default'
    reduced_precision: bool = True


class Sac(OffPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'sac'

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: SacConfig, seed: int, privileged_size: int = 0) -> None:
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
        self.config = config
        if config.critic_observation == 'observation':
            privileged_size = 0
        elif not privileged_size:
            raise TrainingError('sac: critic_observation: privileged, but the task lists no '
                                'privileged signals; add privileged: [...] to its YAML')
        low, high = (np.asarray(bound, np.float64) for bound in (action_low, action_high))
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise TrainingError(
                f'sac: action bounds {low.tolist()} to {high.tolist()}; every action element '
                'needs a finite lower bound below a finite upper one')
        self._middle = torch.from_numpy((0.5 * (low + high)).astype(np.float32))
        self._half_range = torch.from_numpy((0.5 * (high - low)).astype(np.float32))
        self._observation_size, self._action_size = observation_size, len(low)
        self._generator = torch.Generator().manual_seed(seed)
        self.updates = 0
        self.buffer = ReplayBuffer(config.buffer_size, observation_size, self._action_size,
                                   privileged_size)
        self.normalizer = ObservationNormalizer(observation_size)
        self.privileged_normalizer = ObservationNormalizer(privileged_size) \
            if privileged_size else None

        self._critic_width = observation_size + privileged_size  # of what comes before the action
        critic_sizes = (self._critic_width + self._action_size, *config.hidden, 1)
        actor_sizes = (observation_size, *config.hidden, 2 * self._action_size)
        kind, reduced = config.initialisation, config.reduced_precision
        self.actor = StackedMlp(1, actor_sizes, kind, 0.01, self._generator, reduced)
        self.critics = StackedMlp(2, critic_sizes, kind, 1.0, self._generator, reduced)
        self.target_critics = StackedMlp(2, critic_sizes, kind, 1.0, self._generator, reduced)
        self.target_critics.flat.copy_(self.critics.flat)
        self.log_temperature = torch.tensor([math.log(config.initial_temperature)])
        self._target_entropy = config.target_entropy_per_action * self._action_size

        self._actor_adam = Adam(self.actor.flat, config.actor_learning_rate)
        self._critic_adam = Adam(self.critics.flat, config.critic_learning_rate)
        self._temperature_adam = Adam(self.log_temperature, config.temperature_learning_rate)

        rows = config.batch_size
        self._acting: dict[int, Workspace] = {}
        self._actor_work = self.actor.workspace(2 * rows)
        self._critic_work = self.critics.workspace(rows)
        self._both = torch.zeros(2 * rows, observation_size)
        self._noise = torch.zeros(2 * rows, self._action_size)
        self._privileged = torch.zeros(2 * rows, privileged_size)
        self._stored = torch.zeros(rows, critic_sizes[0])     # [o, x, stored a]
        self._fresh = torch.zeros(rows, critic_sizes[0])      # [o, x, a ~ pi], and that of o'
        self._output_gradient = torch.zeros(1, rows, 2 * self._action_size)
        self._sums: dict[str, float] = {}
        self._summed = 0

    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """Return actions within the action bounds, shape (N, A); see the base class."""
        rows = len(observation)
        if rows not in self._acting:
            self._acting[rows] = self.actor.workspace(rows)
        x = torch.tensor(observation, dtype=torch.float32)
        if self.config.normalize_observation:
            self.normalizer.normalize_into(x, x)
        mean, log_std = self.actor.forward(x, self._acting[rows])[0].chunk(2, dim=-1)
        if explore:
            noise = torch.randn(mean.shape, generator=self._generator)
            mean = torch.addcmul(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp_(), noise)
        return torch.addcmul(self._middle, self._half_range, torch.tanh(mean)).numpy()

    def observe(self, batch: TransitionBatch) -> int:
        """
        Store new transitions and update the observation statistics.

        :param batch: actions in the contract's units; those outside the bounds count as at them.
        :return: rows stored; rows with a non-finite value are counted in the buffer and dropped.
        :raises SpecError: the batch has other widths than this learner.
        """
        if batch.action.shape != (len(batch), self._action_size):
            raise SpecError(f'sac: actions have shape {list(batch.action.shape)}, expected '
                            f'{[len(batch), self._action_size]}; the data is from another robot')
        scaled = (batch.action - self._middle.numpy()) / self._half_range.numpy()
        stored = self.buffer.add(replace(batch, action=np.clip(scaled, -1.0, 1.0)))
        if self.config.normalize_observation and stored:
            rows = batch.observation
            if stored < len(rows):
                rows = rows[np.isfinite(rows).all(axis=1)]
            self.normalizer.update(torch.from_numpy(rows))
            if self.privileged_normalizer is not None and batch.privileged is not None:
                rows = batch.privileged
                self.privileged_normalizer.update(
                    torch.from_numpy(rows[np.isfinite(rows).all(axis=1)]))
        return stored

    def ready(self) -> bool:
        """Return True once ``learning_starts`` transitions have come."""
        return self.buffer.added >= self.config.learning_starts and len(self.buffer) > 0

    def update(self) -> None:
        """
        Do one gradient step on critics, actor and temperature, eq. (1) to (5).

        :raises TrainingError: a loss is not finite; the weights must be rolled back.
        """
        config, rows, width = self.config, self.config.batch_size, self._critic_width
        sample = self.buffer.sample(rows, self._generator)
        observation, next_observation = self._both[:rows], self._both[rows:]
        privileged, next_privileged = self._privileged[:rows], self._privileged[rows:]
        self._prepare(self.normalizer, sample.observation, observation)
        self._prepare(self.normalizer, sample.next_observation, next_observation)
        if self.privileged_normalizer is not None:
            self._prepare(self.privileged_normalizer, sample.privileged, privileged)
            self._prepare(self.privileged_normalizer, sample.next_privileged, next_privileged)
        temperature = math.exp(self.log_temperature.item())

        # a ~ pi(.|o) and a' ~ pi(.|o') in one pass.
        mean, raw_log_std = self.actor.forward(self._both, self._actor_work)[0].chunk(2, dim=-1)
        log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = self._noise.normal_(generator=self._generator)
        action, log_probability = squash(mean, log_std, noise)

        # Eq. (1): the target. Nothing here is differentiated.
        self._join(self._fresh, next_observation, next_privileged, action[rows:])
        target_eb = self.target_critics.forward(self._fresh, self._critic_work)[..., 0]
        future = target_eb.amin(0).sub_(log_probability[rows:], alpha=temperature)
        target_b = torch.addcmul(sample.reward, future, 1.0 - sample.terminated,
                                 value=config.discount)

        # Eq. (2): dL_Q/dQ = (Q - y) / B.
        self._join(self._stored, observation, privileged, sample.action)
        q_eb1 = self.critics.forward(self._stored, self._critic_work)
        q_mean = q_eb1.mean().item()
        error_eb1 = q_eb1.sub_(target_b.unsqueeze(-1))
        critic_loss = 0.5 * torch.linalg.vector_norm(error_eb1).item() ** 2 / rows
        self.critics.backward(error_eb1.mul_(1.0 / rows), self._critic_work)
        self._critic_adam.step(self.critics.flat_gradient)

        # Eq. (3): dL_pi/dQ_e = -1/B where e is the smaller critic, then through tanh and Gaussian.
        self._join(self._fresh, observation, privileged, action[:rows])
        q_eb1 = self.critics.forward(self._fresh, self._critic_work)
        q_minimum = q_eb1.amin(0)
        entropy = -log_probability[:rows].mean().item()
        actor_loss = -temperature * entropy - q_minimum.mean().item()
        chosen = (q_eb1 == q_minimum).float()
        action_gradient = self.critics.backward(
            chosen.mul_(-1.0 / rows), self._critic_work, weights=False,
            inputs=slice(width, width + self._action_size))
        mean_gradient, log_std_gradient = squash_backward(
            action[:rows], log_std[:rows], noise[:rows], action_gradient, temperature / rows)
        log_std_gradient.mul_(raw_log_std[:rows] == log_std[:rows])
        torch.cat((mean_gradient, log_std_gradient), 1, out=self._output_gradient[0])
        self.actor.backward(self._output_gradient, self._actor_work, rows=slice(0, rows))
        self._actor_adam.step(self.actor.flat_gradient)

        # Eq. (4) and (5).
        temperature_gradient = entropy - self._target_entropy
        self._temperature_adam.step(torch.full((1,), temperature_gradient))
        self.target_critics.flat.lerp_(self.critics.flat, 1.0 - config.target_decay)

        self.updates += 1
        self._record(critic_loss=critic_loss, actor_loss=actor_loss, entropy=entropy,
                     temperature=temperature, q_mean=q_mean)
        if not (math.isfinite(critic_loss) and math.isfinite(actor_loss)):
            raise TrainingError(
                f'sac: update {self.updates}: critic loss {critic_loss}, actor loss {actor_loss}; '
                'learning diverged. Lower the learning rates or look for absurd rewards')

    def _prepare(self, normalizer: ObservationNormalizer, sample: torch.Tensor | None,
                 out: torch.Tensor) -> None:
        """Write what the networks are to see of a sample."""
        if self.config.normalize_observation:
            normalizer.normalize_into(sample, out)
        else:
            out.copy_(sample)

    def _join(self, out: torch.Tensor, observation: torch.Tensor, privileged: torch.Tensor,
              action: torch.Tensor) -> None:
        """Write the critics' input [o, x, a], shape (B, O + P + A)."""
        out[:, :self._observation_size] = observation
        if self.privileged_normalizer is not None:
            out[:, self._observation_size:self._critic_width] = privileged
        out[:, self._critic_width:] = action

    def _record(self, **values: float) -> None:
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._summed += 1

    def metrics(self) -> dict[str, float]:
        """Return the means of the logged quantities since the last call, and forget them."""
        means = {key: value / self._summed for key, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        return means

    def is_finite(self) -> bool:
        """Return True where every weight is finite."""
        return all(math.isfinite(vector.sum().item()) for vector in self._vectors().values())

    def _vectors(self) -> dict[str, torch.Tensor]:
        return {'actor': self.actor.flat, 'critics': self.critics.flat,
                'target_critics': self.target_critics.flat,
                'log_temperature': self.log_temperature}

    def _optimisers(self) -> dict[str, Adam]:
        return {'actor': self._actor_adam, 'critics': self._critic_adam,
                'temperature': self._temperature_adam}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, optimisers, normaliser, counters and random state."""
        return {'weights': {key: vector.clone() for key, vector in self._vectors().items()},
                'optimisers': {key: adam.state_dict() for key, adam in self._optimisers().items()},
                'normalizer': self.normalizer.state_dict(),
                **({} if self.privileged_normalizer is None else {
                    'privileged_normalizer': self.privileged_normalizer.state_dict()}),
                'updates': self.updates,
                'generator': self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the buffer is kept apart."""
        self.roll_back(state)
        self.updates = int(state['updates'])
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
        self._sums, self._summed = {}, 0

    def policy_module(self) -> PolicyModule:
        """Return a detached copy of the present policy for export."""
        return PolicyModule(self.normalizer.frozen(), self.actor.member(0), self._middle,
                            self._half_range).eval()
