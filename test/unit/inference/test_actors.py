# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which policy gives an action while one follows another."""

from typing import Any

import numpy as np
import pytest
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import RobotState
from rl_nodes.inference.actors import Cast, ChunkActor, PATIENCE_S, SingleActor
from rl_nodes.inference.chunking import Blend
from rl_nodes.inference.runtime import PolicyRuntime

STATE = RobotState(0, '1@0', np.zeros(2), np.zeros(2), np.zeros(2))
NOTHING = np.zeros(5, np.float32)


class Player:
    """An actor that is ready when a test says so."""

    def __init__(self, label: str, ready: bool = True) -> None:
        self.label, self.is_ready = label, ready
        self.closed, self.waited_s, self.computes = 0, 0.0, False

    def act(self, observation: np.ndarray, state: RobotState) -> np.ndarray | None:
        return np.zeros(2, np.float32) if self.is_ready else None

    def ready(self, observation: np.ndarray, state: RobotState) -> bool:
        return self.is_ready

    def silence(self) -> str:
        return 'not ready'

    def details(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.closed += 1

    def join(self, timeout_s: float) -> bool:
        assert self.closed
        self.waited_s += timeout_s
        return not self.computes


def acting(cast: Cast) -> str:
    cast.act(NOTHING, STATE)
    return cast.acting.label if cast.acting else ''


def test_nobody_is_an_answer() -> None:
    cast = Cast()
    assert cast.act(NOTHING, STATE) is None
    assert cast.acting is None
    cast.close()


def test_one_that_needs_time_takes_over_once_it_is_ready() -> None:
    cast, old, new = Cast(), Player('old'), Player('new', ready=False)
    cast.use(old)
    assert acting(cast) == 'old'
    cast.use(new)
    assert [acting(cast) for _ in range(3)] == ['old'] * 3
    assert old.closed == 0
    new.is_ready = True
    assert acting(cast) == 'new'
    assert (old.closed, new.closed) == (1, 0)
    cast.close()
    assert (old.closed, new.closed) == (1, 1)


def test_the_end_waits_for_whoever_still_computes_and_for_nobody_else() -> None:
    cast, slow, idle, last = Cast(), Player('slow'), Player('idle'), Player('last')
    slow.computes = last.computes = True
    for actor in (slow, idle, last):
        cast.use(actor)
        acting(cast)
    assert (slow.waited_s, idle.waited_s) == (0.0, 0.0)  # no swap waits
    cast.close()
    assert 0.0 < slow.waited_s <= PATIENCE_S
    assert 0.0 < last.waited_s <= PATIENCE_S
    assert idle.waited_s == 0.0


def test_the_first_has_nobody_to_wait_for() -> None:
    cast = Cast()
    cast.use(Player('slow', ready=False))
    assert cast.act(NOTHING, STATE) is None
    assert cast.acting.silence() == 'not ready'


def test_one_that_is_passed_over_is_let_go() -> None:
    cast, old, slow, new = Cast(), Player('old'), Player('slow', ready=False), Player('new')
    for actor in (old, slow, new):
        cast.use(actor)
    assert (old.closed, slow.closed) == (1, 1)
    assert acting(cast) == 'new'
    assert new.closed == 0


def test_a_policy_without_chunks_is_no_chunk_actor(bundle: object) -> None:
    policy = PolicyRuntime(bundle)
    with pytest.raises(SpecError, match='answers with one action, expected chunks'):
        ChunkActor(policy, 20_000_000, Blend(), overlap=False)
    np.testing.assert_array_equal(SingleActor(policy, None).act(NOTHING, STATE),
                                  policy.act(NOTHING))
