# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a robot made of servos on one serial bus."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES

Positive = Annotated[float, Meta(gt=0)]
Baud = Literal[9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600,
               1000000, 2000000, 3000000, 4000000]


class MotorConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The motor of one joint.

    :param id: bus id.
    :param model: type of the motor, as in ``models.py``; compared with what the motor reports.
    :param sign: +1 where more ticks mean a greater joint position, -1 where they mean less.
    :param offset_ticks: what the motor reads where the joint position is zero [ticks].
    :param ticks_per_turn: of the motor's output shaft [ticks].
    :param gear_ratio: motor turns per turn of the joint; for a sliding joint, motor rad per m.
    :param torque_limit: share of the motor's greatest torque that it may use.
    :param effort_unit_nm: torque at the motor's shaft per unit of its current or load register
        [N·m]; left out, the model's stall torque gives it.
    :param max_temperature_c: greatest temperature at which the robot moves [°C].
    :param voltage_v: least and greatest supply voltage at which the robot moves [V].
    """

    id: Annotated[int, Meta(ge=0, le=252)]
    model: str
    offset_ticks: int
    voltage_v: tuple[Positive, Positive]
    sign: Literal[1, -1] = 1
    ticks_per_turn: Annotated[int, Meta(gt=0)] = 4096
    gear_ratio: Positive = 1.0
    torque_limit: Annotated[float, Meta(gt=0, le=1)] = 1.0
    effort_unit_nm: Positive | None = None
    max_temperature_c: Annotated[float, Meta(gt=0, le=100)] = 65.0

    def __post_init__(self) -> None:
        if self.voltage_v[0] >= self.voltage_v[1]:
            raise ValueError('voltage_v must be [least, greatest] with least below greatest')


class ServoBusConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Servos on one serial bus.

    :param port: device; a name in ``/dev/serial/by-id`` survives unplugging.
    :param protocol: what the motors speak; one bus, one protocol.
    :param motors: the motor of each joint of the robot, by the joint's name.
    :param baud_rate: as programmed into the motors [bit/s].
    :param read_timeout_s: silence allowed beyond the time that the bytes take on the wire [s]:
        the latency of the adapter and of this computer.
    :param retries: repetitions of a failed read, all inside 80 % of the control period.
    :param scan_timeout_s: how long connect() listens for answers to "who is there" [s].
    :param bus_watchdog_s: Dynamixel only: after this time without any instruction the motors stop
        by themselves [s], in steps of 20 ms.
    :param torque_off_after_s: the motors are switched off after this long without a command [s];
        an arm without brakes sinks then, but does not heat up for hours.
    :param torque_off_on_close: whether close() leaves the motors limp instead of holding.
    :param home_speed: greatest joint speed of home() [rad/s or m/s].
    :param home_tolerance: distance at which a joint is at home [rad or m].
    """

    port: str
    protocol: Literal['dynamixel2', 'feetech']
    motors: dict[str, MotorConfig]
    baud_rate: Baud = 1000000
    read_timeout_s: Positive = 0.005
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    scan_timeout_s: Annotated[float, Meta(gt=0, le=5)] = 0.8
    bus_watchdog_s: Annotated[float, Meta(ge=0.02, le=2.54)] = 0.2
    torque_off_after_s: Positive = 60.0
    torque_off_on_close: bool = False
    home_speed: Positive = 0.5
    home_tolerance: Positive = 0.03

    def __post_init__(self) -> None:
        known = FAMILIES[self.protocol].models
        users: dict[int, str] = {}
        for joint, motor in self.motors.items():
            if motor.model not in known:
                raise ValueError(f'motor of {joint}: unknown model {motor.model!r} for protocol '
                                 f'{self.protocol}; known: {", ".join(known)}')
            if motor.id in users:
                raise ValueError(f'joints {users[motor.id]} and {joint} have the same id '
                                 f'{motor.id}')
            users[motor.id] = joint
