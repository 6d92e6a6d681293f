# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics from the measured joints: the tool's frame, or the frames of all links."""

from collections.abc import Sequence
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


Frame = tuple[float, float, float, float, float, float, float, float, float, float, float, float]
_ORIGIN: Frame = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class Tree:
    """
    The frames of every link that descends from ``base``.

    Links that fixed joints join share one frame, whose z axis is that of the joint which moves
    them. A frame is twelve plain floats: its origin [m], then its rotation matrix row by row, both
    in the frame of ``base``.

    :param joint_names: order of the joint vector that :meth:`frames` gets.
    :ivar links: by link (index of its frame, its offset there [m], its rotation there).
    :ivar parents: index of the frame that each frame's joint is mounted on; -1 for the first,
        which is that of ``base``.
    """

    def __init__(self, urdf: Urdf, base: str, joint_names: tuple[str, ...]) -> None:
        self.links: dict[str, tuple[int, np.ndarray, np.ndarray]] = {
            base: (0, np.zeros(3), np.eye(3))}
        self.parents = [-1]
        self._joints: list[tuple[int, int, bool, tuple[float, ...]]] = []
        waiting = [base]
        while waiting:
            link = waiting.pop()
            frame, origin, turn = self.links[link]
            for joint in urdf.joints.values():
                if joint.parent != link:
                    continue
                offset, rotation = origin + turn @ joint.offset, turn @ joint.rotation
                waiting.append(joint.child)
                if joint.kind == 'fixed':
                    self.links[joint.child] = frame, offset, rotation
                    continue
                own = _with_z_along(joint.axis)
                self.links[joint.child] = len(self.parents), np.zeros(3), own.T
                self._joints.append((frame, joint_names.index(joint.name),
                                     joint.kind == 'prismatic', tuple(np.concatenate(
                                         [offset, (rotation @ own).ravel()]).tolist())))
                self.parents.append(frame)

    def frames(self, position: Sequence[float]) -> list[Frame]:
        """
        Return every frame, that of ``base`` first.

        :param position: joint positions [rad or m], (J,), in ``joint_names`` order.
        """
        found = [_ORIGIN]
        for parent, index, sliding, numbers in self._joints:
            px, py, pz, r0, r1, r2, r3, r4, r5, r6, r7, r8 = found[parent]
            x, y, z, m0, m1, m2, m3, m4, m5, m6, m7, m8 = numbers
            px, py, pz = (px + r0 * x + r1 * y + r2 * z, py + r3 * x + r4 * y + r5 * z,
                          pz + r6 * x + r7 * y + r8 * z)
            r0, r1, r2 = (r0 * m0 + r1 * m3 + r2 * m6, r0 * m1 + r1 * m4 + r2 * m7,
                          r0 * m2 + r1 * m5 + r2 * m8)
            r3, r4, r5 = (r3 * m0 + r4 * m3 + r5 * m6, r3 * m1 + r4 * m4 + r5 * m7,
                          r3 * m2 + r4 * m5 + r5 * m8)
            r6, r7, r8 = (r6 * m0 + r7 * m3 + r8 * m6, r6 * m1 + r7 * m4 + r8 * m7,
                          r6 * m2 + r7 * m5 + r8 * m8)
            q = position[index]
            if sliding:  # along z
                found.append((px + r2 * q, py + r5 * q, pz + r8 * q,
                              r0, r1, r2, r3, r4, r5, r6, r7, r8))
                continue
            s, c = math.sin(q), math.cos(q)  # about z
            found.append((px, py, pz, c * r0 + s * r1, c * r1 - s * r0, r2,
                          c * r3 + s * r4, c * r4 - s * r3, r5,
                          c * r6 + s * r7, c * r7 - s * r6, r8))
        return found


def _with_z_along(axis: np.ndarray) -> np.ndarray:
    """Return a rotation matrix whose third column is a unit vector, shape (3, 3)."""
    x = np.cross(np.eye(3)[np.argmin(np.abs(axis))], axis)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(axis, x), axis], axis=1)
