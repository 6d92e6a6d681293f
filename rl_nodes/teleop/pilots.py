# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Who answers states at the teleoperation topic: a person, a script or a recording."""

from collections.abc import Sequence
import math
from typing import NamedTuple, Protocol

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, Goal, RobotState
from rl_nodes.safety.motion import FirstCommandGuard
from rl_nodes.tasks.base import Task
from rl_nodes.teleop.device import Device
from rl_nodes.teleop.experts import Expert
from rl_nodes.teleop.motion import Motion

LOST_S = 0.5        # without a command of a recording that is executed
CORRELATION = 0.9   # of a script's noise from one period to the next


class Wish(NamedTuple):
    """
    What a pilot wants.

    :param command: shape (A,), float64.
    :param engaged: whether somebody has control; else the command makes the robot stand.
    :param intended: the command before noise was added, shape (A,); None where none was.
    """

    command: np.ndarray
    engaged: bool
    intended: np.ndarray | None = None


class Pilot(Protocol):
    """
    Answers states.

    :ivar complaint: what is wrong, or waited for; empty while all is well.
    :ivar done: nothing more will come.
    """

    complaint: str
    done: bool

    def wish(self, state: RobotState, goal: Goal, steady_ns: int) -> Wish | None:
        """Return the answer to a state; None for silence, in which the robot is stopped."""


class ScriptPilot:
    """
    A script that always has control.

    Noise on what it wants brings the robot to where only errors lead, and the recording shows how
    one gets back from there (M. Laskey et al. 2017, DART: noise injection for robust imitation
    learning). Here it is correlated in time and shrinks with the action, so that what has to be
    exact stays exact.

    :param task: that is done.
    :param expert: does the task.
    :param noise: standard deviation, as a share of the action's greatest element; 0 for none.
    :param seed: of the noise.
    """

    complaint, done = '', False

    def __init__(self, task: Task, expert: Expert, noise: float, seed: int) -> None:
        self._task, self._expert, self._noise = task, expert, noise
        self._rng = np.random.default_rng(seed)
        self._drift = np.zeros(len(task.contract.action.elements))

    def wish(self, state: RobotState, goal: Goal, steady_ns: int) -> Wish | None:
        """See the base class."""
        intended = self._expert.command(state, goal)
        if not self._noise:
            return Wish(intended, True)
        fresh = self._noise * self._rng.standard_normal(len(self._drift))
        self._drift = CORRELATION * self._drift + math.sqrt(1 - CORRELATION ** 2) * fresh
        action = self._task.to_action(state, intended)
        perturbed = action + (self._drift * np.abs(action).max()).astype(np.float32)
        return Wish(self._task.command(state, perturbed), True, intended)


class DevicePilot:
    """
    A person with a device.

    A device that falls silent while its deadman is held is not a released one: then there is no
    answer, and the safety monitor stops the robot.

    :param device: that is read elsewhere.
    :param motion: what its axes move.
    """

    done = False

    def __init__(self, device: Device, motion: Motion) -> None:
        self._device, self._motion = device, motion
        self._engaged: bool | None = None
        self._episode = ''

    def wish(self, state: RobotState, goal: Goal, steady_ns: int) -> Wish | None:
        """See the base class."""
        device = self._device
        if device.engaged and device.lost(steady_ns):
            return None
        if device.engaged != self._engaged or state.episode != self._episode:
            self._engaged, self._episode = device.engaged, state.episode
            self._motion.begin(state)
        axes = device.axes if device.engaged else np.zeros_like(device.axes)
        return Wish(self._motion.command(state, axes), device.engaged)

    @property
    def complaint(self) -> str:
        """Return what is wrong with the device."""
        return self._device.complaint


class ReplayPilot:
    """
    The commands of a recorded episode, one per state, after the way to the first of them.

    It stands still until its commands are executed, and gives up where they no longer are.

    :param robot: in control mode position or velocity.
    :param commands: as they were executed, each of shape (A,).
    :param positions: measured when they were, each of shape (J,).
    :param ramp: whether the robot may go to where the recording begins; else it has to be there.
    :raises ConfigError: nothing to replay, or for a robot to which it means nothing.
    """

    def __init__(self, robot: RobotModel, commands: Sequence[np.ndarray],
                 positions: Sequence[np.ndarray], ramp: bool) -> None:
        if robot.config.control_mode == 'effort':
            raise ConfigError(f'robot {robot.name} is in control mode effort: efforts that are '
                              'repeated blindly do not repeat a motion')
        if not commands:
            raise ConfigError('the episode has no executed command')
        self._commands, self._positions = list(commands), list(positions)
        self._guard, self._commanded = FirstCommandGuard(robot), robot.commanded
        settings = robot.config.hardware
        self._step = np.minimum(settings.home_speed, robot.limits('velocity')) \
            / robot.config.rate_hz
        self._timeout_s, self._ramp = settings.home_timeout_s, ramp
        self._way: np.ndarray | None = None
        self._begun_at = 0
        self._executed_at: int | None = None  # stamp of the last state whose command was executed
        self._relative = robot.config.control_mode == 'position'
        self._next = 0
        self._last = -1
        self.errors: list[float] = []  # greatest distance from the recording, state by state
        self.complaint, self.done = '', False

    def wish(self, state: RobotState, goal: Goal, steady_ns: int) -> Wish | None:
        """See the base class."""
        if self.done or self.complaint:
            return None
        here = state.position[self._commanded]
        if self._executed_at is None or EpisodeId.parse(state.episode).intermission:
            return Wish(here if self._relative else np.zeros_like(here), True)
        if (state.stamp_ns - self._executed_at) / NS > LOST_S:
            self.complaint = f'the robot was stopped after {self.progress}'
            return None
        if self._next == 0 and self._guard.refusal(self._commands[0], state.position):
            return self._approach(state, here, steady_ns)
        if self._next == len(self._commands):
            self.done = True
            return None
        if state.stamp_ns != self._last:
            self._last = state.stamp_ns
            self.errors.append(float(np.abs(state.position - self._positions[self._next]).max()))
            self._next += 1
        return Wish(self._commands[self._next - 1], True)

    def executed(self, stamp_ns: int) -> None:
        """Take note that the command for a state was executed."""
        self._executed_at = stamp_ns

    @property
    def progress(self) -> str:
        """Return how far it is."""
        return f'{self._next} of {len(self._commands)} commands'

    def _approach(self, state: RobotState, here: np.ndarray, steady_ns: int) -> Wish | None:
        if not self._ramp:
            self.complaint = self._guard.refusal(self._commands[0], state.position)
            return None
        if self._way is None:
            self._way, self._begun_at = here.copy(), steady_ns
        if (steady_ns - self._begun_at) / NS > self._timeout_s:
            self.complaint = (f'not where the recording begins after {self._timeout_s:g} s: '
                              f'{self._guard.refusal(self._commands[0], state.position)}')
            return None
        self._way += np.clip(self._commands[0] - self._way, -self._step, self._step)
        return Wish(self._way, True)
