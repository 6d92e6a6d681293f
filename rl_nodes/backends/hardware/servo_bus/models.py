# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Registers and units of the motor families, from the vendors' control tables.

Dynamixel X: https://emanual.robotis.com/docs/en/dxl/x/ (two's complement, little endian).
Feetech STS/SMS: memory table of the STS3215 (sign and magnitude, little endian).
"""

from collections.abc import Mapping
import math
from typing import NamedTuple


class Register(NamedTuple):
    """
    One entry of a control table.

    :param address: of its first byte.
    :param size: [bytes].
    :param sign_bit: None: not signed; -1: two's complement; else the bit that holds the sign.
    """

    address: int
    size: int
    sign_bit: int | None = None

    def decode(self, data: bytes, start: int = 0) -> int:
        """
        Return the value of this register.

        :param data: bytes read from the motor.
        :param start: address of the first of them.
        """
        at = self.address - start
        raw = int.from_bytes(data[at:at + self.size], 'little', signed=self.sign_bit == -1)
        if self.sign_bit is None or self.sign_bit < 0:
            return raw
        magnitude = raw & ((1 << self.sign_bit) - 1)
        return -magnitude if raw >> self.sign_bit & 1 else magnitude

    def encode(self, value: int) -> bytes:
        """
        Return the bytes of a value.

        :raises OverflowError: it does not fit.
        """
        if self.sign_bit is not None and self.sign_bit >= 0:
            if abs(value) >> self.sign_bit:
                raise OverflowError(f'{value} does not fit into {self.sign_bit} bits and a sign')
            value = abs(value) | (value < 0) << self.sign_bit
        return value.to_bytes(self.size, 'little', signed=self.sign_bit == -1)


class Model(NamedTuple):
    """
    One type of motor.

    :param number: what its model register holds.
    :param effort_unit_nm: torque per unit of its current or load register [N·m], on the straight
        line through the stall point of the data sheet: an estimate, no measurement.
    """

    number: int
    effort_unit_nm: float


class Family(NamedTuple):
    """
    What the motors of one protocol have in common.

    :param speed_unit_rad_s: of the velocity registers [rad/s].
    :param torque_full: value of ``torque_limit`` that stands for all the torque there is.
    :param fixed: settings that must have these values, in the order to be written; those marked
        True can be changed only while the torque is off.
    :param watchdog: stops the motor when the bus is silent; None where there is none.
    :param watchdog_unit_s: [s].
    :param hardware_error: holds the bits of ``flags``.
    :param flags: name of each error, by bit.
    :param blocks: (address, length) of readings that hold all the measured registers; several, so
        that the answer to an earlier request cannot pass for the answer to the present one.
    """

    models: Mapping[str, Model]
    model_number: Register
    fixed: tuple[tuple[str, Register, int, bool], ...]
    lower_limit: Register
    upper_limit: Register
    limits_need_torque_off: bool
    torque_enable: Register
    watchdog: Register | None
    watchdog_unit_s: float
    torque_limit: Register
    torque_full: int
    speed_limit: Register
    speed_unit_rad_s: float
    goal: Register
    position: Register
    velocity: Register
    effort: Register
    voltage: Register
    temperature: Register
    hardware_error: Register
    flags: Mapping[int, str]
    blocks: tuple[tuple[int, int], ...]


# Stall torque [N·m] over stall current [A] times the unit of the current register [A]; where a
# motor reports a load in 0.1 %: stall torque over 1000.
DYNAMIXEL = Family(
    models={
        'xl330-m077': Model(1190, 0.215 / 1.47 * 1e-3),
        'xl330-m288': Model(1200, 0.52 / 1.47 * 1e-3),
        'xl430-w250': Model(1060, 1.4 / 1000),
        'xc430-w150': Model(1070, 1.6 / 1000),
        'xm430-w210': Model(1030, 3.0 / 2.3 * 2.69e-3),
        'xm430-w350': Model(1020, 4.1 / 2.3 * 2.69e-3),
        'xm540-w150': Model(1130, 7.3 / 4.4 * 2.69e-3),
        'xm540-w270': Model(1120, 10.6 / 4.4 * 2.69e-3),
    },
    model_number=Register(0, 2),
    fixed=(('status return level', Register(68, 1), 2, False),
           ('return delay', Register(9, 1), 0, True),
           ('drive mode', Register(10, 1), 0, True),
           ('operating mode', Register(11, 1), 3, True)),
    lower_limit=Register(52, 4),
    upper_limit=Register(48, 4),
    limits_need_torque_off=True,
    torque_enable=Register(64, 1),
    watchdog=Register(98, 1),
    watchdog_unit_s=0.02,
    torque_limit=Register(100, 2, -1),
    torque_full=885,
    speed_limit=Register(112, 4),
    speed_unit_rad_s=0.229 * 2 * math.pi / 60,
    goal=Register(116, 4, -1),
    position=Register(132, 4, -1),
    velocity=Register(128, 4, -1),
    effort=Register(126, 2, -1),
    voltage=Register(144, 2),
    temperature=Register(146, 1),
    hardware_error=Register(70, 1),
    flags={0: 'input voltage', 2: 'overheating', 3: 'encoder', 4: 'electrical shock',
           5: 'overload'},
    blocks=((126, 21), (124, 23), (122, 25), (120, 27)),
)

FEETECH = Family(
    models={'sts3215': Model(777, 1.91 / 1000), 'sts3250': Model(2825, 4.9 / 1000)},
    model_number=Register(3, 2),
    # Locked, the registers below 40 change until the power goes and their memory does not wear.
    fixed=(('lock', Register(55, 1), 1, False),
           ('return delay', Register(7, 1), 0, False),
           ('operating mode', Register(33, 1), 0, True)),
    lower_limit=Register(9, 2),
    upper_limit=Register(11, 2),
    limits_need_torque_off=False,
    torque_enable=Register(40, 1),
    watchdog=None,
    watchdog_unit_s=1.0,
    torque_limit=Register(48, 2),
    torque_full=1000,
    speed_limit=Register(46, 2, 15),
    speed_unit_rad_s=2 * math.pi / 4096,
    goal=Register(42, 2, 15),
    position=Register(56, 2, 15),
    velocity=Register(58, 2, 15),
    effort=Register(60, 2, 10),
    voltage=Register(62, 1),
    temperature=Register(63, 1),
    hardware_error=Register(65, 1),
    flags={0: 'input voltage', 1: 'encoder', 2: 'overheating', 3: 'overcurrent',
           4: 'angle', 5: 'overload'},
    blocks=((56, 10), (56, 11), (56, 12), (56, 13)),
)

FAMILIES = {'dynamixel2': DYNAMIXEL, 'feetech': FEETECH}
VOLTAGE_UNIT_V = 0.1  # of both families
