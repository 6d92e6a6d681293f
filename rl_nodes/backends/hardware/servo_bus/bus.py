# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transactions on the bus: find motors, read from many, write to many, all in bounded time."""

from collections.abc import Mapping, Sequence
import time

from rl_nodes.backends.hardware.servo_bus.codecs import (
    BROADCAST,
    Codec,
    PING,
    READ,
    Status,
    SYNC_READ,
    SYNC_WRITE,
    trusted,
)
from rl_nodes.backends.hardware.servo_bus.models import Register
from rl_nodes.backends.hardware.servo_bus.serial_port import SerialPort
from rl_nodes.core.errors import BackendError

BITS_PER_BYTE = 10  # start, eight, stop


def cycle_bytes(codec: Codec, motors: int, block: int, goal: int) -> int:
    """
    Return the bytes of one synchronous read and one synchronous write.

    :param block: bytes read from each motor.
    :param goal: bytes written to each motor.
    """
    instructions = 2 * len(codec.instruction(BROADCAST, SYNC_READ, codec.span(0, block)))
    return instructions + motors * (1 + codec.status_length(block) + 1 + goal)


class Bus:
    """
    One bus with its port open.

    :param port: the serial port.
    :param codec: the protocol.
    :param baud_rate: [bit/s].
    :param timeout_s: silence allowed beyond the time of the bytes on the wire [s].
    :param retries: repetitions of a failed transaction.
    :ivar last_sent: steady time of the last instruction [s].
    :ivar counters: what went wrong so far, by kind.
    """

    def __init__(self, port: SerialPort, codec: Codec, baud_rate: int, timeout_s: float,
                 retries: int) -> None:
        self.port = port
        self._codec = codec
        self._byte_s = BITS_PER_BYTE / baud_rate
        self._timeout_s = timeout_s
        self._retries = retries
        self._variant = 0
        self._wire_free = 0.0
        self.last_sent = time.monotonic()
        self.counters = {'crc_errors': 0, 'timeouts': 0, 'retries': 0, 'late_or_foreign': 0}

    def scan(self, timeout_s: float) -> set[int]:
        """
        Return the ids of all motors that answer a ping to everybody.

        :param timeout_s: how long to listen [s].
        """
        self._send(self._codec.instruction(BROADCAST, PING))
        found, buffer, end = set(), bytearray(), time.monotonic() + timeout_s
        while time.monotonic() < end:
            buffer += self.port.read(end)
            items = self._codec.extract(buffer)
            self.counters['crc_errors'] += items.count(None)
            found |= {item.id for item in items if item is not None}
        return found

    def sync_read(self, motors: Sequence[int], blocks: Sequence[tuple[int, int]],
                  budget_s: float | None = None) -> dict[int, tuple[Status, int]]:
        """
        Read the same registers of many motors; those that fail are asked again, alone.

        :param motors: ids.
        :param blocks: (address, length) alternatives. After a failure the next one is used, so
            that a late answer does not pass for a new one: its length is another.
        :param budget_s: no repetition begins or waits beyond this [s]; None: no such bound.
        :return: answer and address of its first byte by id; a motor without answer is missing.
        """
        end = time.monotonic() + budget_s if budget_s is not None else float('inf')
        found: dict[int, tuple[Status, int]] = {}
        missing = list(motors)
        for attempt in range(self._retries + 1):
            if attempt and time.monotonic() >= end:
                break
            self.counters['retries'] += attempt > 0
            address, length = blocks[self._variant % len(blocks)]
            request = self._codec.instruction(
                BROADCAST, SYNC_READ, self._codec.span(address, length) + bytes(missing))
            answers = self._exchange(request, missing, length, end)
            found.update((motor, (status, address)) for motor, status in answers.items())
            missing = [motor for motor in missing if motor not in found]
            if not missing:
                break
            self._variant += 1
            # Motors wait for the one before them: a silent one goes last, behind those it muted.
            missing = missing[1:] + missing[:1]
        return found

    def read(self, motor: int, address: int, length: int) -> Status | None:
        """Return one motor's registers, or None if it does not answer."""
        for attempt in range(self._retries + 1):
            self.counters['retries'] += attempt > 0
            request = self._codec.instruction(motor, READ, self._codec.span(address, length))
            answers = self._exchange(request, [motor], length, float('inf'))
            if answers:
                return answers[motor]
        return None

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """
        Write one register of many motors; nobody answers.

        :param values: by id.
        """
        data = b''.join(bytes((motor,)) + register.encode(value)
                        for motor, value in values.items())
        self._send(self._codec.instruction(
            BROADCAST, SYNC_WRITE, self._codec.span(register.address, register.size) + data))

    def read_register(self, register: Register, motors: Sequence[int]) -> dict[int, int]:
        """Return one register of many motors by id; a motor without answer is missing."""
        answers = self.sync_read(motors, ((register.address, register.size),))
        return {motor: register.decode(status.parameters, start)
                for motor, (status, start) in answers.items()}

    def program(self, what: str, register: Register, values: Mapping[int, int],
                names: Mapping[int, str]) -> None:
        """
        Write one register of many motors and make sure that it holds the value.

        :param what: name of the register in messages.
        :param names: of the motors, in messages.
        :raises BackendError: names the motors that have another value or do not answer.
        """
        present: dict[int, int] = {}
        for _ in range(self._retries + 1):
            self.sync_write(register, values)
            present = self.read_register(register, list(values))
            if present == dict(values):
                return
        wrong = [f'{names[motor]} has {present.get(motor, "not answered")} instead of {value}'
                 for motor, value in values.items() if present.get(motor) != value]
        raise BackendError(f'{self.port.path}: {what} was not accepted: {"; ".join(wrong)}')

    def wire_s(self, count: int) -> float:
        """Return how long ``count`` bytes take on the wire [s]."""
        return count * self._byte_s

    def _send(self, request: bytes) -> None:
        """Send an instruction after forgetting what was not asked for."""
        self.counters['late_or_foreign'] += self.port.discard() > 0
        now = time.monotonic()
        self.port.write(request)
        self.last_sent = now
        self._wire_free = max(self._wire_free, now) + self.wire_s(len(request))

    def _exchange(self, request: bytes, motors: Sequence[int], length: int,
                  end: float) -> dict[int, Status]:
        """Send a request and collect an answer of ``length`` parameters from each motor."""
        self._send(request)
        answer_s = self.wire_s(self._codec.status_length(length))
        deadline = min(self._wire_free + answer_s * len(motors) + self._timeout_s, end)
        found: dict[int, Status] = {}
        items: list[Status | None] = []
        buffer = bytearray()
        over = False
        while not over and len(found) < len(motors):
            data = self.port.read(deadline)
            over = not data and time.monotonic() >= deadline
            buffer += data
            items += self._codec.extract(buffer, final=over)
            found = {status.id: status for status in trusted(items, self._codec.weak)
                     if status.id in motors and len(status.parameters) == length}
        damaged = items.count(None)
        self.counters['crc_errors'] += damaged
        self.counters['late_or_foreign'] += len(items) - damaged > len(found)
        self.counters['timeouts'] += len(found) < len(motors)
        return found
