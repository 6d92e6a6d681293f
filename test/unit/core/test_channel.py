# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Imperfect links and the pace of a simulation: their statistics, and the same again per seed."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.channel import Channel, ChannelSettings, LinkSettings, load_channel
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.timing import Pacer

MS = 1_000_000
N = 20_000


def send(settings: LinkSettings, count: int = N, seed: int = 0,
         apart_ms: float = 20.0) -> tuple[Channel, list[tuple[int, float]]]:
    """Return the channel and (message, latency [ms]) of everything that arrived, in order."""
    channel = Channel(settings, seed)
    arrived: list[tuple[int, float]] = []

    def take(until_ns: int) -> None:
        while channel.next_ns is not None and channel.next_ns <= until_ns:
            at = channel.next_ns
            arrived.extend((k, at / MS - k * apart_ms) for k in channel.receive(at))
    for k in range(count):
        take(round(k * apart_ms * MS))
        channel.send(k, round(k * apart_ms * MS))
    take(2**62)
    return channel, arrived


def test_an_ideal_link_delivers_at_once_in_order() -> None:
    channel = Channel(LinkSettings(), 0)
    for k in range(10):
        channel.send(k, 5 * k)
        assert channel.receive(5 * k) == [k]
    assert channel.counts == {'sent': 10, 'lost': 0, 'duplicated': 0, 'delivered': 10,
                              'reordered': 0}


def test_nothing_arrives_before_its_time() -> None:
    channel = Channel(LinkSettings(latency_ms=30.0), 0)
    channel.send('x', 1000)
    assert channel.next_ns == 1000 + 30 * MS
    assert channel.receive(1000 + 30 * MS - 1) == []
    assert channel.receive(1000 + 30 * MS) == ['x']
    assert channel.next_ns is None


def test_loss_and_duplication_happen_as_often_as_set() -> None:
    channel, arrived = send(LinkSettings(loss=0.1, duplicate=0.05))
    counts = channel.counts
    assert counts['sent'] == N
    assert abs(counts['lost'] / N - 0.1) < 0.01                        # 4.7 standard deviations
    assert abs(counts['duplicated'] / (N - counts['lost']) - 0.05) < 0.008
    assert counts['delivered'] == len(arrived) == N - counts['lost'] + counts['duplicated']


def test_normal_jitter_is_cut_at_zero() -> None:
    latency = np.array([ms for _, ms in send(LinkSettings(latency_ms=10, jitter_ms=2))[1]])
    assert latency.mean() == pytest.approx(10, abs=0.1)
    assert latency.std() == pytest.approx(2, abs=0.1)
    latency = np.array([ms for _, ms in send(LinkSettings(latency_ms=1, jitter_ms=5))[1]])
    assert latency.min() == pytest.approx(0, abs=1e-5)
    assert np.mean(latency < 1e-5) == pytest.approx(0.4207, abs=0.02)  # normal below -1/5


def test_a_measured_table_is_drawn_from() -> None:
    table = ((0.0, 1.0), (50.0, 2.0), (99.0, 10.0), (100.0, 50.0))
    latency = np.array([ms for _, ms in send(LinkSettings(table=table))[1]])
    assert np.percentile(latency, 50) == pytest.approx(2.0, abs=0.05)
    assert np.percentile(latency, 74.5) == pytest.approx(6.0, abs=0.3)
    assert 1.0 <= latency.min() + 1e-5 and latency.max() <= 50.0 + 1e-5


def test_overtaking_follows_from_latencies_only() -> None:
    channel, arrived = send(LinkSettings(latency_ms=30, jitter_ms=15))
    order = [k for k, _ in arrived]
    late = int(np.sum(np.array(order) < np.maximum.accumulate(order)))
    assert channel.counts['reordered'] == late > N / 20
    assert sorted(order) == list(range(N))
    assert send(LinkSettings(latency_ms=30))[0].counts['reordered'] == 0


def test_the_same_seed_gives_the_same_fates_and_another_seed_others() -> None:
    settings = LinkSettings(latency_ms=5, jitter_ms=5, loss=0.1, duplicate=0.1)
    assert send(settings, 500, 7)[1] == send(settings, 500, 7)[1]
    assert send(settings, 500, 7)[1] != send(settings, 500, 8)[1]
    without = {k for k, _ in send(LinkSettings(loss=0.1), 500, 7)[1]}
    assert without == {k for k, _ in send(settings, 500, 7)[1]}, 'latencies change no losses'


def test_shipped_channels_load() -> None:
    assert load_channel('ideal') == ChannelSettings() and load_channel('ideal').ideal
    assert not load_channel('wifi').ideal


@pytest.mark.parametrize(('text', 'words'), [
    ('states: {loss: 1.5}', 'loss'), ('states: {latency: 3}', "unknown key 'latency'"),
    ('states: {latency_ms: -1}', 'latency_ms'),
    ('states: {latency_ms: 1, table: [[0, 1], [100, 2]]}', 'replaces'),
    ('commands: {table: [[0, 1], [99, 2]]}', 'percentile 100'),
    ('commands: {table: [[0, 3], [100, 2]]}', 'rising')])
def test_a_wrong_channel_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / 'mine.yaml'
    path.write_text(f'channel:\n  {text}\n')
    with pytest.raises(ConfigError, match=words):
        load_channel(str(path))


def test_the_pace_is_kept_by_absolute_deadlines_and_never_caught_up_in_a_burst() -> None:
    pacer = Pacer(10)
    pacer.passed(100)
    assert pacer.deadline_ns == 100, 'the first step sets the time'
    pacer.passed(100)
    assert pacer.deadline_ns == 110
    pacer.passed(113)                                  # late by 3: the next deadline stays
    assert pacer.deadline_ns == 120
    pacer.passed(500)                                  # a pause: no burst afterwards
    assert pacer.deadline_ns == 500
