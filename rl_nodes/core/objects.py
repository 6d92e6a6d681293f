# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Things in a robot's world that a task speaks of: what is pushed, what stands in the way."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
import numpy as np

# What the numbers of ``size`` are [m], by shape.
SIZES = {'box': ('length x', 'length y', 'length z'), 'sphere': ('radius',),
         'cylinder': ('radius', 'height')}

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class ObjectConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One rigid object of a task; where it lies is said at each reset, see ``Start.objects``.

    :param name: unique in its task.
    :param shape: box, sphere or cylinder (upright in its own frame); its frame is at its center.
    :param size: box: lengths along x, y, z; sphere: radius; cylinder: radius, height [m].
    :param mass_kg: 0 for an obstacle that nothing moves.
    :param friction: coefficient of sliding friction on the ground.
    :param colour: red, green, blue, opacity, each 0 to 1.
    """

    name: Annotated[str, Meta(min_length=1)]
    shape: Literal['box', 'sphere', 'cylinder']
    size: tuple[Positive, ...]
    mass_kg: Annotated[float, Meta(ge=0)]
    friction: Annotated[float, Meta(ge=0)] = 0.5
    colour: tuple[Share, Share, Share, Share] = (0.86, 0.36, 0.18, 1.0)

    def __post_init__(self) -> None:
        wanted = SIZES[self.shape]
        if len(self.size) != len(wanted):
            raise ValueError(f'size of a {self.shape} has {len(self.size)} numbers, expected '
                             f'{", ".join(wanted)}')

    @property
    def half(self) -> tuple[float, float, float]:
        """Return half of the lengths of the upright box around it, along its axes [m]."""
        if self.shape == 'box':
            x, y, z = self.size
            return x / 2, y / 2, z / 2
        radius = self.size[0]
        return radius, radius, radius if self.shape == 'sphere' else self.size[1] / 2

    @property
    def inertia(self) -> tuple[float, float, float]:
        """Return the principal moments of a homogeneous body about its own axes [kg m²]."""
        x, y, z = (value * value for value in self.half)
        if self.shape == 'box':
            share = self.mass_kg / 3  # m/12 of whole lengths
            return share * (y + z), share * (x + z), share * (x + y)
        if self.shape == 'sphere':
            moment = 0.4 * self.mass_kg * x
            return moment, moment, moment
        across = self.mass_kg * (x / 4 + z / 3)
        return across, across, self.mass_kg * x / 2


def aside(objects: tuple[ObjectConfig, ...]) -> np.ndarray:
    """Return poses far from any robot, shape (N, 7): where objects lie that no start places."""
    poses = np.zeros((len(objects), 7))
    for index, entry in enumerate(objects):
        poses[index] = [100.0 + 10.0 * index, 100.0, entry.half[2], 0.0, 0.0, 0.0, 1.0]
    return poses
