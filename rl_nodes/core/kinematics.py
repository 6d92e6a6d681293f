# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of one serial chain, from the measured joints to the tool's frame."""

import hashlib
import math

import numpy as np
from rl_nodes.core.rotations import rotation_about
from rl_nodes.core.urdf import Urdf


class Chain:
    """
    The transforms from ``base`` to ``tip``.

    Fixed joints are folded into their neighbours once; what remains per movable joint is one
    offset, one fixed rotation and the three matrices of Rodrigues' formula. Positions are computed
    in plain floats: faster than arrays of this size, and the same bits on every machine, whatever
    its linear algebra library does.

    :param joint_names: order of the joint vector that :meth:`tip` gets.
    """

    def __init__(self, urdf: Urdf, base: str, tip: str, joint_names: tuple[str, ...]) -> None:
        self._segments: list[tuple[int, bool, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        offset, rotation = np.zeros(3), np.eye(3)
        for joint in urdf.chain(base, tip):
            offset = offset + rotation @ joint.offset
            rotation = rotation @ joint.rotation
            if joint.kind == 'fixed':
                continue
            # R(q) = I + sin q K + (1 - cos q) K²  =  (I + K²) + sin q K - cos q K²
            k = rotation_about(joint.axis, math.pi / 2) - rotation_about(joint.axis, -math.pi / 2)
            k = k / 2
            index = joint_names.index(joint.name)
            if joint.kind == 'prismatic':
                self._segments.append((index, True, offset, rotation, rotation @ joint.axis, k))
            else:
                self._segments.append(
                    (index, False, offset, rotation @ (np.eye(3) + k @ k), rotation @ k,
                     rotation @ k @ k))
            offset, rotation = np.zeros(3), np.eye(3)
        self._tip_offset, self._tip_rotation = offset, rotation
        x, y, z = offset.tolist()
        self._tip: tuple[float, float, float] = (x, y, z)
        self._inward = [
            (index, sliding, (*offset.tolist(), *a.ravel().tolist(), *b.ravel().tolist(),
                              *([] if sliding else c.ravel().tolist())))
            for index, sliding, offset, a, b, c in reversed(self._segments)]

    def tip_position(self, position: np.ndarray) -> np.ndarray:
        """
        Return the tip's position in the base frame [m], shape (3,).

        :param position: joint positions [rad or m], shape (J,), in ``joint_names`` order.
        """
        values = position.tolist()
        x, y, z = self._tip
        for index, sliding, numbers in self._inward:  # from the tip's frame to the base's
            q = values[index]
            if sliding:
                (ox, oy, oz, a0, a1, a2, a3, a4, a5, a6, a7, a8, bx, by, bz) = numbers
                x, y, z = (ox + bx * q + a0 * x + a1 * y + a2 * z,
                           oy + by * q + a3 * x + a4 * y + a5 * z,
                           oz + bz * q + a6 * x + a7 * y + a8 * z)
                continue
            (ox, oy, oz, a0, a1, a2, a3, a4, a5, a6, a7, a8, b0, b1, b2, b3, b4, b5, b6, b7, b8,
             c0, c1, c2, c3, c4, c5, c6, c7, c8) = numbers
            s, c = math.sin(q), math.cos(q)
            x, y, z = (
                ox + (a0 + s * b0 - c * c0) * x + (a1 + s * b1 - c * c1) * y
                + (a2 + s * b2 - c * c2) * z,
                oy + (a3 + s * b3 - c * c3) * x + (a4 + s * b4 - c * c4) * y
                + (a5 + s * b5 - c * c5) * z,
                oz + (a6 + s * b6 - c * c6) * x + (a7 + s * b7 - c * c7) * y
                + (a8 + s * b8 - c * c8) * z)
        return np.array((x, y, z))

    def numbers(self) -> tuple[list[tuple[int, bool, tuple[float, ...]]],
                               tuple[float, float, float]]:
        """
        Return what :meth:`tip_position` computes with, for who computes it elsewhere.

        :return: per movable joint from the tip to the base (index, whether it slides, offset (3)
            and matrices (9 each) of the formula above), and the tip in the last joint's frame.
        """
        return list(self._inward), self._tip

    def tip(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the tip's (position [m] (3,), rotation matrix (3, 3)) in the base frame.

        :param position: joint positions [rad or m], shape (J,), in ``joint_names`` order.
        """
        frame = np.eye(3)
        for index, sliding, _, a, b, c in self._segments:
            q = float(position[index])
            frame = frame @ (a if sliding else a + math.sin(q) * b - math.cos(q) * c)
        return self.tip_position(position), frame @ self._tip_rotation

    def fingerprint(self) -> str:
        """Return the SHA-256 of the chain's numbers, rounded to a nanometre and a nanoradian."""
        digest = hashlib.sha256()
        for index, sliding, *arrays in self._segments:
            digest.update(f'{index} {sliding}'.encode())
            for array in arrays:
                digest.update((np.round(array, 9) + 0.0).tobytes())
        for array in (self._tip_offset, self._tip_rotation):
            digest.update((np.round(array, 9) + 0.0).tobytes())
        return digest.hexdigest()
