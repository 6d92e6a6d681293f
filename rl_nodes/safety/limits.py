# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What every check on values shares: findings, the memory of what was executed, narrowing.

Checks compute with plain floats, joint by joint: for as few values as a robot has joints that is
several times faster than arrays, and the same bits.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import RobotState
from rl_nodes.safety.verdict import Level

# A target computed as q + v·dt may exceed the limit by rounding; that is no violation.
RELATIVE_TOLERANCE = 1e-9


class Finding(NamedTuple):
    """What one check says: level, reason, and the command it allows (None: none)."""

    level: Level
    reason: str
    allowed: np.ndarray | None


class Executed(NamedTuple):
    """One executed command: stamp of its state [ns], the speed (or effort) it asked for (A,)."""

    stamp_ns: int
    speed: list[float]


class Trace:
    """
    What the robot was last told to do, by speed (position and velocity control) or effort.

    :param least: least speed or effort that has a direction, (A,); empty where changes of
        direction are not counted.
    :param window_ns: how far back they count.
    :ivar last: the newest two commands, newest first; fewer after a halt.
    """

    def __init__(self, least: Sequence[float] = (), window_ns: int = 0) -> None:
        self._least, self._window_ns = least, window_ns
        self.forget()

    def forget(self) -> None:
        """Begin anew: another episode, or motion is allowed again."""
        self._turns: deque[tuple[int, list[int]]] = deque()
        self.halted()

    def halted(self) -> None:
        """The robot was told to stand; changes of direction are remembered."""
        self.last: tuple[Executed, ...] = ()
        self._moved = [0.0] * len(self._least)  # the speeds that last had a direction

    def executed(self, stamp_ns: int, speed: list[float]) -> None:
        """Take what was executed."""
        self.last = (Executed(stamp_ns, speed), *self.last[:1])
        turned = self._turned(speed)
        self._moved = [now if abs(now) > least else before
                       for now, before, least in zip(speed, self._moved, self._least)]
        if turned:
            self._turns.append((stamp_ns, turned))
        while self._turns and stamp_ns - self._turns[0][0] > self._window_ns:
            self._turns.popleft()

    def reversals(self, stamp_ns: int, speed: list[float]) -> dict[int, int]:
        """
        Return how often joints will have changed direction within the window.

        :return: by index of each commanded joint that changes it now.
        """
        recent = [turned for at, turned in self._turns if stamp_ns - at <= self._window_ns]
        return {joint: 1 + sum(joint in turned for turned in recent)
                for joint in self._turned(speed)}

    def _turned(self, speed: list[float]) -> list[int]:
        """Return the commanded joints that change direction, by index."""
        return [joint for joint, (now, before, least) in enumerate(
            zip(speed, self._moved, self._least))
            if abs(now) > least and (now < 0.0 < before or before < 0.0 < now)]


NOTHING = Trace()  # of a command that follows nothing; never written to


class Check(Protocol):
    """
    A limit on the values of a command.

    What it allows lies between standing still and what was asked for, joint by joint, so that no
    check undoes another.
    """

    name: str

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """
        Return a finding, or None where there is nothing to object.

        :param command: as the earlier checks have left it, float64, shape (A,).
        :param state: measured when the command was computed.
        :param trace: what was executed before.
        """


class Refusing:
    """
    Refuses as a whole what another check would limit.

    :param check: the other.
    """

    def __init__(self, check: Check) -> None:
        self._check, self.name = check, check.name

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the base class."""
        finding = self._check.check(command, state, trace)
        if finding is None or finding.level != Level.CLAMP:
            return finding
        return Finding(Level.HOLD, finding.reason, None)


@dataclass(frozen=True)
class Narrowing:
    """
    What makes the limits of a robot's YAML file narrower while it runs, never wider.

    :param speed_scale: share of the speed limits in force, above 0, at most 1.
    :param extra_margin: added to ``position_margin`` [rad or m], not below 0.
    :param extra_clearance_m: added to both clearances of ``geometry`` [m], not below 0.
    """

    speed_scale: float = 1.0
    extra_margin: float = 0.0
    extra_clearance_m: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.speed_scale <= 1.0 and 0.0 <= self.extra_margin < np.inf
                and 0.0 <= self.extra_clearance_m < np.inf):
            raise ValueError(f'{self} widens limits or is not finite')

    def widening(self, later: 'Narrowing') -> str:
        """Return which numbers of a later narrowing would widen limits, or ``''``."""
        wider = [f'{name} = {new} after {old}' for name, old, new, sign in (
            ('speed_scale', self.speed_scale, later.speed_scale, 1),
            ('extra_margin', self.extra_margin, later.extra_margin, -1),
            ('extra_clearance_m', self.extra_clearance_m, later.extra_clearance_m, -1))
            if not sign * new <= sign * old]
        return ', '.join(wider)


class Reference:
    """
    From commands to what they ask for and back.

    A position target asks for the speed (target - position) / period; the speed 0 is to stand.

    :param robot: its control mode and rate.
    :ivar period_s: of the robot's control.
    :ivar commanded: indices of the commanded joints, (A,).
    """

    def __init__(self, robot: RobotModel) -> None:
        self.names = robot.command_names
        self.commanded: list[int] = robot.commanded.tolist()
        self.mode = robot.config.control_mode
        self.period_s = period_ns(robot.config.rate_hz) / NS
        self.unit = self.period_s if self.mode == 'position' else 1.0
        self._all = self.commanded == list(range(len(robot.joints)))
        self._zero = [0.0] * len(self.commanded)

    def of_commanded(self, measured: np.ndarray) -> list[float]:
        """Return the commanded joints' part (A,) of positions or velocities, shape (J,)."""
        values: list[float] = measured.tolist()
        return values if self._all else [values[index] for index in self.commanded]

    def standing(self, state: RobotState) -> list[float]:
        """Return the command that asks for nothing, (A,)."""
        return self.of_commanded(state.position) if self.mode == 'position' else self._zero

    def step(self, command: np.ndarray, state: RobotState) -> tuple[list[float], list[float]]:
        """Return (the command that asks for nothing, how far another one is from it), (A,)."""
        origin = self.standing(state)
        return origin, [wanted - start for wanted, start in zip(command.tolist(), origin)]

    def speed(self, command: np.ndarray, state: RobotState) -> list[float]:
        """Return the speed or effort that a command asks for, (A,)."""
        return [step / self.unit for step in self.step(command, state)[1]]


def within(values: Sequence[float], bounds: Sequence[float]) -> bool:
    """Return whether no value is larger than its bound, nor NaN."""
    for value, bound in zip(values, bounds):
        if not -bound <= value <= bound:
            return False
    return True


def furthest_out(values: Sequence[float], bounds: Sequence[float]) -> int:
    """Return the index of the value that is furthest beyond its bound."""
    beyond = [abs(value) - bound for value, bound in zip(values, bounds)]
    return beyond.index(max(beyond))


def shortened(origin: Sequence[float], step: Sequence[float], bound: Sequence[float],
              whole: bool) -> np.ndarray:
    """
    Return a command whose step from ``origin`` is within bounds, shape (A,).

    :param step: asked for, (A,); not within the bounds.
    :param bound: greatest size of each part, (A,).
    :param whole: shorten the step as a whole, which keeps its direction; else part by part.
    """
    if not whole:
        return np.array([start + min(max(part, -most), most)
                         for start, part, most in zip(origin, step, bound)])
    share = min([1.0, *(most / abs(part) for part, most in zip(step, bound)
                        if abs(part) > most)])
    return np.array([start + part * share for start, part in zip(origin, step)])
