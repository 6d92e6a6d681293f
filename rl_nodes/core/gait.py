# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The gait of a robot on legs: a clock, which foot steps when, and how high each foot is."""

import math
from typing import Annotated

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.rotations import rotation_from_quaternion
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, RobotState
from rl_nodes.core.urdf import Urdf

SWING = 0.5  # share of the cycle that a foot is in the air


class GaitConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    How a robot steps.

    :param cycle_s: time from one step of a foot to its next [s].
    :param feet: the link of each foot, and the share of the cycle at which its step begins.
    """

    cycle_s: Annotated[float, Meta(gt=0)]
    feet: Annotated[dict[str, Annotated[float, Meta(ge=0, lt=1)]], Meta(min_length=2)]


class Gait:
    """
    A gait of one robot, a pure function of its states.

    Its clock starts with the episode, so whoever sees a state knows the phase.

    :param config: see there.
    :param urdf: has the feet.
    :param base_link: the floating base.
    :param joint_names: order of the joint vector.
    :param home: joint positions of a robot that stands at home, shape (J,).
    :param home_height_m: height of its base then.
    :raises ConfigError: the robot has no such foot.
    """

    def __init__(self, config: GaitConfig, urdf: Urdf, base_link: str,
                 joint_names: tuple[str, ...], home: np.ndarray, home_height_m: float) -> None:
        self.cycle_s = config.cycle_s
        self.cycle_ns = round(config.cycle_s * NS)
        self._begins = tuple(config.feet.values())
        self._chains = [Chain(urdf, base_link, foot, joint_names) for foot in config.feet]
        self._standing = [home_height_m + float(chain.tip_position(home)[2])
                          for chain in self._chains]

    def phase(self, state: RobotState) -> float:
        """Return the share of the cycle that has passed, in [0, 1)."""
        since = state.stamp_ns - EpisodeId.parse(state.episode).start_ns
        return since % self.cycle_ns / self.cycle_ns

    def feet_up(self, state: RobotState) -> list[float]:
        """Return how far each foot is above where it stands at home, on even ground [m]."""
        base = state.floating
        height, down = float(base.position[2]), rotation_from_quaternion(base.orientation)[2]
        return [height + float(down @ chain.tip_position(state.position)) - standing
                for chain, standing in zip(self._chains, self._standing, strict=True)]

    def wanted_up(self, phase: float, clearance_m: float) -> list[float]:
        """
        Return how far each foot should be up [m]: half a sine wave in its step, else 0.

        :param phase: see :meth:`phase`.
        :param clearance_m: height of a step.
        """
        wanted = []
        for begin in self._begins:
            share = (phase - begin) % 1.0 / SWING
            wanted.append(clearance_m * math.sin(math.pi * share) if share < 1.0 else 0.0)
        return wanted
