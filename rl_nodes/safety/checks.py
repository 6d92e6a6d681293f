# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One class per limit on the values of a command.

Every condition is written as acceptance, so that NaN is never accepted. A check gets the command
as the earlier checks have left it and returns the command it allows; the same object if it has
nothing to object. Commands are float64, shape (A,), in the order of the robot's commanded joints.
"""

import math
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


class Check(Protocol):
    """A limit on the values of a command."""

    name: str

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """Return a finding, or None where there is nothing to object."""


class FiniteCheck:
    """Every value is finite and there is one per commanded joint; anything else is a STOP."""

    name = 'finite'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """See the class."""
        if command.shape == (len(self._names),) and all(map(math.isfinite, command.tolist())):
            return None
        bad = (f'{len(command)} values for {len(self._names)} joints'
               if command.shape != (len(self._names),) else
               ', '.join(f'{name} = {value}' for name, value in zip(self._names, command)
                         if not np.isfinite(value)))
        return Finding(Level.STOP, f'command is not usable: {bad}', None)


class StateCheck:
    """The measured state is finite and no commanded joint is far above its speed limit."""

    name = 'state'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names
        self._commanded = robot.commanded
        self._limit = robot.limits('velocity') * robot.config.safety.overspeed

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """See the class."""
        speed = np.abs(state.velocity[self._commanded])
        finite = all(map(math.isfinite, [*state.position.tolist(), *state.velocity.tolist()]))
        if finite and all((speed <= self._limit).tolist()):
            return None
        if not finite:
            return Finding(Level.STOP, 'the measured state is not finite', None)
        worst = int(np.argmax(speed - self._limit))
        return Finding(Level.STOP, f'{self._names[worst]} moves at {speed[worst]:.3g}/s, the stop '
                       f'limit is {self._limit[worst]:.3g}/s', None)


class VelocityCheck:
    """No target asks for more than the speed limit: |target - position| <= v_max · period."""

    name = 'velocity'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names
        self._commanded = robot.commanded
        self._relative = robot.config.control_mode == 'position'
        period = period_ns(robot.config.rate_hz) / NS if self._relative else 1.0
        self._limit = robot.limits('velocity') * period
        self._tolerated = self._limit * (1 + RELATIVE_TOLERANCE)

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """See the class."""
        origin = state.position[self._commanded] if self._relative else np.zeros(len(command))
        step = command - origin
        if all((np.abs(step) <= self._tolerated).tolist()):
            return None
        worst = int(np.argmax(np.abs(step) - self._limit))
        allowed = origin + np.clip(step, -self._limit, self._limit)
        return Finding(Level.CLAMP, f'{self._names[worst]} asks for a step of {step[worst]:.3g}, '
                       f'the limit is {self._limit[worst]:.3g}', allowed)


class PositionCheck:
    """
    No command leads out of the joint range less its margin.

    Position targets are clipped. A velocity or effort that pushes further out is set to zero. A
    joint already outside (by a disturbance) may come back in but not go further out.
    """

    name = 'position'

    def __init__(self, robot: RobotModel) -> None:
        margin = robot.config.safety.position_margin
        self._names = robot.command_names
        self._commanded = robot.commanded
        self._absolute = robot.config.control_mode == 'position'
        self._low = robot.limits('lower') + margin
        self._high = robot.limits('upper') - margin

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """See the class."""
        position = state.position[self._commanded]
        if self._absolute:
            low = np.minimum(self._low, position)
            high = np.maximum(self._high, position)
            allowed = np.minimum(np.maximum(command, low), high)
        else:
            outward = (((position >= self._high) & (command > 0))
                       | ((position <= self._low) & (command < 0)))
            allowed = np.where(outward, 0.0, command)
        if all((allowed == command).tolist()):
            return None
        worst = int(np.argmax(np.abs(allowed - command)))
        return Finding(Level.CLAMP, f'{self._names[worst]} at {position[worst]:.3g} asks for '
                       f'{command[worst]:.3g}, the range is [{self._low[worst]:.3g}, '
                       f'{self._high[worst]:.3g}]', allowed)


class EffortCheck:
    """No effort command is above the joint's limit."""

    name = 'effort'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names
        self._limit = robot.limits('effort')
        self._tolerated = self._limit * (1 + RELATIVE_TOLERANCE)

    def check(self, command: np.ndarray, state: RobotState) -> Finding | None:
        """See the class."""
        if all((np.abs(command) <= self._tolerated).tolist()):
            return None
        worst = int(np.argmax(np.abs(command) - self._limit))
        return Finding(Level.CLAMP, f'{self._names[worst]} asks for {command[worst]:.3g}, the '
                       f'limit is {self._limit[worst]:.3g}', np.clip(command, -self._limit,
                                                                     self._limit))


def checks_for(robot: RobotModel) -> tuple[Check, ...]:
    """Return the checks for a robot's control mode, in the order they are to run."""
    limits: dict[str, tuple[Check, ...]] = {
        'position': (VelocityCheck(robot), PositionCheck(robot)),
        'velocity': (VelocityCheck(robot), PositionCheck(robot)),
        'effort': (EffortCheck(robot), PositionCheck(robot))}
    return (FiniteCheck(robot), StateCheck(robot), *limits[robot.config.control_mode])


def judge_values(checks: tuple[Check, ...], command: np.ndarray,
                 state: RobotState) -> tuple[Level, str, str, np.ndarray | None]:
    """
    Run the checks and return (gravest level, deciding check, reason, allowed command).

    Each check sees what the earlier ones allow; HOLD and STOP end the run.
    """
    level, name, reason, allowed = Level.PASS, '', '', command
    for check in checks:
        finding = check.check(allowed, state)
        if finding is None:
            continue
        if finding.level > level:
            level, name, reason = finding.level, check.name, finding.reason
        if finding.allowed is None:
            return level, name, reason, None
        allowed = finding.allowed
    return level, name, reason, allowed
