# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every robot, simulated or real, must be able to do."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from rl_nodes.core.errors import BackendError
from rl_nodes.core.types import BaseState, Start


class Measurement(NamedTuple):
    """
    What a robot measures at one instant, in the joint order of its configuration.

    :param position: [rad or m], shape (J,), float64.
    :param velocity: [rad/s or m/s], shape (J,), float64.
    :param effort: [N·m or N], shape (J,), float64.
    :param base: the floating base; None where the base is fixed.
    :param objects: poses of the task's objects, shape (N, 7),
    :param ranges: of the range sensor, shape (R,),
    :param imu: of the inertial measurement unit, shape (10,), and
    :param wrench: of the force-torque sensor, shape (6,), all as in :class:`RobotState`.
    """

    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray
    base: BaseState | None = None
    objects: np.ndarray | None = None
    ranges: np.ndarray | None = None
    imu: np.ndarray | None = None
    wrench: np.ndarray | None = None


class Robot(Protocol):
    """A robot behind the environment bridge. No ROS and no learning code inside."""

    def read(self) -> Measurement:
        """
        Return the present measurement.

        :raises BackendError: the measurement is not finite or cannot be had.
        """

    def write(self, command: np.ndarray) -> np.ndarray:
        """
        Give the robot a command and return what was really sent: efforts are cut to their limit.

        :param command: targets of the control mode, shape (A,), float64; must be finite.
        :raises BackendError: wrong shape or not finite; nothing is sent then.
        """

    def hold(self) -> None:
        """
        Make the robot hold where it is: what happens when no command is fresh.

        Position-controlled legs hold their last targets, after a reset its position: held where
        they sag to, again and again, they would let the robot sink.
        """

    def close(self) -> None:
        """Let go of the robot; may be called twice."""


class HardwareRobot(Robot, Protocol):
    """A physical robot. Nothing is sent to it before :meth:`connect`."""

    def connect(self) -> None:
        """
        Reach the robot, check that it is the one expected, and hold it. Nothing moves.

        :raises BackendError: says in bounded time what is not as expected.
        """

    def reconnect(self) -> None:
        """Connect again after a fault, in the same process."""

    def read(self) -> Measurement:
        """
        Return the present measurement, within a control period.

        :raises ReadMissedError: there is none now; the next reading may succeed.
        :raises BackendError: there will be none before :meth:`reconnect`.
        """

    def watch(self, now_s: float) -> bool:
        """
        Let the drives rest after too long without a command; to be called every period.

        :param now_s: steady time, as ``time.monotonic()`` gives it [s].
        :return: whether this call let them go.
        """

    def torque_on(self) -> None:
        """Hold again, where the robot is, after :meth:`watch` let it go."""

    def diagnostics(self) -> dict[str, Any]:
        """Return what the drives report and counters, as flat values from memory."""


class SimulatedRobot(Robot, Protocol):
    """A robot whose time and state are ours."""

    def reset(self, start: Start) -> None:
        """Start afresh: all dynamics forgotten, joints at rest; the goal is only drawn."""

    def step(self) -> None:
        """Advance the physics by one control period."""

    def truth(self) -> Measurement:
        """
        Return the present state as it is, however it is measured.

        :raises BackendError: the simulation has exploded.
        """

    def recover(self) -> None:
        """Cure an exploded simulation; a reset must follow."""

    def render(self, width: int, height: int) -> np.ndarray:
        """
        Return a picture, shape (height, width, 3), uint8; the physics does not notice.

        :raises BackendError: there is nothing to draw with.
        """


class Simulator(SimulatedRobot, Protocol):
    """
    A simulated robot that is not disturbed.

    ``Start.variation.physics`` holds for one episode; the next reset sets everything back, bit by
    bit. See ``core/variation.py`` for what a solid is.
    """

    def step(self, substeps: int | None = None) -> None:
        """Advance the physics by some physics steps; None for those of one control period."""

    def push(self, solid: int, force: np.ndarray) -> None:
        """
        Exert a force on the centre of mass of a solid from now on, until a reset.

        :param force: [N], axes of the world, shape (3,).
        """


def require_command(command: np.ndarray, count: int) -> None:
    """Refuse, as a BackendError, what is not ``count`` finite values: one NaN spoils a world."""
    if command.shape != (count,) or not all(map(math.isfinite, command.tolist())):
        raise BackendError(f'command {command.tolist()} refused: expected {count} finite values')
