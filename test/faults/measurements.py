# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""States as a broken sensor, clock or driver makes them, and a machine that slept."""

from collections.abc import Callable
import random
import signal
from typing import Any

from actors import RATE_HZ
from faults import asks_again, COMMANDS_SILENT, Fault, Outcome, state, states, STATES_SILENT
import numpy as np
from rl_nodes.core.timing import NS
from stage import Heard, Stage
from stand_ins import BridgeStandIn

PERIOD_NS = NS // RATE_HZ
SENSING = 'stop: sensing'
FROZEN_S = 1.5  # more than safety.sensing.frozen_s
ASLEEP_S = 0.5  # that the machine sleeps
GLITCH_RAD = 1.0
Change = Callable[[Heard, int], bytes]


def sent(**settings: Any) -> Callable[[Stage], Outcome]:
    """Stand in for the bridge and send its states otherwise for half a second."""
    def inject(stage: Stage) -> Outcome:
        with BridgeStandIn(stage) as robot:
            at = stage.disturb()
            for name, value in settings.items():
                setattr(robot, name, value)
            stage.until(lambda: stage.mode == 'STOPPED', 0.5)
            verdict = stage.verdict(at)
        asks_again(stage, stage.disturb())
        return Outcome(verdict)
    return inject


def each(make: Callable[[], Change], lasting_s: float = 0.5) -> Callable[[Stage], Outcome]:
    """Send what a change makes of each state; it begins anew with each injection."""
    return lambda stage: states(make(), False, lasting_s)(stage)


def swapped() -> Change:
    """Every other state comes after the one that follows it."""
    later = False

    def change(last: Heard, stamp: int) -> bytes:
        nonlocal later
        later = not later
        return state(last, stamp + (PERIOD_NS if later else -PERIOD_NS))
    return change


def frozen() -> Change:
    first: list[Heard] = []

    def change(last: Heard, stamp: int) -> bytes:
        first.append(last)
        return state(first[0], stamp)
    return change


def glitch(count: int) -> Callable[[], Change]:
    """Return what lets an encoder be wrong for so many states."""
    def make() -> Change:
        left = count

        def change(last: Heard, stamp: int) -> bytes:
            nonlocal left
            left -= 1
            position = np.array(last.view.position)
            position[0] += GLITCH_RAD * (left >= 0)
            return state(last, stamp, position=position)
        return change
    return make


def asleep(stage: Stage) -> Outcome:
    """Freeze all processes, as a machine that is suspended, and let them go on."""
    at = stage.disturb()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for actor in stage.actors.values():
            actor.signal(number)
        stage.live(ASLEEP_S)
    stage.until(lambda: stage.mode == 'STOPPED', 2.0)
    asks_again(stage, stage.disturb())
    return Outcome(stage.verdict(at).replace('command_', '').replace('state_', ''))


FAULTS = (
    Fault('B6', 'states from the future', COMMANDS_SILENT, each(
        lambda: lambda last, stamp: state(last, stamp + NS))),
    Fault('B7', 'every state twice', 'goes on', sent(copies=2)),
    Fault('B8', 'states in the wrong order', 'refused: order', each(swapped)),
    Fault('B9', 'measurements frozen', SENSING, each(frozen, FROZEN_S)),
    Fault('B10', 'an encoder glitch', 'refused: sensing', each(glitch(1))),
    Fault('B10', 'an encoder that has slipped', SENSING, each(glitch(10 ** 6))),
    Fault('B11', 'states ten times too often', 'goes on', sent(period_s=0.1 / RATE_HZ)),
    Fault('B11', 'states ten times too rarely', STATES_SILENT, sent(period_s=10 / RATE_HZ)),
    Fault('B11', 'states at random times', 'goes on', sent(
        period_s=lambda: random.uniform(0.2, 1.8) / RATE_HZ)),
    Fault('B13', 'degrees for radians', SENSING, each(lambda: lambda last, stamp: state(
        last, stamp, position=np.degrees(last.view.position)))),
    Fault('D6', 'the machine asleep', 'stop: silence', asleep),
)
