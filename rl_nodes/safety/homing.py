# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Motions that belong to no policy, one command per control period, as pure functions of time."""

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState
from rl_nodes.safety.checks import checks_for, judge_values


class FirstCommandGuard:
    """
    The first command after a hold must not make the robot jump.

    :param model: position control only; other modes have no jump and always pass.
    """

    def __init__(self, model: RobotModel) -> None:
        self._names, self._index = model.command_names, model.commanded
        self._step = model.limits('velocity') / model.config.rate_hz
        self._guards = model.config.control_mode == 'position'

    def refusal(self, command: np.ndarray, position: np.ndarray) -> str:
        """
        Return why a first command is refused, or ``''``.

        :param command: finite, shape (A,).
        :param position: measured, shape (J,).
        """
        away = np.abs(command - position[self._index])
        near = away <= self._step * (1 + 1e-6)
        if not self._guards or near.all():
            return ''
        far = ', '.join(f'{self._names[k]} by {away[k]:.3f} (one step is {self._step[k]:.3f})'
                        for k in np.flatnonzero(~near))
        return f'the first command is too far from where the robot is: {far}'


class Homing:
    """
    The way to the home pose: straight in joint space at a safe speed, inside the safety limits.

    :param model: its ``hardware`` section has speed, tolerance and time-out.
    :param now_s: steady time [s].
    :param position: measured now, shape (J,); the ramp starts here.
    """

    def __init__(self, model: RobotModel, now_s: float, position: np.ndarray) -> None:
        self._names, self._index = model.command_names, model.commanded
        self._settings = model.config.hardware
        self._checks = checks_for(model)
        self._start, self._target = position[self._index], model.home[self._index]
        speed = np.minimum(self._settings.home_speed, model.limits('velocity'))
        self._duration_s = float((np.abs(self._target - self._start) / speed).max())
        self._since_s = now_s

    def done(self, state: RobotState) -> bool:
        """Return whether every commanded joint is at home."""
        return bool((self._away(state) <= self._settings.home_tolerance).all())

    def command(self, now_s: float, state: RobotState) -> tuple[np.ndarray | None, str]:
        """
        Return (the next command, shape (A,), or None; why there is none).

        :param now_s: steady time [s].
        :param state: measured now.
        """
        passed_s = now_s - self._since_s
        if passed_s > self._settings.home_timeout_s:
            away = self._away(state)
            far = ', '.join(f'{self._names[k]} by {away[k]:.3f}' for k in
                            np.flatnonzero(~(away <= self._settings.home_tolerance)))
            return None, (f'not at home after {self._settings.home_timeout_s:.1f} s '
                          f'({self._duration_s:.1f} s were needed at home_speed); away: {far}')
        share = min(1.0, passed_s / self._duration_s) if self._duration_s > 0 else 1.0
        wanted = self._start + share * (self._target - self._start)
        _, _, reason, allowed = judge_values(self._checks, wanted, state)
        return allowed, '' if allowed is not None else f'on the way home: {reason}'

    def _away(self, state: RobotState) -> np.ndarray:
        return np.abs(state.position[self._index] - self._target)
