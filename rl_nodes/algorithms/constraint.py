# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What steps cost besides their reward: under a limit, or at a price that stays.

A limit is kept by a Lagrange multiplier that training adapts.

Citation: Ray, Achiam and Amodei 2019, "Benchmarking Safe Exploration in Deep Reinforcement
Learning", section 4 (the Lagrangian method, projected dual ascent); Stooke, Achiam and Abbeel
2020, "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods", arXiv:2007.03964,
algorithm 2.

    maximise E[sum r]  subject to  J = E[sum c] <= d                                         (1)
    learned from:  r - lambda c                                                              (2)
    I <- clip(I + K_I (J - d), 0, greatest)                                                  (3)
    lambda = clip(I + K_P (J - d) + K_D max(0, J - J_before), 0, greatest)                   (4)

J is the mean over the training episodes that have finished since the last step of (3); K_P = K_D
= 0 is projected dual ascent, the others damp its swings.

A price takes a fixed part p of a cost off the reward, and a part q of the risk rho(o, a) that a
network has learned to see (Thananjeyan et al. 2021, "Recovery RL", arXiv:2010.15920, which
compares with such penalties):

    learned from:  r - p c - q rho(o, a)                                                     (5)
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.errors import TrainingError

Risk = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Gain = Annotated[float, Meta(ge=0.0, le=1e6)]


class ConstraintConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    What is limited, and how fast the multiplier follows.

    :param cost: name of a number in the environment's info, as a task's unweighted reward terms
        and ``limited`` are; empty for no constraint.
    :param limit: d, in the unit of the cost.
    :param per: ``episode``: limits the sum over an episode; ``step``: the mean over steps.
    :param episodes: finished training episodes per step of the multiplier, at least.
    :param integral_gain: K_I [reward per cost, per cost beyond the limit].
    :param proportional_gain: K_P, likewise.
    :param derivative_gain: K_D, likewise, per cost that the mean has risen by.
    :param initial_multiplier: lambda at the start [reward per cost].
    :param greatest_multiplier: bound of lambda, reached where nothing keeps the limit.
    """

    cost: str = ''
    limit: float = 0.0
    per: Literal['episode', 'step'] = 'episode'
    episodes: Annotated[int, Meta(ge=1, le=100_000)] = 10
    integral_gain: _Gain = 0.01
    proportional_gain: _Gain = 0.0
    derivative_gain: _Gain = 0.0
    initial_multiplier: _Gain = 0.0
    greatest_multiplier: _Gain = 1000.0

    @property
    def active(self) -> bool:
        """Return whether anything is limited."""
        return bool(self.cost)

    def excess(self, cost: float, episodes: int, steps: int) -> float:
        """
        Return J - d, by how much finished episodes are beyond the limit; negative within it.

        :param cost: of all of them together.
        :param episodes: how many, at least one.
        :param steps: control steps of all of them together.
        """
        return cost / (episodes if self.per == 'episode' else steps) - self.limit


class Constraint:
    """
    A limit in force.

    :param config: see there.
    :ivar multiplier: lambda, by which costs are taken off rewards.
    """

    def __init__(self, config: ConstraintConfig) -> None:
        self.config = config
        self.multiplier = self._integral = min(config.initial_multiplier,
                                               config.greatest_multiplier)
        self._before: float | None = None  # J - d at the last step
        self._judged = (0.0, 0, 0)         # cost, episodes and steps at the last step

    def update(self, cost: float, episodes: int, steps: int) -> None:
        """
        Look at what training episodes have cost, and step once enough have finished.

        :param cost: of all finished episodes so far.
        :param episodes: how many there are.
        :param steps: control steps of all of them.
        """
        config, (cost_before, episodes_before, steps_before) = self.config, self._judged
        if episodes - episodes_before < config.episodes:
            return
        excess = config.excess(cost - cost_before, episodes - episodes_before,
                               steps - steps_before)
        rise = 0.0 if self._before is None else max(0.0, excess - self._before)
        self._integral = self._bounded(self._integral + config.integral_gain * excess)
        self.multiplier = self._bounded(self._integral + config.proportional_gain * excess
                                        + config.derivative_gain * rise)
        self._before, self._judged = excess, (cost, episodes, steps)

    def _bounded(self, value: float) -> float:
        return min(max(value, 0.0), self.config.greatest_multiplier)

    def state_dict(self) -> dict[str, Any]:
        """Return where the multiplier stands."""
        return {'multiplier': self.multiplier, 'integral': self._integral,
                'before': self._before, 'judged': list(self._judged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.multiplier, self._integral = float(state['multiplier']), float(state['integral'])
        self._before = None if state['before'] is None else float(state['before'])
        cost, episodes, steps = state['judged']
        self._judged = (float(cost), int(episodes), int(steps))


class PenaltyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    What is taken off the rewards that are learned from, eq. (5).

    :param cost: name of a number in the environment's info, as of a :class:`ConstraintConfig`;
        empty for none. A run has one such number: what is limited or what has a price, or both.
    :param cost_coefficient: p [reward per cost].
    :param guard: file of a guard that has a risk network; empty for none.
    :param risk_coefficient: q, the reward that is lost at a risk of 1.
    """

    cost: str = ''
    cost_coefficient: _Gain = 1.0
    guard: str = ''
    risk_coefficient: _Gain = 1.0

    @property
    def active(self) -> bool:
        """Return whether anything has a price."""
        return bool(self.cost or self.guard)


class Penalty:
    """
    A price in force.

    :param config: see there.
    :param risk: rho, from observations (N, O) and actions (N, A) in the contract's units to risks
        (N,); None without a guard.
    """

    def __init__(self, config: PenaltyConfig, risk: Risk | None = None) -> None:
        self.config, self._risk = config, risk

    def of(self, observation: np.ndarray, action: np.ndarray,
           cost: np.ndarray | None) -> np.ndarray:
        """
        Return what is taken off the rewards of some steps, shape (N,), float32.

        :param observation: shape (N, O).
        :param action: in the contract's units, shape (N, A).
        :param cost: c, shape (N,); None where it has no price.
        :raises TrainingError: it has one, and the steps do not say it.
        """
        config, taken = self.config, np.zeros(len(observation), np.float32)
        if config.cost:
            taken += np.float32(config.cost_coefficient) * told(cost, config.cost)
        if self._risk is not None:
            taken += np.float32(config.risk_coefficient) * self._risk(observation, action)
        return taken


def told(cost: np.ndarray | None, name: str) -> np.ndarray:
    """Return the costs that came with experience; TrainingError where none did."""
    if cost is None:
        raise TrainingError(f'each step costs {name!r} here, but transitions came that do not say '
                            'what they cost; give some with a column cost, or none')
    return cost
