# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whose commands are judged at all: one source at a time, and no jump where they change.

A person at a teleoperation device goes before a policy for as long as the deadman is held; what
the policy wants meanwhile is left aside. The release of the deadman is a message (a command whose
source ends in ``/standby``), so a device that falls silent is not taken for a released one: then
nobody commands, and the supervisor stops the robot for silence. Only where no policy is expected
is a standby command carried out: the robot stands and the person may go on.

After a change of source what is asked of each joint, a speed or an effort u, follows the new
source by at most

    |u - u'| <= limit / FADE_S · T                                                             (1)

with u' the one asked for last and T the time since then, until it has caught up.
"""

from typing import Literal, NamedTuple

import numpy as np
from rl_nodes.core.origin import is_engaged
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.safety.watchdog import silent

POLICY, TELEOP = 'policy', 'teleop'
Sources = Literal['policy', 'teleop', 'policy+teleop']

FADE_S = 0.25   # from standing to a joint's limit
_FOLLOWS = 5    # periods within which one command follows another


class Offer(NamedTuple):
    """
    A command on its way to the supervisor.

    :param names: joint names as they came with it.
    :param command: the wanted command.
    """

    names: tuple[str, ...]
    command: JointCommand


class Arbiter:
    """
    Chooses the source and carries the robot from one to the next.

    :param robot: its limits bound the change.
    :param watchdog_s: silence after which a stopped robot no longer waits for a held deadman.
    :param sources: that are expected.
    :ivar sources: by name, in the order of their topics.
    :ivar acting: the source whose commands are judged.
    :ivar overridden: commands of a policy left aside while a person acted.
    :ivar handovers: changes of source.
    """

    def __init__(self, robot: RobotModel, watchdog_s: float, sources: Sources) -> None:
        self.sources = tuple(sources.split('+'))
        self.acting = self.sources[0]
        self.overridden, self.handovers = 0, 0
        self._watchdog_s = watchdog_s
        self._heard_at: int | None = None       # steady time of the last engaged command
        self._aside: Offer | None = None        # the policy's newest while a person acts
        self._answered = -1                     # stamp of the last state with a judged command
        self._fade = Fade(robot)

    def choose(self, source: str, offer: Offer, steady_ns: int, stopped: bool) -> Offer | None:
        """
        Return the command to judge, or None for none.

        :param source: of the topic that the offer came on.
        :param steady_ns: now on the steady clock.
        :param stopped: whether the robot is stopped, so that nobody can be overtaken by surprise.
        """
        engaged = source == TELEOP and is_engaged(offer.command.source)
        if source == TELEOP:
            self._heard_at = steady_ns if engaged else None
        if len(self.sources) == 1:
            return offer
        if source == TELEOP:
            if engaged:
                return self._take(TELEOP, offer)
            if self.acting == POLICY:
                return None
            aside, self._aside = self._aside, None
            return self._take(POLICY, aside)
        if self.acting == TELEOP and not (
                stopped and silent(self._heard_at, steady_ns, self._watchdog_s)):
            self._aside = offer
            self.overridden += 1
            return None
        return self._take(POLICY, offer)

    def held(self, steady_ns: int) -> bool:
        """Return whether somebody holds the deadman of a teleoperation device."""
        return not silent(self._heard_at, steady_ns, self._watchdog_s)

    def shaped(self, command: JointCommand, state: RobotState | None) -> JointCommand:
        """Return a command as near to its source's wish as eq. (1) allows."""
        return command if state is None else self._fade.shaped(command, state)

    def executed(self, command: np.ndarray, state: RobotState) -> None:
        """Take note of what the robot gets, shape (A,)."""
        self._fade.executed(command, state)

    def counts(self) -> dict[str, int]:
        """Return what happened at the changes of source."""
        return {'handovers': self.handovers, 'handover_limited': self._fade.limited,
                'policy_overridden': self.overridden}

    def _take(self, source: str, offer: Offer | None) -> Offer | None:
        """Let a source act; a state that another one has answered is not answered again."""
        changed = source != self.acting
        if changed:
            self.acting = source
            self.handovers += 1
            self._fade.begin()
        if offer is None or changed and offer.command.stamp_ns <= self._answered:
            return None
        self._answered = max(self._answered, offer.command.stamp_ns)
        return offer


class Fade:
    """
    Equation (1), from the change of source until each joint has caught up.

    :param robot: its control mode, rate and limits.
    :ivar limited: commands that were changed.
    """

    def __init__(self, robot: RobotModel) -> None:
        self._commanded = robot.commanded
        mode = robot.config.control_mode
        self._period_s = period_ns(robot.config.rate_hz) / NS
        self._relative = mode == 'position'
        self._unit = self._period_s if self._relative else 1.0
        self._rate = robot.limits('effort' if mode == 'effort' else 'velocity') / FADE_S
        self._behind = np.zeros(len(robot.commanded), bool)  # joints that have not caught up
        self._until_ns: int | None = None
        self._last: tuple[int, np.ndarray] | None = None     # stamp, what was asked for
        self.limited = 0

    def begin(self) -> None:
        """Limit the changes from now on."""
        self._behind[:] = True
        self._until_ns = None

    def shaped(self, command: JointCommand, state: RobotState) -> JointCommand:
        """See :meth:`Arbiter.shaped`; what is unusable is left to the supervisor."""
        if not self._behind.any() or command.value.shape != self._behind.shape \
                or not np.isfinite(command.value).all():
            return command
        if self._until_ns is None:  # who never comes near is not followed for ever
            self._until_ns = state.stamp_ns + round(2 * FADE_S * NS)
        origin = self._origin(state)
        asked = (command.value - origin) / self._unit
        before, passed_s = np.zeros_like(asked), self._period_s
        if self._last is not None:
            since_s = (state.stamp_ns - self._last[0]) / NS
            if 0.0 <= since_s <= _FOLLOWS * self._period_s:
                before, passed_s = self._last[1], min(since_s, self._period_s)
        most = self._rate * passed_s
        change = np.where(self._behind, np.clip(asked - before, -most, most), asked - before)
        self._behind &= np.abs(asked - before) > most
        if state.stamp_ns >= self._until_ns:
            self._behind[:] = False
        value = origin + (before + change) * self._unit
        if np.allclose(value, command.value, rtol=0.0, atol=1e-12):
            return command
        self.limited += 1
        return JointCommand(command.stamp_ns, command.source, value)

    def executed(self, command: np.ndarray, state: RobotState) -> None:
        """Take note of what the robot was asked for."""
        self._last = state.stamp_ns, (command - self._origin(state)) / self._unit

    def _origin(self, state: RobotState) -> np.ndarray:
        return state.position[self._commanded] if self._relative else np.zeros(
            len(self._commanded))
