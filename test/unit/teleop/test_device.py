# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""When a device is believed, what its axes mean, and the keys of a terminal as one."""

import math

import numpy as np
import pytest
from rl_nodes.core.timing import NS
from rl_nodes.teleop.device import Device, Layout, Request
from rl_nodes.teleop.keys import AXES, BUTTONS, HOLD_S, Keys

LAYOUT = Layout()
X = LAYOUT.axes[0]


class Bench:
    """A device and its clock."""

    def __init__(self):
        self.device, self.now = Device(LAYOUT, 0.1, 2.0, 0.5), 0

    def read(self, x=0.0, deadman=0, button=None, after_s=0.02, axes=None):
        self.now += round(after_s * NS)
        buttons = [0] * BUTTONS
        buttons[LAYOUT.deadman] = deadman
        if button is not None:
            buttons[button] = 1
        values = [0.0] * AXES
        values[X] = x
        return self.device.read(axes or values, buttons, self.now)


@pytest.fixture
def bench():
    found = Bench()
    found.read()
    return found


def test_axes_move_only_while_the_deadman_is_held(bench):
    assert not bench.read(0.5).axes.any()
    bench.read()
    bench.read(deadman=1)
    assert bench.device.engaged
    assert bench.read(1.0, 1).axes[0] == 1.0
    np.testing.assert_allclose(bench.read(0.55, 1).axes[0], 0.5)
    assert not bench.read(0.09, 1).axes.any()
    assert not bench.read(1.0, 0).axes.any()
    assert not bench.device.engaged


@pytest.mark.parametrize('held', [{'x': 1.0}, {'deadman': 1}, {'button': LAYOUT.requests[0]}])
def test_nothing_moves_before_everything_was_at_rest(held):
    bench = Bench()
    for _ in range(5):
        reading = bench.read(**held)
        assert not reading.axes.any()
        assert not reading.requests
    assert 'let go of' in bench.device.complaint
    bench.read(1.0, 1)
    assert not bench.device.engaged
    bench.read()
    bench.read(deadman=1)
    assert bench.device.engaged


def test_a_deadman_pressed_with_a_stick_away_waits_for_the_stick(bench):
    assert not bench.read(0.5, 1).axes.any()
    assert not bench.device.engaged
    assert 'away from its middle' in bench.device.complaint
    bench.read(0.0, 1)
    assert bench.device.engaged


def test_a_stuck_stick_is_not_believed_until_at_rest(bench):
    bench.read(deadman=1)
    for _ in range(99):
        assert bench.read(1.0, 1).axes.any()
    for _ in range(3):
        bench.read(1.0, 1)
    assert not bench.device.engaged
    assert 'same value for 2 s' in bench.device.complaint
    bench.read(0.9, 1)
    assert not bench.device.engaged
    bench.read()
    bench.read(deadman=1)
    assert bench.device.engaged


def test_a_moving_stick_is_not_stuck(bench):
    bench.read(deadman=1)
    for step in range(500):
        assert bench.read(0.9 + 0.01 * (step % 2), 1).axes.any()


@pytest.mark.parametrize('axes', [[math.nan] * AXES, [2.0] * AXES, [0.0]])
def test_values_that_cannot_be_disarm(bench, axes):
    bench.read(deadman=1)
    assert not bench.read(deadman=1, axes=axes).axes.any()
    assert not bench.device.engaged
    bench.read(0.0, 1)
    assert not bench.device.engaged
    bench.read()
    bench.read(deadman=1)
    assert bench.device.engaged


def test_silence_is_loss_and_not_release(bench):
    bench.read(deadman=1)
    assert not bench.device.lost(bench.now + NS // 4)
    assert bench.device.lost(bench.now + NS)
    assert bench.device.engaged
    bench.read(0.0, 1, after_s=1.0)
    assert not bench.device.engaged  # it is back: at rest first


def test_requests_are_edges(bench):
    assert bench.read(button=LAYOUT.requests[0]).requests == (Request.SAVE,)
    assert bench.read(button=LAYOUT.requests[0]).requests == ()
    bench.read()
    assert bench.read(button=LAYOUT.requests[2]).requests == (Request.REDO,)
    assert bench.read(button=LAYOUT.page).paged


def test_keys_hold_for_a_while_and_the_deadman_comes_first():
    keys, device, now = Keys(), Device(LAYOUT, 0.1, 10.0, 0.5), 0
    device.read(*keys.read(now), now)
    keys.press('w', now)
    axes, buttons = keys.read(now)
    assert (axes[X], buttons[LAYOUT.deadman]) == (0.0, 1)
    device.read(axes, buttons, now)
    assert device.engaged
    assert device.read(*keys.read(now), now).axes[0] == 1.0
    keys.press('s', now)
    assert keys.read(now)[0][X] == 0.0
    later = round((HOLD_S + 0.01) * NS)
    assert keys.read(later)[1][LAYOUT.deadman] == 0
    keys.press('w\r', later)
    keys.press(' ', later)
    axes, buttons = keys.read(later)
    assert (axes[X], buttons[LAYOUT.deadman], buttons[LAYOUT.requests[0]]) == (0.0, 0, 1)
    assert not any(keys.read(later)[1])
