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


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """
    Return the rotation by ``angle`` [rad] about a unit ``axis``, shape (3, 3).

    Rodrigues' formula: R = I + sin(a) K + (1 - cos(a)) K², K the cross-product matrix of the axis.
    """
    x, y, z = axis
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)
