# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a person means by the axes and buttons of a device, and when the device is not believed.

Pure functions of messages and injected time. Axes lie in [-1, 1], buttons are 0 or 1, as in
``sensor_msgs/Joy``. Nothing moves before everything has been seen at rest once, and after each
fault until it has been again.
"""

from collections.abc import Sequence
from enum import Enum
import math
from typing import NamedTuple

import numpy as np
from rl_nodes.core.timing import NS
from rl_nodes.safety.watchdog import silent


class Request(Enum):
    """What a person asks of the recording."""

    SAVE = 'save'
    DISCARD = 'discard'
    REDO = 'redo'
    SUCCESS = 'success'
    FAILURE = 'failure'


class Layout(NamedTuple):
    """
    Where things are on a device, as numbers of axes and buttons; defaults for the stock joy_node.

    :param axes: that move, in the order of what they move.
    :param deadman: button that has to be held while anything is to move.
    :param page: button that goes on to the next joints, where there are more than axes.
    :param requests: buttons of :class:`Request`, in its order.
    """

    axes: tuple[int, ...] = (1, 0, 4, 3, 7, 6)
    deadman: int = 5
    page: int = 4
    requests: tuple[int, ...] = (3, 2, 1, 0, 6)

    @property
    def buttons(self) -> tuple[int, ...]:
        """Return every button that means something."""
        return (self.deadman, self.page, *self.requests)


class Reading(NamedTuple):
    """
    What one message means.

    :param axes: behind the dead zone, in [-1, 1], shape (N,), in the order of the layout.
    :param paged: the button for other joints was just pressed.
    :param requests: that were just made.
    """

    axes: np.ndarray
    paged: bool
    requests: tuple[Request, ...]


class Device:
    """
    Reads a device and watches it.

    :param layout: of its axes and buttons.
    :param dead_zone: part of an axis' way around its middle that means nothing, below 1.
    :param stuck_s: an axis away from its middle that reports the very same value for this long,
        while the deadman is held, is stuck.
    :param timeout_s: silence after which the device is lost.
    :ivar engaged: whether the person has control.
    :ivar complaint: why the device is not believed, or what it waits for; empty while all is well.
    """

    def __init__(self, layout: Layout, dead_zone: float, stuck_s: float,
                 timeout_s: float) -> None:
        self._layout, self._dead_zone = layout, dead_zone
        self._stuck_s, self._timeout_s = stuck_s, timeout_s
        self._heard_at: int | None = None
        self._before: tuple[int, ...] = ()
        self._raw = np.zeros(len(layout.axes))
        self._moved_at = np.zeros(len(layout.axes), np.int64)
        self._armed = False
        self.axes = np.zeros(len(layout.axes))
        self.engaged = False
        self.complaint = 'nothing heard of the device yet'

    def read(self, axes: Sequence[float], buttons: Sequence[int], steady_ns: int) -> Reading:
        """Take a message that came at a time on the steady clock [ns]."""
        layout = self._layout
        lost = silent(self._heard_at, steady_ns, self._timeout_s)
        self._heard_at = steady_ns
        if lost:
            self._disarm('')
        why = self._why_unusable(axes, buttons)
        if why:
            self._disarm(why)
            self._before = ()
            return self._nothing()
        raw = np.array([axes[i] for i in layout.axes], float)
        self._moved_at[raw != self._raw] = steady_ns
        self._raw = raw
        size = np.maximum(np.abs(raw) - self._dead_zone, 0.0) / (1.0 - self._dead_zone)
        self.axes = np.sign(raw) * np.minimum(size, 1.0)
        if not self._armed:
            self._arm(buttons)
        now = tuple(int(buttons[i] != 0) for i in layout.buttons)
        pressed = tuple(new > old for new, old in zip(now, self._before)) or (False,) * len(now)
        self._before = now
        if not self._armed:
            return self._nothing()
        self._engage(bool(now[0]), pressed[0])
        stuck = self._stuck(steady_ns)
        if stuck:
            self._disarm(stuck)
            return self._nothing()
        return Reading(self.axes if self.engaged else np.zeros_like(self.axes), pressed[1], tuple(
            request for request, made in zip(Request, pressed[2:]) if made))

    def lost(self, steady_ns: int) -> bool:
        """Return whether the device has fallen silent; who was engaged then is not released."""
        return silent(self._heard_at, steady_ns, self._timeout_s)

    def _arm(self, buttons: Sequence[int]) -> None:
        """Believe the device once everything on it is at rest."""
        held = [f'button {i}' for i in self._layout.buttons if buttons[i]]
        away = [f'axis {i}' for i, value in zip(self._layout.axes, self.axes) if value]
        self._armed = not held and not away
        if self._armed:
            self.complaint = ''
        else:
            self.complaint = (f'{self.complaint.partition(";")[0]}; let go of '
                              f'{", ".join(held + away)}').removeprefix('; ')

    def _engage(self, held: bool, pressed: bool) -> None:
        """Give control while the deadman is held that was pressed with all axes at rest."""
        if not held:
            self.engaged, self.complaint = False, ''
        elif pressed and self.axes.any():
            self.complaint = 'the deadman was pressed with an axis away from its middle'
        elif not self.engaged and not self.axes.any():
            self.engaged, self.complaint = True, ''

    def _stuck(self, steady_ns: int) -> str:
        since_s = (steady_ns - self._moved_at) / NS
        stuck = self.engaged & (self.axes != 0.0) & (since_s > self._stuck_s)
        if not stuck.any():
            return ''
        return (f'axis {self._layout.axes[int(np.argmax(stuck))]} has reported the same value for '
                f'{self._stuck_s:g} s')

    def _why_unusable(self, axes: Sequence[float], buttons: Sequence[int]) -> str:
        need = max(self._layout.axes) + 1, max(self._layout.buttons) + 1
        if len(axes) < need[0] or len(buttons) < need[1]:
            return (f'the device has {len(axes)} axes and {len(buttons)} buttons; expected '
                    f'{need[0]} and {need[1]}, see the parameters axes, deadman_button, '
                    'page_button and request_buttons')
        bad = [i for i in self._layout.axes if not (math.isfinite(axes[i])
                                                    and abs(axes[i]) <= 1.0)]
        return f'axis {bad[0]} reports {axes[bad[0]]}, expected -1 to 1' if bad else ''

    def _disarm(self, why: str) -> None:
        self._armed = self.engaged = False
        self.axes = np.zeros_like(self.axes)
        self.complaint = why

    def _nothing(self) -> Reading:
        return Reading(np.zeros_like(self.axes), False, ())
