# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Grid worlds: small Markov decision processes whose exact values are known.

================  =====================================================================
action            number of a direction: 0 north, 1 east, 2 south, 3 west
observation       number of the free cell, row by row from the top left
reward            ``living`` for each move; in an exit cell the number written there
start             the cell ``S``; a free cell that is no exit, drawn evenly, without one
end               the step taken in an exit cell, whatever the action, terminates
================  =====================================================================

A move goes where it should with probability 1 - left - right, and at a right angle to it
otherwise. A move into a wall ``#`` or over the edge stays where it is.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError

WALL, START, FREE = '#', 'S', '.'
GRIDS = {
    # Russell and Norvig, "Artificial Intelligence: A Modern Approach", chapter "Making Complex
    # Decisions": a wall, a good and a bad exit, and feet that slip.
    '4x3': ('.  .  .  +1', '.  #  .  -1', '.  .  .  .'),
    # Shortest ways to the nearer corner (Sutton and Barto 2018, example 4.1).
    'corners': ('0  .  .  .', '.  .  .  .', '.  .  .  .', '.  .  .  0'),
    # A small reward near, a great one far, a cliff along the short way to both: the best policy
    # depends on the discount and on how much feet slip.
    'discount': ('.  .  .  .  .', '.  #  .  .  .', '.  #  +1 #  +10', 'S  .  .  .  .',
                 '-10 -10 -10 -10 -10')}
NAMES = ('N', 'E', 'S', 'W')
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


class GridWorld(gymnasium.Env):
    """
    One of ``GRIDS``; see the file's header.

    :ivar P: transitions as in Gymnasium's toy_text: state -> action -> [(probability, next state,
        reward, terminated), ...].

    :param grid: name in ``GRIDS``.
    :param living: reward of each move.
    :param slip: probabilities of going to the left and to the right of the wanted direction.
    :raises ConfigError: no such grid, or probabilities that are none.
    """

    metadata: dict[str, Any] = {'render_modes': []}

    def __init__(self, grid: str, living: float = 0.0,
                 slip: tuple[float, float] = (0.1, 0.1)) -> None:
        if grid not in GRIDS:
            raise ConfigError(f'grid = {grid!r}{suggestion(grid, GRIDS)}; allowed: '
                              f'{", ".join(GRIDS)}')
        if len(slip) != 2 or not (min(slip) >= 0.0 and sum(slip) <= 1.0):
            raise ConfigError(f'slip = {slip}, expected two probabilities, left and right, of '
                              'together at most 1')
        self._rows = [row.split() for row in GRIDS[grid]]
        self._number = {(y, x): number for number, (y, x) in enumerate(
            (y, x) for y, row in enumerate(self._rows) for x, cell in enumerate(row)
            if cell != WALL)}
        self._living, self._slip = living, slip
        self.P = {state: {action: self._outcomes(cell, action) for action in range(len(_MOVES))}
                  for cell, state in self._number.items()}
        cells = {state: self._rows[y][x] for (y, x), state in self._number.items()}
        self._starts = [state for state, cell in cells.items() if cell == START] or [
            state for state, cell in cells.items() if cell == FREE]
        self.observation_space = spaces.Discrete(len(self.P))
        self.action_space = spaces.Discrete(len(_MOVES))
        self._state = self._starts[0]

    def _outcomes(self, cell: tuple[int, int],
                  action: int) -> list[tuple[float, int, float, bool]]:
        text = self._rows[cell[0]][cell[1]]
        if text not in (FREE, START):
            return [(1.0, self._number[cell], float(text), True)]
        left, right = self._slip
        chances = ((1.0 - left - right, action), (left, action - 1), (right, action + 1))
        return [(chance, self._after(cell, direction % len(_MOVES)), self._living, False)
                for chance, direction in chances if chance > 0.0]

    def _after(self, cell: tuple[int, int], direction: int) -> int:
        move = _MOVES[direction]
        return self._number.get((cell[0] + move[0], cell[1] + move[1]), self._number[cell])

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._state = self._starts[int(self.np_random.integers(len(self._starts)))]
        return self._state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move, or leave where the cell is an exit."""
        outcomes = self.P[self._state][int(action)]
        point = self.np_random.random()
        sums = np.cumsum([outcome[0] for outcome in outcomes])
        chosen = min(int(np.searchsorted(sums, point, side='right')), len(outcomes) - 1)
        _, self._state, reward, terminated = outcomes[chosen]
        return self._state, reward, terminated, False, {}

    def is_exit(self, state: int) -> bool:
        """Return whether the next step there ends the episode."""
        return self.P[state][0][0][3]

    def draw(self, entries: Sequence[str]) -> str:
        """Return a table of one text per state, laid out as the grid."""
        width = max(map(len, entries))
        return '\n'.join('  '.join(
            (entries[self._number[y, x]] if (y, x) in self._number else WALL).rjust(width)
            for x in range(len(row))) for y, row in enumerate(self._rows))
