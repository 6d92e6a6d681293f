# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Twin delayed deterministic policy gradient.

Citation: Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in
Actor-Critic Methods", arXiv:1802.09477, algorithm 1. What it adds to DDPG (``ddpg.py``, whose
equations and legend hold):

- two critics, of which the smaller one counts in the target (and the first one for the actor);
- target policy smoothing, in place of mubar(o') in eq. (1):

    a' = clip(mubar(o') + clip(s n, -c, c), -1, 1),   n ~ N(0, 1)                            (6)

- the actor and all slow copies move only every ``policy_delay``-th step.
"""

from typing import Annotated

import msgspec
import numpy as np
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig, Noise
import torch


class Td3Config(DdpgConfig, frozen=True, forbid_unknown_fields=True):
    """
    Settings of the learner, besides those of DDPG.

    :param policy_delay: gradient steps of the critics per step of the actor.
    :param smoothing_std: s of eq. (6), a part of half the action's range.
    :param smoothing_clip: c of eq. (6), a part of half the action's range.
    """

    policy_delay: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    smoothing_std: Noise = 0.2
    smoothing_clip: Noise = 0.5


class Td3(Ddpg):
    """The learner; see the file's header for the equations."""

    name = 'td3'
    members = 2
    config: Td3Config

    def __init__(self, observation_size: int, action_low: np.ndarray, action_high: np.ndarray,
                 config: Td3Config, seed: int, privileged_size: int = 0) -> None:
        """Create networks, optimisers and buffer; see the base class."""
        super().__init__(observation_size, action_low, action_high, config, seed, privileged_size)
        self._smoothing = torch.zeros(config.batch_size, self._action_size)

    def _target_action(self, next_observation: torch.Tensor) -> torch.Tensor:
        config = self.config
        noise = self._smoothing.normal_(generator=self._generator).mul_(config.smoothing_std)
        noise.clamp_(-config.smoothing_clip, config.smoothing_clip)
        action = super()._target_action(next_observation)
        return action.add_(noise.to(self.device)).clamp_(-1.0, 1.0)

    def _actor_due(self) -> bool:
        return self.updates % self.config.policy_delay == self.config.policy_delay - 1
