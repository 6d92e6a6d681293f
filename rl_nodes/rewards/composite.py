# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The weighted sum that turns named terms into one reward."""

from collections.abc import Mapping

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError


class WeightedSum:
    """
    Reward r = Σ w_i · term_i, with every term still visible.

    :param weights: weight per term; a term left out has weight 0 and is still reported.
    :param known: the terms that the task computes.
    :raises ConfigError: a weight for a term that the task does not compute.
    """

    def __init__(self, weights: Mapping[str, float], known: tuple[str, ...]) -> None:
        for name in weights:
            if name not in known:
                raise ConfigError(f'reward: unknown term {name!r}{suggestion(name, known)}; '
                                  f'terms of this task: {", ".join(known)}')
        self._weights = [(name, float(weights.get(name, 0.0))) for name in known]

    def total(self, terms: Mapping[str, float]) -> float:
        """Return the weighted sum; always added in the same order, so always the same bits."""
        total = 0.0
        for name, weight in self._weights:
            total += weight * terms[name]
        return total
