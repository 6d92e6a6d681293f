# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the newest policy has just lived through, time-major: what on-policy methods learn from."""

from dataclasses import dataclass

import numpy as np
from rl_nodes.core.errors import TrainingError


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

    def require_finite(self) -> None:
        """Refuse values that nothing can be learned from; TrainingError names them."""
        for name in ('observation', 'reward', 'last_observation', 'cut_observation', 'cost'):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise TrainingError(f'the environments gave a {name} that is not finite; look at '
                                    'their state and reward')
