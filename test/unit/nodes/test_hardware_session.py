# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What the bridge does with a physical robot, against one that is made up."""

from concurrent.futures import Future
import threading

import msgspec
import numpy as np
import pytest
from rl_nodes.backends.base import Measurement
from rl_nodes.core.errors import BackendError, ReadMissedError
from rl_nodes.core.robot import load_robot
from rl_nodes.nodes.hardware_session import HardwareSession, Phase

STEP = 0.02


class Made:
    """A robot that is where it was told to be, and fails on demand."""

    def __init__(self, position: np.ndarray) -> None:
        self.position = position.copy()
        self.calls: list[str] = []
        self.fail: dict[str, BackendError] = {}
        self.rests = self.blocked = False

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]

    def connect(self) -> None:
        self._do('connect')

    def reconnect(self) -> None:
        self._do('reconnect')

    def torque_on(self) -> None:
        self._do('torque_on')

    def hold(self) -> None:
        self._do('hold')

    def close(self) -> None:
        self._do('close')

    def read(self) -> Measurement:
        self._do('read')
        return Measurement(self.position.copy(), np.zeros(6), np.zeros(6))

    def write(self, command: np.ndarray) -> np.ndarray:
        self._do('write')
        if not self.blocked:
            self.position = command.copy()
        return command

    def watch(self, now_s: float) -> bool:
        rests, self.rests = self.rests, False
        return rests

    def diagnostics(self) -> dict[str, object]:
        return {}


class AtOnce:
    """A pool that has no threads."""

    def submit(self, work) -> Future:
        future: Future = Future()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        return future


class Bench:
    """A session and its robot, ticked by hand."""

    def __init__(self, reset: str = 'none', pool=AtOnce(), **settings: float) -> None:
        self.model = load_robot('arm')
        self.model.config = msgspec.structs.replace(self.model.config, hardware=msgspec.structs.
                                                    replace(self.model.config.hardware,
                                                            reset=reset, **settings))
        self.robot = Made(self.model.home)
        self.warnings: list[str] = []
        self.session = HardwareSession(self.robot, self.model, self.warnings.append, pool)
        self.session.connect()
        self.now = 100.0

    def tick(self, command=None, permitted: bool = True, restart: bool = False):
        self.now += STEP
        self.robot.calls.clear()
        return self.session.tick(self.now, permitted, command, restart)


@pytest.fixture
def running() -> Bench:
    bench = Bench()
    bench.tick(permitted=False)
    bench.tick()
    assert bench.session.phase == Phase.RUNNING
    return bench


def test_nothing_is_written_before_it_is_permitted():
    bench = Bench()
    for _ in range(3):
        assert bench.tick(bench.model.home, permitted=False) is not None
        assert bench.robot.calls == ['hold', 'read']
        assert bench.session.phase == Phase.WAITING


def test_first_command_too_far_is_refused_until_one_is_near(running):
    far, near = running.model.home.copy(), running.model.home.copy()
    far[0] += 0.2
    near[0] += 0.03
    running.tick(far)
    assert 'write' not in running.robot.calls
    assert running.session.counts['first_commands_refused'] == 1
    assert 'shoulder_pan by 0.200' in running.warnings[-1]
    running.tick(near)
    assert running.robot.calls == ['write', 'read']
    running.tick(far)  # not a first one: the monitor and the drives limit it
    assert running.robot.calls == ['write', 'read']


def test_missed_reading_holds_and_goes_on(running):
    running.robot.fail['read'] = ReadMissedError('no answer', ('elbow',))
    assert running.tick(running.model.home) is None
    assert running.robot.calls[-1] == 'hold'
    assert running.session.phase == Phase.RUNNING
    running.robot.fail.clear()
    assert running.tick(running.model.home) is not None
    assert running.session.counts['reads_missed'] == 1


def test_fault_holds_tries_again_and_waits_for_a_person(running):
    running.robot.fail = {'read': BackendError('unplugged'), 'reconnect': BackendError('no port')}
    assert running.tick(running.model.home) is None
    assert running.robot.calls[-1] == 'hold'
    assert running.session.phase == Phase.LOST
    assert running.session.reason == 'unplugged'
    calls = [call for _ in range(120) for call in (running.tick(), running.robot.calls)[1]]
    assert calls == ['reconnect'] * 2  # 2.4 s, one a second
    running.robot.fail.clear()
    while running.session.phase == Phase.LOST:
        running.tick(permitted=False)
    assert running.session.phase == Phase.WAITING
    assert running.robot.calls == ['reconnect', 'hold', 'read']


def test_while_a_lost_robot_is_being_reached_nothing_waits_and_nobody_else_touches_it():
    bench = Bench(pool=None)
    bench.tick(permitted=False)
    begun, go_on = threading.Event(), threading.Event()

    def reconnect() -> None:
        begun.set()
        go_on.wait(10.0)
        raise BackendError('no port') if bench.session.counts['reconnects'] == 1 else ValueError

    bench.robot.reconnect = reconnect
    bench.robot.fail['read'] = BackendError('unplugged')
    while not begun.is_set():
        bench.tick()
    for _ in range(200):
        assert bench.tick(bench.model.home) is None
        bench.session.hold()
        assert bench.session.diagnostics()['phase'] == 'LOST'
        assert bench.robot.calls == []
    assert bench.session.counts['reconnects'] == 1
    go_on.set()
    with pytest.raises(ValueError):  # a fault of ours is not swallowed
        while True:
            bench.tick()
    assert bench.session.reason == 'no port'
    bench.session.close()
    assert bench.robot.calls[-1] == 'close'


def test_attempts_are_bounded_until_a_person_resets():
    bench = Bench(reconnect_attempts=3)
    bench.robot.fail = dict.fromkeys(('read', 'reconnect'), BackendError('gone'))
    for _ in range(400):
        bench.tick()
    assert bench.session.counts['reconnects'] == 3
    assert 'gave up after 3' in bench.warnings[-1]
    assert bench.session.retry()
    for _ in range(400):
        bench.tick()
    assert bench.session.counts['reconnects'] == 6


def test_a_failing_write_is_a_fault_and_a_failing_hold_no_second_one(running):
    running.robot.fail = {'write': BackendError('motor hot'), 'hold': BackendError('motor hot')}
    assert running.tick(running.model.home) is None
    assert running.session.phase == Phase.LOST
    assert running.session.counts['faults'] == 1


def test_home_before_each_episode_and_no_permission_ends_the_way():
    bench = Bench('home')
    bench.robot.position[0] += 0.5
    bench.tick(permitted=False)
    for _ in range(10):
        bench.tick()
    assert bench.session.phase == Phase.HOMING
    assert bench.robot.calls == ['write', 'read']
    bench.tick(permitted=False)
    assert bench.robot.calls == ['hold', 'read']
    assert bench.session.phase == Phase.WAITING
    ticks = 0
    while bench.session.phase != Phase.RUNNING:
        bench.tick()
        ticks += 1
        assert ticks < 60  # 0.4 rad at 0.5 rad/s and 50 Hz
    bench.robot.position[0] += 0.5
    bench.tick()
    bench.tick(restart=True)
    assert bench.session.phase == Phase.HOMING


def test_a_blocked_way_home_waits_for_a_person():
    bench = Bench('home', home_timeout_s=1.0)
    bench.robot.position[0] += 0.5
    bench.robot.blocked = True
    bench.tick(permitted=False)
    for _ in range(60):
        bench.tick()
    assert bench.session.phase == Phase.STUCK
    assert 'shoulder_pan by 0.500' in bench.session.reason
    bench.tick()
    assert bench.robot.calls == ['hold', 'read']
    assert bench.session.retry()
    bench.tick()
    assert bench.session.phase == Phase.HOMING


def test_rested_drives_hold_again_before_they_move():
    bench = Bench()
    bench.tick(permitted=False)
    bench.robot.rests = True
    bench.tick(permitted=False)
    assert 'torque_on' not in bench.robot.calls
    bench.tick()
    assert bench.robot.calls[:1] == ['torque_on']
    bench.tick(bench.model.home)
    assert 'torque_on' not in bench.robot.calls
