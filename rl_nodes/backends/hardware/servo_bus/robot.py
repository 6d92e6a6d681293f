# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot made of servos on one serial bus."""

from collections.abc import Callable
import functools
import logging
import time
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from rl_nodes.backends.base import Measurement
from rl_nodes.backends.hardware.servo_bus import startup
from rl_nodes.backends.hardware.servo_bus.bus import Bus
from rl_nodes.backends.hardware.servo_bus.codecs import CODECS
from rl_nodes.backends.hardware.servo_bus.config import ServoBusConfig
from rl_nodes.backends.hardware.servo_bus.conversion import BUDGET, check_fit, Conversion
from rl_nodes.backends.hardware.servo_bus.models import FAMILIES
from rl_nodes.backends.hardware.servo_bus.readings import describe, Readings, take
from rl_nodes.backends.hardware.servo_bus.serial_port import PortLostError, SerialPort
from rl_nodes.core.errors import BackendError, ReadMissedError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import LatencyWindow

CHECK_EVERY = 10  # readings between two looks at whether a motor still has its torque
STRIKES = 3  # readings in a row with a bad voltage or temperature; one may be a spike

P = ParamSpec('P')
R = TypeVar('R')
_logger = logging.getLogger(__name__)


def _on_bus(method: Callable[Concatenate['ServoBusRobot', P], R]
            ) -> Callable[Concatenate['ServoBusRobot', P], R]:
    """Refuse without a connection, and let go of a port that has vanished."""
    @functools.wraps(method)
    def wrapped(self: 'ServoBusRobot', *args: P.args, **kwargs: P.kwargs) -> R:
        if self._bus is None:
            raise BackendError(f'{self._config.port}: not connected; call connect(), or '
                               'reconnect() after a fault')
        try:
            return method(self, *args, **kwargs)
        except PortLostError:
            self._release()
            raise
    return wrapped


class ServoBusRobot:
    """
    Position control of servos on one serial bus; one thread, no ROS.

    Nothing touches the bus before connect(). A command that cannot be obeyed exactly (wrong
    shape, not finite, a first step too large) is refused; one beyond a joint's limits is cut.

    :param model: the robot; its joints, limits, home and rate.
    :param config: the bus; its motors have the names of the joints.
    :raises ConfigError: the two do not fit each other.
    """

    def __init__(self, model: RobotModel, config: ServoBusConfig) -> None:
        check_fit(model, config)
        self._model = model
        self._config = config
        self._family = FAMILIES[config.protocol]
        self._motors = [config.motors[name] for name in model.joint_names]
        self._ids = [motor.id for motor in self._motors]
        self._conversion = Conversion(self._motors, config)
        self._names = {self._ids[i]: model.joint_names[i] for i in model.commanded}
        self._period_s = 1.0 / model.config.rate_hz
        self._step = np.array([model.joints[i].velocity for i in model.commanded]) * self._period_s
        self._lower, self._upper = model.limits('lower'), model.limits('upper')
        ends = [np.zeros(len(self._ids)), np.zeros(len(self._ids))]
        ends[0][model.commanded], ends[1][model.commanded] = self._lower, self._upper
        low, high = self._conversion.tick_limits(*ends)
        self._low, self._high = low[model.commanded], high[model.commanded]
        self._bus: Bus | None = None
        self._readings: Readings | None = None
        self._read_at = 0.0
        self._goal: np.ndarray | None = None
        self._torque = self._first = self._held = False
        self._commanded_at = 0.0
        self._reads = self._strikes = 0
        self._counters: dict[str, int] = {}
        self._read_time, self._write_time = LatencyWindow(), LatencyWindow()
        self._cycle_time = LatencyWindow()
        self._read_s = 0.0

    # --- connection -----------------------------------------------------------------------------

    def connect(self) -> None:
        """
        Find and check the motors, then let them hold where they are. Nothing moves.

        :raises BackendError: the port or a motor is not as expected; the torque stays as it was
            unless everything was found right.
        """
        if self._bus is not None:
            return
        config = self._config
        port = SerialPort(config.port, config.baud_rate)
        self._bus = Bus(port, CODECS[config.protocol], config.baud_rate, config.read_timeout_s,
                        config.retries)
        for key, value in self._counters.items():
            self._bus.counters[key] += value
        try:
            startup.find_motors(self._bus, config, self._model.joint_names)
            readings = self._take(None)
            faults = startup.health_faults(self._family, self._motors, self._model.joint_names,
                                           readings) + self._outside(readings)
            if faults:
                raise BackendError(f'{config.port}: {"; ".join(faults)}')
            speed = self._conversion.speed_limit(
                np.array([joint.velocity for joint in self._model.joints]))
            startup.set_up(self._bus, config, self._names,
                           {self._ids[i]: (int(self._low[k]), int(self._high[k]))
                            for k, i in enumerate(self._model.commanded)},
                           {self._ids[i]: int(speed[i]) for i in self._model.commanded})
            self.torque_on()
        except BaseException:
            self._release()
            raise

    def reconnect(self) -> None:
        """Open the port again and connect; after a fault, in the same process."""
        self._release()
        self.connect()

    @_on_bus
    def torque_on(self) -> None:
        """
        Let the motors hold where they are; the next command is again a first one.

        :raises BackendError: a motor did not take its goal or its torque.
        """
        readings = self._take(None)
        outside = self._outside(readings)
        if outside:
            raise BackendError(f'{self._config.port}: {"; ".join(outside)}')
        self._goal = self._present_ticks(readings)
        if self._family.watchdog is not None:
            self._bus.program('bus watchdog', self._family.watchdog,
                              dict.fromkeys(self._names, 0), self._names)
        startup.enable_torque(self._bus, self._config, self._names, self._goals())
        self._torque = self._first = self._held = True
        self._strikes = 0
        self._commanded_at = time.monotonic()

    @_on_bus
    def torque_off(self) -> None:
        """
        Leave the motors without torque; an arm without brakes sinks.

        :raises BackendError: a motor still has torque.
        """
        if self._family.watchdog is not None:
            self._bus.sync_write(self._family.watchdog, dict.fromkeys(self._names, 0))
        self._bus.program('torque off', self._family.torque_enable,
                          dict.fromkeys(self._names, 0), self._names)
        self._torque = False

    def close(self) -> None:
        """Hold, or switch the torque off if so configured, and release the port; idempotent."""
        if self._bus is None:
            return
        try:
            if self._torque:
                self.hold()
            if self._config.torque_off_on_close:
                self.torque_off()
            elif self._family.watchdog is not None:
                self._bus.sync_write(self._family.watchdog, dict.fromkeys(self._names, 0))
        except BackendError as error:
            _logger.warning('while closing: %s', error)
        finally:
            self._release()

    def _release(self) -> None:
        """Close the port; nothing is sent."""
        bus, self._bus = self._bus, None
        self._readings = self._goal = None
        self._torque = False
        if bus is not None:
            self._counters = dict(bus.counters)
            bus.port.close()

    # --- the control period ---------------------------------------------------------------------

    @_on_bus
    def read(self) -> Measurement:
        """
        Return what the motors measure now; at most 80 % of the period, repetitions included.

        :raises ReadMissedError: names the motors that did not answer in time; nothing old is ever
            returned as new, and the next reading may succeed.
        :raises BackendError: names the motors that report an error, lost their torque or were
            stopped by their bus watchdog, or the port that vanished.
        """
        start = time.monotonic()
        silence = start - self._bus.last_sent
        if self._torque and self._family.watchdog and silence > self._config.bus_watchdog_s:
            self._check_motors(list(self._names), silence)
        readings = self._take(BUDGET * self._period_s)
        self._judge(readings)
        self._reads += 1
        if self._torque and self._reads % CHECK_EVERY == 0:
            motors = list(self._names)
            turn = self._reads // CHECK_EVERY % len(motors)
            if time.monotonic() - start < BUDGET * self._period_s / 2:
                self._check_motors(motors[turn:turn + 1], None)
        self._read_s = time.monotonic() - start
        self._read_time.add(self._read_s)
        convert = self._conversion
        return Measurement(convert.position(readings.position),
                           convert.velocity(readings.velocity),
                           convert.effort(readings.effort))

    @_on_bus
    def write(self, command: np.ndarray) -> np.ndarray:
        """
        Send joint positions to the motors and return what was sent after cutting and rounding.

        :param command: [rad or m], shape (A,).
        :raises BackendError: wrong shape, not finite, torque off, or the first command since the
            torque came on is further away than a step at the joint's speed limit.
        """
        start = time.monotonic()
        command = np.asarray(command, dtype=float)
        if command.shape != self._lower.shape or not np.isfinite(command).all():
            raise BackendError(f'command {command.tolist()} is not {len(self._lower)} finite '
                               'values; nothing was sent')
        if not self._torque:
            raise BackendError(f'{self._config.port}: the torque is off; call torque_on()')
        if self._first:
            self._check_first(command)
        wanted = np.zeros(len(self._ids))
        wanted[self._model.commanded] = np.clip(command, self._lower, self._upper)
        ticks = np.rint(self._conversion.ticks(wanted))[self._model.commanded].astype(int)
        self._goal = np.clip(ticks, self._low, self._high)
        self._bus.sync_write(self._family.goal, self._goals())
        self._first = self._held = False
        self._commanded_at = time.monotonic()
        self._write_time.add(self._commanded_at - start)
        self._cycle_time.add(self._commanded_at - start + self._read_s)
        return self._position_of(self._goal)

    @_on_bus
    def hold(self) -> None:
        """
        Make the motors hold where they are.

        The place is taken once: taken again each period, a loaded arm would sink step by step.
        """
        if not self._torque:
            return
        if not self._held:
            try:
                if self._readings is None or time.monotonic() - self._read_at > self._period_s:
                    self._take(BUDGET * self._period_s)
                self._goal = np.clip(self._present_ticks(self._readings), self._low, self._high)
                self._held = True
            except PortLostError:
                raise
            except BackendError as error:  # a deaf motor must not keep the others from stopping
                _logger.warning('holding at the last goal: %s', error)
        self._bus.sync_write(self._family.goal, self._goals())

    def watch(self, now_s: float) -> bool:
        """
        Switch the torque off after too long without a command; to be called every period.

        :param now_s: steady time, as ``time.monotonic()`` gives it [s].
        :return: whether this call switched it off.
        """
        if not self._torque or now_s - self._commanded_at <= self._config.torque_off_after_s:
            return False
        self.torque_off()
        return True

    def home(self, timeout_s: float) -> None:
        """
        Move all joints to the home pose, straight in joint space, at the safe speed.

        :param timeout_s: the whole motion [s].
        :raises BackendError: not there in time; the robot holds then.
        """
        index = self._model.commanded
        target = self._model.home[index]
        start = self.read().position[index]
        speed = np.minimum(self._config.home_speed, self._step / self._period_s)
        duration = float((np.abs(target - start) / speed).max())
        begin = time.monotonic()
        tick = missed = 0
        away = np.abs(start - target)
        while True:
            tick += 1
            share = min(1.0, tick * self._period_s / duration) if duration > 0 else 1.0
            self.write(start + share * (target - start))
            time.sleep(max(0.0, begin + tick * self._period_s - time.monotonic()))
            try:
                away = np.abs(self.read().position[index] - target)
                missed = 0
            except ReadMissedError:
                missed += 1
                if missed >= STRIKES:
                    raise
            if not missed and share >= 1.0 and (away <= self._config.home_tolerance).all():
                return
            if time.monotonic() - begin >= timeout_s:
                self.hold()
                late = ', '.join(f'{self._model.command_names[k]} by {away[k]:.3f}'
                                 for k in np.flatnonzero(away > self._config.home_tolerance))
                raise BackendError(
                    f'not at home after {timeout_s:.1f} s ({duration:.1f} s were needed at home '
                    f'speed); away: {late or "nothing, the ramp was not over"}. The robot holds')

    def diagnostics(self) -> dict[str, Any]:
        """Return readings of each motor and counters of the bus as flat values, from memory."""
        values: dict[str, Any] = {'connected': self._bus is not None, 'torque': self._torque}
        values.update(self._bus.counters if self._bus is not None else self._counters)
        for name, window in (('read', self._read_time), ('write', self._write_time),
                             ('cycle', self._cycle_time)):
            values.update({f'{name}_{key}': value for key, value in window.summary().items()})
        if self._bus is not None:
            values['low_latency'] = self._bus.port.low_latency
        if self._readings is not None:
            values['age_s'] = round(time.monotonic() - self._read_at, 3)
            values.update(describe(self._readings, self._model.joint_names, self._family,
                                   self._conversion.effort(self._readings.effort)))
        return values

    # --- helpers --------------------------------------------------------------------------------

    def _take(self, budget_s: float | None) -> Readings:
        """Read all motors or raise; failed readings are forgotten."""
        self._readings = None
        readings, missing = take(self._bus, self._family, self._ids, budget_s)
        if readings is None:
            joints = tuple(name for name, motor in zip(self._model.joint_names, self._ids)
                           if motor in missing)
            who = ', '.join(f'{name} (id {self._config.motors[name].id})' for name in joints)
            bound = '' if budget_s is None else f' within {budget_s * 1e3:.0f} ms'
            raise ReadMissedError(
                f'{self._config.port}: no valid answer from {who}{bound}; so far '
                f'{self._bus.counters["crc_errors"]} damaged answers and '
                f'{self._bus.counters["timeouts"]} time-outs. Check cable and power', joints)
        self._readings, self._read_at = readings, time.monotonic()
        return readings

    def _judge(self, readings: Readings) -> None:
        """Raise on what a motor reports: its errors at once, voltage and heat when they last."""
        faults = startup.health_faults(self._family, self._motors, self._model.joint_names,
                                       readings)
        self._strikes = self._strikes + 1 if faults else 0
        if faults and (readings.errors.any() or self._strikes >= STRIKES):
            raise BackendError(f'{self._config.port}: {"; ".join(faults)}')

    def _check_motors(self, motors: list[int], silence_s: float | None) -> None:
        """Raise if a motor has lost its torque or its watchdog has stopped it."""
        torque, watchdog = self._family.torque_enable, self._family.watchdog
        end = watchdog if watchdog is not None else torque
        block = (torque.address, end.address + end.size - torque.address)
        answers = self._bus.sync_read(motors, (block,), BUDGET * self._period_s / 2)
        for motor, (status, start) in answers.items():  # of the others the next reading tells
            if not torque.decode(status.parameters, start):
                self._torque = False
                raise BackendError(f'{self._names[motor]} (id {motor}) has lost its torque: its '
                                   'power failed or it protected itself. Check it, then reconnect')
            if watchdog and watchdog.decode(status.parameters, start) in (0, 0xFF):
                self._torque = False
                after = '' if silence_s is None else f' after {silence_s:.2f} s of silence'
                raise BackendError(f'the bus watchdog of {self._names[motor]} (id {motor}) has '
                                   f'stopped it{after}, or it restarted; reconnect to go on')

    def _check_first(self, command: np.ndarray) -> None:
        """Raise if the first command would start with a jump."""
        if self._readings is None or time.monotonic() - self._read_at > 2 * self._period_s:
            self._take(BUDGET * self._period_s)
        index = self._model.commanded
        present = self._conversion.position(self._readings.position)[index]
        away = np.abs(command - present)
        allowed = self._step + self._conversion.tick[index]
        if not (away <= allowed).all():
            far = ', '.join(f'{self._model.command_names[k]} by {away[k]:.3f} (allowed '
                            f'{allowed[k]:.3f})' for k in np.flatnonzero(~(away <= allowed)))
            raise BackendError(f'the first command is too far from where the robot is: {far}; '
                               'start from the measured position. Nothing was sent')

    def _outside(self, readings: Readings) -> list[str]:
        """Return which commanded joints are outside their limits; a motor refuses such goals."""
        ticks = self._present_ticks(readings)
        position = self._conversion.position(readings.position)[self._model.commanded]
        return [f'{self._model.command_names[k]} is at {position[k]:.3f}, outside '
                f'[{self._lower[k]}, {self._upper[k]}]; move it inside by hand, or correct '
                'offset_ticks' for k in np.flatnonzero((ticks < self._low) | (ticks > self._high))]

    def _present_ticks(self, readings: Readings) -> np.ndarray:
        return readings.position[self._model.commanded].astype(int)

    def _goals(self) -> dict[int, int]:
        return {motor: int(goal) for motor, goal in zip(self._names, self._goal)}

    def _position_of(self, ticks: np.ndarray) -> np.ndarray:
        every = np.zeros(len(self._ids))
        every[self._model.commanded] = ticks
        return self._conversion.position(every)[self._model.commanded]
