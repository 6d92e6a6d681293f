# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Ticks of the motors and positions of the joints, both ways."""

from collections.abc import Sequence
import math

import numpy as np
from rl_nodes.backends.hardware.servo_bus.bus import BITS_PER_BYTE, cycle_bytes
from rl_nodes.backends.hardware.servo_bus.codecs import CODECS
from rl_nodes.backends.hardware.servo_bus.config import MotorConfig, ServoBusConfig
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel

BUDGET = 0.8  # share of the control period that a read with its repetitions may take


class Conversion:
    """
    Units of every motor of a robot, in the order of its joints.

    :param motors: shape (J,).
    :param config: of the bus.
    """

    def __init__(self, motors: Sequence[MotorConfig], config: ServoBusConfig) -> None:
        family = FAMILIES[config.protocol]
        sign = np.array([float(m.sign) for m in motors])
        gear = np.array([m.gear_ratio for m in motors])
        turn = np.array([float(m.ticks_per_turn) for m in motors])
        unit = np.array([family.models[m.model].effort_unit_nm if m.effort_unit_nm is None
                         else m.effort_unit_nm for m in motors])
        self._offset = np.array([float(m.offset_ticks) for m in motors])
        self.tick = 2 * math.pi / (turn * gear)  # joint travel per tick [rad or m], positive
        self._position = sign * self.tick
        self._speed = family.speed_unit_rad_s / gear
        self._velocity = sign * self._speed
        self._effort = sign * unit * gear

    def position(self, ticks: np.ndarray) -> np.ndarray:
        """Return joint positions [rad or m] of motor positions [ticks], shape (J,)."""
        return (ticks - self._offset) * self._position

    def ticks(self, position: np.ndarray) -> np.ndarray:
        """Return motor positions [ticks, not rounded] of joint positions [rad or m], (J,)."""
        return position / self._position + self._offset

    def velocity(self, raw: np.ndarray) -> np.ndarray:
        """Return joint speeds [rad/s or m/s] of the velocity registers, shape (J,)."""
        return raw * self._velocity

    def effort(self, raw: np.ndarray) -> np.ndarray:
        """Return joint efforts [N·m or N] of the current or load registers, shape (J,)."""
        return raw * self._effort

    def speed_limit(self, speed: np.ndarray) -> np.ndarray:
        """Return values of the speed limit registers for joint speeds [rad/s or m/s]; never 0."""
        return np.maximum(1, np.floor(speed / self._speed)).astype(int)

    def tick_limits(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole ticks that lie within joint limits [rad or m]: least and greatest."""
        ends = np.stack([self.ticks(lower), self.ticks(upper)])
        slack = 1e-6  # ticks; a limit that is a whole tick must not lose it to rounding
        return (np.ceil(ends.min(axis=0) - slack).astype(int),
                np.floor(ends.max(axis=0) + slack).astype(int))


def check_fit(model: RobotModel, config: ServoBusConfig) -> None:
    """
    Make sure that the bus belongs to the robot, reaches its limits and carries its rate.

    :raises ConfigError: says which joint, what came and what is allowed.
    """
    if model.config.control_mode != 'position':
        raise ConfigError(f'{model.name}: control_mode is {model.config.control_mode}; a '
                          'servo bus has position control only')
    missing = [name for name in model.joint_names if name not in config.motors]
    unknown = [name for name in config.motors if name not in model.joint_names]
    if missing or unknown:
        raise ConfigError(
            f'{model.name}: servo_bus.motors must name the joints {", ".join(model.joint_names)}; '
            f'missing: {", ".join(missing) or "none"}; unknown: {", ".join(unknown) or "none"}')
    motors = [config.motors[name] for name in model.joint_names]
    conversion = Conversion(motors, config)
    for i in model.commanded:
        joint, motor = model.joints[i], motors[i]
        if joint.lower is None or joint.upper is None:
            raise ConfigError(f'{model.name}: joint {joint.name!r} has no position limits; one '
                              'turn of a servo is all there is: give lower and upper')
        low, high = conversion.tick_limits(
            *(np.full(len(motors), limit) for limit in (joint.lower, joint.upper)))
        if low[i] < 0 or high[i] >= motor.ticks_per_turn:
            raise ConfigError(
                f'{model.name}: joint {joint.name!r}: its limits [{joint.lower}, {joint.upper}] '
                f'are {low[i]} to {high[i]} ticks of motor {motor.id}, which has 0 to '
                f'{motor.ticks_per_turn - 1}; mount it with its middle near the middle of the '
                'joint and set offset_ticks, or tighten the limits')
    family = FAMILIES[config.protocol]
    count = cycle_bytes(CODECS[config.protocol], len(motors), family.blocks[0][1],
                        family.goal.size)
    least, period = count * BITS_PER_BYTE / config.baud_rate, 1 / model.config.rate_hz
    if least > BUDGET * period:
        raise ConfigError(
            f'{model.name}: reading and writing {len(motors)} motors takes at least '
            f'{least * 1e3:.1f} ms at {config.baud_rate} bit/s, more than {BUDGET:.0%} of the '
            f'period of {period * 1e3:.1f} ms; lower rate_hz or raise baud_rate')
