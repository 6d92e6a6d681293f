# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What makes a simulated robot slower, later or less reliable than the machine: pace and channel.

Everything here is driven by timers of the bridge's node; nothing ever blocks its executor.
"""

from collections.abc import Callable
from typing import Any

from rl_nodes.core.channel import Channel, ChannelSettings
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.timing import NS, Pacer, steady_ns
from rl_nodes.nodes.alarm import Alarm
from rl_nodes.nodes.lifecycle import ManagedNode


class PacedStep:
    """
    Lets the lockstep go on no faster than a rate.

    :param node: the bridge.
    :param period_ns: least time between two steps [ns].
    :param step: goes on.
    """

    def __init__(self, node: ManagedNode, period_ns: int, step: Callable[[], None]) -> None:
        self._pacer = Pacer(period_ns)
        self._step = step
        self._alarm = Alarm(node, self.ready)

    def ready(self) -> None:
        """Go on now, or at the deadline where that is still to come."""
        now = steady_ns()
        if now < self._pacer.deadline_ns:
            self._alarm.set(self._pacer.deadline_ns)
        else:
            self._pacer.passed(now)
            self._step()

    def cancel(self) -> None:
        """Do not go on by itself."""
        self._alarm.cancel()


class ImperfectLink:
    """
    A channel that delivers by itself.

    :param node: the bridge.
    :param settings: of both directions.
    :param seed: of every draw.
    :param publish_state: gets states when they are due.
    :param take_command: gets commands when they are due.
    """

    def __init__(self, node: ManagedNode, settings: ChannelSettings, seed: int,
                 publish_state: Callable[[Any], None],
                 take_command: Callable[[Any], None]) -> None:
        self._states = Channel(settings.states, [seed, 0])
        self._commands = Channel(settings.commands, [seed, 1])
        self._ways = ((self._states, publish_state), (self._commands, take_command))
        self._alarm = Alarm(node, self._deliver)

    def send_state(self, msg: Any) -> None:
        """Hand over a state on its way out."""
        self._states.send(msg, steady_ns())
        self._deliver()

    def send_command(self, msg: Any) -> None:
        """Hand over a command on its way to the robot."""
        self._commands.send(msg, steady_ns())
        self._deliver()

    def cancel(self) -> None:
        """Forget what is under way."""
        self._alarm.cancel()
        self._states.clear()
        self._commands.clear()

    def counts(self) -> dict[str, int]:
        """Return what the channel did, for diagnostics."""
        return {f'channel_{name}_{key}': value
                for name, channel in (('states', self._states), ('commands', self._commands))
                for key, value in channel.counts.items()}

    def _deliver(self) -> None:
        for channel, deliver in self._ways:
            for msg in channel.receive(steady_ns()):
                deliver(msg)
        due = [at for channel, _ in self._ways if (at := channel.next_ns) is not None]
        if due:
            self._alarm.set(min(due))



def require_simulated(backend: str, channel: ChannelSettings, factor: float) -> None:
    """Refuse, as a ConfigError, to distort the time or the messages of a physical robot."""
    if not channel.ideal:
        raise ConfigError(f'channel: backend {backend} drives a physical robot, whose messages '
                          'must not be delayed or lost on purpose; use channel:=ideal')
    if factor:
        raise ConfigError(f'real_time_factor = {factor}: backend {backend} drives a physical '
                          'robot, whose time cannot be scaled; use 0')


def require_awake(period_ns: int, watchdog_s: float, factor: float) -> None:
    """Refuse a tick that is slower than the watchdog, which stays on the wall clock."""
    if period_ns >= watchdog_s * NS:
        raise ConfigError(
            f'real_time_factor = {factor}: a tick would take {period_ns / 1e6:.0f} ms, and the '
            f'safety monitor stops a robot that is silent for watchdog_s = {watchdog_s} s of '
            f'wall time; use a factor above {factor * period_ns / NS / watchdog_s:.2g}')
