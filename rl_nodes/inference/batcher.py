# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Gathers what several robots ask while messages are taken, and has it answered together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.core.timing import LatencyWindow
from rl_nodes.core.types import RobotState
from rl_nodes.inference.actors import Cast, SingleActor
from rl_nodes.inference.batching import Answer, BatchRuntime, Query

Conclude = Callable[[Answer | None], None]


class _Turn(NamedTuple):
    """A state of a robot that is to be answered."""

    cast: Cast
    observation: np.ndarray
    state: RobotState
    conclude: Conclude


class Batcher:
    """Nobody waits here: whoever has asked by the time of :meth:`flush` is answered by it."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []
        self._sizes = LatencyWindow()

    def add(self, cast: Cast, observation: np.ndarray, state: RobotState,
            conclude: Conclude) -> None:
        """
        Have a robot's state answered by the next :meth:`flush`.

        :param cast: of the robot; it has no other state here, see :meth:`settle`.
        :param conclude: gets the action, shape (A,), which it does not keep; why there is none;
            or None where nobody acts.
        """
        self._turns.append(_Turn(cast, observation, state, conclude))

    def settle(self, cast: Cast) -> None:
        """Answer a robot's state that is still here, as another one follows."""
        if any(turn.cast is cast for turn in self._turns):
            self.flush()

    def flush(self) -> None:
        """Answer all that is here; each policy is run once."""
        turns, self._turns = self._turns, []
        together: dict[BatchRuntime, list[tuple[_Turn, Query]]] = {}
        for turn in turns:
            try:
                actor = turn.cast.turn(turn.observation, turn.state)
                if isinstance(actor, SingleActor) and isinstance(actor.policy, BatchRuntime):
                    together.setdefault(actor.policy, []).append(
                        (turn, actor.query(turn.observation, turn.state)))
                    continue
                alone = None if actor is None else actor.act(turn.observation, turn.state)
            except (SpecError, BundleError) as error:
                turn.conclude(error)
            else:
                turn.conclude(alone)
        for policy, asked in together.items():  # two only while a newer one takes over
            self._sizes.add(len(asked))
            answers = policy.act_all([query for _, query in asked])
            for (turn, _), answer in zip(asked, answers):
                turn.conclude(answer)

    def details(self) -> dict[str, Any]:
        """Return how many runs there were, and of how many robots, mean and greatest."""
        sizes = self._sizes.values()
        return {'batches': self._sizes.count,
                'batch_mean': round(float(sizes.mean()), 2) if len(sizes) else 0.0,
                'batch_max': int(sizes.max(initial=0))}
