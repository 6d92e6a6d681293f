# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A simulated robot that is commanded late, measured late and inexactly, and pushed.

What happens is in the ``Disturbance`` of each start. Delays are whole physics steps: a command
takes effect, and a measurement is taken, between two of them. Noise and pushes come from the
disturbance's seed, one draw of each kind per control period, so the same starts and commands give
the same bits wherever the robot is stepped.
"""

from collections import deque
from itertools import pairwise

import numpy as np
from rl_nodes.backends.base import Measurement, require_command, Simulator
from rl_nodes.core.errors import BackendError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import quaternion_from_rpy, quaternion_product
from rl_nodes.core.types import BaseState, Start
from rl_nodes.core.variation import Disturbance, Push

_NOTHING = Disturbance(0)


class DisturbedRobot:
    """
    Stands between a simulated robot and whoever commands it.

    :param robot: the one that is disturbed.
    :param model: its model.
    """

    def __init__(self, robot: Simulator, model: RobotModel) -> None:
        self._robot = robot
        self._count = len(model.commanded)
        self._limit = model.limits('effort') if model.config.control_mode == 'effort' else np.inf
        self._size = round(model.config.simulation.physics_hz / model.config.rate_hz)
        self._period_s = 1.0 / model.config.rate_hz
        self._begin(_NOTHING)

    def _begin(self, disturbance: Disturbance) -> None:
        """Prepare an episode."""
        self._disturbance = disturbance
        noise, push = np.random.SeedSequence(disturbance.seed).spawn(2)
        self._noise_rng = np.random.default_rng(noise)
        self._pusher = Pusher(disturbance.push, np.random.default_rng(push), self._period_s)
        late, self._act_at = divmod(round(disturbance.action_delay * self._size), self._size)
        self._commands: deque[np.ndarray | None] = deque([None] * late)
        self._command: np.ndarray | None = None  # written since the last step
        old, before = divmod(round(disturbance.observation_delay * self._size), self._size)
        self._read_at = self._size - before
        self._marks = sorted({0, self._act_at, self._read_at, self._size})
        self._samples: deque[Measurement] = deque()
        self._old = old
        self._measured: Measurement | BackendError = BackendError(
            'nothing is measured before the first reset')

    def reset(self, start: Start) -> None:
        """Start afresh; the first measurement is that of the start, however late others are."""
        disturbance = start.variation.disturbance if start.variation else None
        self._begin(disturbance or _NOTHING)
        self._robot.reset(start)
        try:
            first = self._robot.read()
            self._samples.extend([first] * self._old)
            self._measured = self._blurred(first)
        except BackendError as error:
            self._measured = error

    def read(self) -> Measurement:
        """Return what is measured; BackendError where the simulation has exploded."""
        if isinstance(self._measured, BackendError):
            raise self._measured
        return self._measured

    def truth(self) -> Measurement:
        """Return the robot's state as it is."""
        return self._robot.truth()

    def write(self, command: np.ndarray) -> np.ndarray:
        """Give a command that takes effect when it is due; return it, cut to the effort limit."""
        require_command(command, self._count)
        self._command = np.minimum(np.maximum(command, -self._limit), self._limit)
        return self._command

    def hold(self) -> None:
        """Hold at once: a drive does that by itself; commands on their way are void."""
        self._commands = deque([None] * len(self._commands))
        self._command = None
        self._robot.hold()

    def step(self) -> None:
        """Advance by one control period; an explosion is told by :meth:`read`."""
        robot = self._robot
        self._commands.append(self._command)
        self._command = None
        due = self._commands.popleft()
        if (force := self._pusher.next()) is not None:
            robot.push(self._pusher.solid, force)
        try:
            for begin, end in pairwise(self._marks):
                if begin == self._act_at and due is not None:
                    robot.write(due)
                robot.step(end - begin)
                if end == self._read_at:
                    self._samples.append(robot.read())
            self._measured = self._blurred(self._samples.popleft())
        except BackendError as error:
            self._measured = error

    def recover(self) -> None:
        """Cure an exploded simulation; a reset must follow."""
        self._robot.recover()
        self._begin(_NOTHING)

    def render(self, width: int, height: int) -> np.ndarray:
        """Return a picture of the robot as it is, shape (height, width, 3), uint8."""
        return self._robot.render(width, height)

    def close(self) -> None:
        """Let go of the robot."""
        self._robot.close()

    def _blurred(self, true: Measurement) -> Measurement:
        """Return a measurement with its errors."""
        noise = self._disturbance.noise
        if not noise:
            return true
        normal = self._noise_rng.standard_normal

        def blurred(name: str, value: np.ndarray) -> np.ndarray:
            return value + noise[name] * normal(value.shape) if name in noise else value
        position = blurred('joint_position', true.position)
        velocity = blurred('joint_velocity', true.velocity)
        base = true.base
        if base is not None:
            orientation = base.orientation
            if 'base_orientation' in noise:
                turn = quaternion_from_rpy(noise['base_orientation'] * normal(3))
                orientation = quaternion_product(orientation, turn)
            base = BaseState(blurred('base_position', base.position), orientation,
                             blurred('base_linear_velocity', base.linear_velocity),
                             blurred('base_angular_velocity', base.angular_velocity))
        return true._replace(position=position, velocity=velocity, base=base)


class Pusher:
    """
    One push per interval, at a random time and from a random side, in whole control periods.

    :param push: None pushes never.
    :param rng: draws times and sides.
    :param period_s: control period.
    """

    def __init__(self, push: Push | None, rng: np.random.Generator, period_s: float) -> None:
        self._push = push if push is not None and push.impulse_n_s > 0 else None
        self._rng = rng
        self._step = -1
        self._next = self._stop = 0
        if self._push is not None:
            self.solid = self._push.solid
            self._interval = max(1, round(self._push.every_s / period_s))
            self._length = min(max(1, round(self._push.duration_s / period_s)), self._interval)
            self._size = self._push.impulse_n_s / (self._length * period_s)

    def next(self) -> np.ndarray | None:
        """Return the force [N], shape (3,), from now on; None where it does not change."""
        if self._push is None:
            return None
        self._step += 1
        if self._step % self._interval == 0:
            self._next = self._step + int(self._rng.integers(self._interval - self._length + 1))
            self._side = float(self._rng.uniform(-np.pi, np.pi))
        if self._step == self._next:
            self._stop = self._step + self._length
            return self._size * np.array([np.cos(self._side), np.sin(self._side), 0.0])
        return np.zeros(3) if self._step == self._stop else None
