# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The observations that every policy is asked before anybody relies on it, always the same."""

import numpy as np
from rl_nodes.core.specs import ArraySpec

PROBES = 64


def random_observations(spec: ArraySpec) -> np.ndarray:
    """
    Return observations all over the place, shape (64, O), float32.

    Half of them are normal, in the other half what has bounds is uniform within them.
    """
    rng = np.random.default_rng(0)
    low, high = spec.bounds()
    random = rng.standard_normal((PROBES, *spec.shape))
    bounded = np.isfinite(low) & np.isfinite(high)
    half = PROBES // 2
    random[half:, bounded] = rng.uniform(low[bounded], high[bounded], (half, int(bounded.sum())))
    return random.astype(np.float32)
