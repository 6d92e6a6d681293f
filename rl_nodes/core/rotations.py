# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rotations; quaternions are always (x, y, z, w)."""

import numpy as np


def rotation_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """
    Return the rotation matrix of fixed-axis roll, pitch, yaw.

    :param rpy: [rad], shape (3,), as in a URDF: R = Rz(yaw) Ry(pitch) Rx(roll).
    :return: shape (3, 3).
    """
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr]])


def rotation_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """
    Return the rotation matrix, shape (3, 3), of a unit quaternion (x, y, z, w), shape (4,).

    Its columns are the axes of the rotated frame in the outer one.
    """
    x, y, z, w = quaternion.tolist()
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def quaternion_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Return the unit quaternion (x, y, z, w) of fixed-axis roll, pitch, yaw [rad], shape (4,)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(np.asarray(rpy) / 2), np.sin(np.asarray(rpy) / 2)
    return np.array([
        cy * cp * sr - sy * sp * cr, cy * sp * cr + sy * cp * sr,
        sy * cp * cr - cy * sp * sr, cy * cp * cr + sy * sp * sr])


def quaternion_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the rotation ``second`` in the axes that ``first`` gives, shape (4,), of length 1."""
    (ax, ay, az, aw), (bx, by, bz, bw) = first.tolist(), second.tolist()
    product = np.array([
        aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz])
    return product / np.linalg.norm(product)


def rpy_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """
    Return fixed-axis roll, pitch, yaw [rad], shape (3,), of a rotation matrix, shape (3, 3).

    Where pitch is a right angle only the sum of roll and yaw is known; roll is 0 there.
    """
    r = rotation
    if np.hypot(r[0, 0], r[1, 0]) < 1e-9:
        return np.array([0.0, np.arctan2(-r[2, 0], 0.0), np.arctan2(-r[0, 1], r[1, 1])])
    return np.array([np.arctan2(r[2, 1], r[2, 2]),
                     np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0])),
                     np.arctan2(r[1, 0], r[0, 0])])


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """
    Return the rotation by ``angle`` [rad] about a unit ``axis``, shape (3, 3).

    Rodrigues' formula: R = I + sin(a) K + (1 - cos(a)) K², K the cross-product matrix of the axis.
    """
    x, y, z = axis
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)
