# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A recorder as a process keeps every message that processes send, whatever becomes of it."""

import pytest
from rl_nodes.tasks import load_task

from benchmarks._traffic import Stream
from benchmarks.recorder import CAMERAS, load


def states(count: int) -> Stream:
    """Return states at 1 kHz."""
    return Stream('joint_states', 'state', 1000.0, count,
                  load_task('arm', 'reach').robot.joint_names)


def test_frozen_for_a_second_at_1_khz_it_loses_nothing() -> None:
    found = load((states(3000),), freeze_s=1.0)
    assert (found.sent, found.lost) == (3000, 0)


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
