# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Rollouts from robots that nobody waits for: of all that comes, what the newest policy has done.

Robots go on while the learner learns, with the policy before, and adopt the next one when they
have it. What on-policy methods may learn from is told by the version that each transition carries;
all others are refused and counted. What is left need not be without gaps: wherever a step is not
followed by the next one of its episode, the rollout is cut there, and the value of the observation
that really came next stands for the rest.

What a policy remembered while it acted is known where that was nothing: at the beginning of an
episode, and where it took over from another version. One that remembers is learned from where a
stretch of steps begins like that.
"""

import threading

import msgspec
import numpy as np
from rl_nodes.algorithms.on_policy import OnPolicyConfig, OnPolicyLearner
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.tasks.actions import REVERSIBLE
from rl_nodes.training.episodes import MAX_OPEN, OpenEpisodes
from rl_nodes.training.settings import TrainSettings
from rl_nodes.training.sources import Source

POLL_S = 0.02  # pause where nothing has come [s]


def for_robots(settings: TrainSettings, contract: Contract) -> TrainSettings:
    """
    Return the settings with which an on-policy method learns from robots.

    :raises ConfigError: how likely their actions were cannot be told from what robots report.
    """
    learner, name = settings.learner, settings.algorithm
    advice = (f'Train in lockstep with "rl_nodes launch gym": rl_nodes train algorithm:={name} '
              'env:=rl_nodes/Ros-v0 ..., or use an off-policy method here')
    if not isinstance(learner, OnPolicyConfig) or learner.state_dependent_noise is not None:
        raise ConfigError(f'{name}: learner.state_dependent_noise is drawn beside the weights, '
                          f'which no policy server does; set it to null. {advice}')
    if contract.action_kind not in REVERSIBLE:
        raise ConfigError(
            f'{name}: commands of action.kind = {contract.action_kind} do not tell which action '
            f'was drawn, which {name} has to know; those of {", ".join(REVERSIBLE)} do. {advice}')
    return msgspec.structs.replace(
        settings, learner=msgspec.structs.replace(learner, censored=True))


class FreshRows:
    """
    Transitions of one version of a policy, until they are a rollout.

    :param learner: says how long a rollout is, and what actions mean to it.
    :param n_envs: a rollout is as many times as long, as of so many environments in process,
        whichever robots it comes from.
    :ivar stale: transitions of other versions that were refused, those that came too late for a
        rollout among them.
    :ivar unowned: those that no policy had wanted: a person acted, or the safety monitor.
    :ivar unknown: those before which steps are missing that the policy may remember.
    :ivar version: that is taken; -1 before the first.
    :ivar newest: version of the newest transition that a policy had wanted; None before the first.
    """

    def __init__(self, learner: OnPolicyLearner, n_envs: int = 1) -> None:
        self._learner = learner
        self._length = learner.rollout_length * n_envs
        self.version, self._updates = -1, 0
        self._rows: TransitionBatch | None = None
        self._remembers = bool(learner.memory)
        self._begins: list[bool] = []  # of each row: the policy remembered nothing before it
        self._last: dict[int, tuple[int, int]] = {}  # step and version by unfinished episode
        self._open = OpenEpisodes()
        self._finished: list[tuple[float, int, bool, float | None]] = []
        self.stale, self.unowned, self.unknown = 0, 0, 0
        self.newest: int | None = None

    @property
    def pending(self) -> int:
        """Return how many transitions of the version have come."""
        return 0 if self._rows is None else len(self._rows)

    def expect(self, version: int, updates: int) -> None:
        """
        Take transitions of this version from now on.

        :param updates: gradient steps behind it.
        """
        self._drop(self.pending)
        self.version, self._updates = version, updates

    def add(self, batch: TransitionBatch) -> None:
        """Take what is of the version; ``episode`` tells the robots' episodes apart, too."""
        self._finished += self._open.add(batch)
        version = batch.policy_version
        owned, mine = version >= 0, version == self.version
        self.unowned += int((~owned).sum())
        self.stale += int((owned & ~mine).sum())
        if owned.any():
            self.newest = int(version[owned][-1])
        begins = self._beginnings(batch)
        if mine.any():
            self._begins += begins[mine].tolist()
            fresh = _picked(batch, mine)
            self._rows = fresh if self._rows is None else TransitionBatch.concatenate(
                [self._rows, fresh])

    def metrics(self) -> dict[str, float]:
        """Return how many transitions were refused, since the start."""
        return {'stale_refused': float(self.stale), 'unowned_refused': float(self.unowned),
                **({'unknown_refused': float(self.unknown)} if self._remembers else {})}

    def take(self) -> Rollout | None:
        """Return a rollout and forget what it is of; None where there is not enough for one."""
        rows, whole = self._rows, self._learner.whole_episodes
        if rows is None or not whole and len(rows) < self._length:
            return None
        pieces = _pieces(rows)
        lost = 0
        if self._remembers:
            known = [piece for piece in pieces if self._begins[piece[0]]]
            lost = len(rows) - sum(map(len, known))
            pieces = known
        if whole:
            ended = rows.terminated | rows.truncated
            pieces = [piece for piece in pieces if rows.step[piece[0]] == 0 and ended[piece[-1]]]
        pieces = _first(sorted(pieces, key=lambda piece: int(piece[-1])), self._length, whole)
        if not pieces:
            return None
        rollout = self._rollout(rows, pieces)
        self.unknown += lost
        self._drop(len(rows) - len(rollout) - lost)
        return rollout

    def _beginnings(self, batch: TransitionBatch) -> np.ndarray:
        """Return before which rows a policy remembered nothing, shape (N,)."""
        begins = batch.step == 0
        if not self._remembers:
            return begins
        ended = batch.terminated | batch.truncated
        for row, (episode, step, version) in enumerate(zip(
                batch.episode.tolist(), batch.step.tolist(), batch.policy_version.tolist())):
            before = self._last.pop(episode, None)
            begins[row] |= before is not None and before[0] == step - 1 and (
                before[1] not in (version, -1))
            if not ended[row]:
                self._last[episode] = step, version
        while len(self._last) > MAX_OPEN:
            self._last.pop(next(iter(self._last)))
        return begins

    def _drop(self, unused: int) -> None:
        self.stale += unused
        self._rows, self._begins = None, []

    def _rollout(self, rows: TransitionBatch, pieces: list[np.ndarray]) -> Rollout:
        """Return pieces of episodes one after the other, as if of one environment."""
        order = np.concatenate(pieces)
        last = np.zeros(len(order), bool)
        last[np.cumsum([len(piece) for piece in pieces]) - 1] = True
        rows = _picked(rows, order)
        truncated = rows.truncated | (last & ~rows.terminated)
        finished, self._finished = self._finished, []
        return Rollout(
            rows.observation[:, None], self._learner.action_of(rows.wanted)[:, None],
            rows.reward[:, None], rows.terminated[:, None], truncated[:, None],
            np.ones((len(order), 1), bool), rows.next_observation[-1:],
            rows.next_observation[truncated & ~rows.terminated], self._updates,
            self._learner.remembered(1), tuple(episode[:3] for episode in finished),
            None if rows.cost is None else rows.cost[:, None],
            tuple(cost for *_, cost in finished if cost is not None))


def _picked(rows: TransitionBatch, which: np.ndarray | slice) -> TransitionBatch:
    return TransitionBatch(**{name: column[which] for name, column in rows.columns().items()})


def _pieces(rows: TransitionBatch) -> list[np.ndarray]:
    """Return the indices of each stretch of steps of an episode that follow on each other."""
    order = np.lexsort((rows.step, rows.episode))
    episode, step = rows.episode[order], rows.step[order]
    ended = (rows.terminated | rows.truncated)[order]
    follows = (np.diff(episode) == 0) & (np.diff(step) == 1) & ~ended[:-1]
    return np.split(order, np.flatnonzero(~follows) + 1)


def _first(pieces: list[np.ndarray], length: int, whole: bool) -> list[np.ndarray]:
    """Return the first so many pieces, or so many steps of them; none where there are fewer."""
    if whole:
        return pieces[:length] if len(pieces) >= length else []
    after = np.cumsum([len(piece) for piece in pieces])
    if not pieces or after[-1] < length:
        return []
    last = int(np.searchsorted(after, length))
    return [*pieces[:last], pieces[last][:len(pieces[last]) - (after[last] - length)]]


class FreshRollouts:
    """
    Rollouts from a source of transitions: what the training loop of on-policy methods asks for.

    :param source: gives transitions with the version of the policy behind each.
    :param learner: as of :class:`FreshRows`.
    :param n_envs: likewise.
    """

    wants_policies = True

    def __init__(self, source: Source, learner: OnPolicyLearner, n_envs: int = 1) -> None:
        self._source = source
        self._rows = FreshRows(learner, n_envs)
        self.metrics = self._rows.metrics
        self.policy_updates_in_use = source.policy_updates_in_use
        self.set_difficulty = source.set_difficulty
        self.restart, self.close = source.restart, source.close

    @property
    def pending(self) -> int:
        """Return how many transitions of the next rollout have come."""
        return self._rows.pending

    @property
    def complaint(self) -> str:
        """Return why no rollout comes, as far as that can be told from here."""
        newest, expected = self._rows.newest, self._rows.version
        if newest is None:
            return 'is the robot running and the recorder active?'
        if newest != expected:
            return (f'the robot acts with policy {newest}, the newest is {expected}: has the '
                    'policy server refused it? See its log.')
        return 'the robot stands still, or a person moves it.'

    def collect_rollout(self, stop: threading.Event) -> Rollout | None:
        """Return the next rollout; None where more has to come, or ``stop`` is set."""
        batch = self._source.collect()
        if batch is None:
            stop.wait(POLL_S)
            return None
        self._rows.add(batch)
        return self._rows.take()

    def publish(self, bundle: PolicyBundle, version: int, updates: int) -> None:
        """Hand out a newer policy; only what it does is learned from after this."""
        self._rows.expect(version, updates)
        self._source.publish(bundle, version, updates)
