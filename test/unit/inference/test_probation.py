# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""When a policy that has just taken over must go, and when it has proven itself."""

from itertools import pairwise

import pytest
from rl_nodes.inference.probation import BLAMELESS, Probation, Tally
from rl_nodes.safety.supervisor import LIFECYCLE, STAND

STATES, MARGIN = 100, 0.2


def probation(limited: int = 0, judged: int = 400) -> tuple[Probation, Tally]:
    """Return a probation that has seen a policy with so many of so many commands limited."""
    watch, tally = Probation(STATES, MARGIN), Tally()
    for _ in range(judged // 10):
        tally = tally._replace(judged=tally.judged + 10,
                               limited=tally.limited + 10 * limited // judged)
        assert not watch.judge(tally)
    return watch, tally


def go_on(watch: Probation, tally: Tally, limited: int, judged: int = STATES,
          step: int = 10) -> tuple[str, Tally]:
    """Judge commands in steps until a reason comes or all are judged."""
    for done, after in pairwise(range(0, judged + step, step)):
        tally = tally._replace(judged=tally.judged + after - done, limited=tally.limited
                               + limited * after // judged - limited * done // judged)
        why = watch.judge(tally)
        if why:
            return why, tally
    return '', tally


def test_a_tally_blames_the_policy_for_its_own_faults_only() -> None:
    report = {'mode': 'OK', 'reason': 'x', 'bad_states': '7', 'pass': '90', 'clamp': '6',
              'clamp/velocity': '6', 'hold': '4', 'hold/age': '1', 'hold/state_silence': '3',
              'stop': '2', 'stop/finite': '1', 'stop/operator': '1', 'refused_while_stopped': '5'}
    assert Tally.of(report, 3) == Tally(100, 7, 1, 3)
    assert Tally.of({}, 0) == Tally()
    assert all(Tally.of({f'stop/{check}': 1}, 0) == Tally() for check in BLAMELESS)
    assert BLAMELESS == STAND | LIFECYCLE


@pytest.mark.parametrize(('limited', 'stays'), [(0, True), (20, True), (30, False), (100, False)])
def test_more_limited_commands_than_the_margin_allows(limited: int, stays: bool) -> None:
    watch, tally = probation()
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))  # the first report after it
    why, _ = go_on(watch, tally, limited)
    assert not why == stays
    assert watch.running != stays
    if not stays:
        assert 'limited or held' in why


def test_what_was_usual_before_is_no_reason() -> None:
    watch, tally = probation(limited=200)  # every other one
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    assert go_on(watch, tally, 60)[0] == ''
    assert not watch.running


def test_commands_judged_before_the_first_report_count_for_the_predecessor() -> None:
    watch, tally = probation()
    watch.begin(tally)
    late = tally._replace(judged=tally.judged + 50, limited=tally.limited + 50)
    assert not watch.judge(late)
    assert go_on(watch, late, 0)[0] == ''
    assert not watch.running


@pytest.mark.parametrize(('field', 'reason'), [
    ('not_finite', 'no finite answer'), ('stops', 'stopped the robot')])
def test_one_stop_or_answer_that_is_not_finite_is_enough_at_once(field: str, reason: str) -> None:
    watch, tally = probation()
    watch.begin(tally)
    assert reason in watch.judge(tally._replace(**{field: getattr(tally, field) + 1}))


def test_after_the_probation_nothing_is_a_reason() -> None:
    watch, tally = probation()
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    _, tally = go_on(watch, tally, 0)
    assert not watch.running
    assert not watch.judge(tally._replace(not_finite=5, stops=5, limited=tally.limited + 90))


def test_successors_in_quick_succession_keep_the_standard_of_the_last_one_watched() -> None:
    watch, tally = probation()
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    _, tally = go_on(watch, tally, 9, judged=50)
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    assert go_on(watch, tally, 30)[0]


def test_what_a_withdrawn_policy_did_is_no_standard() -> None:
    watch, tally = probation()
    watch.begin(tally)
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    why, tally = go_on(watch, tally, 100)
    assert why
    watch.end(tally)
    assert not watch.running
    watch.begin(tally)  # the next one, before its predecessor has been seen again
    watch.judge(tally := tally._replace(judged=tally.judged + 1))
    assert go_on(watch, tally, 60)[0]


def test_zero_states_watch_nobody() -> None:
    watch = Probation(0, MARGIN)
    watch.begin(Tally())
    assert not watch.running
    assert not watch.judge(Tally(10, 10, 10, 10))
