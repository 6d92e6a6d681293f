# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Actions that are added to what a controller does (T. Johannink et al. 2019, arXiv:1812.03201).

    command = controller(state) + action · size                                                (1)

within what the joints can do in one period; size is that of the action's kind, so an action of 0
leaves the robot to the controller alone. This is the only place of that sum: environments, the
policy server and the recorder all come here.
"""

from typing import TYPE_CHECKING

import numpy as np
from rl_nodes.control.controllers import Controller, Reach
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import RobotState

if TYPE_CHECKING:
    from rl_nodes.tasks.actions import ActionMap


class ResidualActionMap:
    """
    Actions to commands and back, around a controller.

    :param inner: gives the size of an action and how the robot holds.
    :param controller: what is added to.
    :param robot: that both are made for.
    """

    def __init__(self, inner: 'ActionMap', controller: Controller, robot: RobotModel) -> None:
        self.kind = f'{inner.kind} on {controller.label}'
        self.spec = inner.spec
        self.size = inner.size
        self._controller = controller
        self._reach = Reach(robot)
        self.hold = inner.hold

    def command(self, state: RobotState, action: np.ndarray) -> np.ndarray:
        """Return the command, shape (A,), float64, by eq. (1); actions are clipped first."""
        scaled = np.maximum(np.minimum(action.astype(np.float64), 1.0), -1.0) * self.size
        return self._reach.within(state, self._controller.command(state) + scaled)

    def action(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the action that a command amounts to, shape (A,), float32."""
        return ((command - self._controller.command(state)) / self.size).astype(np.float32)
