# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes robot lqr``."""

import numpy as np
from rl_nodes.backends import make_robot
from rl_nodes.control.lqr import design
from rl_nodes.core.robot import load_robot


def lqr(robot: str, backend: str) -> str:
    """
    Return the lines ``command`` and ``gain`` of a robot's section ``controllers.lqr``.

    :param robot: a shipped name, or the path of a .yaml or .urdf file; its YAML has the weights.
    :param backend: simulator that the robot is linearised in.
    :raises ConfigError: weights are missing or wrong, or no command stabilises the robot.
    """
    model = load_robot(robot)
    plant = make_robot(backend, model)
    try:
        gain, resting, linear = design(plant, model)
    finally:
        plant.close()
    slowest = np.abs(np.linalg.eigvals(linear.state - linear.command @ gain)).max()
    rows = ',\n           '.join(_list(row) for row in gain)
    return '\n'.join([
        f'# rl_nodes robot lqr {robot} backend:={backend}; an error shrinks to {slowest:.3g} or '
        'less of itself in a period',
        f'    command: {_list(resting)}',
        f'    gain: [{rows}]'])


def _list(values: np.ndarray) -> str:
    return f'[{", ".join(f"{value:.6g}" for value in np.round(values, 9) + 0.0)}]'
