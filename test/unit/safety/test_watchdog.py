# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Until when a command is carried out by who looks once a period."""

import pytest
from rl_nodes.core.timing import NS
from rl_nodes.safety.watchdog import lasting_s, silent

TIMEOUT_S = 0.1


def held_after_s(period_s: float, first_look_s: float) -> float:
    """Return when silence since 0 is noticed by looks at a period."""
    look, lasting = first_look_s, lasting_s(TIMEOUT_S, period_s)
    while not silent(0, round(look * NS), lasting):
        look += period_s
    return look


@pytest.mark.parametrize('period_s', [0.001, 0.01, 0.02, TIMEOUT_S / 3])
@pytest.mark.parametrize('phase', [0.1, 0.3, 0.999])
def test_the_hold_comes_within_the_time_out_and_no_earlier_than_it_must(period_s: float,
                                                                        phase: float) -> None:
    held_s = held_after_s(period_s, phase * period_s)
    assert TIMEOUT_S - period_s < held_s <= TIMEOUT_S


@pytest.mark.parametrize('period_s', [0.001, 0.02, 0.04, 0.05, 0.08, 0.1])
def test_a_command_of_the_period_before_is_always_carried_out(period_s: float) -> None:
    """Also by a look that is late by as much as the time-out leaves."""
    late_s = min(period_s, TIMEOUT_S - period_s)
    assert not silent(0, round((period_s + late_s) * NS), lasting_s(TIMEOUT_S, period_s))


@pytest.mark.parametrize('period_s', [0.04, 0.05, 0.08, 0.1])
def test_where_periods_are_long_the_hold_comes_late_by_less_than_one(period_s: float) -> None:
    for phase in (0.1, 0.5, 0.999):
        assert held_after_s(period_s, phase * period_s) < TIMEOUT_S + period_s
