# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the newest policy has just lived through, time-major: what on-policy methods learn from."""

from dataclasses import dataclass

import numpy as np

_WORDS = {'last_observation': 'observation', 'cut_observation': 'last observation of an episode'}


@dataclass(frozen=True, eq=False)
class Rollout:
    """
    T steps of N environments, all with the same policy.

    Rows of ``cut_observation`` belong, in the order of ``np.nonzero``, to the steps that were
    truncated without being terminated: the real last observation, whose value still counts.

    :param episodes: (undiscounted return, length, success) of the episodes that have ended.
    :param cost: of each step, shape (T, N), float32; None where nobody asks.
    :param episode_costs: what each of ``episodes`` has cost; empty where nobody asks.
    """

    observation: np.ndarray       # (T, N, O) float32
    action: np.ndarray            # (T, N, A) float32, as the policy's distribution gave it
    reward: np.ndarray            # (T, N) float32
    terminated: np.ndarray        # (T, N) bool: nothing follows
    truncated: np.ndarray         # (T, N) bool: the episode was cut off, something would follow
    counted: np.ndarray           # (T, N) bool: False after the last whole episode of a column
    last_observation: np.ndarray  # (N, O) float32, after the last step
    cut_observation: np.ndarray   # (C, O) float32
    policy_version: int           # gradient steps behind the policy that acted
    memory: np.ndarray            # (N, S) float32, what it remembered before the first step
    episodes: tuple[tuple[float, int, bool], ...] = ()
    cost: np.ndarray | None = None
    episode_costs: tuple[float, ...] = ()

    def __len__(self) -> int:
        return self.reward.size

    @property
    def ended(self) -> np.ndarray:
        """Return where an episode ended, whichever way, shape (T, N)."""
        return self.terminated | self.truncated

    @property
    def cut(self) -> np.ndarray:
        """Return where an episode was cut off though something would follow, shape (T, N)."""
        return self.truncated & ~self.terminated

    def fault(self) -> str:
        """Return what nothing can be learned from: the first value that is not finite, or ''."""
        for name in ('observation', 'reward', 'last_observation', 'cut_observation', 'cost'):
            values = getattr(self, name)
            if values is None or np.isfinite(values).all():
                continue
            row = tuple(np.argwhere(~np.isfinite(values))[0])
            place = ''
            if name in ('observation', 'reward', 'cost'):
                place = f' (environment {row[1]}, step {row[0] + 1} of the rollout)'
            return (f'the environments gave {_WORDS.get(name, name)} {values[row]:g}{place}; look '
                    'at their state and reward')
        return ''
