# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a robot that moves after a stop may."""

from collections import deque


class Clearances:
    """
    Tells whether a robot that moves after a stop may: somebody had it cleared in between.

    What was sent in one order may be read in another, an answer before a stop that was sent
    before it. So what counts is when things were sent, all on the wall clock [ns]. A request is
    carried out between the moments at which it was sent and answered; one whose answer did not
    come in time, until the next answer.
    """

    def __init__(self) -> None:
        self._stopped_at = 0    # the robot begins stopped
        self._asked_at: int | None = None
        self._waiting = 0       # requests that nobody has answered yet
        self._cleared: deque[tuple[int, int]] = deque(maxlen=100)

    def stopped(self, sent: int) -> None:
        """Take a stop."""
        self._stopped_at = max(self._stopped_at, sent)

    def asked(self, sent: int) -> None:
        """Take a request."""
        self._waiting += 1
        if self._asked_at is None:
            self._asked_at = sent

    def answered(self, success: bool, read: int) -> None:
        """Take the answer to the newest request; an earlier one may have had its way before."""
        if success or self._waiting > 1:
            self._cleared.append((self._asked_at, read))
        self._asked_at, self._waiting = None, 0

    def allow(self, sent: int) -> bool:
        """Return whether the robot may have been allowed to carry out a command."""
        if self._asked_at is not None and self._asked_at < sent:
            return True
        return any(asked < sent and answered > self._stopped_at
                   for asked, answered in self._cleared)
