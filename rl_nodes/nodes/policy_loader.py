# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Verifies policies away from the control path, one at a time, the newest one first."""

from collections.abc import Callable
import threading
import traceback

from rl_nodes.core.errors import RlNodesError
from std_msgs.msg import UInt8MultiArray

CLOSE_S = 2.0


class PolicyLoader:
    """
    A thread that takes policies over; of those that wait, only the newest counts.

    :param take_over: verifies a policy and lets it act; an exception refuses it.
    :param refused: gets the reason.
    """

    def __init__(self, take_over: Callable[[UInt8MultiArray], None],
                 refused: Callable[[str], None]) -> None:
        self._take_over = take_over
        self._refused = refused
        self._newest: UInt8MultiArray | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='policy loader', daemon=True)
        self._thread.start()

    def submit(self, msg: UInt8MultiArray) -> None:
        """Have a policy verified soon, instead of one that still waits; returns at once."""
        with self._changed:
            self._newest = msg
            self._changed.notify()

    def close(self) -> None:
        """Take nothing over any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._newest is not None)
                msg, self._newest = self._newest, None
                if self._closed or msg is None:
                    return
            try:
                self._take_over(msg)
            except RlNodesError as error:
                self._refused(str(error))
            except Exception:  # whatever a policy is made of, the old one goes on
                self._refused(traceback.format_exc())
