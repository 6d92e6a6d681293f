# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
All checks on the values of a robot's commands, in their order, and the trace that they look at.

What a later check allows lies between standing still and what the earlier ones allow, and those
are content with anything in between; so nothing has to be checked twice. Distances between links
come last: of them alone that is not true.
"""

import math
from typing import NamedTuple

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS
from rl_nodes.core.types import RobotState
from rl_nodes.safety.checks import (
    EffortCheck,
    FiniteCheck,
    PositionCheck,
    StateCheck,
    VelocityCheck,
)
from rl_nodes.safety.geometry import GeometryCheck
from rl_nodes.safety.limits import Check, Narrowing, NOTHING, Reference, Refusing, Trace
from rl_nodes.safety.motion import (
    AccelerationCheck,
    ChatterCheck,
    CouplingCheck,
    FirstCommandCheck,
)
from rl_nodes.safety.verdict import Level

AS_CONFIGURED = Narrowing()
_REMEMBERING = ('first_command', 'acceleration', 'jerk', 'chatter')


class Judgement(NamedTuple):
    """Gravest level, deciding check, reason, allowed command (A,); None for HOLD and STOP."""

    level: Level
    check: str
    reason: str
    allowed: np.ndarray | None


def checks_for(robot: RobotModel, narrowing: Narrowing = AS_CONFIGURED) -> tuple[Check, ...]:
    """
    Return the checks for a robot, in the order they are to run.

    :raises ConfigError: ``safety`` asks for what the robot does not have.
    """
    safety, mode = robot.config.safety, robot.config.control_mode
    limits: list[Check] = []
    if 'first_command' in safety.refuse:
        limits.append(FirstCommandCheck(robot))
    limits.append(EffortCheck(robot) if mode == 'effort' else VelocityCheck(robot, narrowing))
    for jerk, field in ((False, 'acceleration'), (True, 'jerk')):
        if np.isfinite(robot.limits(field)).any() and mode != 'effort':
            limits.append(AccelerationCheck(robot, jerk))
    limits.append(PositionCheck(robot, narrowing))
    limits += [CouplingCheck(robot, coupling) for coupling in safety.coupling]
    if safety.geometry is not None:
        limits.append(GeometryCheck(robot, safety.geometry, narrowing))
    if safety.chatter is not None:
        limits.append(ChatterCheck(robot, safety.chatter))
    known = [check.name for check in limits]
    for name in safety.refuse:
        if name not in known:
            raise ConfigError(f'robot {robot.name}: safety.refuse: {name!r} is not checked; '
                              f'checked: {", ".join(known)}')
    return (FiniteCheck(robot), StateCheck(robot), *(
        Refusing(check) if check.name in safety.refuse else check for check in limits))


def judge_values(checks: tuple[Check, ...], command: np.ndarray, state: RobotState,
                 trace: Trace = NOTHING) -> Judgement:
    """
    Run the checks; each sees what the earlier ones allow. HOLD and STOP end the run.

    :param command: float64, shape (A,).
    :param state: measured when the command was computed.
    :param trace: what was executed before.
    """
    level, name, reason, allowed = Level.PASS, '', '', command
    for check in checks:
        finding = check.check(allowed, state, trace)
        if finding is None:
            continue
        if finding.level > level:
            level, name, reason = finding.level, check.name, finding.reason
        if finding.allowed is None:
            return Judgement(level, name, reason, None)
        allowed = finding.allowed
    if level > Level.PASS and not all(map(math.isfinite, allowed.tolist())):
        return Judgement(Level.STOP, name, f'{reason}; no finite command is left', None)
    return Judgement(level, name, reason, allowed)


class Gate:
    """
    Judges commands one after the other.

    :param robot: limits come from it.
    :param narrowing: makes them narrower.
    """

    def __init__(self, robot: RobotModel, narrowing: Narrowing = AS_CONFIGURED) -> None:
        self._reference = Reference(robot)
        self._robot = robot
        self.checks = checks_for(robot, narrowing)
        self.narrowing = narrowing
        chatter = robot.config.safety.chatter
        most = robot.limits('effort' if self._reference.mode == 'effort' else 'velocity')
        self.trace = Trace() if chatter is None else Trace(
            (chatter.amplitude * most).tolist(), round(chatter.window_s * NS))
        self._remembers = robot.config.safety.sensing is not None or any(
            check.name in _REMEMBERING for check in self.checks)
        self._episode = ''

    def narrow(self, narrowing: Narrowing) -> str:
        """Make limits narrower; return why that is refused, or ``''``."""
        wider = self.narrowing.widening(narrowing)
        if wider:
            return (f'{wider}: limits may only be made narrower while the monitor is configured; '
                    'configure it anew to widen them')
        try:
            self.checks = checks_for(self._robot, narrowing)
        except ConfigError as error:  # as where the robot at home is too near to something then
            return str(error)
        self.narrowing = narrowing
        return ''

    def judge(self, command: np.ndarray, state: RobotState) -> Judgement:
        """Judge a command; it is not taken as executed."""
        if state.episode != self._episode:
            self._episode = state.episode
            self.trace.forget()
        return judge_values(self.checks, command, state, self.trace)

    def executed(self, command: np.ndarray, state: RobotState) -> None:
        """Take note of the command that the robot gets for a state."""
        if self._remembers:
            self.trace.executed(state.stamp_ns, self._reference.speed(command, state))
