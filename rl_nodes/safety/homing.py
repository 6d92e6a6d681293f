# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Motions that belong to no policy, one command per control period, as pure functions of time."""

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.safety_config import RetreatConfig
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import checks_for, judge_values


class Ramp:
    """
    Straight in joint space to a pose at a safe speed, inside the safety limits.

    :param model: its limits hold on the way.
    :param now_s: steady time [s].
    :param position: measured now, shape (J,); the ramp starts here.
    :param target: of the commanded joints [rad or m], shape (A,).
    :param settings: speed, tolerance and time-out.
    """

    def __init__(self, model: RobotModel, now_s: float, position: np.ndarray,
                 target: np.ndarray, settings: RetreatConfig) -> None:
        self._names, self._index = model.command_names, model.commanded
        self._settings = settings
        # A joint that lags is pulled by one step; only its very first command could be refused.
        self._checks = tuple(check for check in checks_for(model) if check.name != 'first_command')
        self._start, self._target = position[self._index], target
        speed = np.minimum(settings.speed, model.limits('velocity'))
        self._duration_s = float((np.abs(self._target - self._start) / speed).max())
        self._since_s = now_s

    def done(self, state: RobotState) -> bool:
        """Return whether every commanded joint is there."""
        return bool((self._away(state) <= self._settings.tolerance).all())

    def command(self, now_s: float, state: RobotState) -> tuple[np.ndarray | None, str]:
        """
        Return (the next command, shape (A,), or None; why there is none).

        :param now_s: steady time [s].
        :param state: measured now.
        """
        passed_s = now_s - self._since_s
        if passed_s > self._settings.timeout_s:
            away = self._away(state)
            far = ', '.join(f'{self._names[k]} by {away[k]:.3f}' for k in
                            np.flatnonzero(~(away <= self._settings.tolerance)))
            return None, (f'not there after {self._settings.timeout_s:.1f} s '
                          f'({self._duration_s:.1f} s were needed at its speed); away: {far}')
        share = min(1.0, passed_s / self._duration_s) if self._duration_s > 0 else 1.0
        wanted = self._start + share * (self._target - self._start)
        judged = judge_values(self._checks, wanted, state)
        return judged.allowed, '' if judged.allowed is not None else f'on the way: {judged.reason}'

    def _away(self, state: RobotState) -> np.ndarray:
        return np.abs(state.position[self._index] - self._target)


class Homing(Ramp):
    """
    The way to the home pose.

    :param model: its ``hardware`` section has speed, tolerance and time-out.
    :param now_s: steady time [s].
    :param position: measured now, shape (J,); the ramp starts here.
    """

    def __init__(self, model: RobotModel, now_s: float, position: np.ndarray) -> None:
        settings = model.config.hardware
        super().__init__(model, now_s, position, model.home[model.commanded], RetreatConfig(
            None, settings.home_speed, settings.home_tolerance, settings.home_timeout_s))
