# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A bus of emulated servos on a pseudo-terminal, with faults on demand.

It speaks Dynamixel protocol 2.0 or the Feetech protocol, from their specifications and on its own
code, so that a mistake in the codec under test cannot hide. As a program it serves other programs:

    python test/emulators/servo_bus.py --protocol feetech --link /tmp/arm
"""

import argparse
from dataclasses import dataclass, field
import heapq
import itertools
import os
from pathlib import Path
import random
import select
import sys
import threading
import time
import tty

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from emulators.servo import Servo

ALL = 0xFE
SPIN_S = 0.0003  # the last part of a wait is spent looking at the clock: sleep is too coarse


@dataclass
class Fault:
    """
    What happens to answers.

    :ivar kind: corrupt, drop, duplicate, garbage, silent, slow; or deaf: instructions are lost.
    :ivar ids: whose answers; empty for all.
    :ivar count: how often.
    :ivar delay_s: of slow.
    """

    kind: str
    ids: tuple[int, ...] = ()
    count: int = 1_000_000_000
    delay_s: float = 0.0

    def hits(self, number: int) -> bool:
        """Return whether it strikes now, and count it."""
        if self.count <= 0 or (self.ids and number not in self.ids):
            return False
        self.count -= 1
        return True


@dataclass
class Wire:
    """The bytes of both protocols."""

    protocol: str
    buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[tuple[int, int, bytes, int]]:
        """Return (id, instruction, parameters, bytes on the wire) of each whole instruction."""
        self.buffer += data
        found = []
        while True:
            packet = self._dynamixel() if self.protocol == 'dynamixel2' else self._feetech()
            if packet is None:
                return found
            found.append(packet)

    def _dynamixel(self) -> tuple[int, int, bytes, int] | None:
        at = self.buffer.find(b'\xff\xff\xfd\x00')
        if at < 0 or len(self.buffer) < at + 7:
            return None
        total = 7 + self.buffer[at + 5] + 256 * self.buffer[at + 6]
        if len(self.buffer) < at + total:
            return None
        packet = bytes(self.buffer[at:at + total])
        del self.buffer[:at + total]
        if shift_register(packet) != 0:  # with its checksum appended the remainder is zero
            return self._dynamixel()
        body, plain = packet[7:-2], bytearray()
        for byte in body:
            if not (byte == 0xFD and plain[-3:] == b'\xff\xff\xfd'):
                plain.append(byte)
        return packet[4], plain[0], bytes(plain[1:]), total

    def _feetech(self) -> tuple[int, int, bytes, int] | None:
        at = self.buffer.find(b'\xff\xff')
        if at < 0 or len(self.buffer) < at + 4:
            return None
        total = 4 + self.buffer[at + 3]
        if len(self.buffer) < at + total:
            return None
        packet = bytes(self.buffer[at:at + total])
        del self.buffer[:at + total]
        if sum(packet[2:]) & 0xFF != 0xFF:  # everything and its complement
            return self._feetech()
        return packet[2], packet[4], packet[5:-1], total

    def status(self, number: int, error: int, data: bytes) -> bytes:
        """Return an answer."""
        if self.protocol == 'feetech':
            packet = [number, len(data) + 2, error, *data]
            return bytes([0xFF, 0xFF, *packet, 0xFF - sum(packet) % 256])
        stuffed = bytearray((0x55,))
        for byte in (error, *data):
            stuffed.append(byte)
            if stuffed[-3:] == b'\xff\xff\xfd':
                stuffed.append(0xFD)
        count = len(stuffed) + 2
        packet = b'\xff\xff\xfd\x00' + bytes((number, count % 256, count // 256)) + stuffed
        remainder = shift_register(packet + b'\0\0')
        return packet + bytes((remainder % 256, remainder // 256))


def shift_register(packet: bytes) -> int:
    """
    Return the remainder of a packet divided by x^16 + x^15 + x^2 + 1, one bit at a time.

    The last two bytes are the checksum, low byte first on the wire; here the high one goes first.
    """
    register = 0
    for byte in packet[:-2] + packet[:-3:-1]:
        for bit in range(7, -1, -1):
            carry = register >> 15
            register = (register << 1 & 0xFFFF) | (byte >> bit & 1)
            if carry:
                register ^= 0x8005
    return register


class ServoBus:
    """
    The bus in a thread; use as a context manager.

    :param protocol: dynamixel2 or feetech.
    :param ids: of the servos.
    :param baud: bytes and return delays take their time; None: no time at all.
    :param link: symbolic link that names the port, so that it can be plugged in again.
    """

    def __init__(self, protocol: str, ids: tuple[int, ...], link: Path,
                 baud: int | None = None) -> None:
        self.protocol, self.link = protocol, link
        self.servos = {number: Servo(number, protocol) for number in ids}
        self.faults: list[Fault] = []
        self.instructions: list[tuple[float, int, int, bytes]] = []
        self._byte_s = 10 / baud if baud else 0.0
        self._random = random.Random(1)
        self._order = itertools.count()
        self._master = self._slave = -1
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> 'ServoBus':
        self.replug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self.unplug()

    def unplug(self) -> None:
        """Let the port vanish."""
        with self._lock:
            files, self._master = (self._master, self._slave), -1
            self._slave = -1
            for file in files:
                if file >= 0:
                    os.close(file)
            self.link.unlink(missing_ok=True)

    def replug(self) -> None:
        """Make a new port behind the same name."""
        with self._lock:
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(os.ttyname(self._slave))

    def fault(self, kind: str, *ids: int, count: int = 1_000_000_000,
              delay_s: float = 0.0) -> Fault:
        """Inject a fault and return it."""
        self.faults.append(Fault(kind, ids, count, delay_s))
        return self.faults[-1]

    def _run(self) -> None:
        wire, free = Wire(self.protocol), 0.0
        answers: list[tuple[float, int, bytes]] = []
        while not self._ended:
            with self._lock:
                master = self._master
                now = time.monotonic()
                while master >= 0 and answers and answers[0][0] <= now:
                    os.write(master, heapq.heappop(answers)[2])
            if master < 0:
                answers.clear()
                time.sleep(0.002)
                continue
            wait = min(0.02, answers[0][0] - time.monotonic()) if answers else 0.02
            if answers and wait < SPIN_S:
                wait = 0.0
            try:
                if not select.select([master], [], [], max(0.0, wait - SPIN_S))[0]:
                    continue
                with self._lock:  # unplugged meanwhile, the number may be another file's
                    if master != self._master:
                        continue
                    data = os.read(master, 4096)
            except (OSError, ValueError):
                continue
            free = max(free, time.monotonic())
            for number, code, parameters, size in wire.feed(data):
                free += size * self._byte_s
                while time.monotonic() < free:  # the instruction is still on the wire
                    pass
                free = self._obey(number, code, parameters, free, answers)

    def _obey(self, number: int, code: int, parameters: bytes, free: float,
              answers: list[tuple[float, int, bytes]]) -> float:
        """Let everybody hear an instruction; return when the last answer is over."""
        now = time.monotonic()
        if any(fault.kind == 'deaf' and fault.hits(number) for fault in self.faults):
            return free
        self.instructions.append((now, number, code, parameters))
        for servo in self.servos.values():
            servo.hear(now)
        wide = 2 if self.protocol == 'dynamixel2' else 1
        word = [int.from_bytes(parameters[i * wide:(i + 1) * wide], 'little') for i in (0, 1)]
        rest = parameters[2 * wide:]
        replies: list[tuple[int, int, bytes]] = []
        for target in sorted(self.servos) if number == ALL else [number]:
            servo = self.servos.get(target)
            if servo is None:
                continue
            if code == 0x01:
                data = servo.memory[0:2] + b'\x26' if wide == 2 else b''
                replies.append((target, 0, bytes(data)))
            elif code == 0x02 and number != ALL:
                replies.append((target, 0, bytes(servo.memory[word[0]:word[0] + word[1]])))
            elif code == 0x03:
                error = servo.write(word[0], parameters[wide:])
                if number != ALL and servo.get('return_level') == wide:
                    replies.append((target, error, b''))
        if code == 0x82:
            for target in rest:
                if target not in self.servos:
                    break
                memory = self.servos[target].memory
                replies.append((target, 0, bytes(memory[word[0]:word[0] + word[1]])))
        elif code == 0x83:
            for at in range(0, len(rest), word[1] + 1):
                if rest[at] in self.servos:
                    self.servos[rest[at]].write(word[0], rest[at + 1:at + 1 + word[1]])
        elif code == 0x92 and wide == 2:
            for at in range(0, len(parameters), 5):
                target = parameters[at]
                if target not in self.servos:
                    break
                start = int.from_bytes(parameters[at + 1:at + 3], 'little')
                count = int.from_bytes(parameters[at + 3:at + 5], 'little')
                replies.append((target, 0, bytes(self.servos[target].memory[start:start + count])))
        for target, error, data in replies:
            servo = self.servos[target]
            if any(fault.kind == 'silent' and fault.hits(target) for fault in self.faults):
                if code == 0x82:  # those after it wait for it in vain
                    break
                continue
            flags = servo.hardware_error
            error |= flags if wide == 1 else 0x80 * bool(flags)
            answer, delay_s = self._spoil(target, wire_status(self.protocol, target, error, data))
            if self._byte_s:
                free += servo.get('return_delay') * 2e-6 + len(answer) * self._byte_s
            heapq.heappush(answers, (free + delay_s, next(self._order), answer))
        return free

    def _spoil(self, number: int, answer: bytes) -> tuple[bytes, float]:
        """Return an answer as the faults leave it, and its delay [s]."""
        delay_s = 0.0
        for fault in self.faults:
            if fault.kind in ('silent', 'deaf') or not fault.hits(number):
                continue
            at = self._random.randrange(len(answer))
            if fault.kind == 'corrupt':
                flipped = answer[at] ^ 1 << self._random.randrange(8)
                answer = answer[:at] + bytes((flipped,)) + answer[at + 1:]
            elif fault.kind == 'drop':
                answer = answer[:at] + answer[at + 1:]
            elif fault.kind == 'duplicate':
                answer = answer[:at] + answer[at:at + 1] + answer[at:]
            elif fault.kind == 'garbage':
                answer = self._random.randbytes(9) + b'\xff\xff\xfd' + answer
            elif fault.kind == 'slow':
                delay_s += fault.delay_s
        return answer, delay_s


def wire_status(protocol: str, number: int, error: int, data: bytes) -> bytes:
    """Return an answer of a protocol."""
    return Wire(protocol).status(number, error, data)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--protocol', choices=['dynamixel2', 'feetech'], default='dynamixel2')
    parser.add_argument('--ids', type=int, nargs='+', default=[1, 2, 3, 4, 5, 6])
    parser.add_argument('--baud', type=int, default=1_000_000)
    parser.add_argument('--link', type=Path, required=True)
    arguments = parser.parse_args()
    with ServoBus(arguments.protocol, tuple(arguments.ids), arguments.link, arguments.baud):
        sys.stdout.write(f'{arguments.link}\n')
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == '__main__':
    main()
