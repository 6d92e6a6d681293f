# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Budgets of costs per episode: what may happen for a while but not for long.

A cost is the time that an episode has spent in what it counts, one control period for each
command (the cumulative cost of a constrained Markov decision process, E. Altman 1999; A. Ray,
J. Achiam and D. Amodei 2019, "Benchmarking Safe Exploration"). Once it is above its budget, every
further command of the episode is refused.
"""

from collections.abc import Callable

import numpy as np
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.safety_config import CostConfig
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.geometry import Clearances
from rl_nodes.safety.guard import LEVELS
from rl_nodes.safety.limits import Finding
from rl_nodes.safety.verdict import Level

Costly = Callable[[Judgement, RobotState], bool]


class BudgetGuard:
    """
    Keeps one budget.

    :param robot: its rate, and its geometry where clearances are counted.
    :param config: an entry of its ``safety.costs``.
    :raises ConfigError: clearances of a robot without geometry.
    :ivar spent_s: cost of the episode so far.
    """

    def __init__(self, robot: RobotModel, config: CostConfig) -> None:
        self.name = cost_name(config)
        self._config, self._level = config, LEVELS[config.verdict]
        self._period = period_ns(robot.config.rate_hz)
        self._budget = round(config.budget_s * NS)
        self._costly = _near(robot, config) if config.counts == 'near' else _limited
        self._spent, self._episode = 0, ''

    @property
    def spent_s(self) -> float:
        """Return the cost of the episode so far [s]."""
        return self._spent / NS

    def cost_s(self, judged: Judgement, state: RobotState) -> float:
        """Return what one command costs while the robot is not stopped [s]."""
        return self._period / NS if self._costly(judged, state) else 0.0

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """See the base class; what a robot that is stopped is asked to do costs nothing."""
        if state.episode != self._episode:
            self._spent, self._episode = 0, state.episode
        if moving and self._costly(judged, state):
            self._spent += self._period
        if self._spent <= self._budget:
            return None
        return Finding(self._level, f'{self._config.name}: {self.spent_s:.3g} s of this episode, '
                       f'the budget is {self._config.budget_s:.3g} s; another episode has another',
                       None)


def cost_name(config: CostConfig) -> str:
    """Return the name of a cost wherever it is told."""
    return f'cost/{config.name}'


def budgets_of(robot: RobotModel) -> tuple[BudgetGuard, ...]:
    """Return the budgets in a robot's ``safety.costs``; ConfigError where one cannot be kept."""
    return tuple(BudgetGuard(robot, config) for config in robot.config.safety.costs)


def _limited(judged: Judgement, state: RobotState) -> bool:
    return judged.level > Level.PASS


def _near(robot: RobotModel, config: CostConfig) -> Costly:
    geometry = robot.config.safety.geometry
    if geometry is None:
        raise ConfigError(f'robot {robot.name}: safety.costs: {config.name} counts near, which '
                          'needs the section safety.geometry')
    clearances = Clearances(robot, geometry, geometry.stop_m, config.clearance_m)
    return lambda judged, state: bool(clearances.near(state.position.tolist(), config.clearance_m))
