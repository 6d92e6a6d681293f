# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Running mean and variance of observations, applied inside the policy.

Statistics are merged batch by batch in float64 (Chan, Golub and LeVeque 1983, "Algorithms for
computing the sample variance"). An exported policy carries a frozen float32 copy in torch buffers.
"""

import numpy as np
import torch
from torch import nn

CLIP = 10.0  # standard deviations; beyond that a value says "far away" and nothing more
VARIANCE_FLOOR = 1e-6  # [unit^2]; an element that never varies is centred, its noise not amplified


class FrozenNormalizer(nn.Module):
    """Map x to clip((x - mean) * scale, -10, 10) with statistics that never change."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        """
        Copy the statistics.

        :param mean: [unit of the element], shape (O,).
        :param scale: one over the standard deviation, shape (O,).
        """
        super().__init__()
        self.register_buffer('mean', mean.to(torch.float32, copy=True))
        self.register_buffer('scale', scale.to(torch.float32, copy=True))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the normalised observation, shape (..., O), float32."""
        return torch.clamp((observation - self.mean) * self.scale, -CLIP, CLIP)


class ObservationNormalizer:
    """The running statistics; the identity until data came."""

    def __init__(self, size: int) -> None:
        """
        Create the statistics of nothing.

        :param size: elements of an observation.
        """
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.variance = torch.ones(size, dtype=torch.float64)
        self.count = 0
        self._mean = torch.zeros(size)
        self._scale = torch.ones(size)

    def update(self, observation: torch.Tensor) -> None:
        """
        Merge a batch of observations into the statistics.

        :param observation: finite, shape (N, O); N = 0 changes nothing.
        """
        rows = len(observation)
        if rows == 0:
            return
        batch = observation.to(torch.float64)
        batch_mean = batch.mean(0)
        batch_square = (batch - batch_mean).square_().sum(0)
        total = self.count + rows
        delta = batch_mean - self.mean
        square = (self.variance * self.count + batch_square
                  + delta.square() * (self.count * rows / total))
        self.mean += delta * (rows / total)
        self.variance.copy_(square / total)
        self.count = total
        self._refresh()

    def _refresh(self) -> None:
        self._mean.copy_(self.mean)
        self._scale.copy_(torch.rsqrt(self.variance + VARIANCE_FLOOR))

    def normalize_into(self, observation: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """
        Write the normalised observation to ``out``: the input, or anything on any device.

        :param observation: shape (N, O), float32.
        :return: ``out``.
        """
        if out.device != observation.device:
            return out.copy_(self.normalize_into(observation, torch.empty_like(observation)))
        torch.sub(observation, self._mean, out=out)
        return out.mul_(self._scale).clamp_(-CLIP, CLIP)

    def normalize(self, observation: np.ndarray) -> np.ndarray:
        """Return the normalised observation, shape (N, O), float32, for few rows in numpy."""
        centred: np.ndarray = observation - self._mean.numpy()
        centred *= self._scale.numpy()
        return np.clip(centred, -CLIP, CLIP, out=centred)

    def frozen(self) -> FrozenNormalizer:
        """Return the present statistics as a module for export."""
        return FrozenNormalizer(self._mean, self._scale)

    def state_dict(self) -> dict[str, torch.Tensor | int]:
        """Return copies of the statistics."""
        return {'mean': self.mean.clone(), 'variance': self.variance.clone(),
                'count': self.count}

    def load_state_dict(self, state: dict) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.mean.copy_(state['mean'])
        self.variance.copy_(state['variance'])
        self.count = int(state['count'])
        if self.count:
            self._refresh()
        else:
            self._mean.zero_()
            self._scale.fill_(1.0)
