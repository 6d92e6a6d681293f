# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What an episode is still to earn, from rewards in whatever order they and the states come."""

from bisect import insort
import math
from typing import Annotated

from msgspec import Meta, Struct
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, RewardMissingError
from rl_nodes.core.types import EpisodeId, RobotState

RETURN_TO_GO = 'return_to_go'  # the signal
KEPT_EPISODES = 4
KEPT_REWARDS = 64  # the newest of each episode, to be told apart by stamp; of others, the sum


class ReturnToGo(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The section ``return_to_go`` of a task.

    :param target: what an episode is to earn, in units of reward.
    :param scale: in the same units; the signal is what is left of the target over this.
    """

    target: float
    scale: Annotated[float, Meta(gt=0)] = 1.0


def target_of(given: str, contract: Contract) -> float:
    """
    Return what an episode is to earn, in units of reward.

    :param given: a number.
    :param contract: between robot and policy.
    :raises ConfigError: no finite number, or nobody observes it.
    """
    if not any(name.startswith(f'{RETURN_TO_GO}/') for name in contract.observation.elements):
        raise ConfigError(f'target_return = {given}: task {contract.task} does not observe '
                          f'{RETURN_TO_GO}, see docs/observation.md')
    try:
        target = float(given)
    except ValueError:
        target = math.nan
    if not math.isfinite(target):
        raise ConfigError(f'target_return = {given}: expected a finite number')
    return target


class _Ledger:
    """The rewards of one episode, and the states seen of it whose rewards have not come."""

    def __init__(self) -> None:
        self.first_ns: int | None = None       # of all rewards
        self.newest: list[tuple[int, float]] = []  # the newest rewards, by stamp
        self.settled = 0.0                     # sum of the others
        self.settled_ns: int | None = None     # of the newest among these
        self.expected: set[int] = set()

    def add(self, stamp_ns: int, total: float) -> None:
        if self._knows(stamp_ns):
            return
        self.expected.discard(stamp_ns)
        self.first_ns = stamp_ns if self.first_ns is None else min(self.first_ns, stamp_ns)
        insort(self.newest, (stamp_ns, total))
        if len(self.newest) > KEPT_REWARDS:
            self.settled_ns, total = self.newest.pop(0)
            self.settled += total

    def expect(self, stamp_ns: int) -> None:
        if not self._knows(stamp_ns) and len(self.expected) < KEPT_REWARDS:
            self.expected.add(stamp_ns)

    def _knows(self, stamp_ns: int) -> bool:
        return (self.settled_ns is not None and stamp_ns <= self.settled_ns
                or any(stamp_ns == known for known, _ in self.newest))


class ReturnBook:
    """
    What episodes have earned before their states.

    Rewards are stamped like the state that they reward, and come in order. Before a state, all
    that was earned is known once the rewards of all states seen before it are here, and that of
    the state a period before or a later one: of states that never were, none comes. An episode's
    first state earns nothing; who misses more than that one reward knows nothing of the episode.

    :param period_ns: control period [ns].
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._ledgers: dict[str, _Ledger] = {}

    def add(self, stamp_ns: int, episode: str, total: float) -> None:
        """
        Take a reward; the same one twice counts once.

        :param stamp_ns: of the state rewarded [ns].
        :param episode: id of its episode.
        """
        self._ledger(episode).add(stamp_ns, total)

    def awaits(self, state: RobotState) -> bool:
        """Return whether a reward that is needed for a state may still be on its way."""
        if self._is_first(state):
            return False
        ledger = self._ledger(state.episode)
        if ledger.first_ns is None:
            return True
        return self._knows_all(ledger.first_ns, state) and (
            not self._near(state.stamp_ns - ledger.newest[-1][0])
            or any(stamp_ns < state.stamp_ns for stamp_ns in ledger.expected))

    def before(self, state: RobotState) -> float:
        """
        Return the sum of the rewards of the earlier states of a state's episode.

        :param state: one whose own reward will come.
        :raises RewardMissingError: it is not known.
        """
        if self._is_first(state):
            return 0.0
        awaited, ledger = self.awaits(state), self._ledger(state.episode)
        ledger.expect(state.stamp_ns)
        if awaited or ledger.first_ns is None:
            raise RewardMissingError(
                f'a reward before state {state.stamp_ns} has not come, and what is observed '
                'depends on it; is reward_computer running?')
        if not self._knows_all(ledger.first_ns, state):
            raise RewardMissingError(
                f'the rewards of episode {state.episode} are known from {ledger.first_ns} on '
                'only, and what is observed depends on all of them; the next episode is observed')
        if ledger.settled_ns is not None and state.stamp_ns <= ledger.settled_ns:
            raise RewardMissingError(
                f'state {state.stamp_ns} came after {KEPT_REWARDS} newer rewards, which is too '
                'late to know what was earned before it')
        earned = ledger.settled
        for stamp_ns, total in ledger.newest:
            if stamp_ns >= state.stamp_ns:
                break
            earned += total
        return earned

    def _ledger(self, episode: str) -> _Ledger:
        found = self._ledgers.get(episode)
        if found is None:
            found = self._ledgers[episode] = _Ledger()
            if len(self._ledgers) > KEPT_EPISODES:
                del self._ledgers[next(iter(self._ledgers))]
        return found

    def _is_first(self, state: RobotState) -> bool:
        return 2 * (state.stamp_ns - _start_ns(state)) <= self._period_ns

    def _knows_all(self, first_ns: int, state: RobotState) -> bool:
        return self._near(first_ns - _start_ns(state))

    def _near(self, ns: int) -> bool:
        """Return whether something is one period later, or less."""
        return 2 * ns <= 3 * self._period_ns


def _start_ns(state: RobotState) -> int:
    return EpisodeId.parse(state.episode).start_ns
