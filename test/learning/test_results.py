# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of results: what is on it, from which runs, and that a run can be made at all."""

from pathlib import Path

import pytest
import results
from results import Played, Record, Run
from rl_nodes.core.config import load
from rl_nodes.core.errors import ConfigError

RUNS = (Run('arm', 'reach'), Run('a1', 'quadruped_stand'), Run('cartpole', 'cartpole_balance'))
PRESENT = {run.name: 'new' for run in RUNS}


def record(run, seed, success, steps=1000, configuration='new', elsewhere=0.5):
    return Record(run.name, seed, configuration, steps, 60.0, 'target',
                  {'pybullet': Played(success, 10.0 * seed), 'mujoco': Played(elsewhere, 1.0)},
                  'x86_64, 2 cores', '0.1.0')


def row(text, start):
    return next(line for line in text.splitlines() if line.startswith(f'| {start}'))


def test_the_page_shows_every_run_and_how_it_carries_over():
    text = results.page(RUNS, [
        *(record(RUNS[0], seed, success, 1000 * seed) for seed, success in
          ((0, 1.0), (1, 0.9), (2, 0.92), (3, 0.94))),
        record(RUNS[1], 0, 0.96, configuration='old', elsewhere=0.0)], PRESENT)
    learned, across = text.split('## Carried over')
    assert row(learned, 'reach') == ('| reach | arm | pybullet | sac | 4 | 1,500 (0 to 3,000) | '
                                     '60 s | 93% (90% to 100%) | 15.0 (0.0 to 30.0) |')
    assert row(learned, 'quadruped_stand') == (
        '| quadruped_stand † | a1 | pybullet | sac | 1 | 1,000 | 60 s | 96% | 0.0 |')
    assert '† of an earlier form' in text
    assert 'not run yet' in row(learned, 'cartpole_balance')
    assert row(across, 'reach') == '| reach | arm | pybullet | 93% (90% to 100%) | 50% |'
    assert row(across, 'quadruped_stand') == '| quadruped_stand † | a1 | pybullet | 96% | 0% |'


def test_a_run_without_a_policy_counts_as_failed():
    failed = Record(RUNS[0].name, 1, 'new', 10, 1.0, 'time', {}, 'x', '0')
    assert results.successes([record(RUNS[0], 0, 1.0), failed], 'pybullet') == [1.0, 0.0]


def test_lines_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / 'results.jsonl'
    assert results.read(path) == []
    rows = [record(RUNS[0], seed, None) for seed in (0, 1)]
    results.write(path, rows)
    assert results.read(path) == rows
    assert results.successes(rows, 'pybullet') == []


def test_every_shipped_run_loads_and_an_unknown_task_is_refused():
    runs = load(Path(results.__file__).with_suffix('.yaml'), results.Runs).runs
    assert len({results.configuration_of(run) for run in runs}) == len(runs)
    assert {run.task for run in results.chosen(runs, ['reach'])} == {'reach'}
    with pytest.raises(ConfigError, match="no task 'reech' .did you mean 'reach'"):
        results.chosen(runs, ['reech'])


@pytest.mark.timeout(300)
def test_a_run_trains_and_plays_in_every_simulator(tmp_path: Path):
    short = Run('cartpole', 'cartpole_balance', steps=600)
    found = results.perform(short, 0, tmp_path / 'run')
    assert found.name == 'cartpole_balance_cartpole_sac_pybullet'
    assert found.steps == 600
    assert set(found.played) == set(results.installed_backends())
    assert all(played.success is not None for played in found.played.values())
