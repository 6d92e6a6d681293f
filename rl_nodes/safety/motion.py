# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Checks on how commands follow each other, and on joints that depend on each other.

Each is off unless the robot's YAML file has the numbers for it.
"""

import math

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.safety_config import ChatterConfig, CouplingConfig
from rl_nodes.core.timing import NS
from rl_nodes.core.types import RobotState
from rl_nodes.safety.limits import (
    Finding,
    furthest_out,
    Reference,
    RELATIVE_TOLERANCE,
    shortened,
    Trace,
    within,
)
from rl_nodes.safety.verdict import Level

_FOLLOWS = 5  # periods within which one command follows another


class FirstCommandGuard:
    """
    The first command after a hold must not make the robot jump.

    :param model: position control only; other modes have no jump and always pass.
    """

    def __init__(self, model: RobotModel) -> None:
        self._names, self._index = model.command_names, model.commanded
        self._step = model.limits('velocity') / model.config.rate_hz
        self._guards = model.config.control_mode == 'position'

    def refusal(self, command: np.ndarray, position: np.ndarray) -> str:
        """
        Return why a first command is refused, or ``''``.

        :param command: finite, shape (A,).
        :param position: measured, shape (J,).
        """
        away = np.abs(command - position[self._index])
        near = away <= self._step * (1 + 1e-6)
        if not self._guards or near.all():
            return ''
        far = ', '.join(f'{self._names[k]} by {away[k]:.3f} (one step is {self._step[k]:.3f})'
                        for k in np.flatnonzero(~near))
        return f'the first command is too far from where the robot is: {far}'


class FirstCommandCheck:
    """The first command after a halt is near to where the robot stands; others are refused."""

    name = 'first_command'

    def __init__(self, robot: RobotModel) -> None:
        self._guard = FirstCommandGuard(robot)

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        why = '' if trace.last else self._guard.refusal(command, state.position)
        return Finding(Level.HOLD, why, None) if why else None


class AccelerationCheck:
    """
    Commands speed up no faster than the joint's acceleration allows.

    With v' the speed last asked for (the measured one after a halt) and T the time since, but
    at most one period, a part of the command asks for no more than

        |v| <= max(0, v' in the direction of v) + a T                                         (1)

    Slowing down is never delayed: what would turn the direction may begin from standing. Where
    the joint has a jerk limit j, a is no more than the acceleration before, if that was in the
    same direction, plus j T: the check is then called ``jerk``.

    :param robot: position or velocity control.
    :param jerk: whether jerk is limited instead of acceleration.
    """

    def __init__(self, robot: RobotModel, jerk: bool = False) -> None:
        self.name = 'jerk' if jerk else 'acceleration'
        self._reference = Reference(robot)
        self._whole = robot.config.safety.scale == 'whole'
        self._limit: list[float] = robot.limits(self.name).tolist()
        self._jerk = jerk

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        origin, step = self._reference.step(command, state)
        bound = self._bound(step, state, trace)
        if within(step, [most * (1 + RELATIVE_TOLERANCE) for most in bound]):
            return None
        worst = furthest_out(step, bound)
        return Finding(Level.CLAMP, f'{self._reference.names[worst]} asks for '
                       f'{step[worst] / self._reference.unit:.3g}/s, from the speed before '
                       f'{bound[worst] / self._reference.unit:.3g}/s can be had',
                       shortened(origin, step, bound, self._whole))

    def _bound(self, step: list[float], state: RobotState, trace: Trace) -> list[float]:
        """Return the greatest size of each part of a step in its direction, eq. (1), (A,)."""
        period, unit = self._reference.period_s, self._reference.unit
        before, passed = self._reference.of_commanded(state.velocity), period
        earlier, took = before, math.inf
        since = (state.stamp_ns - trace.last[0].stamp_ns) / NS if trace.last else math.inf
        if 0.0 <= since <= _FOLLOWS * period:
            before, passed = trace.last[0].speed, min(since, period)
            earlier = before
            if self._jerk and len(trace.last) > 1:
                between = (trace.last[0].stamp_ns - trace.last[1].stamp_ns) / NS
                if 0.0 < between <= _FOLLOWS * period:
                    earlier, took = trace.last[1].speed, between
        found = []
        for part, now, then, limit in zip(step, before, earlier, self._limit):
            if limit == math.inf:
                found.append(limit)
                continue
            sign, most = (part > 0.0) - (part < 0.0), limit
            if self._jerk:
                most = max(sign * (now - then) / took, 0.0) + limit * passed
            found.append((max(sign * now, 0.0) + most * passed) * unit)
        return found


class ChatterCheck:
    """No joint changes direction too often within a time."""

    name = 'chatter'

    def __init__(self, robot: RobotModel, config: ChatterConfig) -> None:
        self._reference, self._most = Reference(robot), config.reversals
        self._window_s = config.window_s
        self._level = Level.STOP if config.verdict == 'stop' else Level.HOLD

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        turns = trace.reversals(state.stamp_ns, self._reference.speed(command, state))
        worst = max(turns, key=turns.__getitem__, default=0)
        if not turns or turns[worst] < self._most:
            return None
        return Finding(self._level, f'{self._reference.names[worst]} has changed direction '
                       f'{turns[worst]} times within {self._window_s:g} s', None)


class CouplingCheck:
    """
    A weighted sum of joint positions stays in its range after one period.

    The command is shortened as a whole. Where the sum is outside already it may come back in.
    """

    name = 'coupling'

    def __init__(self, robot: RobotModel, config: CouplingConfig) -> None:
        for name in config.weights:
            if name not in robot.command_names:
                raise ConfigError(
                    f'robot {robot.name}: safety.coupling {config.name}: {name!r} is no commanded '
                    f'joint{suggestion(name, robot.command_names)}; commanded: '
                    f'{", ".join(robot.command_names)}')
        if robot.config.control_mode == 'effort':
            raise ConfigError(f'robot {robot.name}: safety.coupling {config.name}: control_mode '
                              'effort has no speed to limit')
        self._reference, self._label = Reference(robot), config.name
        self._weights = np.array([config.weights.get(name, 0.0) for name in robot.command_names])
        self._low = -np.inf if config.lower is None else config.lower
        self._high = np.inf if config.upper is None else config.upper
        self._ahead = self._reference.period_s / self._reference.unit

    def check(self, command: np.ndarray, state: RobotState, trace: Trace) -> Finding | None:
        """See the class."""
        origin = np.array(self._reference.standing(state))
        step = command - origin
        here = float(self._weights @ self._reference.of_commanded(state.position))
        change = float(self._weights @ step) * self._ahead
        room = max(self._high - here if change > 0.0 else here - self._low, 0.0)
        if abs(change) <= room:
            return None
        return Finding(Level.CLAMP, f'{self._label}: at {here:.3g}, the command leads to '
                       f'{here + change:.3g}, the range is [{self._low:.3g}, {self._high:.3g}]',
                       origin + step * (room / abs(change)))
