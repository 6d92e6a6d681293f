# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of interventions: coalesced, bounded, with what was seen before and after."""

from collections.abc import Sequence

import pytest
from rl_nodes.safety import events
from rl_nodes.safety.events import BlackBox, Seen
from rl_nodes.safety.verdict import Level

S, MS = 1_000_000_000, 1_000_000


class Shelf:
    """Keeps what a sink gets."""

    def __init__(self) -> None:
        self.files: list[list[Seen]] = []
        self.counts: list[dict[str, int]] = []

    def begin(self, seen: Sequence[Seen]) -> None:
        self.files.append(list(seen))

    def write(self, seen: Seen) -> None:
        self.files[-1].append(seen)

    def end(self, counts: dict[str, int]) -> None:
        self.counts.append(counts)


class Flight:
    """A black box and a clock of 10 ms, with a message each."""

    def __init__(self) -> None:
        self.shelf, self.now = Shelf(), 0
        self.box = BlackBox(self.shelf)

    def fly(self, seconds: float, level: Level = Level.PASS, check: str = '') -> 'Flight':
        for _ in range(round(seconds * 100)):
            self.now += 10 * MS
            self.box.tick(self.now)
            self.box.see('joint_states', self.now, b'%d' % self.now)
            self.box.decide(level, check, self.now)
        return self

    def spans(self) -> list[tuple[float, float]]:
        return [(file[0][1] / S, file[-1][1] / S) for file in self.shelf.files]


def test_two_seconds_before_and_after_are_kept() -> None:
    flight = Flight().fly(5).fly(0.01, Level.STOP, 'estop').fly(5)
    assert flight.spans() == [(3.01, 7.01)]
    assert [seen[2] for seen in flight.shelf.files[0]] == [
        b'%d' % (at * 10 * MS) for at in range(301, 702)]
    assert flight.shelf.counts == [{'stop/estop': 1, 'left_out': 0}]


def test_a_constant_clamp_is_one_and_comes_again_after_a_pause() -> None:
    flight = Flight().fly(60, Level.CLAMP, 'velocity')
    assert len(flight.spans()) == 1
    flight.fly(1.9).fly(1, Level.CLAMP, 'velocity')
    assert len(flight.spans()) == 1, 'it goes on'
    flight.fly(2.1).fly(1, Level.CLAMP, 'velocity').fly(3)
    assert len(flight.spans()) == 2
    assert flight.shelf.counts[-1]['clamp/velocity'] == 2


def test_what_happens_meanwhile_prolongs_and_every_stop_is_new() -> None:
    flight = Flight().fly(1, Level.CLAMP, 'velocity').fly(0.01, Level.STOP, 'finite')
    flight.fly(0.49).fly(0.01, Level.STOP, 'finite').fly(9)
    assert flight.spans() == [(0.01, 3.51)]
    assert flight.shelf.counts == [{'clamp/velocity': 1, 'stop/finite': 2, 'left_out': 0}]


def test_no_incident_is_longer_than_it_may_be() -> None:
    flight = Flight().fly(3)
    for _ in range(60):
        flight.fly(0.01, Level.STOP, 'estop').fly(0.99)
    longest = max(end - begin for begin, end in flight.spans())
    assert longest <= events.BEFORE_S + events.LONGEST_S + 0.01
    assert flight.box.incidents == len(flight.spans()) == 3


def test_their_number_is_bounded_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, 'MOST_INCIDENTS', 2)
    flight = Flight()
    for _ in range(4):
        flight.fly(0.01, Level.CLAMP, 'position').fly(5)
    assert (flight.box.incidents, flight.box.left_out) == (2, 2)
    flight.fly(0.01, Level.STOP, 'estop').fly(5)
    assert flight.box.incidents == 3, 'clamps do not use up what stops may have'
    assert flight.shelf.counts[-1] == {'clamp/position': 4, 'stop/estop': 1, 'left_out': 2}


def test_memory_is_bounded() -> None:
    flight = Flight().fly(100)
    assert len(flight.box._seen) == 201
    for _ in range(2 * events.MOST_SEEN):
        flight.box.see('joint_states', flight.now, b'')
    flight.box.see('joint_states', flight.now, bytes(events.MOST_BYTES + 1))
    assert len(flight.box._seen) == events.MOST_SEEN
    assert max(len(data) for _, _, data in flight.box._seen) < 20


@pytest.mark.parametrize('check', sorted(events.ASIDE))
def test_what_is_no_intervention_is_not_kept(check: str) -> None:
    flight = Flight().fly(1, Level.STOP, check)
    flight.box.close()
    assert flight.shelf.files == flight.shelf.counts == []


def test_the_end_of_the_node_ends_an_incident_once() -> None:
    flight = Flight().fly(0.01, Level.HOLD, 'age')
    flight.box.close()
    flight.box.close()
    assert flight.shelf.counts == [{'hold/age': 1, 'left_out': 0}]
