# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Emergency-stop inputs: each has to keep saying that nobody presses it.

What is not heard is pressed: an input that has never spoken, or that has been silent for longer
than its time-out, as where a cable is cut or whoever reads the button has died.
"""

from rl_nodes.safety.watchdog import silent

NOT_THERE = 'none'
RELEASED = 'released'


class EmergencyStop:
    """
    The newest of every input.

    :param inputs: their names; none where there is no such thing.
    :param timeout_s: silence of an input that counts as pressed.
    """

    def __init__(self, inputs: tuple[str, ...] = (), timeout_s: float = 0.0) -> None:
        self._inputs = inputs
        self._timeout_s = timeout_s
        self._heard: dict[str, tuple[int, bool]] = {}

    def hear(self, name: str, pressed: bool, steady_ns: int) -> None:
        """
        Take what an input says.

        :param name: one of the inputs.
        :param steady_ns: when it said so on the steady clock [ns].
        """
        self._heard[name] = steady_ns, pressed

    def objection(self, steady_ns: int) -> str:
        """Return why the robot may not move, or ``''``."""
        for name in self._inputs:
            if name not in self._heard:
                return f'e-stop {name}: nothing heard of it yet'
            at, pressed = self._heard[name]
            if pressed:
                return f'e-stop {name}: pressed'
            if silent(at, steady_ns, self._timeout_s):
                return (f'e-stop {name}: silent for more than {self._timeout_s * 1e3:.0f} ms, '
                        'which counts as pressed')
        return ''

    def shown(self, steady_ns: int) -> str:
        """Return the objection, or that there is none."""
        return self.objection(steady_ns) or (RELEASED if self._inputs else NOT_THERE)
