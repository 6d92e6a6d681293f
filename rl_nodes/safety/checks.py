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
    furthest_out,
    Narrowing,
    Reference,
    RELATIVE_TOLERANCE,
    shortened,
    Trace,
    within,
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
        self._reference = Reference(robot)
        self._limit = (robot.limits('velocity') * robot.config.safety.overspeed).tolist()

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        speed = self._reference.of_commanded(state.velocity)
        if not all(map(math.isfinite, [*state.position.tolist(), *state.velocity.tolist()])):
            return Finding(Level.STOP, 'the measured state is not finite', None)
        if within(speed, self._limit):
            return None
        worst = furthest_out(speed, self._limit)
        return Finding(Level.STOP, f'{self._reference.names[worst]} moves at '
                       f'{abs(speed[worst]):.3g}/s, the stop limit is {self._limit[worst]:.3g}/s',
                       None)


class VelocityCheck:
    """No target asks for more than the speed limit: |target - position| <= v_max · period."""

    name = 'velocity'

    def __init__(self, robot: RobotModel, narrowing: Narrowing) -> None:
        self._reference = Reference(robot)
        self._whole = robot.config.safety.scale == 'whole'
        limit = robot.limits('velocity') * narrowing.speed_scale * self._reference.unit
        self._limit: list[float] = limit.tolist()
        self._tolerated: list[float] = (limit * (1 + RELATIVE_TOLERANCE)).tolist()

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        origin, step = self._reference.step(command, state)
        if within(step, self._tolerated):
            return None
        worst = furthest_out(step, self._limit)
        return Finding(Level.CLAMP, f'{self._reference.names[worst]} asks for a step of '
                       f'{step[worst]:.3g}, the limit is {self._limit[worst]:.3g}',
                       shortened(origin, step, self._limit, self._whole))


class EffortCheck:
    """No effort command is above the joint's limit."""

    name = 'effort'

    def __init__(self, robot: RobotModel) -> None:
        self._names = robot.command_names
        limit = robot.limits('effort')
        self._limit: list[float] = limit.tolist()
        self._tolerated: list[float] = (limit * (1 + RELATIVE_TOLERANCE)).tolist()

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        wanted = command.tolist()
        if within(wanted, self._tolerated):
            return None
        worst = furthest_out(wanted, self._limit)
        return Finding(Level.CLAMP, f'{self._names[worst]} asks for {wanted[worst]:.3g}, the '
                       f'limit is {self._limit[worst]:.3g}',
                       np.array([min(max(effort, -limit), limit)
                                 for effort, limit in zip(wanted, self._limit)]))


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
        self._low: list[float] = (robot.limits('lower') + margin).tolist()
        self._high: list[float] = (robot.limits('upper') - margin).tolist()
        braking = robot.limits('acceleration').tolist()
        self._braking = [(joint, a) for joint, a in enumerate(braking) if math.isfinite(a)]

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        position, wanted = self._reference.of_commanded(state.position), command.tolist()
        joints = zip(wanted, position, self._low, self._high)
        if self._reference.mode == 'position':
            allowed = [value if low <= value <= high
                       else min(max(value, min(low, at)), max(high, at))
                       for value, at, low, high in joints]
        else:
            allowed = [0.0 if at >= high and value > 0.0 or at <= low and value < 0.0 else value
                       for value, at, low, high in joints]
        if self._braking:
            self._brake(allowed, state, position)
        change = [abs(value - asked) for value, asked in zip(allowed, wanted)]
        if not any(change):
            return None
        worst = change.index(max(change))
        return Finding(Level.CLAMP, f'{self._reference.names[worst]} at {position[worst]:.3g} '
                       f'asks for {wanted[worst]:.3g}, the range is [{self._low[worst]:.3g}, '
                       f'{self._high[worst]:.3g}]', np.array(allowed))

    def _brake(self, command: list[float], state: RobotState, position: list[float]) -> None:
        """Shorten the parts of a command (A,) that eq. (1) does not allow."""
        speed = self._reference.of_commanded(state.velocity)
        origin = self._reference.standing(state)
        for joint, deceleration in self._braking:
            step = command[joint] - origin[joint]
            up = self._greatest(deceleration, self._high[joint] - position[joint], speed[joint])
            down = self._greatest(deceleration, position[joint] - self._low[joint], -speed[joint])
            if step > up:
                command[joint] = origin[joint] + up
            elif step < -down:
                command[joint] = origin[joint] - down

    def _greatest(self, a: float, distance: float, speed: float) -> float:
        """Return the greatest step or effort towards an end that is that far away."""
        room, period = max(distance, 0.0), self._reference.period_s
        if speed > 0.0 and speed * speed > 2.0 * a * room:
            return 0.0
        if self._reference.mode == 'effort':
            return math.inf
        gained = a * period
        return (math.sqrt(gained * gained + 2.0 * a * room) - gained) * self._reference.unit
