# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot on an emulated servo bus, for tests."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import time

from emulators.servo_bus import ServoBus
import numpy as np
import pytest
from rl_nodes.backends.hardware.servo_bus import (
    MotorConfig,
    ReadMissedError,
    ServoBusConfig,
    ServoBusRobot,
)
from rl_nodes.core.errors import BackendError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.robot import load_robot, RobotModel

IDS = (4, 2, 11, 7, 1, 5)  # not in the order of the joints
MODELS = {'dynamixel2': 'xm430-w350', 'feetech': 'sts3215'}
RATE_HZ = 20
PERIOD_S = 1 / RATE_HZ
TICK = 2 * np.pi / 4096
NEAR_S = 0.5  # what "at once" may mean on a busy machine


def arm(folder: Path) -> RobotModel:
    """Return the shipped arm at a rate that a busy machine keeps up with."""
    text = (share_directory() / 'config' / 'robots' / 'arm.yaml').read_text(encoding='utf-8')
    path = folder / 'arm.yaml'
    path.write_text(text.replace('rate_hz: 50', f'rate_hz: {RATE_HZ}'), encoding='utf-8')
    model = load_robot(str(path))
    if model.config.rate_hz != RATE_HZ:
        raise ValueError(f'{path}: rate_hz is {model.config.rate_hz}, not {RATE_HZ}')
    return model


class Bench:
    """A robot and the emulated bus it is on."""

    def __init__(self, model: RobotModel, protocol: str, tmp_path) -> None:
        self.model, self.protocol = model, protocol
        self.link = tmp_path / 'port'
        self.emulator = ServoBus(protocol, IDS, self.link)
        self.servos = [self.emulator.servos[number] for number in IDS]
        self.robots: list[ServoBusRobot] = []

    def robot(self, **changes) -> ServoBusRobot:
        """Return a robot that is not connected yet."""
        motors = changes.pop('motors', None) or self.motors()
        config = ServoBusConfig(**{
            'port': str(self.link), 'protocol': self.protocol, 'motors': motors,
            'scan_timeout_s': 0.06, 'read_timeout_s': 0.012, 'bus_watchdog_s': 2.0, **changes})
        self.robots.append(ServoBusRobot(self.model, config))
        return self.robots[-1]

    def motors(self, **changes) -> dict[str, MotorConfig]:
        """Return the motors of the arm; ``changes`` apply to each."""
        settings = {'model': MODELS[self.protocol], 'offset_ticks': 2048, 'voltage_v': (9.0, 13.0),
                    **changes}
        return {name: MotorConfig(id=number, **settings)
                for name, number in zip(self.model.joint_names, IDS)}

    def connected(self, **changes) -> ServoBusRobot:
        """Return a connected robot."""
        robot = self.robot(**changes)
        robot.connect()
        return robot

    def goals(self) -> list[tuple[float, int, float]]:
        """Return (time, goal, position then) of every goal any servo got, in order."""
        return sorted((at, value, position) for servo in self.servos
                      for at, kind, value, position in servo.events if kind == 'goal')

    def check_no_jump(self) -> None:
        """Whenever torque came on, the goal was where the servo stood."""
        for servo in self.servos:
            goal = None
            for _, kind, value, position in servo.events:
                if kind == 'goal':
                    goal = value
                elif value:
                    assert goal is not None, 'torque before any goal'
                    assert abs(goal - position) <= 1


def serve(protocol: str, folder: Path) -> Iterator[Bench]:
    """Run a bench; what a fixture yields from."""
    bench = Bench(arm(folder), protocol, folder)
    with bench.emulator:
        yield bench
        for robot in bench.robots:
            robot.close()


@contextlib.contextmanager
def within(seconds: float):
    """Fail if the block takes longer."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def settle(robot: ServoBusRobot, condition, seconds: float = 3.0):
    """Return the first measurement that fulfils a condition."""
    end = time.monotonic() + seconds
    while True:
        measured = robot.read()
        if condition(measured):
            return measured
        assert time.monotonic() < end, measured
        time.sleep(0.005)


def read_until_error(robot: ServoBusRobot, seconds: float = 3.0) -> str:
    """Return the text of the first lasting error of read()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            robot.read()
        except ReadMissedError:
            continue
        except BackendError as error:
            return str(error)
        time.sleep(0.002)
    pytest.fail('no error came')


def settle_after_fault(robot: ServoBusRobot) -> None:
    """Read until it works again, at most three times."""
    for _ in range(3):
        with contextlib.suppress(ReadMissedError):
            robot.read()
            return
    pytest.fail('no recovery')
