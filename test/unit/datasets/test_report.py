# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The report says what is there: gaps, skew, coverage, duplicates, outliers, as text and page."""

import base64
from dataclasses import replace
from html.parser import HTMLParser
import re

import numpy as np
from recordings import record
from rl_nodes.cli import main
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.reader import read_episode
from rl_nodes.data.rewriting import rewrite
from rl_nodes.datasets.report import coverage, describe, make_report
from rl_nodes.nodes.recorded_transitions import read_recorded


def report_of(folder, task):
    opened = [read_episode(path) for path in sorted(folder.glob('*.mcap'))]
    return make_report(opened, [read_recorded(episode, task) for episode in opened], task)


def test_what_was_recorded_is_counted(tmp_path, task):
    record(tmp_path, task, episodes=2, steps=20, who=('reach@3', 'teleop'),
           changed={3: 'clamp/velocity', 4: 'hold/chatter', 5: 'clamp/velocity'})
    report = report_of(tmp_path, task)
    assert report.steps.tolist() == [20, 20] and report.seconds == 0.8
    assert report.origins == {
        'nobody': 0, 'autonomous': 20, 'demonstration': 20, 'intervention': 0}
    assert report.interventions == {'clamp/velocity': 4, 'hold/chatter': 2}
    assert 'clamp/velocity 4 (10.0%), hold/chatter 2 (5.0%)' in describe(report)
    assert report.gaps == 0 and set(report.periods_ms.tolist()) == {20.0}
    assert report.topics['joint_states'].messages == 42
    np.testing.assert_allclose(report.topics['joint_states'].rates_hz, 52.5)
    assert report.same_rows == 0 and not report.same_episodes
    batch = [read_recorded(read_episode(path), task).batch for path in sorted(tmp_path.iterdir())]
    action = np.concatenate([np.diff(part.action, axis=0) for part in batch])
    np.testing.assert_allclose(report.action_change, np.sqrt((action ** 2).mean(0)), rtol=1e-5)


def test_arrival_is_compared_with_the_stamp(tmp_path, task):
    path, = record(tmp_path / 'a', task, episodes=1)
    episode = read_episode(path)
    late = []
    for message in episode.messages():
        from rl_nodes.data.cdr import header_stamp_ns
        late.append(message._replace(log_time_ns=header_stamp_ns(message.data) + 3_000_000))
    rewrite(episode, tmp_path / 'b' / path.name, late, {})
    skew = report_of(tmp_path / 'b', task).topics['reward'].skew_ms
    np.testing.assert_allclose(np.concatenate(skew), 3.0)
    assert not report_of(tmp_path / 'a', task).topics['reward'].skew_ms  # simulated stamps


def test_gaps_copies_and_odd_ones_are_found(episodes, tmp_path, task):
    first = episodes / 'episode_000000.mcap'
    (episodes / 'episode_000007.mcap').write_bytes(first.read_bytes())
    opened = [read_episode(path) for path in sorted(episodes.glob('*.mcap'))]
    recorded = [read_recorded(episode, task) for episode in opened]
    batch = recorded[1].batch
    batch.observation[3, 2] += 1e4
    batch.reward[0] -= 1e6
    recorded[1] = replace(recorded[1], batch=batch)
    messages = list(opened[2].messages())
    states = [i for i, message in enumerate(messages) if message.topic == 'joint_states']
    gap = rewrite(opened[2], tmp_path / 'gap.mcap',
                  [m for i, m in enumerate(messages) if i != states[5]], {})
    report = make_report([*opened[:2], read_episode(gap), opened[3]], recorded, task)
    assert report.gaps == 1 and report.periods_ms.max() == 40.0
    assert report.same_episodes == ['episode_000007.mcap = episode_000000.mcap']
    assert report.same_rows == 12
    assert report.outliers[task.contract.observation.elements[2]] >= 1
    assert [text for text in report.odd_episodes if 'episode_000001.mcap return' in text]


def test_coverage_is_of_the_contract_where_it_bounds():
    spec = ArraySpec('x', ('a', 'b'), ('1', '1'), (-1.0, None), (1.0, None))
    values = np.stack([np.linspace(-1, 0, 1000), np.linspace(5, 6, 1000)], 1).astype(np.float32)
    found = coverage(spec, values)
    assert found.filled.tolist() == [0.55, 1.0] and found.bounded.tolist() == [True, False]
    np.testing.assert_allclose(found.histogram.sum(1), 1.0)


class Links(HTMLParser):
    """Collects what a page wants from elsewhere."""

    found: tuple[str, ...] = ()

    def handle_starttag(self, tag, attrs):
        self.found += tuple(value for name, value in attrs if name in ('src', 'href'))


def test_the_page_needs_nothing_else(episodes, tmp_path, capsys):
    page = tmp_path / 'report.html'
    assert main(['dataset', 'report', str(episodes), f'output:={page}']) == 0
    text = capsys.readouterr().out
    assert 'episodes      3, 3 with transitions' in text and 'transitions   36, 0.7 s' in text
    links = Links()
    links.feed(page.read_text())
    source, = links.found
    assert re.match('data:image/png;base64,', source)
    assert base64.b64decode(source.partition(',')[2])[:4] == b'\x89PNG'
    assert 'transitions   36' in page.read_text()
    assert main(['dataset', 'report', str(episodes), 'output:=page.pdf']) == 2
