# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Cartpole balance: keep a free pole upright on a cart.

Start: near upright, near the middle. Reward terms: ``tilt`` [1] and ``offset`` [1] (squares
relative to the limits), ``alive`` [1], ``action`` [1]. End: the pole tilts or the cart runs
beyond its limit. Success: the time limit is reached.
"""

from typing import Annotated, ClassVar

from msgspec import Meta
import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig


class CartpoleBalanceConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: cartpole_balance``.

    :param cart_joint: name of the cart's joint.
    :param pole_joint: name of the pole's joint; zero is upright.
    :param start_noise: joints start at home plus uniform noise up to this [rad and m].
    :param tilt_limit_rad: tilt that ends the episode.
    :param offset_limit_m: distance from the middle that ends the episode.
    """

    cart_joint: str
    pole_joint: str
    start_noise: Annotated[float, Meta(ge=0)]
    tilt_limit_rad: Annotated[float, Meta(gt=0)]
    offset_limit_m: Annotated[float, Meta(gt=0)]


class CartpoleBalance(Task):
    """See the module's text."""

    config_type: ClassVar[type[TaskConfig]] = CartpoleBalanceConfig
    term_names: ClassVar[tuple[str, ...]] = ('tilt', 'offset', 'alive', 'action')
    start_ranges: ClassVar[tuple[str, ...]] = ('start_noise',)

    def __init__(self, name: str, config: CartpoleBalanceConfig, robot: RobotModel) -> None:
        self._cart = robot.index_of(config.cart_joint)
        self._pole = robot.index_of(config.pole_joint)
        super().__init__(name, config, robot)
        self._config = config

    def start(self, rng: np.random.Generator) -> Start:
        """Return joints near upright; the goal is the middle of the rail."""
        noise = rng.uniform(-self._config.start_noise, self._config.start_noise,
                            len(self.robot.home))
        return Start(self.robot.home + noise, np.zeros(3))

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return tilt, offset, alive and action size."""
        return {
            'tilt': terms.deviation(float(after.position[self._pole]),
                                    self._config.tilt_limit_rad),
            'offset': terms.deviation(float(after.position[self._cart]),
                                      self._config.offset_limit_m),
            'alive': terms.alive(self.failed(after, goal)),
            'action': terms.action_size(action)}

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether pole or cart has left its range."""
        return not (abs(state.position[self._pole]) <= self._config.tilt_limit_rad
                    and abs(state.position[self._cart]) <= self._config.offset_limit_m)

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the time limit was reached without a failure."""
        return step >= self.episode_steps and not self.failed(state, goal)
