# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether one publisher sends on a topic, by the numbers that it gives its messages.

The middleware does not say who sent a message, and its graph lists who was killed for 20 s more.
But a DDS writer counts its messages, and the numbers of one writer only grow. Where they do not,
and there was no silence in between in which somebody could have been started again, two send.
"""

from collections.abc import Callable, Sequence
from enum import Enum

from rl_nodes.safety.watchdog import silent


class Step(Enum):
    """How a message follows the one before it."""

    NEXT = 'next'      # the next number, or the middleware gives none
    MISSED = 'missed'  # a higher number: what is between was lost, or it is somebody else's
    BACK = 'back'      # no higher number: two publishers
    BEGIN = 'begin'    # nothing came before, or not for a long time


class Sequel:
    """
    Follows the numbers of a topic's messages.

    :param silence_s: after which numbers may begin anew; less than a restart takes.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._number: int | None = None
        self._at: int | None = None

    def came(self, number: int | None, steady_ns: int) -> Step:
        """
        Take note of a message.

        :param number: as its publisher counts; None where the middleware gives none.
        :param steady_ns: when it came on the steady clock [ns].
        """
        before, at = self._number, self._at
        self._number, self._at = number, steady_ns
        if silent(at, steady_ns, self._silence_s):
            return Step.BEGIN
        if number is None or before is None or number == before + 1:
            return Step.NEXT
        return Step.MISSED if number > before else Step.BACK


class Doorkeeper:
    """
    Lets the messages of one publisher through, and nobody's any more once there were two.

    Who speaks first, again after a silence or with numbers missing has to be alone on the topic.
    The door opens again after a silence, as there is one where a person stops the robot.

    :param silence_s: see :class:`Sequel`.
    :param publishers: returns the names of who publishes on the topic, each once.
    :ivar closed: why nobody is let through; empty where somebody is.
    """

    def __init__(self, silence_s: float, publishers: Callable[[], Sequence[str]]) -> None:
        self._sequel, self._publishers = Sequel(silence_s), publishers
        self.closed = ''

    def came(self, number: int | None, steady_ns: int) -> str:
        """Return why a message is not let through, or ``''``; arguments as :class:`Sequel`."""
        step = self._sequel.came(number, steady_ns)
        if step == Step.BACK:
            self.closed = f'two publishers: {", ".join(self._publishers())}'
        elif step != Step.NEXT:
            names = self._publishers()
            if len(names) > 1:
                self.closed = f'{len(names)} publishers: {", ".join(names)}'
            elif step == Step.BEGIN:
                self.closed = ''
        return self.closed
