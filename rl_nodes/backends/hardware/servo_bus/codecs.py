# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The two protocols as bytes: Dynamixel protocol 2.0 and Feetech STS/SMS.

The vendors' Python packages are not used. Their time-outs run on the wall clock (a clock that is
set back blocks them), include a fixed 34 ms per motor, and are spent polling at full load.
"""

from typing import NamedTuple, Protocol

BROADCAST = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
MAX_PARAMETERS = 128  # no answer that we ask for is longer; a greater length is a damaged one


class Status(NamedTuple):
    """
    What a motor answered.

    :param id: of the motor.
    :param error: error byte, 0 where all is well.
    :param parameters: the data.
    """

    id: int
    error: int
    parameters: bytes


class Codec(Protocol):
    """
    Packets of one protocol; no state.

    :ivar weak: the checksum is so short that damage can cancel out; see :func:`trusted`.
    """

    weak: bool

    def instruction(self, motor: int, code: int, parameters: bytes = b'') -> bytes:
        """Return the packet that tells a motor (or BROADCAST) to do something."""

    def span(self, address: int, length: int) -> bytes:
        """Return the parameters that name registers from ``address`` on, ``length`` bytes."""

    def at(self, address: int) -> bytes:
        """Return the parameter that names one address."""

    def status_length(self, parameters: int) -> int:
        """Return the length of an answer on the wire [bytes], stuffing left aside."""

    def extract(self, buffer: bytearray, final: bool = False) -> list[Status | None]:
        """
        Take the complete answers out of what was received.

        :param buffer: received bytes; used bytes are removed, an incomplete answer stays.
        :param final: nothing more will come: an incomplete answer is damaged.
        :return: the answers, in order, with None in place of bytes that are no answer.
        """


def trusted(items: list[Status | None], weak: bool) -> list[Status]:
    """
    Return the answers that can be believed.

    An eight-bit sum cannot see that a byte FF is gone when the first FF of the next header takes
    the place of the checksum; but then the next answer lacks its header. So with a weak checksum
    the answer before damaged bytes goes too: asking again costs less than a wrong position.

    :param items: as :meth:`Codec.extract` returns them, of one whole exchange.
    """
    return [item for item, after in zip(items, [*items[1:], ...])
            if item is not None and not (weak and after is None)]


def _crc_table() -> tuple[int, ...]:
    """Return the CRC of each byte: x^16 + x^15 + x^2 + 1, most significant bit first."""
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x8005 if value & 0x8000 else 0)
        table.append(value & 0xFFFF)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """Return the checksum of Dynamixel protocol 2.0 over a packet's bytes before it."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC[value >> 8 ^ byte]
    return value


def checksum(body: bytes) -> int:
    """Return the checksum of the Feetech protocol over id to last parameter."""
    return ~sum(body) & 0xFF


class Dynamixel2:
    """
    Dynamixel protocol 2.0.

    FF FF FD 00, id, length (2), instruction, parameters, CRC (2). Where FF FF FD occurs between
    instruction and CRC another FD follows it on the wire.
    """

    header = b'\xff\xff\xfd\x00'
    weak = False

    def instruction(self, motor: int, code: int, parameters: bytes = b'') -> bytes:
        """Return an instruction packet."""
        body = (bytes((code,)) + parameters).replace(b'\xff\xff\xfd', b'\xff\xff\xfd\xfd')
        head = self.header + bytes((motor,)) + (len(body) + 2).to_bytes(2, 'little')
        return head + body + crc16(head + body).to_bytes(2, 'little')

    def span(self, address: int, length: int) -> bytes:
        """Return address and length, two bytes each."""
        return address.to_bytes(2, 'little') + length.to_bytes(2, 'little')

    def at(self, address: int) -> bytes:
        """Return an address, two bytes."""
        return address.to_bytes(2, 'little')

    def status_length(self, parameters: int) -> int:
        """Return 11 bytes and the parameters."""
        return 11 + parameters

    def extract(self, buffer: bytearray, final: bool = False) -> list[Status | None]:
        """Take the complete answers out of ``buffer``."""
        found: list[Status | None] = []
        while True:
            if not _align(buffer, self.header, final, found):
                return found
            if len(buffer) >= 7:
                length = int.from_bytes(buffer[5:7], 'little')
                if not 3 <= length <= MAX_PARAMETERS + 4 or buffer[4] >= 0xFD:
                    found.append(None)
                    del buffer[0]
                    continue
                if len(buffer) >= 7 + length:
                    packet = bytes(buffer[:7 + length])
                    if crc16(packet[:-2]) != int.from_bytes(packet[-2:], 'little'):
                        found.append(None)
                        del buffer[0]
                        continue
                    del buffer[:7 + length]
                    if packet[7] == 0x55 and length >= 4:  # else an instruction: our own, echoed
                        body = packet[8:-2].replace(b'\xff\xff\xfd\xfd', b'\xff\xff\xfd')
                        found.append(Status(packet[4], body[0], body[1:]))
                    continue
            if not final:
                return found
            found.append(None)
            del buffer[0]


class Feetech:
    """
    Feetech STS and SMS protocol, framed like Dynamixel protocol 1.0.

    FF FF, id, length, instruction or error, parameters, inverted sum.
    """

    header = b'\xff\xff'
    weak = True

    def instruction(self, motor: int, code: int, parameters: bytes = b'') -> bytes:
        """Return an instruction packet."""
        body = bytes((motor, len(parameters) + 2, code)) + parameters
        return self.header + body + bytes((checksum(body),))

    def span(self, address: int, length: int) -> bytes:
        """Return address and length, one byte each."""
        return bytes((address, length))

    def at(self, address: int) -> bytes:
        """Return an address, one byte."""
        return bytes((address,))

    def status_length(self, parameters: int) -> int:
        """Return 6 bytes and the parameters."""
        return 6 + parameters

    def extract(self, buffer: bytearray, final: bool = False) -> list[Status | None]:
        """Take the complete answers out of ``buffer``."""
        found: list[Status | None] = []
        while True:
            if not _align(buffer, self.header, final, found):
                return found
            if len(buffer) >= 4:
                if buffer[2] == 0xFF:  # FF before the header
                    del buffer[0]
                    continue
                length = buffer[3]
                if not 2 <= length <= MAX_PARAMETERS + 2 or buffer[2] >= BROADCAST:
                    found.append(None)
                    del buffer[0]
                    continue
                if len(buffer) >= 4 + length:
                    packet = bytes(buffer[:4 + length])
                    if checksum(packet[2:-1]) != packet[-1]:
                        found.append(None)
                        del buffer[0]
                        continue
                    del buffer[:4 + length]
                    found.append(Status(packet[2], packet[4], packet[5:-1]))
                    continue
            if not final:
                return found
            found.append(None)
            del buffer[0]


def _align(buffer: bytearray, header: bytes, final: bool, found: list[Status | None]) -> bool:
    """Drop what stands before the next header, which counts as damage; False without a header."""
    at = buffer.find(header)
    useless = at if at >= 0 else len(buffer) - (0 if final else _tail(buffer, header))
    if useless:
        found.append(None)
        del buffer[:useless]
    return at >= 0


def _tail(buffer: bytearray, header: bytes) -> int:
    """Return how many last bytes may be the beginning of a header."""
    for count in range(min(len(header) - 1, len(buffer)), 0, -1):
        if buffer.endswith(header[:count]):
            return count
    return 0


CODECS: dict[str, Codec] = {'dynamixel2': Dynamixel2(), 'feetech': Feetech()}
