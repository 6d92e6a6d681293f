# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is different about a simulated robot in one episode.

Drawn by ``tasks/randomisation.py``, carried by :class:`~rl_nodes.core.types.Start`. Physics is
changed inside the simulator; disturbances come between it and whoever commands it.

Legend of dimensions: J measured joints, A commanded joints. A *solid* is a link with everything
that is fixed to it; number 0 is the one of ``base_link``, number i + 1 the one that joint i moves.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Physics:
    """
    Multiples of what the robot's description and settings say [1].

    :param mass: of each solid, inertia included, shape (1 + J,); that of a fixed base is not used.
    :param damping: of each joint, shape (J,).
    :param strength: of each drive: its effort limit, and its gain where it has one, shape (A,).
    :param friction: of contacts with the ground; in MuJoCo also between robot and objects.
    :param gravity: of the world.
    """

    mass: np.ndarray
    damping: np.ndarray
    strength: np.ndarray
    friction: float = 1.0
    gravity: float = 1.0


@dataclass(frozen=True)
class Push:
    """
    A horizontal force that comes again and again.

    :param solid: number of the solid it acts on, at its centre of mass.
    :param every_s: one push per interval of this length, at a random time and from a random side.
    :param impulse_n_s: of each push [N·s].
    :param duration_s: of each push, at least one control period.
    """

    solid: int
    every_s: float
    impulse_n_s: float
    duration_s: float


@dataclass(frozen=True)
class Disturbance:
    """
    What delays, blurs and pushes.

    :param seed: of everything that is drawn while the episode runs.
    :param action_delay: from a state to the effect of the command that answers it, in control
        periods, in whole physics steps.
    :param observation_delay: age of what is measured, likewise.
    :param noise: standard deviation by quantity, see ``tasks/randomisation.py``: ``Noise``.
    :param push: None for none.
    """

    seed: int
    action_delay: float = 0.0
    observation_delay: float = 0.0
    noise: dict[str, float] = field(default_factory=dict)
    push: Push | None = None


@dataclass(frozen=True, eq=False)
class Variation:
    """
    All of it.

    :param difficulty: 0 (easy, nothing varies) to 1, see ``Task.episode``.
    :param values: what was drawn, by name, always the same names of a task; begins with
        ``difficulty``.
    :param physics: None where it is as described.
    :param disturbance: None where there is none.
    """

    difficulty: float
    values: dict[str, float]
    physics: Physics | None = None
    disturbance: Disturbance | None = None
