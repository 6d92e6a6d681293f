# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What connect() does before a motor may have torque: find, check, set up. Nothing moves here."""

from collections.abc import Mapping, Sequence

import numpy as np
from rl_nodes.backends.hardware.servo_bus.bus import Bus
from rl_nodes.backends.hardware.servo_bus.config import MotorConfig, ServoBusConfig
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES, Family, Register
from rl_nodes.backends.hardware.servo_bus.readings import Readings
from rl_nodes.core.errors import BackendError


def find_motors(bus: Bus, config: ServoBusConfig, joints: Sequence[str]) -> None:
    """
    Make sure that exactly the expected motors are there.

    :param joints: names, in the order of the vectors.
    :raises BackendError: names every missing, unexpected and wrong motor.
    """
    family = FAMILIES[config.protocol]
    expected = {config.motors[joint].id: joint for joint in joints}
    damaged = bus.counters['crc_errors']
    present = bus.scan(config.scan_timeout_s)
    numbers: dict[int, int] = {}
    for motor in expected:
        register = family.model_number
        status = bus.read(motor, register.address, register.size)
        if status is not None:
            numbers[motor] = register.decode(status.parameters, register.address)
    known = {model.number: name for name, model in family.models.items()}
    complaints = []
    missing = [f'{joint} (id {motor})' for motor, joint in expected.items()
               if motor not in numbers]
    if missing:
        complaints.append(f'no answer from {", ".join(missing)}: check power, cable, id and baud '
                          'rate')
    unexpected = sorted(present - set(expected))
    if unexpected:
        complaints.append(f'unexpected ids {", ".join(map(str, unexpected))}: unplug them or list '
                          'them under motors')
    for motor, number in numbers.items():
        model = config.motors[expected[motor]].model
        if number != family.models[model].number:
            complaints.append(
                f'{expected[motor]} (id {motor}) is a {known.get(number, "motor of unknown type")}'
                f' (model number {number}), expected {model} ({family.models[model].number})')
    if missing and bus.counters['crc_errors'] > damaged:
        complaints.append(f'{bus.counters["crc_errors"] - damaged} answers were damaged: two '
                          'motors with one id, a bad cable, or another protocol')
    if complaints:
        raise BackendError(f'{config.port} at {config.baud_rate} bit/s, {config.protocol}: '
                           + '; '.join(complaints))


def health_faults(family: Family, motors: Sequence[MotorConfig], joints: Sequence[str],
                  readings: Readings) -> list[str]:
    """
    Return what forbids to move, in words that name the joint; empty where all is well.

    :param motors: shape (J,), as ``joints`` and the readings.
    """
    faults = []
    for i, motor in enumerate(motors):
        who = f'{joints[i]} (id {motor.id})'
        names = [name for bit, name in family.flags.items() if readings.errors[i] >> bit & 1]
        if readings.errors[i]:
            faults.append(f'{who} reports {", ".join(names) or hex(readings.errors[i])}; remove '
                          'the cause, then switch its power off and on')
        if not readings.temperature[i] <= motor.max_temperature_c:
            faults.append(f'{who} has {readings.temperature[i]:.0f} °C, more than '
                          f'{motor.max_temperature_c:.0f} °C; let it cool down')
        low, high = motor.voltage_v
        if not low <= readings.voltage[i] <= high:
            faults.append(f'{who} has {readings.voltage[i]:.1f} V, allowed {low} to {high} V; '
                          'check the supply')
    return faults


def set_up(bus: Bus, config: ServoBusConfig, names: Mapping[int, str],
           ticks: Mapping[int, tuple[int, int]], speed: Mapping[int, int]) -> None:
    """
    Give the commanded motors their mode and limits; only what differs is written.

    :param names: of all commanded motors, by id.
    :param ticks: least and greatest goal, by id.
    :param speed: greatest speed in the motor's unit, by id.
    :raises BackendError: a motor does not take a value, or holds with torque a value that can
        only be changed without.
    """
    family = FAMILIES[config.protocol]
    motors = list(names)
    on = bus.read_register(family.torque_enable, motors)
    settings: list[tuple[str, Register, dict[int, int], bool]] = [
        (what, register, dict.fromkeys(motors, value), needs_off)
        for what, register, value, needs_off in family.fixed]
    settings += [
        ('least position', family.lower_limit, {m: ticks[m][0] for m in motors},
         family.limits_need_torque_off),
        ('greatest position', family.upper_limit, {m: ticks[m][1] for m in motors},
         family.limits_need_torque_off),
        ('torque limit', family.torque_limit,
         {m: max(1, int(config.motors[names[m]].torque_limit * family.torque_full))
          for m in motors}, False),
        ('speed limit', family.speed_limit, dict(speed), False)]
    if family.watchdog is not None:  # a watchdog that has tripped blocks the goal
        settings.insert(0, ('bus watchdog', family.watchdog, dict.fromkeys(motors, 0), False))
    for what, register, wanted, needs_off in settings:
        present = bus.read_register(register, motors)
        differ = {m: value for m, value in wanted.items() if present.get(m) != value}
        held = [names[m] for m in differ if on.get(m, 1)] if needs_off else []
        if held:
            raise BackendError(
                f'{config.port}: {what} of {", ".join(held)} must change from '
                f'{[present.get(m) for m in differ]} to {list(differ.values())}, which needs '
                'the torque off, and the torque is on: support the robot, switch its power '
                'off and on, then connect again')
        if differ:
            bus.program(what, register, differ, names)


def enable_torque(bus: Bus, config: ServoBusConfig, names: Mapping[int, str],
                  goals: Mapping[int, int]) -> None:
    """
    Switch the torque on so that nothing jumps: the goal is where the motor is, and is verified.

    :param names: by id.
    :param goals: present positions [ticks], by id.
    """
    family = FAMILIES[config.protocol]
    bus.program('goal', family.goal, goals, names)
    bus.program('torque', family.torque_enable, dict.fromkeys(goals, 1), names)
    if family.watchdog is not None:
        steps = int(np.ceil(config.bus_watchdog_s / family.watchdog_unit_s - 1e-9))
        bus.program('bus watchdog', family.watchdog, dict.fromkeys(goals, steps), names)
