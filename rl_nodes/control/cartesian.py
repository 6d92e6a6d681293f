# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Joint velocities for a wanted velocity of the tip of a chain, by damped least squares.

Y. Nakamura and H. Hanafusa 1986, Inverse kinematic solutions with singularity robustness. With J
the Jacobian of the chain, v what the tip should do,

    dq = J# v + (I - J# J) z,   J# = J' (J J' + d² I)^-1,
    d² = (1 - (s / SINGULAR)²) MOST² where s < SINGULAR, else 0                               (1)

s the least singular value of J and z what the joints should do as far as the tip does not mind. A
joint that stands at its limit and would move further out is taken out of J and (1) is solved
again. The result is shortened as a whole where a joint would be too fast, so that the tip keeps
its direction.
"""

import numpy as np
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.robot import RobotModel

SINGULAR = 0.05     # [m/rad]
MOST = 0.05         # [m/rad]
_STEP = 1e-6        # [rad or m]


class TipVelocity:
    """
    Equation (1) for one chain of a robot.

    :param robot: its limits hold.
    :param chain: whose tip moves.
    """

    def __init__(self, robot: RobotModel, chain: Chain) -> None:
        self._chain, self._commanded = chain, robot.commanded
        self._speed = robot.limits('velocity')
        margin = robot.config.safety.position_margin
        self._low, self._high = robot.limits('lower') + margin, robot.limits('upper') - margin

    def joints(self, position: np.ndarray, velocity: np.ndarray,
               rest: np.ndarray | None = None) -> np.ndarray:
        """
        Return the velocities of the commanded joints [rad/s or m/s], shape (A,).

        :param position: of all joints [rad or m], shape (J,).
        :param velocity: of the tip in the chain's base: linear [m/s], shape (3,), or linear and
            angular [rad/s], shape (6,).
        :param rest: z, velocities of the commanded joints, shape (A,); None for none.
        """
        jacobian = self.jacobian(position)[:len(velocity)]
        here = position[self._commanded]
        rest = np.zeros(len(here)) if rest is None else rest
        free = np.ones(len(here), bool)
        for _ in range(len(here)):
            wanted = np.zeros(len(here))
            wanted[free] = _damped(jacobian[:, free], velocity, rest[free])
            outward = ((here >= self._high) & (wanted > 0)) | ((here <= self._low) & (wanted < 0))
            if not outward.any():
                break
            free &= ~outward
        over = np.abs(wanted) / self._speed
        return wanted / max(1.0, float(over.max()))

    def jacobian(self, position: np.ndarray) -> np.ndarray:
        """Return linear, then angular velocity of the tip per commanded joint, shape (6, A)."""
        columns = []
        for index in self._commanded:
            ahead, behind = position.copy(), position.copy()
            ahead[index] += _STEP
            behind[index] -= _STEP
            (p1, r1), (p0, r0) = self._chain.tip(ahead), self._chain.tip(behind)
            turn = (r1 - r0) @ ((r1 + r0) / 2).T
            columns.append(np.concatenate(
                [p1 - p0, [turn[2, 1], turn[0, 2], turn[1, 0]]]) / (2 * _STEP))
        return np.array(columns).T


def _damped(jacobian: np.ndarray, velocity: np.ndarray, rest: np.ndarray) -> np.ndarray:
    if not jacobian.size:
        return rest
    left, values, right = np.linalg.svd(jacobian, full_matrices=False)
    least = float(values.min()) if len(values) == len(velocity) else 0.0
    damping = MOST ** 2 * max(0.0, 1.0 - (least / SINGULAR) ** 2)
    inverse = right.T * (values / (values ** 2 + damping + 1e-12)) @ left.T
    solved: np.ndarray = inverse @ velocity + rest - inverse @ (jacobian @ rest)
    return solved
