# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A network that tells states of success from others, learned from examples of both.

J. Fu et al. 2018, "Variational inverse control with events" (VICE, arXiv:1805.11686) take the
log-odds of such a classifier for a reward; A. Singh et al. 2019 (VICE-RAQ, arXiv:1904.07854) learn
it from images with mixup; J. Luo et al. 2024 (SERL, arXiv:2401.16013) take its 0 or 1. Legend:
B batch, F elements seen; x states as they are seen, y = 1 for success, z the network's log-odds,
m ~ Beta(a, a) for every row, (x', y') the same batch in another order,

    x~ = m x + (1 - m) x',   y~ = m y + (1 - m) y'      (H. Zhang et al. 2018, mixup)          (1)
    y^ = (1 - s) y~ + s / 2                             (label smoothing)                      (2)
    L = - mean(y^ log p + (1 - y^) log(1 - p)),   p = 1 / (1 + exp(-z(x~)))                    (3)

minimised by Adam. Every batch has the same share of states of success, drawn with replacement:
log-odds are those of a world in which success is that frequent, by half unless told otherwise.
Both (1) and (2) keep the network from being surer than its examples are many. Log-odds are bounded
to ±10 [nat].
"""

from collections.abc import Callable
import copy
from typing import Annotated

import msgspec
import numpy as np
from rl_nodes.core.errors import TrainingError
from rl_nodes.networks.mlp import Mlp
from rl_nodes.networks.normalizer import FrozenNormalizer, ObservationNormalizer
import torch
from torch import nn

_Count = Annotated[int, msgspec.Meta(ge=1)]


class SuccessLearnerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Settings of a success classifier.

    :param hidden: widths of the hidden layers.
    :param learning_rate: of Adam, per step.
    :param batch_size: states per gradient step.
    :param epochs: passes over as many states as there are.
    :param positive_share: of every batch that is states of success.
    :param mixup: a of eq. (1); 0 mixes nothing.
    :param label_smoothing: s of eq. (2).
    """

    hidden: Annotated[tuple[_Count, ...], msgspec.Meta(min_length=1)] = (64, 64)
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    batch_size: Annotated[int, msgspec.Meta(ge=2)] = 256
    epochs: _Count = 100
    positive_share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.5
    mixup: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    label_smoothing: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.1


class SuccessModule(nn.Module):
    """The network as it is exported: (B, F) -> log-odds (B, 1)."""

    def __init__(self, normalizer: FrozenNormalizer, network: nn.Module, bound: float) -> None:
        super().__init__()
        self.normalizer, self.network, self.bound = normalizer, network, bound

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return log-odds within the bound, shape (B, 1) [nat]."""
        return torch.clamp(self.network(self.normalizer(observation)), -self.bound, self.bound)


def learn_success(positive: np.ndarray, negative: np.ndarray, config: SuccessLearnerConfig,
                  seed: int, bound: float,
                  report: Callable[[int, float], None] = lambda *_: None) -> SuccessModule:
    """
    Return a network that minimises eq. (3).

    :param positive: states of success, shape (N, F), float32, N at least 1.
    :param negative: other states, shape (M, F), float32, M at least 1.
    :param seed: of weights and batches.
    :param bound: of the log-odds [nat].
    :param report: gets (epoch, its mean loss).
    :raises TrainingError: a loss that is not finite.
    """
    torch.set_num_threads(1)  # fastest for small networks
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    yes, no = torch.from_numpy(positive), torch.from_numpy(negative)
    statistics = ObservationNormalizer(positive.shape[1])
    statistics.update(torch.cat([yes, no]))
    network = Mlp((positive.shape[1], *config.hidden, 1), 'relu', 'default', generator=generator)
    yes, no = (statistics.normalize_into(rows, torch.empty_like(rows)) for rows in (yes, no))
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    count = min(max(1, round(config.positive_share * config.batch_size)), config.batch_size - 1)
    target = (torch.arange(config.batch_size) < count).float()
    for epoch in range(1, config.epochs + 1):
        total, steps = 0.0, max(1, (len(yes) + len(no)) // config.batch_size)
        for _ in range(steps):
            x = torch.cat([rows[torch.randint(len(rows), (size,), generator=generator)]
                           for rows, size in ((yes, count), (no, config.batch_size - count))])
            y = target
            if config.mixup:
                order = torch.randperm(len(x), generator=generator)
                share = torch.from_numpy(rng.beta(config.mixup, config.mixup, len(x))).float()
                x = torch.lerp(x[order], x, share[:, None])
                y = torch.lerp(y[order], y, share)
            y = torch.lerp(y, torch.full_like(y, 0.5), config.label_smoothing)
            loss = nn.functional.binary_cross_entropy_with_logits(network(x)[:, 0], y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        if not np.isfinite(total):
            raise TrainingError(f'success_classifier: loss {total / steps} in epoch {epoch}; '
                                'lower learning_rate')
        report(epoch, total / steps)
    return SuccessModule(statistics.frozen(), copy.deepcopy(network), bound)
