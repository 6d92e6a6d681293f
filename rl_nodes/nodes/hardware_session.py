# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the bridge does with a physical robot, one control period at a time. No ROS inside.

The robot moves only while it is permitted: while commands that the safety monitor has let through
arrive. On the way home these commands are not obeyed, but they must keep arriving: a stop, or the
death of any process of the chain, ends that motion too. Nothing here restarts motion after a
fault: the monitor has stopped meanwhile, and only a person clears that. Reaching a lost robot
again takes seconds and has a thread of its own; nobody else touches the robot meanwhile.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from enum import Enum

import numpy as np
from rl_nodes.backends.base import HardwareRobot, Measurement
from rl_nodes.core.errors import BackendError, ReadMissedError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState
from rl_nodes.safety.homing import Homing
from rl_nodes.safety.motion import FirstCommandGuard

END_S = 2.0  # a robot that is just being reached is let go after this long at the latest


class Phase(Enum):
    """Where the session stands; the text is for people."""

    WAITING = 'holding: motion is not allowed'
    HOMING = 'on the way home'
    RUNNING = 'running'
    STUCK = 'holding: a person has to look and call robot_bridge/reset'
    LOST = 'the robot is out of reach'


class HardwareSession:
    """
    One robot from connection to release.

    :param robot: not connected yet.
    :param model: its model.
    :param warn: takes a sentence for people.
    :param pool: runs the attempts to reach a lost robot again; None for a thread of our own.
    :ivar phase: see :class:`Phase`; episodes run in RUNNING only.
    :ivar reason: the sentence behind STUCK or LOST, else why the last episode was cut short.
    :ivar counts: of everything unusual.
    """

    def __init__(self, robot: HardwareRobot, model: RobotModel,
                 warn: Callable[[str], None], pool: Executor | None = None) -> None:
        self._robot, self._model, self._warn = robot, model, warn
        self._settings = model.config.hardware
        self._guard = FirstCommandGuard(model)
        self._homing: Homing | None = None
        self._state: RobotState | None = None
        self._first = True
        self._limp = False
        self._pool = pool or ThreadPoolExecutor(1, thread_name_prefix='reconnect')
        self._attempt: Future[None] | None = None
        self._attempts = 0
        self._retry_at = 0.0
        self.phase, self.reason = Phase.WAITING, ''
        self.counts: Counter[str] = Counter(
            dict.fromkeys(('reads_missed', 'faults', 'reconnects', 'first_commands_refused'), 0))

    def connect(self) -> None:
        """Connect; BackendError where the robot is not as expected."""
        self._robot.connect()

    def tick(self, now_s: float, permitted: bool, command: np.ndarray | None,
             restart: bool) -> Measurement | None:
        """
        Live through one control period.

        :param now_s: steady time [s].
        :param permitted: whether the safety monitor lets commands through now.
        :param command: the fresh command of the running episode, shape (A,); None without one.
        :param restart: the running episode is over.
        :return: what the robot measures; None where there is nothing new.
        """
        if self.phase == Phase.LOST and not self._reached_again(now_s):
            return None
        try:
            if self._robot.watch(now_s):
                self._limp = self._first = True
                self._warn('no command for long: the drives rest and the robot may sink')
            self._move(now_s, permitted, command, restart)
            measured = self._robot.read()
        except ReadMissedError as error:
            self.counts['reads_missed'] += 1
            self._warn(str(error))
            self.hold()
            return None
        except BackendError as error:
            self.hold()
            self._lose(now_s, str(error))
            return None
        self._state = RobotState(0, '', *measured)
        return measured

    def retry(self) -> bool:
        """Let a person's reset end STUCK, and LOST have another round; return whether it did."""
        if self.phase == Phase.STUCK:
            self.phase, self.reason = Phase.WAITING, ''
        elif self.phase == Phase.LOST:
            self._attempts = 0
        else:
            return False
        return True

    def hold(self) -> None:
        """Hold as well as that is possible now."""
        self._first = True
        if self._attempt is not None:
            return  # nothing reaches it
        try:
            self._robot.hold()
        except BackendError as error:
            self._warn(f'while holding: {error}')

    def close(self) -> None:
        """Let go of the robot."""
        if self._attempt is not None:
            wait([self._attempt], END_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._robot.close()

    # --- one period -----------------------------------------------------------------------------

    def _move(self, now_s: float, permitted: bool, command: np.ndarray | None,
              restart: bool) -> None:
        """Send what the phase asks for, or hold."""
        if not permitted and self.phase in (Phase.HOMING, Phase.RUNNING):
            self.phase, self.reason = Phase.WAITING, 'motion is not allowed any more'
        elif self.phase == Phase.RUNNING and restart:
            self.phase, self.reason = Phase.WAITING, ''
        if self.phase == Phase.WAITING and permitted and self._state is not None:
            if self._limp:
                self._robot.torque_on()
                self._limp = False
            self._leave_waiting(now_s)
        wanted = None
        if self.phase == Phase.HOMING:
            wanted = self._homeward(now_s)
        elif self.phase == Phase.RUNNING and command is not None:
            wanted = command
        if wanted is not None and self._first and self._state is not None:
            why = self._guard.refusal(wanted, self._state.position)
            if why:
                self.counts['first_commands_refused'] += 1
                self._warn(why)
                wanted = None
        if wanted is None:
            self._first = True
            self._robot.hold()
        else:
            self._robot.write(wanted)
            self._first = False

    def _leave_waiting(self, now_s: float) -> None:
        if self._settings.reset == 'none':
            self.phase, self.reason = Phase.RUNNING, ''
        else:
            self._homing = Homing(self._model, now_s, self._state.position)
            self.phase, self.reason = Phase.HOMING, ''

    def _homeward(self, now_s: float) -> np.ndarray | None:
        """Return the next command on the way home; None where it ends."""
        if self._homing.done(self._state):
            self.phase, self._homing = Phase.RUNNING, None
            return None
        command, why = self._homing.command(now_s, self._state)
        if why:
            self.phase, self.reason = Phase.STUCK, why
            self._warn(why)
        return command

    # --- faults ---------------------------------------------------------------------------------

    def _lose(self, now_s: float, why: str) -> None:
        self.phase, self.reason = Phase.LOST, why
        self.counts['faults'] += 1
        self._state, self._homing, self._first = None, None, True
        self._attempts = 0
        self._retry_at = now_s + self._settings.reconnect_period_s
        self._warn(f'FAULT: {why}')

    def _reached_again(self, now_s: float) -> bool:
        """Try to reach the robot when it is time; it holds then, and the stop stays latched."""
        if self._attempt is None:
            if now_s < self._retry_at or self._attempts >= self._settings.reconnect_attempts:
                return False
            self._attempts += 1
            self.counts['reconnects'] += 1
            self._retry_at = now_s + self._settings.reconnect_period_s
            self._attempt = self._pool.submit(self._robot.reconnect)
        if not self._attempt.done():
            return False
        attempt, self._attempt = self._attempt, None
        try:
            attempt.result()
        except BackendError as error:
            self.reason = str(error)
            if self._attempts == self._settings.reconnect_attempts:
                self._warn(f'gave up after {self._attempts} attempts: {error}. Call '
                           'robot_bridge/reset for more')
            return False
        self._warn('the robot is back; it holds until a person clears the stop')
        self.phase, self.reason, self._limp = Phase.WAITING, '', False
        return True

    def diagnostics(self) -> dict[str, object]:
        """Return phase, reason, counts and what the drives report."""
        reported = self._robot.diagnostics() if self._attempt is None else {}
        return {'phase': self.phase.name, 'reason': self.reason, **self.counts, **reported}
