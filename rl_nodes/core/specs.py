# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What an array must look like: ordered names, units, bounds, type; and a check that says so."""

import msgspec
import numpy as np
from rl_nodes.core.errors import NotFiniteError, SpecError


class ArraySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A one-dimensional array whose elements have names.

    :param name: what the array is, as in ``observation``.
    :param elements: one name per element, in order, as in ``joint_position/shoulder_pan``.
    :param units: one SI unit per element; ``1`` where there is none.
    :param low: least admissible value per element; may be -inf (written as None in JSON).
    :param high: greatest admissible value per element.
    :param dtype: numpy name of the type.
    """

    name: str
    elements: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    dtype: str = 'float32'

    def __post_init__(self) -> None:
        lengths = {len(self.elements), len(self.units), len(self.low), len(self.high)}
        if lengths != {len(self.elements)}:
            raise ValueError(f'{self.name}: elements, units, low and high differ in length')

    @property
    def shape(self) -> tuple[int]:
        """Return the shape, ``(len(elements),)``."""
        return (len(self.elements),)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (low, high) in the spec's type, infinite where there is no bound."""
        low = [-np.inf if value is None else value for value in self.low]
        high = [np.inf if value is None else value for value in self.high]
        return np.array(low, self.dtype), np.array(high, self.dtype)

    def validate(self, array: np.ndarray) -> np.ndarray:
        """
        Return ``array`` if it has the promised shape and type and is finite.

        Bounds are not enforced here: an observation a little outside of them is information.

        :raises SpecError: says what came and what was expected, and names the elements.
        """
        if array.shape != self.shape or array.dtype != np.dtype(self.dtype):
            raise SpecError(f'{self.name}: got {array.dtype}{list(array.shape)}, expected '
                            f'{self.dtype}{list(self.shape)}')
        finite = np.isfinite(array)
        if not finite.all():
            bad = [f'{self.elements[i]} = {array[i]}' for i in np.flatnonzero(~finite)[:4]]
            raise NotFiniteError(f'{self.name}: not finite: {", ".join(bad)}')
        return array
