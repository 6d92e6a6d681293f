# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every robot, simulated or real, must be able to do."""

from typing import NamedTuple, Protocol

import numpy as np


class Measurement(NamedTuple):
    """
    What a robot measures at one instant, in the joint order of its configuration.

    :param position: [rad or m], shape (J,), float64.
    :param velocity: [rad/s or m/s], shape (J,), float64.
    :param effort: [N·m or N], shape (J,), float64.
    """

    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray


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
        """Make the robot hold where it is: what happens when no command is fresh."""

    def close(self) -> None:
        """Let go of the robot; may be called twice."""


class SimulatedRobot(Robot, Protocol):
    """A robot whose time and state are ours."""

    def reset(self, position: np.ndarray, goal: np.ndarray) -> None:
        """
        Start afresh: all dynamics forgotten, joints at ``position`` (J,) and at rest.

        :param goal: [m], shape (3,), in ``base_link``; only drawn in pictures.
        """

    def step(self) -> None:
        """Advance the physics by one control period."""

    def recover(self) -> None:
        """Cure an exploded simulation; a reset must follow."""

    def render(self, width: int, height: int) -> np.ndarray:
        """
        Return a picture, shape (height, width, 3), uint8; the physics does not notice.

        :raises BackendError: there is nothing to draw with.
        """
