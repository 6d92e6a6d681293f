# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The messages of the last few states, found by stamp, with bounded memory.

:class:`StampWindow` only stores and looks up: it refuses what came twice or too late, counts it,
and forgets what belongs to decided states. What makes a transition is decided in
``assembler.py``.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rl_nodes.core.origin import MONITOR, PERTURBED
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState


@dataclass(slots=True)
class AssemblerCounters:
    """
    What became of the messages; whatever is not ``emitted`` is said here.

    :param emitted: rows given out or ready to be taken.
    :param duplicates: messages that came again.
    :param late: messages for a state that had already been decided.
    :param gap: places where states never came; no step leads into or out of them.
    :param no_command: steps dropped because the executed or the wanted command never came.
    :param no_goal: steps dropped because the goal never came.
    :param reward_missing: steps dropped because the reward never came, or one that is observed.
    :param no_privileged: steps dropped because what the critic is to see never came.
    :param invalid: messages or steps that cannot be: malformed episode ids, not finite values,
        vectors of the wrong length.
    :param cut: episodes that went neither on nor to an end; their last step is ``truncated``.
    :param overflow: messages or untaken rows dropped because memory is bounded.
    """

    emitted: int = 0
    duplicates: int = 0
    late: int = 0
    gap: int = 0
    no_command: int = 0
    no_goal: int = 0
    reward_missing: int = 0
    no_privileged: int = 0
    invalid: int = 0
    cut: int = 0
    overflow: int = 0


class Entry:
    """
    One state in the window and what is derived from it.

    :param state: the measured state.
    :param episode: its parsed episode id; None where it is in no episode.
    """

    __slots__ = ('episode', 'observation', 'state')

    def __init__(self, state: RobotState, episode: EpisodeId | None) -> None:
        self.state = state
        self.episode = episode
        self.observation: np.ndarray | None = None


class StampWindow:
    """
    States in stamp order, and goals, commands and rewards by stamp.

    :param counters: where refused messages are counted.
    :param size: most states, and most messages of each kind, that are kept; also the most stamps
        that are remembered to tell a duplicate from a late message.
    """

    def __init__(self, counters: AssemblerCounters, size: int) -> None:
        self._counters = counters
        self._size = size
        self._goals: list[Goal] = []                    # by stamp
        self._wanted: dict[int, list[JointCommand]] = {}
        self._decided: dict[int, bool | None] = {}      # past stamps, see pop
        self._episodes: dict[str, EpisodeId | None] = {}
        self.newest_decided = -(1 << 63)
        self.order: list[int] = []                      # stamps of the states in the window
        self.entries: dict[int, Entry] = {}
        self.executed: dict[int, JointCommand] = {}
        self.rewards: dict[tuple[int, str], Outcome] = {}
        self.privileged: dict[int, np.ndarray] = {}

    def add_state(self, state: RobotState) -> bool:
        """Keep a state; False where it is refused (also below)."""
        stamp = state.stamp_ns
        if stamp in self.entries or stamp in self._decided:
            self._counters.duplicates += 1
            return False
        if stamp <= self.newest_decided:
            self._counters.late += 1
            return False
        self.entries[stamp] = Entry(state, self._parse(state.episode))
        if not self.order or stamp > self.order[-1]:
            self.order.append(stamp)
        else:
            insort(self.order, stamp)
        if len(self.order) > self._size:
            self._counters.overflow += 1
            self.pop(False)
        return True

    def add_goal(self, goal: Goal) -> bool:
        """Keep a goal; one that comes late still holds for the states not yet decided."""
        index = bisect_right(self._goals, goal.stamp_ns, key=_stamp)
        if index and self._goals[index - 1].stamp_ns == goal.stamp_ns:
            self._counters.duplicates += 1
            return False
        self._counters.late += goal.stamp_ns <= self.newest_decided
        self._goals.insert(index, goal)
        for stamp, entry in self.entries.items():
            if stamp >= goal.stamp_ns:
                entry.observation = None
        if len(self._goals) > self._size:
            self._counters.overflow += 1
            del self._goals[0]
        return True

    def add_wanted(self, command: JointCommand) -> bool:
        """Keep a wanted command, one per stamp and source."""
        if self._past(command.stamp_ns):
            return False
        others = self._wanted.setdefault(command.stamp_ns, [])
        if any(other.source == command.source for other in others):
            self._counters.duplicates += 1
            return False
        if len(others) >= 8:
            self._counters.overflow += 1
            return False
        others.append(command)
        self._bound(self._wanted)
        return True

    def add_executed(self, command: JointCommand) -> bool:
        """Keep an executed command, one per stamp."""
        if self._past(command.stamp_ns):
            return False
        if command.stamp_ns in self.executed:
            self._counters.duplicates += 1
            return False
        self.executed[command.stamp_ns] = command
        self._bound(self.executed)
        return True

    def add_reward(self, stamp_ns: int, episode: str, outcome: Outcome) -> bool:
        """Keep a reward, one per stamp and episode."""
        if self._past(stamp_ns):
            return False
        if (stamp_ns, episode) in self.rewards:
            self._counters.duplicates += 1
            return False
        self.rewards[stamp_ns, episode] = outcome
        self._bound(self.rewards)
        return True

    def rewards_until(self, state: RobotState) -> Iterator[tuple[int, float]]:
        """Yield (stamp [ns], total) of rewards of a state's episode, its own the newest."""
        for (stamp, episode), outcome in self.rewards.items():
            if episode == state.episode and stamp <= state.stamp_ns:
                yield stamp, outcome.total

    def add_privileged(self, stamp_ns: int, values: np.ndarray) -> bool:
        """Keep what a critic is to see of a state, one per stamp."""
        if self._past(stamp_ns):
            return False
        if stamp_ns in self.privileged:
            self._counters.duplicates += 1
            return False
        self.privileged[stamp_ns] = values
        self._bound(self.privileged)
        return True

    def pop(self, emitted: bool | None) -> None:
        """
        Take the oldest state out.

        :param emitted: whether a row starts there; None where none should, as at the end of an
            episode: messages that still come for it are expected and not counted.
        """
        stamp = self.order.pop(0)
        entry = self.entries.pop(stamp)
        self._wanted.pop(stamp, None)
        self.executed.pop(stamp, None)
        self.rewards.pop((stamp, entry.state.episode), None)
        self.privileged.pop(stamp, None)
        self.newest_decided = stamp
        self._decided[stamp] = emitted
        if len(self._decided) > self._size:
            del self._decided[next(iter(self._decided))]
        goals = self._goals
        while len(goals) > 1 and goals[1].stamp_ns <= stamp:
            del goals[0]
        for kept in (self._wanted, self.executed, self.rewards, self.privileged):
            if len(kept) > len(self.order) + 64:
                self._forget_past(kept)

    def goes_on(self, index: int) -> bool:
        """Say whether anything of the episode of the state at ``index`` is stamped later."""
        stamp = self.order[index]
        name = self.entries[stamp].state.episode
        for other in self.order[index + 1:]:
            if self.entries[other].state.episode == name:
                return True
        return any(other > stamp and episode == name for other, episode in self.rewards)

    def wanted(self, stamp_ns: int, executed: JointCommand | None) -> JointCommand | None:
        """Return the wanted command that the executed one stems from, whichever came first."""
        found = self._wanted.get(stamp_ns)
        if found is None:
            return None
        if executed is None or executed.source.partition('/')[0] == MONITOR:
            return min(found, key=lambda wanted: wanted.source)
        source = executed.source.removesuffix(PERTURBED)
        return next((wanted for wanted in found if wanted.source == source), None)

    def sources(self, stamp_ns: int) -> list[str]:
        """Return the sources of all commands that were wanted for a state."""
        return [wanted.source for wanted in self._wanted.get(stamp_ns, ())]

    def goal(self, entry: Entry) -> Goal | None:
        """Return the newest goal not after the state and not before its episode."""
        index = bisect_right(self._goals, entry.state.stamp_ns, key=_stamp)
        if not index or entry.episode is None:
            return None
        goal = self._goals[index - 1]
        return goal if goal.stamp_ns >= entry.episode.start_ns else None

    def _parse(self, text: str) -> EpisodeId | None:
        if text in self._episodes:
            return self._episodes[text]
        episode = None
        if text:
            try:
                episode = EpisodeId.parse(text)
            except ValueError:
                self._counters.invalid += 1
        if len(self._episodes) >= 64:
            del self._episodes[next(iter(self._episodes))]
        self._episodes[text] = episode
        return episode

    def _past(self, stamp_ns: int) -> bool:
        """Say whether the state of this stamp is decided, and count the message if so."""
        if stamp_ns > self.newest_decided:
            return False
        emitted = self._decided.get(stamp_ns, False)
        if emitted:
            self._counters.duplicates += 1
        elif emitted is not None:
            self._counters.late += 1
        return True

    def _bound(self, kept: dict[Any, Any]) -> None:
        if len(kept) > self._size:
            self._forget_past(kept)
        while len(kept) > self._size:
            self._counters.overflow += 1
            del kept[next(iter(kept))]

    def _forget_past(self, kept: dict[Any, Any]) -> None:
        """Forget messages whose state is decided or never came."""
        for key in list(kept):
            if (key[0] if isinstance(key, tuple) else key) <= self.newest_decided:
                del kept[key]


def _stamp(goal: Goal) -> int:
    return goal.stamp_ns
