# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What measured joint positions cannot be, however the robot moves.

Off unless the robot's YAML file has the section ``safety.sensing``.
"""

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.safety_config import SensingConfig
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, RobotState
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.limits import Executed, Finding, furthest_out, Reference, within
from rl_nodes.safety.verdict import Level


class SensingGuard:
    """
    Follows the measured states of a robot and says of the newest what is impossible about it.

    A joint far outside its range measures in another unit or from another zero. With q and q' the
    positions in a state and in the last one that was possible, T the time between them but at
    least one period, and v_max the joint's speed limit, the robot cannot have moved by more than

        |q - q'| <= jump · v_max · T                                                          (1)

    One state that breaks eq. (1) is left aside (HOLD), as a glitch of an encoder; the second in a
    row stops. A robot that is told to move and measures the same bits for ``frozen_s`` has not
    been measured; between its episodes a physical robot does not do what it is told, so there that
    is not looked at.

    :param robot: its limits; ``safety.sensing`` may be None, then nothing is ever found.
    :ivar finding: about the newest state; None where it is possible.
    """

    name = 'sensing'

    def __init__(self, robot: RobotModel) -> None:
        self._config: SensingConfig | None = robot.config.safety.sensing
        config = self._config or SensingConfig()
        self._reference = Reference(robot)
        low, high = robot.limits('lower'), robot.limits('upper')
        beyond = config.outside * (high - low)
        self._low, self._high = (low - beyond).tolist(), (high + beyond).tolist()
        self._speed: list[float] = (config.jump * robot.limits('velocity')).tolist()
        self._told: list[float] = (config.moving * robot.limits(
            'effort' if self._reference.mode == 'effort' else 'velocity')).tolist()
        self._frozen_ns = round(config.frozen_s * NS)
        self.finding: Finding | None = None
        self._last: RobotState | None = None      # that was seen
        self._possible: RobotState | None = None  # that eq. (1) has held for
        self._since: int | None = None            # stamp from which on nothing has changed [ns]

    def observe(self, state: RobotState, told: tuple[Executed, ...]) -> None:
        """
        Take the newest state.

        :param told: what the robot was last told to do, the newest first.
        """
        last, self._last = self._last, state
        if self._config is None or last is not None and last.stamp_ns == state.stamp_ns:
            return
        if last is None or last.episode != state.episode or last.stamp_ns > state.stamp_ns:
            last = self._possible = self._since = None
        self.finding = self._outside(state) or self._jumped(state) or self._frozen(
            state, last, told)

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """Return what there is to object about the newest state, as guards do."""
        return self.finding

    def _outside(self, state: RobotState) -> Finding | None:
        for name, at, low, high in zip(self._reference.names, self._positions(state), self._low,
                                       self._high):
            if not low <= at <= high:
                return Finding(Level.STOP, f'{name} measures {at:.3g}, far outside its range; are '
                               'its unit and zero right?', None)
        return None

    def _jumped(self, state: RobotState) -> Finding | None:
        before = self._possible
        if before is None:
            self._possible = state
            return None
        passed_s = max((state.stamp_ns - before.stamp_ns) / NS, self._reference.period_s)
        moved = [now - then for now, then in zip(self._positions(state), self._positions(before))]
        most = [speed * passed_s for speed in self._speed]
        if within(moved, most):
            self._possible = state
            return None
        worst = furthest_out(moved, most)
        again = self.finding is not None
        if again:  # where it is now is what it begins with after the stop
            self._possible = state
        return Finding(Level.STOP if again else Level.HOLD,
                       f'{self._reference.names[worst]} measures a change of {moved[worst]:.3g} '
                       f'in {passed_s * 1e3:.0f} ms, at most {most[worst]:.3g} is possible', None)

    def _frozen(self, state: RobotState, last: RobotState | None,
                told: tuple[Executed, ...]) -> Finding | None:
        if last is None or not told or within(told[0].speed, self._told) or (
                EpisodeId.parse(state.episode).intermission) or not (
                np.array_equal(state.position, last.position)
                and np.array_equal(state.velocity, last.velocity)):
            self._since = None
            return None
        if self._since is None:
            self._since = last.stamp_ns
        if state.stamp_ns - self._since <= self._frozen_ns:
            return None
        return Finding(Level.STOP, 'the robot is told to move, and no measured value has changed '
                       f'for {(state.stamp_ns - self._since) / NS:.2f} s', None)

    def _positions(self, state: RobotState) -> list[float]:
        return self._reference.of_commanded(state.position)
