# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
From states to observations, with what has to be remembered on the way.

Whoever observes a robot (environment, policy server, recorder) has an :class:`Observer` of its
own for it, made by :meth:`rl_nodes.tasks.base.Task.observer`. The same states, goals and wanted
commands give the same observations, bit by bit, wherever they are seen:

- a frame belongs to a stamp; a state that comes again replaces its frame and shifts nothing;
- frames are one control period apart. Those of states that never came repeat the one before;
- the last action is what the command *wanted* for the state before amounts to, before the safety
  monitor saw it. One that never came, or is not finite, is taken to be the one before it;
- the return to go is the target less the rewards of the episode's earlier states; the reward of
  the state itself is not known when it is answered. Where one of them may be missing, there is no
  observation;
- an episode starts without an action and with its first frame as the whole history.
"""

from collections.abc import Callable
import math

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError, OrderError
from rl_nodes.core.returns import RETURN_TO_GO, ReturnBook
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.tasks.signals import LAST_ACTION, ObservationLayout, View

Tool = Callable[[RobotState], np.ndarray]
ToAction = Callable[[RobotState, np.ndarray], np.ndarray]


class History:
    """
    The newest few frames of some signals as one vector.

    Signals keep their order; one with n > 1 frames has them one after the other, oldest first,
    its elements named ``<signal>/<element>@t-<age>`` up to ``@t``.

    :param layout: of one frame.
    :param lengths: frames of every signal, or frames by name of signal; 1 where not named.
    :raises ConfigError: names a signal that is not observed.
    """

    def __init__(self, layout: ObservationLayout, lengths: int | dict[str, int]) -> None:
        names = [name for name, _ in layout.places]
        if isinstance(lengths, int):
            lengths = dict.fromkeys(names, lengths)
        for name in lengths:
            if name not in names:
                raise ConfigError(f'history: {name!r} is not observed{suggestion(name, names)}; '
                                  f'observation: {", ".join(names)}')
        self.layout = layout
        self.depth = max([1, *lengths.values()])
        self.actions = [place for name, place in layout.places if name == LAST_ACTION]
        self.needs_rewards = RETURN_TO_GO in names
        self.remembers = self.depth > 1 or bool(self.actions) or self.needs_rewards
        width, frame = len(layout.spec.elements), layout.spec
        rows: list[tuple[int, int, str]] = []  # frame's age, element of the frame, name
        for name, place in layout.places:
            count = lengths.get(name, 1)
            for age in reversed(range(count)):
                when = '' if count == 1 else f'@t-{age}' if age else '@t'
                rows += [(age, i, f'{frame.elements[i]}{when}')
                         for i in range(place.start, place.stop)]
        index = [i for _, i, _ in rows]
        self.spec = ArraySpec(
            frame.name, tuple(name for _, _, name in rows), tuple(frame.units[i] for i in index),
            tuple(frame.low[i] for i in index), tuple(frame.high[i] for i in index))
        self.places = np.array([(self.depth - 1 - age) * width + i for age, i, _ in rows])

    def assemble(self, frames: np.ndarray) -> np.ndarray:
        """Return the observation (O,) of frames (depth, F), oldest first; float32."""
        return frames.ravel()[self.places]


class Observer:
    """
    Observes one robot doing a task that remembers nothing.

    :param layout: of the observation.
    :param tool: position of the tool in a state [m], shape (3,).
    :ivar needs_rewards: whether :meth:`rewarded` is to be called.
    """

    def __init__(self, layout: ObservationLayout, tool: Tool) -> None:
        self._layout = layout
        self._tool = tool
        self.needs_rewards = False

    def observe(self, state: RobotState, goal: Goal) -> np.ndarray:
        """
        Return the observation, shape (O,), float32.

        :raises SpecError: the state lacks what is observed, or is older than the newest one.
        :raises RewardMissingError: a reward before it is missing.
        """
        return self._layout.assemble(View(state, goal, self._tool(state)))

    def awaits(self, state: RobotState) -> bool:
        """Return whether a reward that :meth:`observe` needs may still be on its way."""
        return False

    def acted(self, state: RobotState, command: np.ndarray) -> None:
        """
        Take note of the command wanted for a state.

        :param state: the one observed last; for any other, nothing happens.
        :param command: shape (A,), before the safety monitor judges it.
        """

    def rewarded(self, stamp_ns: int, episode: str, total: float) -> None:
        """
        Take note of a reward, in any order and however often.

        :param stamp_ns: of the state rewarded [ns].
        :param episode: id of its episode.
        """


class RememberingObserver(Observer):
    """
    Observes one robot doing a task with a history, last actions or the return to go.

    :param history: of the observation.
    :param tool: position of the tool in a state [m], shape (3,).
    :param to_action: action (A,) that a command amounts to in a state.
    :param actions: A.
    :param period_ns: control period [ns].
    :param target_return: what an episode is to earn; None where that is not observed.
    """

    def __init__(self, history: History, tool: Tool, to_action: ToAction, actions: int,
                 period_ns: int, target_return: float | None) -> None:
        super().__init__(history.layout, tool)
        self.needs_rewards = history.needs_rewards
        self._target = math.nan if target_return is None else target_return
        self._returns = ReturnBook(period_ns)
        self._history = history
        self._to_action = to_action
        self._none = np.zeros(actions, np.float32)
        self._period_ns = period_ns
        self._episode = ''
        self._stamp = 0                 # of the newest frame
        self._before = self._none       # action that led to the newest frame
        self._action = self._none       # action that follows it
        self._frames = np.zeros((history.depth, *history.layout.spec.shape), np.float32)

    def observe(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the observation, shape (O,), float32; see the base class and the module."""
        frames, since = self._frames, state.stamp_ns - self._stamp
        if state.episode == self._episode and since < 0:
            raise OrderError(f'state {state.stamp_ns} came after {self._stamp}, and what is '
                             'observed depends on their order')
        to_go = self._target - self._returns.before(state) if self.needs_rewards else math.nan
        if state.episode != self._episode:
            frames[:] = self._frame(state, goal, self._none, to_go)
            self._episode, self._stamp = state.episode, state.stamp_ns
            self._before = self._action = self._none
        elif since > 0:
            frame = self._frame(state, goal, self._action, to_go)
            for _ in range(min(self._missing(since), len(frames))):
                self._shift()
                for part in self._history.actions:
                    frames[-1, part] = self._action
            self._shift()
            frames[-1] = frame
            self._stamp, self._before = state.stamp_ns, self._action
        else:
            frames[-1] = self._frame(state, goal, self._before, to_go)
        return self._history.assemble(frames)

    def awaits(self, state: RobotState) -> bool:
        """Return whether a reward may still be on its way; see the base class."""
        return self.needs_rewards and self._returns.awaits(state)

    def rewarded(self, stamp_ns: int, episode: str, total: float) -> None:
        """Take note of a reward; see the base class."""
        if self.needs_rewards:
            self._returns.add(stamp_ns, episode, total)

    def acted(self, state: RobotState, command: np.ndarray) -> None:
        """Take note of the command wanted for a state; see the base class and the module."""
        if (state.stamp_ns, state.episode) != (self._stamp, self._episode):
            return
        action = self._to_action(state, command)
        if action.shape == self._none.shape and np.isfinite(action).all():
            self._action = action

    def _frame(self, state: RobotState, goal: Goal, last_action: np.ndarray,
               return_to_go: float) -> np.ndarray:
        return self._layout.assemble(View(
            state, goal, self._tool(state), last_action, return_to_go=return_to_go))

    def _missing(self, since_ns: int) -> int:
        """Return how many states lie between the newest frame and one this much later."""
        return max(0, round(since_ns / self._period_ns) - 1)

    def _shift(self) -> None:
        """Make room for a frame; until it comes, the newest one is there twice."""
        self._frames[:-1] = self._frames[1:]
