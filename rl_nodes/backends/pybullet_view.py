# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The world as it looks, from states that come from elsewhere.

A view is a second world of its own, in which nothing ever moves by physics: robot and objects are
put where a state says they are. So it serves states of every backend, and whoever looks at it
disturbs nobody.
"""

import numpy as np
from rl_nodes.backends.pybullet_robot import pybullet, PybulletRobot
from rl_nodes.core.cameras import CameraSensorConfig
from rl_nodes.core.types import RobotState, Start

_BACKGROUND = 1 - 2.0**-22  # of a depth buffer; the renderer leaves it a bit below 1


class PybulletView(PybulletRobot):
    """A robot and its objects to be looked at, drawn in software; same arguments."""

    def show(self, state: RobotState, goal: np.ndarray) -> None:
        """
        Put everything where it is.

        :param state: of this robot, complete.
        :param goal: position of the goal in ``base_link`` [m], shape (3,).
        """
        self.reset(Start(state.position, goal, state.base, state.objects))

    def look(self, camera: CameraSensorConfig, position: np.ndarray,
             rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return (picture (H, W, 3) uint8, distances along the optical axis [m] (H, W) float32).

        A distance is infinite where nothing is nearer than ``camera.far_m``.

        :param position: of the optical frame [m], shape (3,).
        :param rotation: of the optical frame, shape (3, 3); see ``CameraMount.pose``.
        """
        _, _, colours, buffer, _ = pybullet.getCameraImage(
            camera.width, camera.height, _view_matrix(position, rotation),
            _projection_matrix(camera), shadow=0, lightDirection=(1.0, -1.0, 2.0),
            renderer=pybullet.ER_TINY_RENDERER, physicsClientId=self._client)
        shape = camera.height, camera.width
        picture = np.asarray(colours, np.uint8).reshape(*shape, 4)[:, :, :3]
        return picture, _distances(np.asarray(buffer, np.float64).reshape(shape), camera)


class PybulletWindow(PybulletView):
    """
    The same in a window on the screen.

    Where it cannot be opened, or is closed by its user, PyBullet ends the process.
    """

    def _connect(self) -> int:
        client: int = pybullet.connect(pybullet.GUI, options='--width=960 --height=720')
        for extra in (pybullet.COV_ENABLE_GUI, pybullet.COV_ENABLE_SHADOWS):
            pybullet.configureDebugVisualizer(extra, 0, physicsClientId=client)
        return client

    def _build(self) -> None:
        super()._build()
        camera = self._settings.camera
        pybullet.resetDebugVisualizerCamera(
            camera.distance_m, camera.yaw_deg, camera.pitch_deg, camera.target,
            physicsClientId=self._client)
        self._marker = self._mark_goal()
        pybullet.removeState(self._saved, physicsClientId=self._client)
        self._saved = pybullet.saveState(physicsClientId=self._client)

    def show(self, state: RobotState, goal: np.ndarray) -> None:
        """Put everything where it is and draw it, so that nobody sees it half in place."""
        super().show(state, goal)
        if self._marker is not None:
            pybullet.resetBasePositionAndOrientation(
                self._marker, goal.tolist(), (0, 0, 0, 1), physicsClientId=self._client)
        pybullet.configureDebugVisualizer(pybullet.COV_ENABLE_SINGLE_STEP_RENDERING, 1,
                                          physicsClientId=self._client)


def _view_matrix(position: np.ndarray, rotation: np.ndarray) -> list[float]:
    """Return OpenGL's view matrix, column by column; its camera looks along -z and has y up."""
    matrix = np.eye(4)
    matrix[:3, :3] = (rotation * (1.0, -1.0, -1.0)).T
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix.T.ravel().tolist()


def _projection_matrix(camera: CameraSensorConfig) -> list[float]:
    """
    Return OpenGL's projection matrix of a camera, column by column.

    The renderer draws its pixel (i, j), counted from below, where the projection is i and j pixels
    from the picture's corner; the half pixel puts the optical axis into the middle of the pixels.
    """
    near, far, focal = camera.near_m, camera.far_m, camera.intrinsics()[0, 0]
    matrix = np.zeros((4, 4))
    matrix[0] = 2 * focal / camera.width, 0.0, 1 / camera.width, 0.0
    matrix[1] = 0.0, 2 * focal / camera.height, 1 / camera.height, 0.0
    matrix[2] = 0.0, 0.0, (near + far) / (near - far), 2 * near * far / (near - far)
    matrix[3, 2] = -1.0
    return matrix.T.ravel().tolist()


def _distances(buffer: np.ndarray, camera: CameraSensorConfig) -> np.ndarray:
    """Return distances [m] of a depth buffer, which is 0 at ``near_m`` and 1 at ``far_m``."""
    near, far = camera.near_m, camera.far_m
    distances = near * far / (far - (far - near) * buffer)
    return np.where(buffer < _BACKGROUND, distances, np.inf).astype(np.float32)
