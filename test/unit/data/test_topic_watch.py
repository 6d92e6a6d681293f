# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of topics is seen: slow, stalled, unsteady, incomplete, crowded."""

import pytest
from rl_nodes.data.topic_watch import Senders, stamp_skew_s, TopicWatch

MS = 1_000_000


def run(watch: TopicWatch, period_ms: float, count: int, start_ms: float = 0.0) -> float:
    """Let messages come; return when the last did [ms]."""
    for k in range(count):
        watch.came(round((start_ms + k * period_ms) * MS))
    return start_ms + (count - 1) * period_ms


def test_a_promised_rate_is_kept_missed_or_stalled() -> None:
    watch = TopicWatch(100.0)
    assert watch.condition(0) == 'STALLED'
    end = run(watch, 10, 300)
    assert watch.condition(round(end * MS)) == 'OK' and watch.rate_hz() == 100.0
    assert watch.condition(round((end + 499) * MS)) == 'OK'
    assert watch.condition(round((end + 501) * MS)) == 'STALLED'
    end = run(watch, 20, 300, end + 600)
    assert watch.condition(round(end * MS)) == 'SLOW'
    assert watch.summary(round(end * MS)).startswith('SLOW, 50.0 Hz of 100.0, jitter 0.00 ms')


def test_without_a_promise_the_regular_rate_that_was_is_expected() -> None:
    watch = TopicWatch()
    assert watch.condition(10**12) == 'OK'
    end = run(watch, 10, 300)
    assert watch.condition(round((end + 600) * MS)) == 'STALLED'
    odd = TopicWatch()
    now = 0
    for k in range(300):
        now += MS * (1 + 97 * k % 500)
        odd.came(now)
    assert odd.condition(now + 10**12) == 'OK', 'events have no rate'
    assert odd.jitter_s() > 0.05


def test_numbers_tell_what_was_lost_and_who_else_sends() -> None:
    watch = TopicWatch()
    for k, number in enumerate((5, 6, 7, 10, 11)):
        watch.came(k * MS, number)
    assert (watch.lost, watch.crowded) == (2, False)
    watch.came(10 * MS, 1)  # its publisher was started anew
    watch.came(2000 * MS, 4)
    assert (watch.lost, watch.crowded) == (4, False)
    for k in range(10):
        watch.came((2100 + k) * MS, (5 + k, 900 + k)[k % 2])
    assert watch.crowded and watch.lost <= 4 + 900
    before = watch.lost
    for k in range(500):
        watch.came((2200 + k) * MS, (50 + k, 1900 + k)[k % 2])
    assert watch.lost == before, 'numbers of two publishers tell nothing'


def shown(numbers: list[int], period_ms: float = 100.0) -> list[int]:
    """Return which of some messages show that several publishers send."""
    senders = Senders()
    return [k for k, number in enumerate(numbers)
            if senders.came(round(k * period_ms * MS), number)]


@pytest.mark.parametrize('numbers', [
    [*range(1, 500)],
    [*range(1, 50), *range(1, 500)],                    # killed and started again
    [*range(70, 99), *range(4, 40), *range(9, 300)],    # twice; the first were missed
    [1, 2, 5, 9, 10, 20, 21, 22, 40],                   # messages are lost
    [1, 2, 3, 1, 2, 3, 4, 5],                           # latched ones come again to who asks again
    [8, 1, 2, 3]])
def test_one_publisher_after_another_is_one_publisher(numbers: list[int]) -> None:
    assert shown(numbers) == []


@pytest.mark.parametrize(('numbers', 'first'), [
    ([1, 1, 2, 2, 3, 3], 3), ([1, 2, 2, 3, 3, 4], 4), ([5, 900, 6, 901], 2),
    ([900, 5, 6, 901], 3), ([1, 30, 3, 32, 5], 4), ([*range(1, 90), 4000, 90], 90),
    ([1, 50, 99, 2, 51, 100], 3)])
def test_two_who_both_send_are_seen_when_one_goes_on(numbers: list[int], first: int) -> None:
    assert shown(numbers)[0] == first


def test_two_who_send_seldom_are_seen_too_and_one_without_numbers_is_not_guessed() -> None:
    assert shown([7, 3, 8, 4], period_ms=2500) == [2, 3]
    assert shown([7, 3, 8, 4], period_ms=6000) == []
    senders = Senders()
    assert not senders.came(0, None) and not senders.numbered


def test_ages_of_stamps_tell_how_far_clocks_are_apart() -> None:
    here, there, unstamped = TopicWatch(), TopicWatch(), TopicWatch()
    here.came(0, stamp_age_ns=2 * MS)
    there.came(0, stamp_age_ns=-40 * MS)
    unstamped.came(0)
    assert stamp_skew_s((here, there, unstamped)) == 0.042
    assert stamp_skew_s((unstamped,)) == 0.0
