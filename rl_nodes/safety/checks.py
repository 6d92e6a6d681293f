# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One class per limit on the values of a command.

Every condition is written as acceptance, so that NaN is never accepted. Checks are pure functions
of the command, the measured state and the trace of what was executed; see ``limits.py``.
"""

import math

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState
from rl_nodes.safety.limits import (
    Finding,
    Narrowing,
    Reference,
    RELATIVE_TOLERANCE,
    shortened,
    Trace,
)
from rl_nodes.safety.verdict import Level


class FiniteCheck:
    """Every value is finite and there is one per commanded joint; anything else is a STOP."""

    name = 'finite'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
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

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
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

    def __init__(self, robot: RobotModel, narrowing: Narrowing) -> None:
        self._reference = Reference(robot)
        self._whole = robot.config.safety.scale == 'whole'
        self._limit = robot.limits('velocity') * narrowing.speed_scale * self._reference.unit
        self._tolerated = self._limit * (1 + RELATIVE_TOLERANCE)

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        origin = self._reference.standing(state)
        step = command - origin
        if all((np.abs(step) <= self._tolerated).tolist()):
            return None
        worst = int(np.argmax(np.abs(step) - self._limit))
        return Finding(Level.CLAMP, f'{self._reference.names[worst]} asks for a step of '
                       f'{step[worst]:.3g}, the limit is {self._limit[worst]:.3g}',
                       shortened(origin, step, self._limit, self._whole))


class EffortCheck:
    """No effort command is above the joint's limit."""

    name = 'effort'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names
        self._limit = robot.limits('effort')
        self._tolerated = self._limit * (1 + RELATIVE_TOLERANCE)

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        if all((np.abs(command) <= self._tolerated).tolist()):
            return None
        worst = int(np.argmax(np.abs(command) - self._limit))
        return Finding(Level.CLAMP, f'{self._names[worst]} asks for {command[worst]:.3g}, the '
                       f'limit is {self._limit[worst]:.3g}', np.clip(command, -self._limit,
                                                                     self._limit))


class PositionCheck:
    """
    No command leads out of the joint range less its margin, nor too fast towards its end.

    Position targets are clipped. A velocity or effort that pushes further out is set to zero. A
    joint already outside (by a disturbance) may come back in but not go further out.

    A joint with the braking ability a [rad/s² or m/s²] that is d away from the end of its range
    may ask for a speed v towards it from which, after one period T, it can still brake in time:

        v T + v² / (2 a) <= d,  that is  v <= sqrt((a T)² + 2 a d) - a T                      (1)

    and for none where it measures dq² / (2 a) > d already. An effort has no speed: it is set to
    zero from there on.
    """

    name = 'position'

    def __init__(self, robot: RobotModel, narrowing: Narrowing) -> None:
        margin = robot.config.safety.position_margin + narrowing.extra_margin
        self._reference = Reference(robot)
        self._low = robot.limits('lower') + margin
        self._high = robot.limits('upper') - margin
        deceleration = robot.limits('acceleration')
        self._braking = np.flatnonzero(np.isfinite(deceleration))
        self._deceleration = deceleration[self._braking]

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        position = state.position[self._reference.commanded]
        if self._reference.mode == 'position':
            low = np.minimum(self._low, position)
            high = np.maximum(self._high, position)
            allowed = np.minimum(np.maximum(command, low), high)
        else:
            outward = (((position >= self._high) & (command > 0))
                       | ((position <= self._low) & (command < 0)))
            allowed = np.where(outward, 0.0, command)
        if len(self._braking):
            allowed = self._braked(allowed, state, position)
        if all((allowed == command).tolist()):
            return None
        worst = int(np.argmax(np.abs(allowed - command)))
        return Finding(Level.CLAMP, f'{self._reference.names[worst]} at {position[worst]:.3g} '
                       f'asks for {command[worst]:.3g}, the range is [{self._low[worst]:.3g}, '
                       f'{self._high[worst]:.3g}]', allowed)

    def _braked(self, command: np.ndarray, state: RobotState,
                position: np.ndarray) -> np.ndarray:
        """Return the command (A,) with the parts shortened that eq. (1) does not allow."""
        joints = self._braking
        speed = state.velocity[self._reference.commanded][joints]
        up = self._greatest(self._high[joints] - position[joints], speed)
        down = self._greatest(position[joints] - self._low[joints], -speed)
        allowed, origin = command.copy(), self._reference.standing(state)[joints]
        step = command[joints] - origin
        allowed[joints] = np.where(step > up, origin + up,
                                   np.where(step < -down, origin - down, command[joints]))
        return allowed

    def _greatest(self, distance: np.ndarray, speed: np.ndarray) -> np.ndarray:
        """Return the greatest step or effort towards an end that is that far away."""
        a, room = self._deceleration, np.maximum(distance, 0.0)
        late = (speed > 0.0) & (speed * speed > 2.0 * a * room)
        if self._reference.mode == 'effort':
            return np.where(late, 0.0, np.inf)
        period = self._reference.period_s
        most = np.sqrt((a * period) ** 2 + 2.0 * a * room) - a * period
        return np.where(late, 0.0, most * self._reference.unit)
