# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One reading of all motors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rl_nodes.backends.hardware.servo_bus.bus import Bus
from rl_nodes.backends.hardware.servo_bus.models import Family, VOLTAGE_UNIT_V

ALERT = 0x80  # Dynamixel: the hardware error register has the reason


class Readings(NamedTuple):
    """
    What all motors reported at one instant, in the order of the joints, each of shape (J,).

    :param position: [ticks].
    :param velocity: [units of the register].
    :param effort: [units of the register].
    :param voltage: [V].
    :param temperature: [°C].
    :param errors: bits of the family's flags.
    """

    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray
    voltage: np.ndarray
    temperature: np.ndarray
    errors: np.ndarray


def take(bus: Bus, family: Family, motors: list[int],
         budget_s: float | None) -> tuple[Readings | None, list[int]]:
    """
    Read all motors at once.

    :param motors: ids in the order of the joints.
    :param budget_s: bound of the whole reading with its repetitions [s].
    :return: the readings, or None and the ids that did not answer.
    """
    answers = bus.sync_read(motors, family.blocks, budget_s)
    missing = [motor for motor in motors if motor not in answers]
    if missing:
        return None, missing
    registers = (family.position, family.velocity, family.effort, family.voltage,
                 family.temperature)
    rows = np.array([[register.decode(answers[m][0].parameters, answers[m][1])
                      for m in motors] for register in registers], dtype=float)
    inside = family.blocks[0][0] <= family.hardware_error.address < sum(family.blocks[0])
    if inside:
        errors = [family.hardware_error.decode(answers[m][0].parameters, answers[m][1])
                  | answers[m][0].error for m in motors]
    else:
        errors = [_reason(bus, family, m) if answers[m][0].error & ALERT else 0 for m in motors]
    return Readings(rows[0], rows[1], rows[2], rows[3] * VOLTAGE_UNIT_V, rows[4],
                    np.array(errors)), []


def _reason(bus: Bus, family: Family, motor: int) -> int:
    """Return the hardware error of a motor that raised the alert bit; ALERT if it cannot say."""
    register = family.hardware_error
    status = bus.read(motor, register.address, register.size)
    return (register.decode(status.parameters, register.address) if status else 0) or ALERT


def describe(readings: Readings, joints: Sequence[str], family: Family,
             effort: np.ndarray) -> dict[str, Any]:
    """
    Return readings as flat values for a status.

    :param effort: of the joints [N·m or N], shape (J,).
    """
    values: dict[str, Any] = {}
    for i, joint in enumerate(joints):
        errors = int(readings.errors[i])
        values[f'{joint}.temperature_c'] = float(readings.temperature[i])
        values[f'{joint}.voltage_v'] = round(float(readings.voltage[i]), 1)
        values[f'{joint}.effort'] = round(float(effort[i]), 4)
        values[f'{joint}.errors'] = ', '.join(
            name for bit, name in family.flags.items() if errors >> bit & 1)
    return values
