# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which goal belongs to a state; episode ids; latency percentiles."""

import itertools

import numpy as np
import pytest
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.timing import LatencyWindow
from rl_nodes.core.types import EpisodeId, Goal, RobotState


def goal(stamp_ns: int) -> Goal:
    return Goal(stamp_ns, np.full(3, float(stamp_ns)), np.array([0.0, 0, 0, 1]))


def state(stamp_ns: int, start_ns: int) -> RobotState:
    return RobotState(stamp_ns, f'1@{start_ns}', np.zeros(1), np.zeros(1), np.zeros(1))


def test_goal_of_a_state_in_every_order_of_arrival() -> None:
    for order in itertools.permutations([10, 20, 30]):
        book = GoalBook()
        for stamp in order:
            book.add(goal(stamp))
            book.add(goal(stamp))
        assert book.of(state(25, 20)).stamp_ns == 20
        assert book.of(state(30, 20)).stamp_ns == 30
        assert book.of(state(15, 10)).stamp_ns == 10
        assert book.of(state(35, 31)) is None, 'a goal of an earlier episode does not count'
        assert book.of(state(5, 0)) is None


def test_episode_id_round_trip_and_refusal() -> None:
    assert EpisodeId.parse(str(EpisodeId(7, 123456789))) == EpisodeId(7, 123456789)
    for text in ('', '7', 'x@1', '7@', 'base_link'):
        with pytest.raises(ValueError):
            EpisodeId.parse(text)


def test_latency_window_keeps_the_newest() -> None:
    window = LatencyWindow(size=100)
    assert window.summary() == {'count': 0}
    for value in range(1000):
        window.add(value * 1e-3)
    summary = window.summary()
    assert summary['count'] == 1000
    assert summary['max_ms'] == 999.0
    assert summary['p50_ms'] == pytest.approx(949.5)
