# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Episodes on the screen, at the pace of the robot.

The window has a process of its own, ``window_process.py``: where it is closed, or cannot be
opened, the libraries beneath it end the process that it is in.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
from rl_nodes.core.errors import BackendError
from rl_nodes.core.timing import NS, Pacer, steady_ns
from rl_nodes.core.types import BaseState, Goal, RobotState
from rl_nodes.tasks.base import Task

OPEN_S = 60.0   # imports, meshes, and a window by way of a busy display
SHOW_S = 30.0   # one picture by a renderer in software
SHOWN = b'.'
CLOSE_S = 3.0
_CHATTER = ('pybullet build', 'startThreads', 'starting thread', 'started thread')  # of PyBullet


class EpisodeWindow:
    """
    A window that follows the states of one robot, simulated by whatever backend.

    :param robot: name in ``config/robots`` or path, as of the environment.
    :param task: name in ``config/tasks`` or path, as of the environment.
    :param period_ns: between two states [ns].
    :raises BackendError: there is no display, or a window cannot be opened on it.
    """

    def __init__(self, robot: str, task: str, period_ns: int) -> None:
        self._pacer = Pacer(period_ns)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - read where the process ends
        self._socket, theirs = socket.socketpair()
        with theirs:
            # A process group of its own: Ctrl-C is for this process, which closes the window.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, '-m', 'rl_nodes.envs.window_process', str(robot), str(task),
                 str(theirs.fileno())], stdin=subprocess.DEVNULL, stdout=self._said,
                stderr=subprocess.STDOUT, process_group=0, pass_fds=(theirs.fileno(),),
                env={**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONPATH': os.pathsep.join(
                    path or os.getcwd() for path in sys.path)})
        if not self._answered(OPEN_S):
            said = self._last_words()
            self.close()
            raise BackendError(
                f'no window can be opened: {said}. It needs an X display (DISPLAY is set where '
                "there is one) with OpenGL 3; without one use render_mode='rgb_array', or "
                'xvfb-run')

    def show(self, state: RobotState, goal: Goal) -> None:
        """
        Show a state, not sooner than a control period after the one before.

        :raises BackendError: the window was closed.
        """
        try:
            self._socket.sendall(pack(state, goal.position))
            shown = self._answered(SHOW_S)
        except OSError:
            shown = False
        if not shown:
            said = self._last_words()
            self.close()
            raise BackendError(f'the window was closed ({said})')
        time.sleep(max(0, self._pacer.deadline_ns - steady_ns()) / NS)
        self._pacer.passed(steady_ns())

    def close(self) -> None:
        """Close the window; may be called twice."""
        self._socket.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _answered(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1) == SHOWN
        except OSError:
            return False

    def _last_words(self) -> str:
        """Return what the process said at its end, or how it ended."""
        try:
            code = self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            return 'it does not answer'
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().decode(errors='replace').splitlines()]
        told = [line for line in lines if line and not line.startswith(_CHATTER)]
        return told[-1] if told else f'exit code {code}'


def pack(state: RobotState, goal: np.ndarray) -> bytes:
    """Return what a window needs of a state and the goal's position, as float64."""
    base = () if state.base is None else (state.base.position, state.base.orientation)
    objects = () if state.objects is None else (state.objects.ravel(),)
    return np.concatenate([state.position, goal, *base, *objects]).tobytes()


def packed_bytes(task: Task) -> int:
    """Return the length of what :func:`pack` gives for the states of a task."""
    base = 7 if task.robot.config.floating_base else 0
    return 8 * (len(task.robot.joint_names) + 3 + base + 7 * len(task.objects))


def unpack(task: Task, data: bytes) -> tuple[RobotState, np.ndarray]:
    """Return (state, goal's position) of packed ones; stamp, episode and velocities are void."""
    joints = len(task.robot.joint_names)
    position, goal, rest = np.split(np.frombuffer(data, np.float64), [joints, joints + 3])
    base = None
    if task.robot.config.floating_base:
        base, rest = BaseState.at_rest(rest[:3], rest[3:7]), rest[7:]
    objects = rest.reshape(-1, 7) if task.objects else None
    return RobotState(0, '0@0', position, np.zeros(joints), np.empty(0), base, objects), goal
