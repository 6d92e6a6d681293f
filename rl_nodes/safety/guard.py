# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Guards: what makes a verdict graver because of the situation that the robot is in.

A guard is asked after the checks on values, of which it knows the judgement. It answers HOLD, STOP
or nothing, and counts only where it is graver: no guard, whatever it computes, lets through what
the checks do not. What a guard cannot compute, or is not a number, is an alarm.
"""

from collections.abc import Callable
import math
from typing import NamedTuple, Protocol

import numpy as np
from rl_nodes.core.timing import NS
from rl_nodes.core.types import RobotState
from rl_nodes.safety.distribution import Score
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.guard_file import GuardFile, Risk
from rl_nodes.safety.limits import Finding
from rl_nodes.safety.verdict import Level

LEVELS = {'hold': Level.HOLD, 'stop': Level.STOP}

Ask = Callable[[np.ndarray, RobotState, np.ndarray], float]


class Guard(Protocol):
    """
    Looks at the situation of a command that the checks on values have judged.

    :ivar name: shown where it decides.
    """

    name: str

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """
        Return a finding of HOLD or STOP, or None where there is nothing to object.

        :param judged: what the checks on values and the guards before say; no STOP.
        :param command: as it came where these allow none of it, else what they allow, (A,).
        :param state: measured when the command was computed.
        :param moving: False while the robot is stopped, whatever is found.
        """


def tightened(judged: Judgement, guard: Guard, command: np.ndarray, state: RobotState,
              moving: bool) -> Judgement:
    """Return a judgement, or that of a guard where it is graver."""
    if judged.level == Level.STOP:  # the command may be no numbers at all
        return judged
    finding = guard.check(judged, command if judged.allowed is None else judged.allowed, state,
                          moving)
    if finding is None or finding.level <= max(judged.level, Level.CLAMP):
        return judged
    return Judgement(finding.level, guard.name, finding.reason, None)


class Seen(NamedTuple):
    """An observation (O,), float32, and of which state it is."""

    stamp_ns: int
    observation: np.ndarray


class Eye:
    """
    What was observed last, for the guards that look at it.

    :param patience_s: how much older than the state of a command an observation may be: the
        goal of a new episode may arrive after its first state.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_ns = round(patience_s * NS)
        self._seen: Seen | None = None

    def see(self, stamp_ns: int, observation: np.ndarray) -> None:
        """Take the observation of a state."""
        self._seen = Seen(stamp_ns, observation)

    def of(self, state: RobotState) -> np.ndarray | None:
        """Return what was observed of a state or just before it, (O,); None for nothing."""
        seen = self._seen
        if seen is None or not 0 <= state.stamp_ns - seen.stamp_ns <= self._patience_ns:
            return None
        return seen.observation


class DistributionGuard:
    """
    Objects to observations that are far from those of episodes that went well.

    :param file: the guard.
    :param elements: names of the observation's elements.
    :param eye: what is observed.
    :param period_ns: of control [ns].
    """

    name = 'distribution'

    def __init__(self, file: GuardFile, elements: tuple[str, ...], eye: Eye,
                 period_ns: int) -> None:
        self._score, self._elements, self._eye = Score(file.distribution, period_ns), elements, eye
        self._threshold, self._level = file.calibration.threshold, LEVELS[file.verdict]

    @property
    def score(self) -> float:
        """Return the newest score."""
        return self._score.value

    def see(self, state: RobotState, observation: np.ndarray) -> None:
        """Take the observation (O,) of a state; all of them are to be seen, in order."""
        self._eye.see(state.stamp_ns, observation)
        self._score.update(state.stamp_ns, state.episode, observation)

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """See the base class."""
        if self._eye.of(state) is None:
            return _blind()
        score = self._score.value
        if score <= self._threshold:
            return None
        if not math.isfinite(score):
            return Finding(self._level, 'what is observed is not finite', None)
        worst, off = self._score.furthest()
        return Finding(self._level, f'what is observed is {score:.3g} away from what went well, '
                       f'the threshold is {self._threshold:.3g}; {self._elements[worst]} is '
                       f'{off:.1f} deviations off', None)


class RiskGuard:
    """
    Objects to actions that a network holds for risky.

    :param risk: its part of the guard's file.
    :param verdict: of an alarm.
    :param ask: the network: risk of (observation (O,), its state, command (A,)); TimeoutError
        where it takes too long.
    :param eye: what is observed.
    """

    name = 'risk'

    def __init__(self, risk: Risk, verdict: str, ask: Ask, eye: Eye) -> None:
        self._ask, self._eye = ask, eye
        self._threshold, self._level = risk.calibration.threshold, LEVELS[verdict]
        self.score = 0.0

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """See the base class."""
        observation = self._eye.of(state)
        if observation is None:
            return _blind()
        try:
            self.score = score = self._ask(observation, state, command)
        except TimeoutError as error:  # this command is not let through; the next may be
            return Finding(Level.HOLD, f'no risk in time: {error}', None)
        except Exception as error:  # whatever a network does, a verdict comes of it
            return Finding(self._level, f'no risk: {error}', None)
        if score <= self._threshold:
            return None
        return Finding(self._level, f'the risk is {score:.3g}, the threshold is '
                       f'{self._threshold:.3g}', None)


def _blind() -> Finding:
    return Finding(Level.HOLD, 'nothing is observed that a guard could judge: a state or the goal '
                   'of its episode is missing', None)
