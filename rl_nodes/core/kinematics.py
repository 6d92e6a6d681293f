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
    offset, one fixed rotation and the three matrices of Rodrigues' formula, so that a call costs
    two small products a joint.

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

    def tip(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the tip's (position [m] (3,), rotation matrix (3, 3)) in the base frame.

        :param position: joint positions [rad or m], shape (J,), in ``joint_names`` order.
        """
        origin, frame = np.zeros(3), np.eye(3)
        for index, sliding, offset, a, b, c in self._segments:
            q = float(position[index])
            origin = origin + frame @ offset
            if sliding:
                origin = origin + frame @ (b * q)
                frame = frame @ a
            else:
                frame = frame @ (a + math.sin(q) * b - math.cos(q) * c)
        return origin + frame @ self._tip_offset, frame @ self._tip_rotation

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
