# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every policy is asked before anybody relies on it, always the same."""

from collections.abc import Iterable
import hashlib

import numpy as np
from rl_nodes.core.pictures import PictureSpec
from rl_nodes.core.specs import ArraySpec

PROBES = 64
PATCHES = 8  # of a picture, along each side


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


def probe_pictures(specs: Iterable[PictureSpec], number: int) -> tuple[np.ndarray, ...]:
    """
    Return the pictures number ``number`` of endlessly many, shapes (H, W, 3), uint8.

    The first is black, the second white; then patches of colours, in which a swap of colours,
    rows and columns shows, take turns with noise. They come of SHAKE-128 of camera and number,
    and are the same wherever they are made.
    """
    return tuple(_probe_picture(spec, number) for spec in specs)


def _probe_picture(spec: PictureSpec, number: int) -> np.ndarray:
    if number < 2:
        return np.full(spec.shape, 255 * number, np.uint8)
    rows, columns = spec.height, spec.width
    if number % 2 == 0:
        rows, columns = min(rows, PATCHES), min(columns, PATCHES)
    stream = hashlib.shake_128(f'{spec.camera} {number}'.encode()).digest(rows * columns * 3)
    cells = np.frombuffer(stream, np.uint8).reshape(rows, columns, 3)
    down = np.arange(spec.height) * rows // spec.height
    across = np.arange(spec.width) * columns // spec.width
    picture: np.ndarray = cells[down[:, np.newaxis], across]
    return picture
