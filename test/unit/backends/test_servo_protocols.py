# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Servo protocols against the manuals' own packets, damaged bytes, and units both ways."""

import math
import random
import time

import msgspec
import numpy as np
import pytest
from rl_nodes.backends.hardware.servo_bus import MotorConfig, ServoBusConfig
from rl_nodes.backends.hardware.servo_bus.codecs import CODECS, crc16, Status, trusted
from rl_nodes.backends.hardware.servo_bus.conversion import check_fit, Conversion
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES, Register
from rl_nodes.core.config import convert
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import load_robot

DYNAMIXEL, FEETECH = CODECS['dynamixel2'], CODECS['feetech']
PROTOCOLS = sorted(CODECS)


def status(protocol: str, motor: int, error: int, data: bytes) -> bytes:
    """Return an answer, built with the codec's instruction of the same shape."""
    if protocol == 'dynamixel2':
        return DYNAMIXEL.instruction(motor, 0x55, bytes((error,)) + data)
    return FEETECH.instruction(motor, error, data)


# From the protocol 2.0 page of the Dynamixel e-manual.
@pytest.mark.parametrize('motor, code, parameters, packet', [
    (1, 0x01, b'', 'FF FF FD 00 01 03 00 01 19 4E'),
    (0xFE, 0x01, b'', 'FF FF FD 00 FE 03 00 01 31 42'),
    (1, 0x02, DYNAMIXEL.span(132, 4), 'FF FF FD 00 01 07 00 02 84 00 04 00 1D 15'),
    (1, 0x03, DYNAMIXEL.at(116) + bytes((0, 2, 0, 0)),
     'FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89'),
    (0xFE, 0x82, DYNAMIXEL.span(132, 4) + bytes((1, 2)),
     'FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA'),
    (0xFE, 0x83, DYNAMIXEL.span(116, 4) + bytes((1, 0x96, 0, 0, 0, 2, 0xAA, 0, 0, 0)),
     'FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87'),
])
def test_dynamixel_instructions_are_those_of_the_manual(motor, code, parameters, packet):
    assert DYNAMIXEL.instruction(motor, code, parameters) == bytes.fromhex(packet)


@pytest.mark.parametrize('packet, expected', [
    ('FF FF FD 00 01 07 00 55 00 06 04 26 65 5D', Status(1, 0, bytes((6, 4, 0x26)))),
    ('FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D', Status(2, 0, bytes((6, 4, 0x26)))),
    ('FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0', Status(1, 0, bytes((0xA6, 0, 0, 0)))),
    ('FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE', Status(2, 0, bytes((0x1F, 8, 0, 0)))),
    ('FF FF FD 00 01 04 00 55 00 A1 0C', Status(1, 0, b'')),
    ('FF FF FD 00 02 05 00 55 00 24 8B A9', Status(2, 0, b'\x24')),
])
def test_dynamixel_answers_are_those_of_the_manual(packet, expected):
    assert DYNAMIXEL.extract(bytearray.fromhex(packet)) == [expected]


# From the Feetech serial protocol manual: ping, read and write of servo 1.
@pytest.mark.parametrize('motor, code, parameters, packet', [
    (1, 0x01, b'', 'FF FF 01 02 01 FB'),
    (1, 0x02, FEETECH.span(56, 2), 'FF FF 01 04 02 38 02 BE'),
    (1, 0x03, FEETECH.at(40) + b'\x01', 'FF FF 01 04 03 28 01 CE'),
    (1, 0x03, FEETECH.at(42) + bytes((0, 8, 0, 0, 0xE8, 3)),
     'FF FF 01 09 03 2A 00 08 00 00 E8 03 D5'),
    (0xFE, 0x83, FEETECH.span(42, 4) + bytes((1, 0, 8, 0xE8, 3, 2, 0, 8, 0xE8, 3)),
     'FF FF FE 0E 83 2A 04 01 00 08 E8 03 02 00 08 E8 03 59'),
])
def test_feetech_instructions_are_those_of_the_manual(motor, code, parameters, packet):
    assert FEETECH.instruction(motor, code, parameters) == bytes.fromhex(packet)


@pytest.mark.parametrize('packet, expected', [
    ('FF FF 01 02 00 FC', Status(1, 0, b'')),
    ('FF FF 01 04 00 18 05 DD', Status(1, 0, bytes((0x18, 5)))),
])
def test_feetech_answers_are_those_of_the_manual(packet, expected):
    assert FEETECH.extract(bytearray.fromhex(packet)) == [expected]


def test_header_inside_the_data_is_stuffed_and_comes_back():
    data = b'\xff\xff\xfd\x00\xff\xff\xfd\xfd\xff\xff\xff\xfd'
    packet = DYNAMIXEL.instruction(1, 0x55, b'\x00' + data)
    assert packet.count(b'\xff\xff\xfd\x00') == 1
    assert crc16(packet[:-2]) == int.from_bytes(packet[-2:], 'little')
    assert DYNAMIXEL.extract(bytearray(packet)) == [Status(1, 0, data)]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_answers_in_any_pieces_and_with_noise_between_are_all_found(protocol):
    rng = random.Random(3)
    codec = CODECS[protocol]
    sent = [Status(rng.randrange(1, 200), rng.randrange(256), rng.randbytes(rng.randrange(30)))
            for _ in range(200)]
    stream = b''.join(bytes(rng.randrange(0xF0) for _ in range(rng.randrange(4)))
                      + status(protocol, *one) for one in sent)
    buffer, found = bytearray(), []
    while stream:
        size = rng.randrange(1, 40)
        buffer += stream[:size]
        stream = stream[size:]
        found += codec.extract(buffer)
    assert [one for one in found if one is not None] == sent


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('damage', ['flip', 'drop', 'double'])
def test_one_damaged_answer_costs_no_other_and_is_never_believed(protocol, damage):
    rng = random.Random(4)
    codec = CODECS[protocol]
    for _ in range(300):
        sent = [Status(motor, 0, rng.randbytes(10)) for motor in (1, 2, 3)]
        packets = [bytearray(status(protocol, *one)) for one in sent]
        at = rng.randrange(len(packets[1]))
        if damage == 'flip':
            packets[1][at] ^= 1 << rng.randrange(8)
        elif damage == 'drop':
            del packets[1][at]
        else:
            packets[1].insert(at, packets[1][at])
        items = codec.extract(bytearray(b''.join(packets)), final=True)
        found = [one for one in trusted(items, codec.weak) if len(one.parameters) == 10]
        assert all(one in sent for one in found)
        if protocol == 'dynamixel2':  # with a weak sum a neighbour may be asked again
            assert sent[0] in found
            assert sent[2] in found or damage == 'flip'  # a greater length swallows what follows


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_random_bytes_raise_nothing_and_end(protocol):
    rng = random.Random(5)
    codec = CODECS[protocol]
    begin = time.monotonic()
    for _ in range(2000):
        buffer = bytearray(rng.choice((0xFF, 0xFD, 0x00, 0x55, rng.randrange(256)))
                           for _ in range(rng.randrange(200)))
        before = len(buffer)
        codec.extract(buffer)
        assert len(buffer) <= before
        codec.extract(buffer, final=True)
        assert not buffer
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize('register, value, data', [
    (Register(58, 2, 15), -1000, bytes((0xE8, 0x83))),
    (Register(58, 2, 15), 1000, bytes((0xE8, 0x03))),
    (Register(60, 2, 10), -500, bytes((0xF4, 0x05))),
    (Register(116, 4, -1), -2, bytes((0xFE, 0xFF, 0xFF, 0xFF))),
    (Register(11, 2), 4095, bytes((0xFF, 0x0F))),
])
def test_registers_encode_signs_as_their_family_does(register, value, data):
    assert register.encode(value) == data
    assert register.decode(b'\x99' + data, register.address - 1) == value


@pytest.mark.parametrize('register, value', [
    (Register(58, 2, 15), 1 << 15), (Register(11, 2), -1), (Register(40, 1), 256)])
def test_a_value_that_does_not_fit_is_refused(register, value):
    with pytest.raises(OverflowError):
        register.encode(value)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_every_block_holds_every_measured_register_and_has_its_own_length(protocol):
    family = FAMILIES[protocol]
    for address, length in family.blocks:
        for register in (family.position, family.velocity, family.effort, family.voltage,
                         family.temperature):
            assert address <= register.address
            assert register.address + register.size <= address + length
    assert len({length for _, length in family.blocks}) == len(family.blocks)


def motor(**changes) -> MotorConfig:
    return MotorConfig(**{'id': 1, 'model': 'sts3215', 'offset_ticks': 2048,
                          'voltage_v': (6.0, 8.4), **changes})


def bus(motors, **changes) -> ServoBusConfig:
    return ServoBusConfig(**{'port': '/dev/null', 'protocol': 'feetech', 'motors': motors,
                             **changes})


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('gear', [1.0, 3.0, 0.7])
@pytest.mark.parametrize('offset', [0, 2048, 4000])
def test_ticks_come_back_exactly(sign, gear, offset):
    one = motor(sign=sign, gear_ratio=gear, offset_ticks=offset)
    conversion = Conversion([one], bus({'a': one}))
    ticks = np.arange(-5000, 5000)
    there = conversion.position(ticks[:, None])
    assert np.array_equal(np.rint(conversion.ticks(there)).astype(int), ticks[:, None])
    assert np.abs(conversion.ticks(there) - ticks[:, None]).max() < 1e-6
    step = there[1, 0] - there[0, 0]
    assert step == pytest.approx(sign * 2 * math.pi / 4096 / gear)


def test_known_points_of_the_conversion():
    one = motor(sign=-1, gear_ratio=2.0)
    conversion = Conversion([one], bus({'a': one}))
    assert conversion.position(np.array([2048.0]))[0] == 0.0
    assert conversion.position(np.array([1024.0]))[0] == pytest.approx(math.pi / 4)
    assert conversion.velocity(np.array([4096.0]))[0] == pytest.approx(-math.pi)
    assert conversion.effort(np.array([500.0]))[0] == pytest.approx(-500 * 1.91e-3 * 2)
    low, high = conversion.tick_limits(np.array([0.0]), np.array([math.pi / 4]))
    assert (low[0], high[0]) == (1024, 2048)
    low, high = conversion.tick_limits(np.array([1e-4]), np.array([math.pi / 4 - 1e-4]))
    assert (low[0], high[0]) == (1025, 2047)


def test_dynamixel_speed_is_in_its_own_unit():
    one = motor(model='xm430-w350')
    conversion = Conversion([one], bus({'a': one}, protocol='dynamixel2'))
    assert conversion.velocity(np.array([100.0]))[0] == pytest.approx(22.9 * 2 * math.pi / 60)
    assert conversion.speed_limit(np.array([1e-9]))[0] == 1  # 0 would mean: no limit


GOOD = {'port': '/dev/ttyUSB0', 'protocol': 'feetech', 'motors': {
    'a': {'id': 1, 'model': 'sts3215', 'offset_ticks': 2048, 'voltage_v': [6.0, 8.4]}}}


@pytest.mark.parametrize('path, value, words', [
    (('motors', 'a', 'model'), 'xm430-w350', "unknown model 'xm430-w350'"),
    (('motors', 'a', 'voltage_v'), [8.4, 6.0], 'least below greatest'),
    (('motors', 'a', 'sign'), 2, 'sign'),
    (('motors', 'a', 'torque_limit'), 1.5, 'torque_limit'),
    (('motors', 'a', 'speed'), 1, "unknown key 'speed'"),
    (('motors', 'b'), {**GOOD['motors']['a']}, 'same id 1'),
    (('baud_rate',), 1234, 'baud_rate'),
    (('bus_watchdog_s',), 3.0, 'bus_watchdog_s'),
    (('protocol',), 'dynamixel1', 'protocol'),
])
def test_a_wrong_configuration_is_named(path, value, words):
    data = msgspec.json.decode(msgspec.json.encode(GOOD))
    convert(data, ServoBusConfig, 'arm.yaml')
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match='arm.yaml') as caught:
        convert(data, ServoBusConfig, 'arm.yaml')
    assert words in str(caught.value)


def test_a_bus_that_does_not_fit_the_robot_is_refused():
    model = load_robot('arm')
    motors = {name: motor(id=i) for i, name in enumerate(model.joint_names)}
    check_fit(model, bus(motors))
    with pytest.raises(ConfigError, match='missing: elbow; unknown: knee'):
        check_fit(model, bus({**{k: v for k, v in motors.items() if k != 'elbow'},
                              'knee': motor(id=50)}))
    with pytest.raises(ConfigError, match="'elbow': its limits .* 0 to 4095"):
        check_fit(model, bus({**motors, 'elbow': motor(id=50, offset_ticks=4000)}))
    with pytest.raises(ConfigError, match='more than 80% of the period'):
        check_fit(model, bus(motors, baud_rate=57600))
    with pytest.raises(ConfigError, match='position control only'):
        check_fit(load_robot('cartpole'), bus({}))
