# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Controllers that need no learning: what a policy may be added to, and what may stand in for one.

Each is a pure function of the measured state; with q, dq the positions [rad or m] and velocities
of the commanded joints, and a command that is a target of the robot's control mode:

    hold   stay at the present position; no velocity; no effort
    pd     stiffness · (pose - q) - damping · dq, added to q where the command is a position   (1)
    lqr    command - gain · (positions - home, velocities) of all measured joints              (2)

None asks for more than the robot's limits allow. The numbers of pd and lqr are in the section
``controllers`` of the robot's YAML file; ``rl_nodes robot lqr`` computes a gain.
"""

from collections.abc import Callable
import hashlib
from typing import Annotated, get_args, Literal, Protocol

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.config import convert, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState

ControllerKind = Literal['hold', 'pd', 'lqr']
KINDS: tuple[str, ...] = get_args(ControllerKind)

_Weight = Annotated[float, Meta(ge=0)]
_Cost = Annotated[float, Meta(gt=0)]


class PdConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Equation (1), one value per commanded joint; what is left out takes its default.

    :param pose: to be reached [rad or m]; home.
    :param stiffness: by control mode: position [1], 1; velocity [1/s], 2; effort [N·m/rad or
        N/m], full effort at an error of 1.
    :param damping: position [s], 0; velocity [1], 0; effort [N·m·s/rad or N·s/m], full effort at
        the speed limit.
    """

    pose: tuple[float, ...] | None = None
    stiffness: tuple[_Weight, ...] | None = None
    damping: tuple[_Weight, ...] | None = None


class LqrConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Equation (2), and what its gain was computed for.

    :param position_weight: cost of a squared position error, one per measured joint.
    :param velocity_weight: cost of a squared velocity, one per measured joint.
    :param command_weight: cost of a squared command, one per commanded joint.
    :param command: that keeps the robot at home, one value per commanded joint.
    :param gain: one row per commanded joint, one column per position, then one per velocity.
    """

    position_weight: tuple[_Weight, ...]
    velocity_weight: tuple[_Weight, ...]
    command_weight: tuple[_Cost, ...]
    command: tuple[float, ...] | None = None
    gain: tuple[tuple[float, ...], ...] | None = None


class Controller(Protocol):
    """
    Turns states into commands.

    :ivar label: kind, and a hash of the numbers behind it.
    """

    label: str

    def command(self, state: RobotState) -> np.ndarray:
        """Return the command, shape (A,), float64, within the robot's limits."""


class Reach:
    """
    Keeps commands within what a robot can do in one period, by its control mode.

    :param robot: its limits of speed and effort count; those of position are the monitor's.
    """

    def __init__(self, robot: RobotModel) -> None:
        self._commanded = robot.commanded
        self._relative = robot.config.control_mode == 'position'
        self._most = robot.limits('effort' if robot.config.control_mode == 'effort'
                                  else 'velocity')
        if self._relative:
            self._most = self._most / robot.config.rate_hz

    def within(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the nearest command (A,) that asks for no more than the limits."""
        if self._relative:
            present = state.position[self._commanded]
            low, high = present - self._most, present + self._most
        else:
            low, high = -self._most, self._most
        allowed: np.ndarray = np.minimum(np.maximum(command, low), high)
        return allowed


class Hold:
    """Stays where the robot is."""

    label = 'hold'

    def __init__(self, robot: RobotModel) -> None:
        self._commanded = robot.commanded
        self._position = robot.config.control_mode == 'position'

    def command(self, state: RobotState) -> np.ndarray:
        """See the base class."""
        present = state.position[self._commanded]
        return present if self._position else np.zeros_like(present)


class Pd:
    """Goes to a pose and stays there, eq. (1)."""

    def __init__(self, robot: RobotModel) -> None:
        mode, count = robot.config.control_mode, len(robot.commanded)
        given = convert(robot.config.controllers.get('pd', {}), PdConfig, _where(robot, 'pd'))
        effort, speed = robot.limits('effort'), robot.limits('velocity')
        stiffness, damping = {
            'position': (np.ones(count), np.zeros(count)),
            'velocity': (np.full(count, 2.0), np.zeros(count)),
            'effort': (effort, effort / speed)}[mode]
        self._pose = _vector(robot, 'pd.pose', given.pose, robot.home[robot.commanded])
        self._stiffness = _vector(robot, 'pd.stiffness', given.stiffness, stiffness)
        self._damping = _vector(robot, 'pd.damping', given.damping, damping)
        self._relative = mode == 'position'
        self._commanded = robot.commanded
        self._reach = Reach(robot)
        self.label = _label('pd', self._pose, self._stiffness, self._damping)

    def command(self, state: RobotState) -> np.ndarray:
        """See the base class."""
        q, dq = state.position[self._commanded], state.velocity[self._commanded]
        wanted = self._stiffness * (self._pose - q) - self._damping * dq
        return self._reach.within(state, q + wanted if self._relative else wanted)


class Lqr:
    """Keeps the robot at home at the least cost, eq. (2)."""

    def __init__(self, robot: RobotModel) -> None:
        given = lqr_config(robot)
        if given.gain is None:
            raise ConfigError(f'{_where(robot, "lqr")} has no gain; compute it with: '
                              f'rl_nodes robot lqr {robot.name}')
        self._gain = np.array([_row(robot, row) for row in given.gain])
        if len(self._gain) != len(robot.commanded):
            raise ConfigError(f'{_where(robot, "lqr.gain")}: {len(self._gain)} rows, expected '
                              f'one for each of {", ".join(robot.command_names)}')
        self._home = robot.home
        self._command = _vector(robot, 'lqr.command', given.command, resting_command(robot))
        self._reach = Reach(robot)
        self.label = _label('lqr', self._home, self._command, self._gain)

    def command(self, state: RobotState) -> np.ndarray:
        """See the base class."""
        error = np.concatenate([state.position - self._home, state.velocity])
        return self._reach.within(state, self._command - self._gain @ error)


_MAKERS: dict[str, Callable[[RobotModel], Controller]] = {'hold': Hold, 'pd': Pd, 'lqr': Lqr}


def make_controller(kind: str, robot: RobotModel) -> Controller:
    """
    Return a controller of a robot.

    :param kind: ``hold``, ``pd`` or ``lqr``.
    :raises ConfigError: there is no such controller, or the robot's YAML file lacks its numbers.
    """
    if kind not in _MAKERS:
        raise ConfigError(f'unknown controller {kind!r}{suggestion(kind, KINDS)}; there are '
                          f'{", ".join(KINDS)}')
    for name in robot.config.controllers:
        if name not in ('pd', 'lqr'):
            raise ConfigError(f'robot {robot.name}: controllers: unknown key {name!r}'
                              f'{suggestion(name, ("pd", "lqr"))}; allowed: pd, lqr')
    return _MAKERS[kind](robot)


def lqr_config(robot: RobotModel) -> LqrConfig:
    """Return the section ``controllers.lqr`` of a robot's YAML file; ConfigError without one."""
    if 'lqr' not in robot.config.controllers:
        raise ConfigError(f'{_where(robot, "lqr")} is missing; give position_weight, '
                          'velocity_weight and command_weight there, see docs/deployment.md')
    return convert(robot.config.controllers['lqr'], LqrConfig, _where(robot, 'lqr'))


def resting_command(robot: RobotModel) -> np.ndarray:
    """Return the command (A,) that would keep a robot without gravity at home."""
    return (robot.home[robot.commanded].copy() if robot.config.control_mode == 'position'
            else np.zeros(len(robot.commanded)))


def _where(robot: RobotModel, key: str) -> str:
    return f'robot {robot.name}: controllers.{key}'


def _vector(robot: RobotModel, key: str, given: tuple[float, ...] | None,
            default: np.ndarray) -> np.ndarray:
    """Return one value per commanded joint, shape (A,)."""
    if given is None:
        return default
    if len(given) != len(robot.commanded):
        raise ConfigError(f'{_where(robot, key)}: {len(given)} values, expected one for each of '
                          f'{", ".join(robot.command_names)}')
    return np.array(given)


def _row(robot: RobotModel, row: tuple[float, ...]) -> tuple[float, ...]:
    if len(row) != 2 * len(robot.joints):
        raise ConfigError(f'{_where(robot, "lqr.gain")}: a row of {len(row)} values, expected the '
                          f'positions and then the velocities of {", ".join(robot.joint_names)}')
    return row


def _label(kind: str, *numbers: np.ndarray) -> str:
    digest = hashlib.sha256(b''.join(part.tobytes() for part in numbers)).hexdigest()
    return f'{kind}#{digest[:16]}'
