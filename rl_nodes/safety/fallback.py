# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the robot does once it is stopped for what was commanded, or for silence.

The fallbacks of a robot's YAML file take over in turn: where one cannot go on (its command does
not pass the checks, it takes too long, it raises), the next begins with the same state, and after
the last the robot holds. Nothing leads back to an earlier one or to the policy (run-time
assurance: Sha, Using simplicity to control complexity, 2001).
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import judge_values
from rl_nodes.safety.homing import Ramp
from rl_nodes.safety.limits import Check, Reference, Trace

Controllers = Mapping[str, Callable[[RobotState], np.ndarray]]  # fallback to command, (A,)


class Fallback(Protocol):
    """One way to bring the robot to rest."""

    def command(self, now_s: float, state: RobotState) -> tuple[np.ndarray | None, str]:
        """
        Return (the next command, shape (A,), or None; why there is none).

        :param now_s: steady time [s].
        :param state: measured now; each is answered once.
        """

    def done(self, state: RobotState) -> bool:
        """Return whether nothing is left to do but to hold."""


class Brake:
    """
    A controlled stop: each joint slows down by its ``acceleration``, and holds where it stands.

    :param robot: position or velocity control.
    :param speed: of the commanded joints when it begins [rad/s or m/s], shape (A,).
    """

    def __init__(self, robot: RobotModel, speed: np.ndarray) -> None:
        self._reference = Reference(robot)
        most = robot.limits('velocity')
        self._speed = np.clip(speed, -most, most)
        self._change = robot.limits('acceleration') * self._reference.period_s

    def command(self, now_s: float, state: RobotState) -> tuple[np.ndarray | None, str]:
        """See the base class."""
        size = np.maximum(np.abs(self._speed) - self._change, 0.0)
        self._speed = np.sign(self._speed) * size
        return np.array(self._reference.standing(state)) + self._speed * self._reference.unit, ''

    def done(self, state: RobotState) -> bool:
        """See the base class."""
        return not self._speed.any()


class Control:
    """
    A controller takes over until motion is allowed again.

    :param control: from a state to a command, shape (A,).
    """

    def __init__(self, control: Callable[[RobotState], np.ndarray]) -> None:
        self._control = control

    def command(self, now_s: float, state: RobotState) -> tuple[np.ndarray | None, str]:
        """See the base class."""
        return self._control(state), ''

    def done(self, state: RobotState) -> bool:
        """See the base class."""
        return False


class Ladder:
    """
    The fallbacks of a robot, from the first to holding.

    :param robot: its ``safety.fallback``.
    :param controllers: those of its fallbacks that are controllers, by name.
    :raises ConfigError: the robot lacks what a fallback needs.
    :ivar active: name of the fallback that commands the robot; empty where none does.
    :ivar failures: why earlier ones gave up.
    """

    def __init__(self, robot: RobotModel, controllers: Controllers) -> None:
        self._robot, self._controllers = robot, controllers
        self._names = robot.config.safety.fallback
        pose = robot.config.safety.retreat.pose
        self._pose = robot.home[robot.commanded] if pose is None else np.array(pose)
        self._level: Fallback | None = None
        self._waiting: list[str] = []
        self._speed: np.ndarray  # when the first takes over
        self.active, self.failures = '', ''
        for name in self._names:
            why = self._unusable(name)
            if why:
                raise ConfigError(f'robot {robot.name}: safety.fallback: {name} {why}')

    def _unusable(self, name: str) -> str:
        mode = self._robot.config.control_mode
        if name == 'brake':
            if mode == 'effort':
                return 'needs control_mode position or velocity'
            if not np.isfinite(self._robot.limits('acceleration')).all():
                return 'needs the acceleration of every commanded joint'
        elif name == 'retreat':
            if mode != 'position':
                return 'needs control_mode position'
            low, high = self._robot.limits('lower'), self._robot.limits('upper')
            if self._pose.shape != low.shape or not (
                    (self._pose >= low) & (self._pose <= high)).all():
                return (f'needs a pose of {len(low)} values within the ranges of the joints, '
                        f'retreat.pose is {self._pose.tolist()}')
        elif name not in self._controllers:
            return 'needs a controller that was not given'
        return ''

    def begin(self, speed: np.ndarray) -> None:
        """
        Let the first fallback take over with the next state.

        :param speed: of the commanded joints [rad/s or m/s], shape (A,).
        """
        self._speed, self._waiting = speed, list(self._names)
        self._level, self.active, self.failures = None, '', ''
        self._next()

    def end(self) -> None:
        """Nothing commands the robot any more."""
        self._level, self.active, self._waiting = None, '', []

    def command(self, steady_ns: int, state: RobotState, checks: tuple[Check, ...],
                trace: Trace) -> tuple[np.ndarray | None, str]:
        """
        Return (the command for a state, shape (A,); None where the robot is to hold now; by whom).

        :param steady_ns: steady time [ns].
        :param checks: that it has to pass.
        :param trace: what was executed before.
        """
        while self.active:
            by = self.active
            try:
                if self._level is None:
                    self._level = self._make(steady_ns / NS, state)
                wanted, why = self._level.command(steady_ns / NS, state)
                why = why or 'gives no command'
                if wanted is not None:
                    judged = judge_values(checks, wanted, state, trace)
                    wanted, why = judged.allowed, judged.reason
                if self._level.done(state) and wanted is not None:
                    self.end()
            except Exception as error:  # whatever one does, the next must get its turn
                wanted, why = None, repr(error)
            if wanted is not None:
                return wanted, by
            self.failures = f'{self.failures}{by}: {why}; '
            self._next()
        return None, ''

    def _make(self, now_s: float, state: RobotState) -> Fallback:
        if self.active == 'brake':
            return Brake(self._robot, self._speed)
        if self.active == 'retreat':
            return Ramp(self._robot, now_s, state.position, self._pose,
                        self._robot.config.safety.retreat)
        return Control(self._controllers[self.active])

    def _next(self) -> None:
        self._level = None
        self.active = self._waiting.pop(0) if self._waiting else ''
