# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One emulated servo: registers, first-order motion, protections; written from the control tables.

Independent of the code under test: it shares no table, no codec and no conversion with it.
"""

import struct
import time

# name: (address, struct format); E marks the memory that a Dynamixel locks while torque is on
LAYOUT = {
    'dynamixel2': {
        'model': (0, '<H'), 'id': (7, 'B'), 'return_delay': (9, 'B'), 'mode': (11, 'B'),
        'maximum': (48, '<I'), 'minimum': (52, '<I'), 'torque': (64, 'B'),
        'return_level': (68, 'B'), 'hardware_error': (70, 'B'), 'watchdog': (98, 'B'),
        'power': (100, '<h'), 'speed': (112, '<I'), 'goal': (116, '<i'), 'load': (126, '<h'),
        'velocity': (128, '<i'), 'position': (132, '<i'), 'voltage': (144, '<H'),
        'temperature': (146, 'B')},
    'feetech': {
        'model': (3, '<H'), 'id': (5, 'B'), 'return_delay': (7, 'B'), 'return_level': (8, 'B'),
        'minimum': (9, '<H'), 'maximum': (11, '<H'), 'mode': (33, 'B'), 'torque': (40, 'B'),
        'goal': (42, '<H'), 'speed': (46, '<H'), 'power': (48, '<H'), 'lock': (55, 'B'),
        'position': (56, '<H'), 'velocity': (58, '<H'), 'load': (60, '<H'),
        'voltage': (62, 'B'), 'temperature': (63, 'B'), 'hardware_error': (65, 'B')},
}
FACTORY = {
    'dynamixel2': {'model': 1020, 'return_delay': 250, 'mode': 3, 'maximum': 4095,
                   'return_level': 2, 'power': 885},
    'feetech': {'model': 777, 'return_delay': 250, 'maximum': 4095, 'return_level': 1,
                'power': 1000},
}
SIGN_BIT = {'goal': 15, 'position': 15, 'velocity': 15, 'load': 10}  # Feetech
EEPROM_END = {'dynamixel2': 64, 'feetech': 40}
TIME_CONSTANT_S = 0.02
FULL_SPEED = 4096.0  # ticks/s where no speed limit is set: one turn a second


class Servo:
    """
    One servo on the emulated bus.

    :param number: id.
    :param protocol: dynamixel2 or feetech.
    :param position: where it stands [ticks].
    :ivar events: (steady time, 'goal' or 'torque', value, position then) of every write of these.
    :ivar blocked: it cannot move.
    """

    def __init__(self, number: int, protocol: str, position: float = 2048.0) -> None:
        self.protocol = protocol
        self.memory = bytearray(256)
        self.position = float(position)
        self.velocity = 0.0
        self.voltage, self.temperature, self.hardware_error = 12.0, 30, 0
        self.blocked = False
        self.events: list[tuple[float, str, int, float]] = []
        self._then = self.heard_at = time.monotonic()
        for name, value in {**FACTORY[protocol], 'id': number}.items():
            self.set(name, value)
        self.set('goal', 0)  # a trap: torque on before a goal is given would make it jump

    def get(self, name: str) -> int:
        """Return a register."""
        address, form = LAYOUT[self.protocol][name]
        value = struct.unpack_from(form, self.memory, address)[0]
        if self.protocol == 'feetech' and name in SIGN_BIT:
            sign = 1 << SIGN_BIT[name]
            return -(value & sign - 1) if value & sign else value
        return value

    def set(self, name: str, value: int) -> None:
        """Set a register, as the motor does itself."""
        address, form = LAYOUT[self.protocol][name]
        if self.protocol == 'feetech' and name in SIGN_BIT:
            value = abs(value) | (1 << SIGN_BIT[name] if value < 0 else 0)
        struct.pack_into(form, self.memory, address, value)

    def power_cycle(self) -> None:
        """Lose what is not kept without power."""
        for name in ('torque', 'goal', 'speed'):
            self.set(name, 0)
        if self.protocol == 'dynamixel2':
            self.set('watchdog', 0)

    def hear(self, now: float) -> None:
        """Notice an instruction on the bus, whoever it is for."""
        self.advance(now)
        self.heard_at = now

    def advance(self, now: float) -> None:
        """Move until ``now`` and refresh the readings."""
        watchdog = self.get('watchdog') if self.protocol == 'dynamixel2' else 0
        if self.get('torque') and 0 < watchdog < 128 and now - self.heard_at > watchdog * 0.02:
            self._move(self.heard_at + watchdog * 0.02)
            self.set('watchdog', 0xFF)
            self.set('goal', round(self.position))
        self._move(now)
        self.set('position', round(self.position))
        self.set('velocity', round(self.velocity / (0.229 / 60 * 4096)
                                   if self.protocol == 'dynamixel2' else self.velocity))
        error = self.get('goal') - self.position if self.get('torque') else 0.0
        self.set('load', round(max(-900.0, min(900.0, error))))
        self.set('voltage', round(self.voltage * 10))
        self.set('temperature', self.temperature)
        self.set('hardware_error', self.hardware_error)

    def _move(self, now: float) -> None:
        start = self.position
        left = total = max(0.0, now - self._then)
        self._then = max(self._then, now)
        if not self.get('torque') or self.blocked or not total:
            self.velocity = 0.0
            return
        speed = self.get('speed') * (0.229 / 60 * 4096 if self.protocol == 'dynamixel2' else 1)
        speed = speed or FULL_SPEED
        while left > 0:
            step = min(left, 0.001)
            wanted = (self.get('goal') - self.position) / TIME_CONSTANT_S
            self.position += max(-speed, min(speed, wanted)) * step
            left -= step
            if abs(wanted) < 1.0:
                break
        self.velocity = (self.position - start) / total

    def write(self, address: int, data: bytes) -> int:
        """Write registers and return the error number of Dynamixel, 0 where accepted."""
        now = time.monotonic()
        self.advance(now)
        dynamixel = self.protocol == 'dynamixel2'
        if dynamixel and address < EEPROM_END[self.protocol] and self.get('torque'):
            return 7
        before = bytes(self.memory)
        self.memory[address:address + len(data)] = data
        where, form = LAYOUT[self.protocol]['goal']
        if address < where + struct.calcsize(form) and where < address + len(data):
            goal, low, high = self.get('goal'), self.get('minimum'), self.get('maximum')
            refused = dynamixel and (before[98] == 0xFF or not low <= goal <= high)
            if refused:
                self.memory[:] = before
                return 4
            if not dynamixel:
                self.set('goal', max(low, min(high, goal)))
            self.events.append((now, 'goal', goal, self.position))
        where = LAYOUT[self.protocol]['torque'][0]
        if address <= where < address + len(data):
            self.events.append((now, 'torque', self.memory[where], self.position))
        return 0
