# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""How many episodes there were, and where the next one starts."""

import numpy as np
from rl_nodes.core.types import Start
from rl_nodes.tasks.base import Task


class Episodes:
    """
    Draws the starts of episodes, the same ones for the same seed.

    :param task: whose starts are drawn.
    :param seed: of the draws.
    :ivar number: of the newest episode; 0 before the first.
    :ivar difficulty: of the next episode, 0 (easy) to 1.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._rng = np.random.default_rng(seed)
        self.number = 0
        self.difficulty = 1.0
        self._drawn: Start | None = None
        self._again = False

    def reseed(self, seed: int) -> None:
        """Draw the starts that come as after a fresh start with this seed."""
        self._rng = np.random.default_rng(seed)

    def repeat(self) -> None:
        """Let the next episode start like the newest one."""
        self._again = True

    def draw(self) -> Start:
        """Return how the next episode starts; it is counted by its caller."""
        again, self._again = self._again, False
        if self._drawn is None or not again:
            self._drawn = self._task.episode(self._rng, self.difficulty)
        return self._drawn
