# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Transitions from messages, joined by stamp and never by order of arrival.

The same class serves the live recorder and the offline replay of a recording: given the same
messages in the same order it yields the same rows and counts, byte for byte, however often
:meth:`TransitionAssembler.take` is called.

What belongs to the step from state s_t to the next state s_{t+1} of the same episode:

- the goals of both states: the newest one stamped at or before the state and at or after the
  start of its episode;
- the wanted and the executed command stamped like s_t, the state that caused them; the latter
  says itself by which check the safety monitor changed it;
- the reward stamped like s_{t+1}, the state rewarded. The reward that every episode's first state
  gets belongs to no step;
- where the task has such signals, what the critic is to see, stamped like each state.

Observations may depend on what came before: the observer sees every state of an episode that is
decided, in stamp order, and the command wanted for it, whether a row comes of it or not. One that
needs rewards gets those stamped up to the state that it is to observe.

Rows come in stamp order, and only once they are certain. A step that the task did not end waits
until its episode is seen to go on, because the last step of an episode that somebody reset by
hand has to be marked ``truncated``: one state more. Messages may overtake each other by fewer
states than the patience with which their absence is declared; then every order of arrival gives
the same rows. Intervals between states are taken to be at least 3/4 of a period, so that two of
them cannot pass for one.
"""

from collections.abc import Callable
import contextlib
import math
from typing import Any, Protocol

import numpy as np
from rl_nodes.core.errors import RewardMissingError, SpecError
from rl_nodes.core.origin import INTERVENTION, MONITOR, origin_of, PERTURBED
from rl_nodes.core.types import Goal, JointCommand, Outcome, RobotState, TransitionBatch
from rl_nodes.data.stamp_window import AssemblerCounters, Entry, StampWindow


class Observer(Protocol):
    """Turns the states of one robot into observations, see ``tasks/observer.py``."""

    needs_rewards: bool

    def observe(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the observation of a state for a goal, shape (O,)."""

    def acted(self, state: RobotState, command: np.ndarray) -> None:
        """Take note of the command wanted for the state observed last, shape (A,)."""

    def rewarded(self, stamp_ns: int, episode: str, total: float) -> None:
        """Take note of a reward, stamped like the state rewarded; the same one may come again."""


ToAction = Callable[[RobotState, JointCommand], np.ndarray]

_Row = tuple[Any, ...]  # one value per column of a TransitionBatch, in order
_NOTHING = np.zeros(0)


class TransitionAssembler:
    """
    Join states, goals, commands and rewards to transitions.

    :param observer: makes an observer, which observes once per state and goal.
    :param to_action: action that a command means in a state, shape (A,).
    :param period_ns: control period [ns]; a next state later than 1.5 periods is a gap.
    :param observation_size: O.
    :param action_size: A.
    :param privileged_size: P, what the critic is to see; 0 for nothing.
    :param patience: a state, goal or reward is missing once this many later states are there.
    :param command_patience: the same for commands.
    :param window: most states, and most messages of each kind, that are kept.
    :param most_rows: most rows kept for :meth:`take`; the oldest are dropped beyond.
    """

    def __init__(self, observer: Callable[[], Observer], to_action: ToAction, period_ns: int, *,
                 observation_size: int, action_size: int, privileged_size: int = 0,
                 patience: int = 100, command_patience: int = 100, window: int = 1000,
                 most_rows: int = 20_000) -> None:
        if not (period_ns > 0 and 0 < command_patience <= patience < window and most_rows > 0):
            raise ValueError(
                f'period_ns {period_ns}, command_patience {command_patience}, patience '
                f'{patience}, window {window}, most_rows {most_rows}: expected positive values '
                'with command_patience <= patience < window')
        self.counters = AssemblerCounters()
        self._make_observer = observer
        self._to_action = to_action
        self._period_ns = period_ns
        self._gap_ns = period_ns + period_ns // 2
        self._shapes = ((observation_size,), (action_size,))
        self._privileged: tuple[int, ...] = (privileged_size,) if privileged_size else ()
        self._patience = patience
        self._command_patience = command_patience
        self._size = window
        self._most_rows = most_rows
        self.reset()

    def reset(self) -> None:
        """Forget all messages and rows but not the counts, as after a jump of the clock."""
        self._window = StampWindow(self.counters, self._size)
        self._observer = self._make_observer()
        self._ended = ''                            # id of the last episode seen to end
        self._accepted = -1                         # stamp of a state before which some are lost
        self._rows: list[_Row] = []
        self._stamps: list[int] = []                # of the state that each row starts from [ns]

    @property
    def ready(self) -> int:
        """Return the number of rows ready to be taken."""
        return len(self._rows)

    def add_state(self, state: RobotState) -> None:
        """Add a measured state; one without an episode id is in no episode."""
        if self._window.add_state(state):
            self._advance()

    def add_goal(self, goal: Goal) -> None:
        """Add a goal; it holds from its stamp until the next one, within one episode."""
        if self._window.add_goal(goal):
            self._advance()

    def add_wanted(self, command: JointCommand) -> None:
        """Add the command that a policy or a person asked for, as it was before any noise."""
        if not command.source.endswith(PERTURBED) and self._window.add_wanted(command):
            self._advance()

    def add_executed(self, command: JointCommand) -> None:
        """Add the command that the safety monitor let through to the robot."""
        if self._window.add_executed(command):
            self._advance()

    def add_reward(self, stamp_ns: int, episode: str, outcome: Outcome) -> None:
        """
        Add what the task said of the step that led to a state.

        :param stamp_ns: stamp of the state rewarded [ns].
        :param episode: id of its episode.
        """
        if self._window.add_reward(stamp_ns, episode, outcome):
            self._advance()

    def add_privileged(self, stamp_ns: int, values: np.ndarray) -> None:
        """
        Add what the critic is to see of a state; ignored where it is to see nothing.

        :param values: shape (P,).
        """
        if self._privileged and self._window.add_privileged(stamp_ns, values):
            self._advance()

    def flush(self) -> None:
        """Decide everything, as nothing more will come: the end of a recording or of the node."""
        self._advance(final=True)

    def take(self) -> TransitionBatch:
        """Return the finished rows, oldest first, and forget them; may be empty."""
        return self.take_stamped()[0]

    def take_stamped(self) -> tuple[TransitionBatch, np.ndarray]:
        """Do as :meth:`take`; return the stamps of the rows' states, int64 (N,), besides [ns]."""
        rows, self._rows = self._rows, []
        stamps, self._stamps = np.array(self._stamps, np.int64), []
        columns = list(zip(*rows)) if rows else [()] * (16 if self._privileged else 14)
        count = len(rows)

        def matrix(column: int, shape: tuple[int, ...]) -> np.ndarray:
            return np.array(columns[column], np.float32).reshape(count, *shape)

        observation, action = self._shapes
        terminated, truncated, success, limited = (
            np.array(columns[i], np.bool_) for i in range(5, 9))
        version, episode, step, origin = (np.array(columns[i], np.int64) for i in range(9, 13))
        privileged = [matrix(i, self._privileged) for i in range(14, len(columns))]
        seen, next_seen = (privileged[0], privileged[1]) if privileged else (None, None)
        return TransitionBatch(
            matrix(0, observation), matrix(1, action), matrix(2, action),
            np.array(columns[3], np.float32), matrix(4, observation), terminated, truncated,
            success, limited, version, episode, step, seen, next_seen, origin,
            np.array(columns[13], INTERVENTION)), stamps

    def _advance(self, final: bool = False) -> None:
        """Decide states from the oldest on, as far as the messages at hand allow."""
        window = self._window
        order, patience = window.order, self._patience
        while order:
            stamp = order[0]
            entry = window.entries[stamp]
            name = entry.state.episode
            later = len(order) - 1
            in_sequence = self._in_sequence(entry)
            if not in_sequence and later < patience and not final:
                return
            if entry.episode is None or name == self._ended:
                window.pop(None)
                continue
            if not in_sequence:                     # its first state never came
                self.counters.gap += 1
                self._accepted = stamp
            own = window.rewards.get((stamp, name))
            if own is not None:
                if own.terminated or own.truncated:
                    self._ended = name
                    window.pop(None)
                    continue
            elif later < patience and not final:
                return
            if not later:
                if final:
                    window.pop(None)
                    continue
                return
            following = window.entries[order[1]]
            if following.state.episode != name or order[1] - stamp > self._gap_ns:
                if later < patience and not final:
                    return
                gap = window.goes_on(0)
                self.counters.gap += gap
                self._accepted = order[1]
                self._notice(entry)
                window.pop(False if gap else None)
                continue
            decision = self._step(entry, following, later, final)
            if decision is None:
                return
            if not decision:
                self._notice(entry)
            window.pop(decision)

    def _in_sequence(self, entry: Entry) -> bool:
        """Say whether no state can be missing before the oldest one."""
        stamp, episode = entry.state.stamp_ns, entry.episode
        return (stamp - self._window.newest_decided <= self._gap_ns or stamp == self._accepted
                or episode is not None and stamp - episode.start_ns <= self._period_ns // 2)

    def _step(self, entry: Entry, following: Entry, later: int, final: bool) -> bool | None:
        """
        Try to make the row of one step.

        :param later: number of states after ``entry``.
        :return: True if it was made, False if it never can be, None if something may yet come.
        """
        window, state = self._window, entry.state
        executed = window.executed.get(state.stamp_ns)
        wanted = window.wanted(state.stamp_ns, executed)
        if executed is None or wanted is None:
            if later < self._command_patience and not final:
                return None
            # A monitor that acts on its own has nobody who wanted it; otherwise a message is lost.
            if executed is None or executed.source.partition('/')[0] != MONITOR:
                self.counters.no_command += 1
                return False
        reward = window.rewards.get((following.state.stamp_ns, state.episode))
        if reward is None:
            if later - 1 < self._patience and not final:
                return None
            self.counters.reward_missing += 1
            return False
        ended = reward.terminated or reward.truncated
        cut = not ended and not window.goes_on(1)
        if cut and later - 1 < self._patience and not final:
            return None
        goal, next_goal = window.goal(entry), window.goal(following)
        if goal is None or next_goal is None:
            if later < self._patience and not final:
                return None
            self.counters.no_goal += 1
            return False
        seen, next_seen = self._seen(entry), self._seen(following)
        if seen is None or next_seen is None:
            if later - 1 < self._patience and not final:
                return None
            self.counters.no_privileged += 1
            return False
        self.counters.cut += cut
        try:
            observation = self._observation(entry, goal)
            if wanted is not None:
                self._observer.acted(state, wanted.value)
            next_observation = self._observation(following, next_goal)
            row = self._row(entry, observation, executed, wanted, reward, reward.truncated or cut,
                            next_observation)
            if self._privileged:
                row += (_checked(seen, self._privileged), _checked(next_seen, self._privileged))
        except RewardMissingError:
            self.counters.reward_missing += 1
            return False
        except (SpecError, ValueError):
            self.counters.invalid += 1
            return False
        self._rows.append(row)
        self._stamps.append(state.stamp_ns)
        self.counters.emitted += 1
        if len(self._rows) > self._most_rows:
            self.counters.overflow += 1
            del self._rows[0], self._stamps[0]
        return True

    def _seen(self, entry: Entry) -> np.ndarray | None:
        """Return what the critic is to see of a state; None where that has not come."""
        return self._window.privileged.get(entry.state.stamp_ns) if self._privileged else _NOTHING

    def _notice(self, entry: Entry) -> None:
        """Let the observer see a state that no row comes of."""
        goal = self._window.goal(entry)
        executed = self._window.executed.get(entry.state.stamp_ns)
        wanted = self._window.wanted(entry.state.stamp_ns, executed)
        if goal is not None:
            with contextlib.suppress(SpecError, ValueError):
                self._observation(entry, goal)
                if wanted is not None:
                    self._observer.acted(entry.state, wanted.value)

    def _observation(self, entry: Entry, goal: Goal) -> np.ndarray:
        if entry.observation is None:
            if self._observer.needs_rewards:
                for stamp, total in self._window.rewards_until(entry.state):
                    self._observer.rewarded(stamp, entry.state.episode, total)
            entry.observation = _checked(
                self._observer.observe(entry.state, goal), self._shapes[0])
        return entry.observation

    def _row(self, entry: Entry, observation: np.ndarray, executed: JointCommand,
             wanted: JointCommand | None, reward: Outcome, truncated: bool,
             next_observation: np.ndarray) -> _Row:
        state, episode = entry.state, entry.episode
        if episode is None or state.stamp_ns < episode.start_ns:
            raise SpecError(f'stamp {state.stamp_ns} before the start of {state.episode!r}')
        if not math.isfinite(reward.total):
            raise SpecError(f'reward {reward.total} is not finite')
        action = _checked(self._to_action(state, executed), self._shapes[1])
        if wanted is None:
            asked, limited = action, True
        elif np.array_equal(executed.value, wanted.value):
            asked, limited = action, False
        else:
            asked, limited = _checked(self._to_action(state, wanted), self._shapes[1]), True
        since_start = state.stamp_ns - episode.start_ns
        step = (since_start + self._period_ns // 2) // self._period_ns
        return (observation, action, asked, reward.total, next_observation, reward.terminated,
                truncated, reward.success, limited, policy_version(wanted), episode.number, step,
                int(origin_of(executed.source, self._window.sources(state.stamp_ns))),
                executed.intervention.encode())


def policy_version(command: JointCommand | None) -> int:
    """Return the version in a source ``<policy name>@<version>``; -1 where no policy acted."""
    text = command.source.rpartition('@')[2] if command and '@' in command.source else ''
    return int(text) if text.isascii() and text.isdigit() else -1


def _checked(vector: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an own float32 copy; callers may use their buffer again."""
    if vector.shape != shape:
        raise SpecError(f'got a vector of shape {vector.shape}, expected {shape}')
    own = np.array(vector, np.float32)
    if not np.isfinite(own).all():
        raise SpecError(f'vector is not finite: {vector}')
    return own
