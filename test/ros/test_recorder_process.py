# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorder as a process keeps every message that processes send, whatever becomes of it.

Figures are made by ``python -m benchmarks.recorder`` and ``benchmarks.kill_loss``.
"""

import pytest
from rl_nodes.tasks import load_task

from benchmarks._traffic import Stream
from benchmarks.kill_loss import kills
from benchmarks.recorder import CAMERAS, load


def states(count: int) -> Stream:
    """Return states at 1 kHz."""
    return Stream('joint_states', 'state', 1000.0, count,
                  load_task('arm', 'reach').robot.joint_names)


def test_frozen_for_a_second_at_1_khz_it_loses_nothing() -> None:
    found = load((states(3000),), freeze_s=1.0)
    assert (found.sent, found.lost) == (3000, 0)


@pytest.mark.parametrize('count', [
    10, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(0)])])
def test_killed_at_any_moment_it_loses_its_last_instant_only(count: int) -> None:
    found = kills(count)
    assert len(found) == count and all(kill.contiguous for kill in found), found
    lost_ms = sorted(kill.lost_ms for kill in found)
    # A flush every 40 ms; what is above 100 ms is a machine that let the recorder wait.
    assert lost_ms[count // 2] < 80 and lost_ms[count * 9 // 10 - 1] < 150, lost_ms


@pytest.mark.slow
def test_further_topics_are_not_lost_either_while_it_is_frozen() -> None:
    found = load((Stream('further/state', 'state', 1000.0, 3000, ('a', 'b')),), freeze_s=1.0)
    assert (found.sent, found.lost) == (3000, 0)


@pytest.mark.slow
def test_while_pictures_are_compressed_no_state_is_lost() -> None:
    found = load((states(3000), *(Stream(topic, 'picture', 30.0, 90) for topic in CAMERAS)),
                 compressing=True)
    assert found.states_lost == 0
    assert found.pictures_lost < 3 * 90


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize('count', [60_000, 10**6])
def test_at_1_khz_for_long_it_loses_nothing(count: int) -> None:
    assert load((states(count),)).lost == 0
