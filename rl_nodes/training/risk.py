# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A network that says how risky an action is, learned from recorded episodes.

K. Srinivasan et al. 2020, "Learning to be Safe" (arXiv:2010.14603) and B. Thananjeyan et al. 2021,
"Recovery RL" (arXiv:2010.15920, eq. 1 and 2) learn the discounted probability that an action is
followed by a violation. Legend: N transitions, O observation, A action; s_t, a_t of step t of an
episode that fails in its step T, or never (T infinite),

    Q_risk(s_t, a_t) = E[g^(T - t)],   g = 1 - period / horizon                                 (1)
    L = - mean(y log q + (1 - y) log(1 - q)),   y = g^(T - t), q what the network answers       (2)

The least L is the mean of y, eq. (1), for whoever acted in the recordings. Departure from both: y
is what followed in the recording, not what the network says of the next step, as the recordings
are whole episodes and nothing of other policies is wanted. A failure is a step that ended its
episode without success, one before which the safety monitor made the robot stand, or one before
which a person took over; what comes after it in the same episode is left out.
"""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rl_nodes.algorithms.constraint import Risk
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.core.origin import Origin
from rl_nodes.core.types import TransitionBatch
from rl_nodes.inference.risk import load_risk
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.networks.mlp import Mlp
from rl_nodes.networks.normalizer import FrozenNormalizer, ObservationNormalizer
from rl_nodes.safety import guard_file
import torch
from torch import nn

HIDDEN = (64, 64)
LEARNING_RATE = 1e-3
BATCH_SIZE = 256
EPOCHS, PATIENCE = 100, 10
VALIDATION = 0.2  # of the episodes that are learned from


class Labelled(NamedTuple):
    """
    One episode up to its failure or its end.

    :param asked: observations and executed actions, shape (N, O + A), float32.
    :param target: y of eq. (2), shape (N,), float32.
    :param failed: whether it failed.
    """

    asked: np.ndarray
    target: np.ndarray
    failed: bool


def label(batch: TransitionBatch, discount: float) -> Labelled:
    """
    Return one episode with its targets, eq. (2).

    :param batch: all of its transitions, in order, at least one.
    :param discount: g.
    """
    failing = batch.terminated & ~batch.success
    if batch.origin is not None:
        acting = batch.origin == Origin.AUTONOMOUS
        taken = np.isin(batch.origin, (Origin.NOBODY, Origin.INTERVENTION))
        failing[:-1] |= acting[:-1] & taken[1:]
    found = np.flatnonzero(failing)
    end = int(found[0]) + 1 if len(found) else len(batch)
    asked = np.concatenate([batch.observation[:end], batch.action[:end]], axis=1)
    steps = np.arange(end - 1, -1, -1)
    target = discount ** steps if len(found) else np.zeros(end)
    return Labelled(asked.astype(np.float32), target.astype(np.float32), bool(len(found)))


class RiskModule(nn.Module):
    """The network as it is exported: (B, O + A) -> risk (B, 1)."""

    def __init__(self, normalizer: FrozenNormalizer, network: nn.Module) -> None:
        super().__init__()
        self.normalizer, self.network = normalizer, network

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the risk, shape (B, 1), from 0 to 1."""
        return torch.sigmoid(self.network(self.normalizer(observation)))


def train_risk(episodes: list[Labelled], seed: int) -> RiskModule:
    """
    Return a network that minimises eq. (2); the weights with the least loss on episodes left out.

    :param episodes: those to learn from, at least two that failed and two that did not.
    :raises TrainingError: a loss that is not finite.
    """
    torch.set_num_threads(1)  # fastest for small networks
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    checked = set()
    for failed in (True, False):  # both kinds are learned from and validated on
        kind = [i for i, episode in enumerate(episodes) if episode.failed == failed]
        checked |= set(rng.permutation(kind)[:max(1, round(VALIDATION * len(kind)))].tolist())
    (x, y), (check_x, check_y) = (
        [torch.from_numpy(np.concatenate(column)) for column in zip(*(
            (episode.asked, episode.target) for i, episode in enumerate(episodes)
            if (i in checked) == held_out))] for held_out in (False, True))
    statistics = ObservationNormalizer(x.shape[1])
    statistics.update(x)
    module = RiskModule(statistics.frozen(), Mlp((x.shape[1], *HIDDEN, 1), 'relu', 'default',
                                                 generator=generator))
    optimiser = torch.optim.Adam(module.parameters(), LEARNING_RATE)
    loss_of = nn.functional.binary_cross_entropy
    best, best_weights, waited = float('inf'), copy.deepcopy(module.state_dict()), 0
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH_SIZE):
            loss = loss_of(module(x[rows])[:, 0], y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            found = float(loss_of(module(check_x)[:, 0], check_y))
        if not np.isfinite(found):
            raise TrainingError(f'risk: loss {found} after epoch {epoch + 1}; is an observation '
                                'far out of its range?')
        waited += 1
        if found < best:
            best, best_weights, waited = found, copy.deepcopy(module.state_dict()), 0
        if waited == PATIENCE:
            break
    module.load_state_dict(best_weights)
    return module


def risks(module: RiskModule, asked: np.ndarray) -> np.ndarray:
    """Return the risk of observations and actions (N, O + A), shape (N,), float64."""
    with torch.no_grad():
        return module(torch.from_numpy(asked))[:, 0].double().numpy()


def risk_in(guard: str, contract: Contract) -> Risk:
    """
    Return the risk network of a guard, from observations and actions to risks.

    :param guard: file that ``rl_nodes safety calibrate ... risk:=true`` has written.
    :param contract: that it must have been made for.
    :raises ConfigError: it cannot be read, has no risk network or was made for something else.
    :raises BundleError: its network is damaged.
    :raises ContractError: its network was made for something else.
    """
    path = Path(guard).expanduser()
    file = guard_file.read_guard(path, contract)
    if not isinstance(file.risk, guard_file.Risk):
        raise ConfigError(f'guard {guard} has no risk network; make one with "rl_nodes safety '
                          'calibrate ... risk:=true"')
    network = PolicyRuntime(load_risk(path.with_name(file.risk.file), file.risk.sha256, contract))

    def risk(observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        asked = np.concatenate([observation, action], axis=1, dtype=np.float32)
        found = np.full(len(asked), np.nan, np.float32)  # of what is not finite; it is refused
        for row in np.flatnonzero(np.isfinite(asked).all(axis=1)):
            found[row] = network.act(asked[row])[0]
        return found
    return risk


def ranked_right(risky: np.ndarray, safe: np.ndarray) -> float:
    """
    Return the share of pairs in which the risky one has the greater score (area under ROC).

    :param risky: scores, shape (N,).
    :param safe: scores, shape (M,).
    """
    both = np.concatenate([risky, safe])
    _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    total = float(mean_rank[place][:len(risky)].sum())
    return (total - len(risky) * (len(risky) + 1) / 2) / (len(risky) * len(safe))
