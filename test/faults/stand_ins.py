# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Somebody who acts in the place of a frozen process, so that what he says is not a second voice.

The robot is stopped for that and cleared again, and moves when the block begins.
"""

from collections.abc import Callable
import threading
import time
from typing import Any

from actors import RATE_HZ
import numpy as np
from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes import joint_state
from stage import ALLOWED, Heard, Stage, STAND_IN, STATES, WANTED

DRIFT_RAD = 0.001  # that each command asks for


def now_heard(data: bytes) -> Heard:
    """Return a message as if it had come now."""
    return Heard(steady_ns(), joint_state.decode(data), time.time_ns())


class StandIn:
    """
    Freezes a process for the duration of a block and does what it does.

    :param name: of the process.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage, self._frozen = stage, stage.frozen(name)

    def __enter__(self) -> Any:
        self._frozen.__enter__()
        try:
            self._stage.until(lambda: self._stage.mode == 'STOPPED')
            self._begin()
            self._stage.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stage.disturb()
        self._end()
        self._frozen.__exit__(None, None, None)


class PolicyStandIn(StandIn):
    """
    Wants each joint to drift a little, first one way and then the other.

    :ivar change: what is sent once in place of the next command.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, 'policy_server')
        self.change: Callable[[Heard, Stage], bytes] | None = None
        self._names, self._count = stage.task.robot.command_names, 0

    def _begin(self) -> None:
        self._stage.answer = self._answer

    def _end(self) -> None:
        self._stage.answer = None

    def _answer(self, state: Heard) -> None:
        measured = dict(zip(state.view.name, state.view.position))
        self._count += 1
        drift = DRIFT_RAD * (1 if self._count % RATE_HZ < RATE_HZ / 2 else -1)
        data = joint_state.encode(state.stamp_ns, STAND_IN, self._names, np.array(
            [measured[name] + drift for name in self._names]))
        if self.change is not None:
            data = self.change(now_heard(data), self._stage)
            self.change = None
        self._stage.publishers[WANTED].publish(data)


class BridgeStandIn(StandIn):
    """
    A robot that is where it was last told to be.

    :ivar change: makes of a state and a new stamp [ns] what is sent; None for the state itself.
    :ivar period_s: between two states.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, 'robot_bridge')
        self.change: Callable[[Heard, int], bytes] | None = None
        self.period_s = 1 / RATE_HZ
        self._last = stage.heard[STATES][-1]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _begin(self) -> None:
        self._thread.start()

    def _end(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        stage, last = self._stage, self._last.view
        while not self._ending.wait(self.period_s):
            stamp = stage.node.get_clock().now().nanoseconds
            told = stage.heard[ALLOWED][-1].view
            at = dict(zip(last.name, last.position)) | dict(zip(told.name, told.position))
            data = joint_state.encode(
                stamp, last.header.frame_id, last.name, np.array([at[name] for name in last.name]),
                np.zeros(len(last.name)))
            if self.change is not None:
                data = self.change(now_heard(data), stamp)
            stage.publishers[STATES].publish(data)
