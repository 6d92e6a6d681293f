# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One publisher and two, by the numbers of their messages."""

from collections.abc import Iterator

import numpy as np
import pytest
from rl_nodes.safety.sole import Doorkeeper, Sequel, Step

MS = 1_000_000


def steps(*messages: tuple[int | None, float]) -> list[Step]:
    """Return how messages (number, time [ms]) follow each other."""
    sequel = Sequel(0.05)
    return [sequel.came(number, round(at * MS)) for number, at in messages]


def test_one_publisher_counts_on_and_may_miss_some() -> None:
    assert steps((7, 0), (8, 10), (11, 20), (12, 70)) == [
        Step.BEGIN, Step.NEXT, Step.MISSED, Step.NEXT]


@pytest.mark.parametrize(('number', 'step'), [
    (8, Step.NEXT), (9, Step.MISSED), (7, Step.BACK), (6, Step.BACK), (1, Step.BACK)])
def test_who_does_not_count_on_is_somebody_else(number: int, step: Step) -> None:
    assert steps((7, 0), (number, 50))[1] == step


@pytest.mark.parametrize(('silence_ms', 'step'), [(50, Step.BACK), (50.001, Step.BEGIN)])
def test_who_was_started_again_begins_after_a_silence(silence_ms: float, step: Step) -> None:
    assert steps((500, 0), (1, silence_ms))[1] == step


def test_without_numbers_nothing_is_told() -> None:
    assert steps((None, 0), (None, 10), (3, 20), (None, 30), (None, 90)) == [
        Step.BEGIN, Step.NEXT, Step.NEXT, Step.NEXT, Step.BEGIN]


def sent(rng: np.random.Generator, first: int, period_ms: float, loss: float,
         begin_ms: float = 0.0) -> Iterator[tuple[float, int]]:
    """Yield (time [ms], number) of 200 messages of a publisher, of which some are lost."""
    for count in range(200):
        if rng.random() >= loss:
            yield begin_ms + count * period_ms + rng.uniform(0.0, 0.8) * period_ms, first + count


@pytest.mark.parametrize('seed', range(20))
def test_two_at_once_are_always_told_apart_and_one_never(seed: int) -> None:
    """Whatever is lost and whose numbers are higher: by the second message of each at last."""
    rng = np.random.default_rng(seed)
    loss = rng.uniform(0.0, 0.5)
    mine = list(sent(rng, int(rng.integers(1, 2000)), 10.0, loss))
    assert Step.BACK not in steps(*((number, at) for at, number in mine))
    other = list(sent(rng, int(rng.integers(1, 2000)), rng.uniform(3.0, 30.0), loss,
                      rng.uniform(100.0, 1000.0)))
    both = sorted(mine + other)
    found = [at for (at, _), step in zip(both, steps(*((number, at) for at, number in both)))
             if step == Step.BACK]
    second = max(other[1][0], next(at for at, _ in mine if at > other[0][0]))
    assert found and other[0][0] <= found[0] <= second + 20.0 / (1 - loss) ** 2


class Door:
    """A doorkeeper of a topic on which somebody publishes every 10 ms."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked, self.at = list(names), 0, 0.0
        self._door = Doorkeeper(0.1, self._publishers)

    def _publishers(self) -> list[str]:
        self.asked += 1
        return self.names

    def came(self, number: int, after_ms: float = 10.0) -> str:
        self.at += after_ms
        return self._door.came(number, round(self.at * MS))


def test_whoever_is_alone_is_let_in_and_asked_for_at_the_beginning_only() -> None:
    door = Door('/monitor')
    assert [door.came(number) for number in range(1, 50)] == [''] * 49
    assert door.asked == 1
    assert door.came(60) == '', 'some were lost'
    assert door.came(61, 200.0) == '', 'the robot was stopped meanwhile'
    assert door.came(1, 3000.0) == '', 'it was started again'
    assert door.asked == 4


def test_the_first_message_of_another_closes_the_door_for_both() -> None:
    door = Door('/monitor')
    assert door.came(500) == ''
    door.names.append('/rogue')
    assert door.came(1) == 'two publishers: /monitor, /rogue'
    door.names.remove('/rogue')
    assert all(door.came(number) for number in range(501, 600)), 'nobody has cleared that'
    assert door.came(600, 101.0) == ''


def test_numbers_that_are_ahead_are_no_way_in() -> None:
    door = Door('/monitor', '/rogue')
    assert door.came(500) == '2 publishers: /monitor, /rogue', 'the first of all'
    door.names.remove('/rogue')
    assert door.came(501, 150.0) == ''
    door.names.append('/rogue')
    assert door.came(9000) == '2 publishers: /monitor, /rogue'
    assert door.came(9001, 150.0) != '', 'while the robot is stopped'


def test_two_of_the_same_name_are_two() -> None:
    door = Door('/monitor')
    assert door.came(500) == ''
    assert door.came(20) == 'two publishers: /monitor'
    assert door.came(501) != ''
