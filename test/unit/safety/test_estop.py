# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The emergency stop: pressed, silent, released; with injected time."""

import numpy as np
import pytest
from rl_nodes.core.config import convert
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.safety_config import EstopConfig
from rl_nodes.safety.estop import EmergencyStop
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level
from test_supervisor import ARM, Bench


class Buttons(Bench):
    """A supervisor with e-stop inputs of 100 ms; every wait is one of states and commands."""

    def __init__(self, *inputs: str, robot=ARM) -> None:
        super().__init__()
        self.estop = EmergencyStop(inputs, 0.1)
        self.supervisor = Supervisor(robot, Timeouts(0.05, 0.1, 0.02, 0.0), estop=self.estop)

    def say(self, pressed: bool, name: str = 'topic'):
        return self.supervisor.hear_estop(name, pressed, self.steady)

    def live(self, ms: int) -> list:
        """Let states, ticks and commands come for a while; return the STOPs of the ticks."""
        found = []
        for _ in range(ms // 5):
            self.wait(5)
            found.append(self.supervisor.tick(self.steady))
            self.state()
            self.command()
        return [verdict for verdict in found if verdict is not None]

    def running(self) -> 'Buttons':
        for name in self.estop._inputs:
            self.say(False, name)
        return self.armed()


def test_never_heard_is_pressed() -> None:
    bench = Buttons('topic')
    bench.state()
    bench.command()
    assert bench.supervisor.clear(bench.steady) == 'e-stop topic: nothing heard of it yet'
    assert bench.estop.shown(bench.steady) == 'e-stop topic: nothing heard of it yet'
    assert bench.say(False) is None
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.estop.shown(bench.steady) == 'released'
    assert bench.command().level == Level.PASS


def test_a_press_stops_at_once_and_its_release_restarts_nothing() -> None:
    bench = Buttons('topic').running()
    verdict = bench.say(True)
    assert (verdict.level, verdict.check, verdict.reason, verdict.by) == (
        Level.STOP, 'estop', 'e-stop topic: pressed', 'hold')
    np.testing.assert_array_equal(verdict.instead, ARM.home)
    assert bench.supervisor.clear(bench.steady) == 'e-stop topic: pressed'
    assert bench.say(True) is None, 'one press is told once'
    assert bench.say(False) is None
    bench.live(50)
    assert (bench.supervisor.mode, bench.supervisor.check) == (Mode.STOPPED, 'estop')
    assert bench.command().allowed is None
    assert bench.supervisor.clear(bench.steady) == ''
    assert bench.command().level == Level.PASS


@pytest.mark.parametrize(('ms', 'stops'), [(100, False), (105, True)])
def test_silence_is_a_press(ms: int, stops: bool) -> None:
    bench = Buttons('topic').running()
    found = bench.live(ms)
    assert [verdict.check for verdict in found] == ['estop'] * stops
    assert (bench.supervisor.mode == Mode.STOPPED) == stops
    if stops:
        assert 'silent for more than 100 ms' in bench.supervisor.clear(bench.steady)
        bench.say(False)
        assert bench.supervisor.clear(bench.steady) == ''


def test_no_command_passes_between_silence_and_the_tick_that_notices_it() -> None:
    bench = Buttons('topic').running()
    bench.live(95)
    bench.wait(6)
    verdict = bench.command()
    assert (verdict.level, verdict.check, verdict.allowed) == (Level.STOP, 'estop', None)


def test_every_input_has_to_be_released() -> None:
    bench = Buttons('topic', 'line').running()
    assert bench.say(True, 'line').reason == 'e-stop line: pressed'
    bench.say(False, 'topic')
    assert bench.supervisor.clear(bench.steady) == 'e-stop line: pressed'
    bench.say(False, 'line')
    assert bench.supervisor.clear(bench.steady) == ''
    for _ in range(5):
        bench.live(50)
        bench.say(False, 'line')
    assert bench.supervisor.reason.startswith('e-stop topic: silent')


def test_a_press_ends_a_fallback_and_the_first_reason_stays(robot_with) -> None:
    robot = robot_with('arm', fallback=('retreat',), retreat={'pose': [1.0, 0, 0, 0, 0, 0]})
    bench = Buttons('topic', robot=robot).running()
    assert bench.command([np.nan] * 6).by == 'retreat'
    assert bench.supervisor.fall_back(bench.steady).by == 'retreat'
    verdict = bench.say(True)
    assert (verdict.level, verdict.by) == (Level.STOP, 'hold')
    assert bench.supervisor.fall_back(bench.steady) is None
    assert bench.supervisor.check == 'finite'
    assert bench.supervisor.clear(bench.steady) == 'e-stop topic: pressed'


def test_none_is_configured_and_none_is_missed() -> None:
    bench = Bench().armed()
    assert bench.supervisor.estop.shown(bench.steady) == 'none'
    assert bench.command().level == Level.PASS


@pytest.mark.parametrize(('given', 'says'), [
    ({}, 'without an input'),
    ({'topic': False}, 'without an input'),
    ({'topic': True, 'timeout_s': 0.0}, 'timeout_s'),
    ({'topic': True, 'timeout': 1.0}, 'timeout'),
    ({'line': {'path': '/dev/x'}}, 'released'),
    ({'line': {'path': '', 'released': '1'}}, 'path'),
    ({'line': {'path': '/dev/x', 'released': '1', 'rate_hz': 10}}, 'two periods')])
def test_settings_that_would_be_no_protection_are_refused(given: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        convert(given, EstopConfig, 'safety: estop')


def test_inputs_are_what_is_configured() -> None:
    line = {'path': '/dev/x', 'released': '1'}
    for given, inputs in (({'topic': True}, ('topic',)), ({'line': line}, ('line',)),
                          ({'topic': True, 'line': line}, ('topic', 'line'))):
        assert convert(given, EstopConfig, 'safety: estop').inputs == inputs
