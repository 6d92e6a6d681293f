# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The gain of a linear quadratic regulator for a simulated robot.

B. D. O. Anderson and J. B. Moore, Optimal Control: Linear Quadratic Methods, 1990. Near home, with
x = (positions - home, velocities) and u = command - the one that keeps the robot there,

    x' = A x + B u                                                                             (1)
    P = Q + A' P (A - B K),   K = (R + B' P B)^-1 B' P A                                       (2)

one control period later; u = -K x has the least sum of x' Q x + u' R u. A and B are measured on
the simulator by differences of small excursions. Simulators set positions but no velocities, so
the excursions last a few periods and (1) is fitted to all of them by least squares.
"""

from typing import NamedTuple, Protocol

import numpy as np
from rl_nodes.control.controllers import lqr_config, resting_command
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Start

EXCURSION = 1e-3      # of a position [rad or m], and of a command as a share of its limit
EXCURSION_PERIODS = 6
BALANCING_ROUNDS = 4  # each a Newton step to the command that keeps the robot at home
DRIFT = 1e-3          # greatest drift per period at home [rad, m or per second]
_RICCATI_ROUNDS = 20_000
_CONVERGED = 1e-12
_HOPELESS = 1e12  # cost of a state beyond that weighed by Q at which nothing stabilises


class Plant(Protocol):
    """What is needed of a simulated robot, see ``backends/base.py``."""

    def reset(self, start: Start) -> None:
        """Start afresh."""

    def write(self, command: np.ndarray) -> np.ndarray:
        """Give a command."""

    def step(self) -> None:
        """Advance by one control period."""

    def read(self) -> 'Motion':
        """Return the present measurement."""


class Motion(Protocol):
    """Positions and velocities of the joints, each of shape (J,)."""

    @property
    def position(self) -> np.ndarray:
        """Return positions [rad or m]."""

    @property
    def velocity(self) -> np.ndarray:
        """Return velocities."""


class LinearModel(NamedTuple):
    """
    Equation (1).

    :param state: A, shape (2J, 2J).
    :param command: B, shape (2J, A).
    :param resting: the command that keeps the robot at home, shape (A,).
    """

    state: np.ndarray
    command: np.ndarray
    resting: np.ndarray


def linearise(plant: Plant, robot: RobotModel) -> LinearModel:
    """
    Return the linear model of a simulated robot around its home.

    :raises ConfigError: the base floats, no command keeps the robot at home, or what its joints
        do cannot be told from excursions of positions and commands.
    """
    if robot.home_base is not None:
        raise ConfigError(f'robot {robot.name} has a floating base; an LQR here keeps joints at '
                          'home and knows nothing of a base')
    resting = resting_command(robot)
    for _ in range(BALANCING_ROUNDS):
        model, drift = _fit(plant, robot, resting)
        resting = resting - np.linalg.lstsq(model.command, drift, rcond=None)[0]
    if np.abs(drift).max() > DRIFT:
        worst = robot.joint_names[int(np.argmax(np.abs(drift))) % len(robot.joints)]
        raise ConfigError(f'robot {robot.name}: no command keeps it at home, {worst} moves away; '
                          'an LQR needs a home that is an equilibrium')
    return model


def _fit(plant: Plant, robot: RobotModel,
         resting: np.ndarray) -> tuple[LinearModel, np.ndarray]:
    """Return (model, what x becomes after a period at home (2J,)) at a resting command."""
    joints, commands = len(robot.joints), len(robot.commanded)
    limit = robot.limits('effort' if robot.config.control_mode == 'effort' else 'velocity')
    pushes = np.diag(EXCURSION * limit / (
        robot.config.rate_hz if robot.config.control_mode == 'position' else 1.0))
    rows, results = [], []
    for sign in (1.0, -1.0):
        shifts = [(sign * EXCURSION * np.eye(joints)[i], np.zeros(commands))
                  for i in range(joints)]
        shifts += [(np.zeros(joints), sign * push) for push in pushes]
        for shift, push in shifts:
            plant.reset(Start(robot.home + shift, np.zeros(3)))
            x = np.concatenate([shift, np.zeros(joints)])
            for _ in range(EXCURSION_PERIODS):
                plant.write(resting + push)
                plant.step()
                found = plant.read()
                after = np.concatenate([found.position - robot.home, found.velocity])
                rows.append([*x, *push, 1.0])
                results.append(after)
                x, push = after, np.zeros(commands)
    table = np.array(rows)
    size = np.abs(table).max(0)
    solution, _, rank, _ = np.linalg.lstsq(table / np.where(size > 0, size, 1.0),
                                           np.array(results), rcond=1e-9)
    if rank < table.shape[1]:
        raise ConfigError(f'robot {robot.name}: excursions of positions and commands move only '
                          f'{rank - 1} of {table.shape[1] - 1} states and commands apart from '
                          'each other; an LQR cannot be computed from them')
    fitted = solution.T / size
    return (LinearModel(fitted[:, :2 * joints], fitted[:, 2 * joints:-1], resting),
            fitted[:, -1])


def gain_of(model: LinearModel, state_weight: np.ndarray,
            command_weight: np.ndarray) -> np.ndarray:
    """
    Return K of equation (2), shape (A, 2J).

    :param state_weight: the diagonal of Q, shape (2J,).
    :param command_weight: the diagonal of R, shape (A,).
    :raises ConfigError: the iteration does not settle: no command stabilises the robot.
    """
    a, b, _ = model
    q, r = np.diag(state_weight), np.diag(command_weight)
    p = q
    for _ in range(_RICCATI_ROUNDS):
        gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        after = q + a.T @ p @ (a - b @ gain)
        after = (after + after.T) / 2
        if not np.abs(after).max() < _HOPELESS * np.abs(q).max():
            break
        if np.abs(after - p).max() <= _CONVERGED * np.abs(after).max():
            return gain
        p = after
    raise ConfigError('the Riccati equation has no solution that settles: no command stabilises '
                      'the robot at home, or a weight is zero that must not be')


def design(plant: Plant, robot: RobotModel) -> tuple[np.ndarray, np.ndarray, LinearModel]:
    """
    Return (gain (A, 2J), resting command (A,), model) for the weights in the robot's YAML file.

    :raises ConfigError: see :func:`linearise` and :func:`gain_of`; or the weights do not fit.
    """
    weights = lqr_config(robot)
    joints, commands = len(robot.joints), len(robot.commanded)
    for name, count in (('position_weight', joints), ('velocity_weight', joints),
                        ('command_weight', commands)):
        if len(getattr(weights, name)) != count:
            raise ConfigError(f'robot {robot.name}: controllers.lqr.{name}: '
                              f'{len(getattr(weights, name))} values, expected {count}')
    model = linearise(plant, robot)
    gain = gain_of(model, np.array([*weights.position_weight, *weights.velocity_weight]),
                   np.array(weights.command_weight))
    return gain, model.resting, model
