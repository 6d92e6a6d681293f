# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Cartpole swing-up: swing a hanging pole up and keep it upright in the middle of the rail.

Start: the pole hangs, the cart stands near the middle. Reward terms: ``upright`` [1] (1 upright,
0 hanging), ``offset`` [1] and ``spin`` [1] (squares relative to the limits), ``action`` [1]. End:
the cart runs beyond its limit. Success: pole within the tolerance of upright and turning slowly
at the end of the episode.
"""

import math
from typing import Annotated, ClassVar

from msgspec import Meta
import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import Goal, RobotState, Start
from rl_nodes.rewards import terms
from rl_nodes.tasks.base import Task, TaskConfig

Positive = Annotated[float, Meta(gt=0)]


class CartpoleSwingupConfig(TaskConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    ``type: cartpole_swingup``.

    :param cart_joint: name of the cart's joint.
    :param pole_joint: name of the pole's joint; zero is upright.
    :param start_noise: joints start around hanging and home, by at most this [rad and m].
    :param offset_limit_m: distance from the middle that ends the episode.
    :param spin_limit_rad_s: speed of the pole at which the term ``spin`` is 1.
    :param tolerance_rad: tilt that counts as upright.
    :param tolerance_rad_s: speed of the pole that counts as slow.
    """

    cart_joint: str
    pole_joint: str
    start_noise: Annotated[float, Meta(ge=0)]
    offset_limit_m: Positive
    spin_limit_rad_s: Positive
    tolerance_rad: Positive
    tolerance_rad_s: Positive


class CartpoleSwingup(Task):
    """See the module's text."""

    config_type: ClassVar[type[TaskConfig]] = CartpoleSwingupConfig
    term_names: ClassVar[tuple[str, ...]] = ('upright', 'offset', 'spin', 'action')
    start_ranges: ClassVar[tuple[str, ...]] = ('start_noise',)

    def __init__(self, name: str, config: CartpoleSwingupConfig, robot: RobotModel) -> None:
        self.cart = robot.index_of(config.cart_joint)
        self.pole = robot.index_of(config.pole_joint)
        super().__init__(name, config, robot)
        self._config = config

    def start(self, rng: np.random.Generator) -> Start:
        """Return a hanging pole; the goal is the middle of the rail."""
        noise = rng.uniform(-self._config.start_noise, self._config.start_noise,
                            len(self.robot.home))
        position = self.robot.home + noise
        position[self.pole] = math.pi + noise[self.pole]
        return Start(position, np.zeros(3))

    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return uprightness, offset, spin and action size."""
        return {
            'upright': terms.upright(float(after.position[self.pole])),
            'offset': terms.deviation(float(after.position[self.cart]),
                                      self._config.offset_limit_m),
            'spin': terms.deviation(float(after.velocity[self.pole]),
                                    self._config.spin_limit_rad_s),
            'action': terms.action_size(action)}

    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether the cart has left its range."""
        return not abs(state.position[self.cart]) <= self._config.offset_limit_m

    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the pole is upright and slow."""
        tilt = math.acos(math.cos(float(state.position[self.pole])))
        return bool(tilt <= self._config.tolerance_rad and not self.failed(state, goal)
                    and abs(state.velocity[self.pole]) <= self._config.tolerance_rad_s)
