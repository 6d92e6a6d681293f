# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Shipped robots with other safety settings, and states of them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.safety_config import SafetyConfig
from rl_nodes.core.types import RobotState


def make_robot(name: str, joints: Mapping[str, Any] | None = None, mode: str = '',
               **safety: Any) -> RobotModel:
    """Return a robot; ``joints`` are settings of each of its joints."""
    robot = load_robot(name)
    config = robot.config
    settings = {**msgspec.to_builtins(config.safety), **safety}
    robot.config = msgspec.structs.replace(
        config, control_mode=mode or config.control_mode,
        safety=msgspec.convert(settings, SafetyConfig), joints=tuple(
            msgspec.structs.replace(joint, **(joints or {})) for joint in config.joints))
    return robot


def make_state(robot: RobotModel, position: Any = None, velocity: Any = None,
               period: int = 0) -> RobotState:
    """Return a state, at home and at rest by default, some periods after the first."""
    position = robot.home if position is None else np.asarray(position, float)
    velocity = np.zeros(len(position)) if velocity is None else np.asarray(velocity, float)
    return RobotState(round(period * 1e9 / robot.config.rate_hz), '1@0', position, velocity,
                      np.zeros(len(position)))
