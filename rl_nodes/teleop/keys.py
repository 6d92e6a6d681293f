# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A keyboard in the layout of a gamepad.

A terminal tells when a key is pressed, again while it is held, but not when it is let go. So a
key counts as held for ``HOLD_S`` after it was last heard of, which bridges the pause before a
keyboard begins to repeat, and the deadman is any key that moves. The space bar lets go of all.
"""

from rl_nodes.core.timing import NS
from rl_nodes.teleop.device import Layout

HOLD_S = 0.6
AXES, BUTTONS = 8, 11   # of the gamepad whose layout it has

_LAYOUT = Layout()
_MOVES = {key: (axis, sign) for keys, axis in zip(
    ('ws', 'ad', 'rf', 'jl', 'ik', 'uo'), _LAYOUT.axes) for key, sign in zip(keys, (1.0, -1.0))}
_REQUESTS = dict(zip('\rxzyn', _LAYOUT.requests))
HELP = ('w s  a d  r f move, i k  j l  u o turn (or joints 1 to 6); . holds control, space lets '
        'go; g other joints; enter keep, x discard, z redo, y success, n failure')


class Keys:
    """The keys of a terminal as axes and buttons."""

    def __init__(self) -> None:
        self._heard: dict[str, int] = {}
        self._pressed: set[int] = set()
        self._held = False

    def press(self, text: str, steady_ns: int) -> None:
        """Take what was typed at a time on the steady clock [ns]."""
        for key in text.lower().replace('\n', '\r'):
            if key in _MOVES or key == '.':
                self._heard[key] = steady_ns
            elif key == ' ':
                self._heard.clear()
            elif key in _REQUESTS:
                self._pressed.add(_REQUESTS[key])
            elif key == 'g':
                self._pressed.add(_LAYOUT.page)

    def read(self, steady_ns: int) -> tuple[list[float], list[int]]:
        """
        Return (axes, buttons); a request is a button for one reading.

        The deadman comes one reading before the axes, as it is to be pressed with them at rest.
        """
        self._heard = {key: at for key, at in self._heard.items()
                       if steady_ns - at <= HOLD_S * NS}
        axes, buttons = [0.0] * AXES, [0] * BUTTONS
        before, self._held = self._held, bool(self._heard)
        for key in self._heard:
            if key in _MOVES and before:
                axis, sign = _MOVES[key]
                axes[axis] = min(1.0, max(-1.0, axes[axis] + sign))
        for button in self._pressed:
            buttons[button] = 1
        self._pressed.clear()
        buttons[_LAYOUT.deadman] = int(self._held)
        return axes, buttons
