# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How a planar velocity becomes the speeds of two driven wheels, and back.

An action is (forward, turn), in shares of what the wheels can do: (1, 0) is straight ahead and
(0, 1) a turn to the left on the spot, each at the wheels' speed limit. With w the share of a
wheel's speed limit,

    w_left = (forward - turn) / n,   w_right = (forward + turn) / n,
    n = max(1, |forward| + |turn|)                                                             (1)

so that no wheel is asked for more than its limit and a curve keeps its radius where both together
would be too fast. Back: forward = (w_left + w_right) / 2, turn = (w_right - w_left) / 2.
"""

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import RobotState


class PlanarActionMap:
    """
    Actions to wheel speeds and back for a robot with differential drive.

    Which wheel is on which side, and which way it turns, is read from the robot's description.

    :param scale: share of the wheels' speed limit that 1 means.
    :param robot: its two commanded joints are the wheels, with axes along y of ``base_link``.
    :raises ConfigError: the robot is driven in another way.
    """

    def __init__(self, scale: float, robot: RobotModel) -> None:
        sides = {name: _side(robot, name) for name in robot.command_names}
        if sorted(np.sign(y) for y, _ in sides.values()) != [-1.0, 1.0]:
            raise ConfigError(
                'action.kind = planar_velocity needs two commanded wheels, one at each side, with '
                f'axes along y of base_link; robot {robot.name} commands '
                + ', '.join(f'{name} (y = {y:g} m)' if forward else f'{name} (another axis)'
                            for name, (y, forward) in sides.items()))
        left = np.array([np.sign(y) for y, _ in sides.values()])
        self.size = robot.limits('velocity') * scale * [way for _, way in sides.values()]
        self.kind = 'planar_velocity'
        self.turn = -left  # share of a wheel's speed per share of turning
        self.spec = ArraySpec('action', ('forward', 'turn'), ('1', '1'), (-1.0, -1.0), (1.0, 1.0))

    def command(self, state: RobotState, action: np.ndarray) -> np.ndarray:
        """Return the wheels' speeds [rad/s], shape (2,), float64, by eq. (1)."""
        forward, turn = np.maximum(np.minimum(action.astype(np.float64), 1.0), -1.0).tolist()
        share = (forward + turn * self.turn) / max(1.0, abs(forward) + abs(turn))
        return share * self.size

    def hold(self, state: RobotState) -> np.ndarray:
        """Return the command that keeps the robot where it is, shape (2,), float64."""
        return np.zeros(2)

    def action(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the action that two wheel speeds amount to, shape (2,), float32."""
        first, second = (command / self.size).tolist()
        return np.array([(first + second) / 2,
                         (first * self.turn[0] + second * self.turn[1]) / 2], np.float32)


def _side(robot: RobotModel, name: str) -> tuple[float, float]:
    """
    Return (y of a wheel in ``base_link`` [m], 1 where it turns forwards about +y and -1 about -y).

    (0, 0) for a joint that is no such wheel.
    """
    joint = robot.urdf.joints[name]
    offset, rotation = np.zeros(3), np.eye(3)
    for link in robot.urdf.chain(robot.config.base_link, joint.child):
        offset, rotation = offset + rotation @ link.offset, rotation @ link.rotation
        if link.kind != 'fixed' and link.name != name:
            return 0.0, 0.0
    axis = rotation @ joint.axis
    if joint.kind == 'prismatic' or abs(axis[1]) < 1 - 1e-6:
        return 0.0, 0.0
    return float(offset[1]), float(np.sign(axis[1]))
