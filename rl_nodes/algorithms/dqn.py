# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Deep Q-learning with its six improvements, each a switch; all of them together are Rainbow.

Citation: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518;
Hessel et al. 2018, "Rainbow: combining improvements in deep reinforcement learning",
arXiv:1710.02298.

Legend: B batch, n actions, N atoms; d = terminated (never truncated), a bar marks the slow copy,
<.>_w the mean over the batch weighted by w (1 without priorities), H the Huber loss; R, m and
gamma^m as in ``data/n_step.py`` (m = 1 without that switch).

    y = R + gamma^m (1 - d) Qbar(o', argmax_a Qbar(o', a))                                   (1)
    double: the argmax is over Q instead (van Hasselt, Guez and Silver 2016, arXiv:1509.06461)
    L = <H(Q(o, a) - y)>_w                                                                   (2)
    Qbar <- target_decay Qbar + (1 - target_decay) Q, every target_every steps               (3)

categorical (Bellemare, Dabney and Munos 2017, arXiv:1707.06887, algorithm 1): the network gives
probabilities p of N returns z, Q = sum_i z_i p_i, and with pbar those of the action in (1)

    T_j = clip(R + gamma^m (1 - d) z_j, z_1, z_N),   m = sum_j pbar_j (linear shares of T_j)  (4)
    L = -<sum_i m_i log p_i(o, a)>_w                                                         (5)

dueling and noisy are in ``networks/q_network.py``, prioritized in ``data/priorities.py`` with
p = |Q - y|, or where categorical KL(m||p) = (5) less the entropy of m.

Nothing flows back through y: Q-learning is no gradient descent. Departures, and why:

- ``normalize_observation`` is there, as for other methods, but off: statistics that run move what
  the slow network answers, too, which then is no longer a fixed target.
- Epsilon falls with the number of transitions and not with a part of a run's length, so that a
  run can be prolonged.
- The noise of noisy layers is drawn anew for every step of the environment and of the gradient.
- All products are float32, unlike elsewhere: what tells two actions apart is a small part of their
  values, and products of a batch of 64 gain little.
"""

from dataclasses import replace
import math
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from rl_nodes.algorithms.actor_critic import Rate, Width
from rl_nodes.algorithms.adam import Adam
from rl_nodes.algorithms.base import DiscretePolicyModule, OffPolicyLearner
from rl_nodes.algorithms.possible_values import PossibleValues
from rl_nodes.core.errors import SpecError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.n_step import NStepReturns
from rl_nodes.data.priorities import Priorities
from rl_nodes.data.replay_buffer import finite_rows, ReplayBuffer, ReplaySample
from rl_nodes.networks.normalizer import ObservationNormalizer
from rl_nodes.networks.q_network import NoiseKind, QNetwork
import torch

Part = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_LUCK = 256  # random numbers for exploration that are drawn at once


class DqnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner; every switch is off.

    :param hidden: units of each hidden layer.
    :param batch_size: transitions per gradient step.
    :param buffer_size: transitions kept for replay.
    :param learning_starts: transitions observed before the first gradient step.
    :param discount: gamma, per control step.
    :param target_every: gradient steps between two moves of the slow copy.
    :param target_decay: part of the slow copy that stays at each move; 0 copies.
    :param learning_rate: of Adam, per step.
    :param gradient_norm: longest gradient; a longer one is shortened to it.
    :param reward_clip: rewards are learned from as if within plus and minus this, each before they
        are summed; None leaves them as they are.
    :param normalize_observation: normalise by running mean and standard deviation.
    :param epsilon_start: part of random actions at the beginning.
    :param epsilon_end: the same from ``exploration_steps`` on.
    :param exploration_steps: transitions over which it falls.
    :param double: choose the next action by the fast network.
    :param dueling: values and advantages in streams of their own.
    :param n_step: greatest number of rewards before the estimate of what follows.
    :param prioritized: draw what was badly predicted more often.
    :param priority_exponent: alpha, 0 for uniform draws.
    :param importance_exponent: beta at the beginning; it rises to 1.
    :param importance_steps: transitions over which it rises.
    :param categorical: learn distributions of returns.
    :param atoms: N of ``categorical``.
    :param value_min: least return of ``categorical``, z_1.
    :param value_max: greatest one, z_N.
    :param noisy: learned noise in the weights; epsilon may then be 0.
    :param noise_scale: of the noise at the beginning, relative to its authors': 0.5 / sqrt(p)
        where factorised, 0.017 where independent.
    """

    hidden: Annotated[tuple[Width, ...], msgspec.Meta(min_length=1, max_length=8)] = (256, 256)
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    buffer_size: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 100_000
    learning_starts: Count = 1000
    discount: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.99
    target_every: Count = 500
    target_decay: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    learning_rate: Rate = 1e-3
    gradient_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 10.0
    reward_clip: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    normalize_observation: bool = False
    epsilon_start: Part = 1.0
    epsilon_end: Part = 0.05
    exploration_steps: Count = 10_000
    double: bool = False
    dueling: bool = False
    n_step: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    prioritized: bool = False
    priority_exponent: Part = 0.5
    importance_exponent: Part = 0.4
    importance_steps: Count = 100_000
    categorical: bool = False
    atoms: Annotated[int, msgspec.Meta(ge=2, le=1001)] = 51
    value_min: float = -100.0
    value_max: float = 100.0
    noisy: NoiseKind = 'none'
    noise_scale: Annotated[float, msgspec.Meta(gt=0.0, le=10.0)] = 1.0


class Dqn(OffPolicyLearner):
    """The learner; see the file's header for the equations."""

    name = 'dqn'
    sampling = 'deterministic'
    has_partners = True

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: DqnConfig, seed: int, privileged_size: int = 0) -> None:
        """
        Create networks, optimiser and buffer.

        :param observation_size: O.
        :param action_low: number of the first action, shape (1,).
        :param action_high: number of the last action, shape (1,).
        :param seed: of every random draw of this learner.
        :param privileged_size: of the task; not used.
        :raises TrainingError: there is nothing to choose from, or no range of values.
        """
        super().__init__()
        if len(action_low) != 1 or action_high[0] <= action_low[0]:
            raise TrainingError(f'dqn: actions {action_low} to {action_high}; expected one number '
                                'with at least two values')
        if config.categorical and not config.value_min < config.value_max:
            raise TrainingError(f'dqn: value_min {config.value_min} is not below value_max '
                                f'{config.value_max}; give the range of the returns')
        self.config = config
        self._possible = PossibleValues(config.discount)
        self._first, self._actions = int(action_low[0]), int(action_high[0] - action_low[0]) + 1
        self._generator = torch.Generator().manual_seed(seed)
        self._luck = np.zeros(0)  # drawn and not used yet
        self.observed = 0
        self.buffer = ReplayBuffer(config.buffer_size, observation_size, 1, discounted=True)
        self._n_step = NStepReturns(config.n_step, config.discount)
        self._priorities = Priorities(config.buffer_size, config.priority_exponent) \
            if config.prioritized else None
        self.normalizer = ObservationNormalizer(observation_size)

        self._support = torch.linspace(config.value_min, config.value_max, config.atoms)
        self.network, self.target_network = (QNetwork(
            observation_size, self._actions, config.hidden, self._generator, config.dueling,
            config.noisy, self._support if config.categorical else None, config.noise_scale)
            for _ in range(2))
        self.target_network.flat.copy_(self.network.flat)
        self._adam = Adam(self.network.flat, config.learning_rate)
        self._one = torch.ones(config.batch_size)
        self._even, self._unnamed = self._one / config.batch_size, torch.zeros(0)

    # Acting and storing ----------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the part of random actions."""
        config = self.config
        done = min(1.0, self.in_all(self.observed) / config.exploration_steps)
        return config.epsilon_start + done * (config.epsilon_end - config.epsilon_start)

    def act(self, observation: np.ndarray, explore: bool = True) -> np.ndarray:
        """Return numbers of actions, int64, shape (N, 1); see the base class."""
        if not explore:
            self.network.silence()
            return (self._best(observation) + self._first)[:, None]
        self.network.draw(self._generator)
        luck, epsilon = self._luck_of(len(observation)), self.epsilon()
        random = luck < epsilon
        count = np.count_nonzero(random)
        action = self._best(observation) if count < len(random) else np.zeros(count, np.int64)
        if count:  # luck / epsilon is uniform where it is below 1, and may be rounded up to 1
            choice = (luck[random] * (self._actions / epsilon)).astype(np.int64)
            action[random] = np.minimum(choice, self._actions - 1)
        return (action + self._first)[:, None]

    def _luck_of(self, rows: int) -> np.ndarray:
        """Return uniform random numbers, float64, (rows,); one by one they take ten times long."""
        if len(self._luck) < rows:
            self._luck = torch.rand(max(rows, _LUCK), dtype=torch.float64,
                                    generator=self._generator).numpy()
        luck, self._luck = self._luck[:rows], self._luck[rows:]
        return luck

    def _best(self, observation: np.ndarray) -> np.ndarray:
        """Return the index of the action of greatest value by the present network, (N,)."""
        seen = np.array(observation, np.float32)
        if self.config.normalize_observation:
            self._seen(torch.from_numpy(seen))
        if len(seen) == 1:
            values = self.network.answer(seen)
        else:
            values = self.network.values_of(
                self.network.forward(torch.from_numpy(seen))).numpy()
        return cast(np.ndarray, values.argmax(1))

    def _seen(self, observation: torch.Tensor) -> torch.Tensor:
        """Return what the network is to see, shape (B, O), in the place of the observation."""
        if not self.config.normalize_observation:
            return observation
        return self.normalizer.normalize_into(observation, observation)

    def observe(self, batch: TransitionBatch) -> int:
        """
        Store new transitions and update the observation statistics.

        :param batch: actions as :meth:`act` returns them, in any number type.
        :return: rows that were fit; rows with a non-finite value or without such an action are
            counted in the buffer and dropped.
        :raises SpecError: the batch has other widths than this learner.
        """
        if batch.action.shape != (len(batch), 1):
            raise SpecError(f'dqn: actions have shape {list(batch.action.shape)}, expected '
                            f'{[len(batch), 1]}: one number each')
        index = batch.action[:, 0] - self._first
        fit = finite_rows(batch.observation, batch.next_observation, batch.reward) \
            & (index >= 0) & (index < self._actions) & (index == np.floor(index))
        if self.config.normalize_observation:
            self._take_note(self.normalizer, batch.observation)
        batch = replace(batch, action=index[:, None].astype(np.float32))
        if not fit.all():
            self.buffer.refused += len(batch) - int(fit.sum())
            batch = TransitionBatch(**{name: column[fit]
                                       for name, column in batch.columns().items()})
        self.observed += len(batch)
        if self.config.reward_clip is not None:
            limit = np.float32(self.config.reward_clip)
            batch = replace(batch, reward=batch.reward.clip(-limit, limit))
        start = self.buffer.position
        stored = self.buffer.add(self._n_step.add(batch))
        if self._priorities is not None and stored:
            self._priorities.add((start + np.arange(stored)) % self.buffer.capacity)
        return len(batch)

    def ready(self) -> bool:
        """Return True once ``learning_starts`` transitions have come."""
        return self.in_all(self.observed) >= self.config.learning_starts and len(self.buffer) > 0

    # Learning --------------------------------------------------------------------------------

    def update(self) -> None:
        """
        Do one gradient step, eq. (1) to (5).

        :raises TrainingError: the loss is not finite; the weights must be rolled back.
        """
        config, network = self.config, self.network
        sample, rows, weights = self._draw()
        network.draw(self._generator)
        self.target_network.draw(self._generator)
        observation, following = self._seen(sample.observation), self._seen(
            sample.next_observation)
        size = len(observation)
        discount = self._one if sample.discount is None else sample.discount
        counts = torch.addcmul(discount, discount, sample.terminated, value=-1)  # gamma^m (1 - d)

        # Eq. (1) or (4): the target.
        next_logits = self.target_network.forward(following)
        if config.double:
            both = network.forward(torch.cat((observation, following)))
            logits, chooser = both[:size], network.values_of(both[size:])
        else:
            logits, chooser = network.forward(observation), network.values_of(next_logits)
        if config.categorical:
            future = torch.softmax(pick(next_logits, chooser.argmax(1)), 1)
            target = project(future, sample.reward, counts, self._support)
        else:
            future = pick(next_logits, chooser.argmax(1))[:, 0] if config.double \
                else chooser.amax(1)
            target = sample.reward + counts * future

        # Eq. (5) or (2), and its gradient with respect to what the network says of the action.
        at = sample.action.long().unsqueeze(2).expand(-1, 1, logits.shape[2])
        chosen = logits.gather(1, at).squeeze(1)
        if config.categorical:
            log_p = torch.log_softmax(chosen, 1)
            loss = -(target * log_p).sum(1)
            error = loss + torch.xlogy(target, target).sum(1)
            gradient = log_p.exp().sub_(target)
        else:
            error = chosen[:, 0] - target
            shortened = error.clamp(-1.0, 1.0)
            loss = shortened * torch.sub(error, shortened, alpha=0.5)
            gradient = shortened.unsqueeze(1)
        mean_loss = torch.dot(loss, weights).item()
        q_mean = network.values_of(logits).sum().item() / (size * self._actions)
        gradient *= weights.unsqueeze(1)
        network.backward(torch.zeros_like(logits).scatter_(1, at, gradient.unsqueeze(1)))
        norm = torch.linalg.vector_norm(self.averaged(network.gradient)).item()
        if norm > config.gradient_norm:
            network.gradient.mul_(config.gradient_norm / norm)
        self._adam.step(network.gradient)
        if (self.updates + 1) % config.target_every == 0:
            self.target_network.flat.lerp_(network.flat, 1.0 - config.target_decay)
        self._finish(sample.reward, loss=mean_loss, gradient_norm=norm, q_mean=q_mean,
                     epsilon=self.epsilon())
        if self._priorities is not None:
            self._priorities.set(rows.numpy(), error.abs().double().numpy())

    def _draw(self) -> tuple[ReplaySample, torch.Tensor, torch.Tensor]:
        """Return a batch, where it lies (if priorities ask), and w / B of each row."""
        size = self.config.batch_size
        if self._priorities is None:
            return self.buffer.sample(size, self._generator), self._unnamed, self._even
        config = self.config
        risen = min(1.0, self.in_all(self.observed) / config.importance_steps)
        beta = config.importance_exponent + risen * (1.0 - config.importance_exponent)
        rows, weights = self._priorities.sample(size, len(self.buffer), beta, self._generator)
        weights /= self.everybodys(weights.max().view(1)).max() * size
        return self.buffer.gather(rows), rows, weights.float()

    # Keeping ---------------------------------------------------------------------------------

    def is_finite(self) -> bool:
        """Return True where every weight is finite."""
        return all(math.isfinite(flat.sum().item()) for flat in self._vectors().values())

    def _vectors(self) -> dict[str, torch.Tensor]:
        """Return every weight, by name."""
        return {'network': self.network.flat, 'target_network': self.target_network.flat}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, optimiser, normaliser, counters and random state."""
        return {'weights': {key: vector.clone() for key, vector in self._vectors().items()},
                'optimiser': self._adam.state_dict(), 'normalizer': self.normalizer.state_dict(),
                'n_step': self._n_step.state_dict(),
                **({} if self._priorities is None else {
                    'priorities': self._priorities.state_dict()}),
                'updates': self.updates, 'observed': self.observed,
                'generator': self._generator.get_state(), 'luck': self._luck.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the buffer is kept apart."""
        self.roll_back(state)
        self._n_step.load_state_dict(state['n_step'])
        if self._priorities is not None:
            self._priorities.load_state_dict(state['priorities'])
        self.updates, self.observed = int(state['updates']), int(state['observed'])
        self._generator.set_state(state['generator'])
        self._luck = np.asarray(state.get('luck', ()), np.float64)  # older runs drew one by one

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over weights, optimiser and normaliser, but nothing that counts or is random."""
        for key, vector in self._vectors().items():
            vector.copy_(state['weights'][key])
        self._adam.load_state_dict(state['optimiser'])
        self.normalizer.load_state_dict(state['normalizer'])
        self.forget_metrics()

    def policy_module(self) -> DiscretePolicyModule:
        """Return a detached copy of the present policy for export; without noise."""
        self.network.silence()
        return DiscretePolicyModule(self.normalizer.frozen(), self.network.module(),
                                    self._first).eval()


def pick(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Return what logits (B, n, N) say of one action (B,) of each row, shape (B, N)."""
    return logits.gather(1, action.view(-1, 1, 1).expand(-1, 1, logits.shape[2])).squeeze(1)


def project(probability: torch.Tensor, reward: torch.Tensor, discount: torch.Tensor,
            support: torch.Tensor) -> torch.Tensor:
    """
    Return the distribution of R + discount Z on the support of Z, eq. (4), shape (B, N).

    :param probability: of Z, shape (B, N).
    :param reward: R, shape (B,).
    :param discount: of Z, 0 where nothing follows, shape (B,).
    :param support: equally spaced values, shape (N,).
    """
    moved = reward.unsqueeze(1) + discount.unsqueeze(1) * support
    place = (moved.clamp_(support[0], support[-1]) - support[0]) / (support[1] - support[0])
    lower = place.floor().clamp_(max=len(support) - 2)
    upper_share = place.sub_(lower)
    index = lower.long()
    projected = torch.zeros_like(probability)
    projected.scatter_add_(1, index, probability * (1.0 - upper_share))
    return projected.scatter_add_(1, index + 1, probability * upper_share)
