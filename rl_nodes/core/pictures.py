# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures that a policy observes: their layout, how they are made smaller, which one goes with what.

Legend of dimensions: H rows, W columns of a picture, the upper left pixel first; C colours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.cameras import CameraSensorConfig
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError, SpecError

MOST_PICTURES = 8
MOST_PIXELS = 1024  # of a side
CHANNELS = 3
PREFIX = 'picture_'  # of a policy's inputs, as in picture_wrist

_Side = Annotated[int, Meta(ge=1, le=MOST_PIXELS)]


class PictureSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A picture beside the observation: RGB, uint8.

    :param camera: that takes it.
    :param width: that the policy sees [px].
    :param height: that the policy sees [px].
    :param max_age_s: no state is answered by a picture that was taken longer before it.
    """

    camera: Annotated[str, Meta(pattern='^[a-z][a-z0-9_]*$')]
    width: _Side
    height: _Side
    max_age_s: Annotated[float, Meta(gt=0, le=60)] = 0.3

    @property
    def input(self) -> str:
        """Return the name of the policy's input."""
        return f'{PREFIX}{self.camera}'

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape, (H, W, 3)."""
        return self.height, self.width, CHANNELS

    def __str__(self) -> str:
        return (f'{self.input} uint8[{self.height}, {self.width}, {CHANNELS}] of camera '
                f'{self.camera}, at most {self.max_age_s:g} s old')

    def validate(self, picture: np.ndarray) -> None:
        """Refuse another shape or type; SpecError says what came."""
        if picture.shape != self.shape or picture.dtype != np.uint8:
            raise SpecError(f'{self.input}: got {picture.dtype}{list(picture.shape)}, expected '
                            f'uint8{list(self.shape)}')


class Picture(NamedTuple):
    """
    A picture as a policy sees it.

    :param stamp_ns: when it was taken [ns].
    :param pixels: shape (H, W, 3), uint8; nobody writes to it any more.
    """

    stamp_ns: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Sight:
    """
    What a task sees through one camera.

    :param spec: of the picture.
    :param camera: that takes it.
    :param stride: where the robot waits for its pictures, control periods between two of them;
        the first is of an episode's first state.
    """

    spec: PictureSpec
    camera: CameraSensorConfig
    stride: int

    def reduction(self) -> 'AreaAverage':
        """Return what makes a policy's picture of one of the camera."""
        return AreaAverage((self.camera.height, self.camera.width),
                           (self.spec.height, self.spec.width))


def find_sights(specs: Iterable[PictureSpec], cameras: Iterable[CameraSensorConfig],
                rate_hz: float) -> tuple[Sight, ...]:
    """
    Return what a task sees.

    :param cameras: of the robot.
    :param rate_hz: control rate.
    :raises ConfigError: no such camera, a camera twice, or a picture that it cannot give.
    """
    known = {camera.name: camera for camera in cameras}
    found: dict[str, Sight] = {}
    for spec in specs:
        name = spec.camera
        if name not in known:
            raise ConfigError(f'pictures: the robot has no camera {name!r}'
                              f'{suggestion(name, known)}; cameras: {", ".join(known) or "none"}')
        if name in found:
            raise ConfigError(f'pictures: camera {name} is listed twice')
        camera = known[name]
        if spec.width > camera.width or spec.height > camera.height:
            raise ConfigError(
                f'pictures: {name}: {spec.width} x {spec.height} pixels, but the camera has only '
                f'{camera.width} x {camera.height}')
        if spec.max_age_s < 1.0 / camera.rate_hz:
            raise ConfigError(
                f'pictures: {name}: max_age_s = {spec.max_age_s:g} is less than the '
                f'{1.0 / camera.rate_hz:g} s between two pictures of the camera; some states '
                'would never be answered')
        found[name] = Sight(spec, camera, max(1, round(rate_hz / camera.rate_hz)))
    return tuple(found.values())


class AreaAverage:
    """
    Makes pictures smaller: each pixel is the mean of the area that it covers.

    Computed in whole numbers and rounded once, half upwards: the same bits everywhere.

    :param source: (H, W) of what comes.
    :param target: (H, W) of what is made of it, not larger.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self.source, self.target = source, target
        self._rows, self._columns = map(_shares, source, target)
        self._area = np.uint32(source[0] * source[1])

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """
        Return the smaller picture, shape (h, w, C), uint8.

        :param picture: shape (H, W, C), uint8; sums fit into 32 bits up to 4096 x 4096 pixels.
        """
        height, width = self.source
        if self.source == self.target:
            return picture.copy()
        channels = picture.shape[2]
        rows = picture.reshape(height, width * channels)
        across = np.zeros((self.target[0], rows.shape[1]), np.uint32)
        for index, share in self._rows:
            across += rows[index] * share[:, np.newaxis]
        columns = across.reshape(self.target[0], width, channels)
        total = np.zeros((*self.target, channels), np.uint32)
        for index, share in self._columns:
            total += columns[:, index] * share[:, np.newaxis]
        total += self._area // 2
        total //= self._area
        return total.astype(np.uint8)


def _shares(source: int, target: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Return (index of a source pixel, its share) for each target pixel, one pair after another.

    A target pixel covers ``source`` units, of which a source pixel has ``target``. Those that
    cover fewer source pixels than others are filled up with shares of 0.
    """
    begin = np.arange(target) * source
    end = begin + source
    pairs = []
    for nth in range(int((-(-end // target) - begin // target).max())):
        index = begin // target + nth
        share = np.minimum(end, (index + 1) * target) - np.maximum(begin, index * target)
        pairs.append((np.minimum(index, source - 1), np.maximum(share, 0).astype(np.uint32)))
    return pairs
