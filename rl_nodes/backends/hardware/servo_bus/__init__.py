# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Serial bus servos (Dynamixel protocol 2.0, Feetech STS/SMS) as a robot."""

from rl_nodes.backends.hardware.servo_bus.config import MotorConfig, ServoBusConfig
from rl_nodes.backends.hardware.servo_bus.robot import ServoBusRobot
from rl_nodes.core.errors import ReadMissedError

__all__ = ['MotorConfig', 'ReadMissedError', 'ServoBusConfig', 'ServoBusRobot']
