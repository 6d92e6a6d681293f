# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of results: what is on it, from which runs, and that a run can be made at all."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import results
from results_page import page
import results_runs
from results_runs import (
    GYMNASIUM,
    installed_backends,
    MethodRun,
    Played,
    read,
    Record,
    Runs,
    successes,
    TaskRun,
    write,
)
from rl_nodes.core.config import load
from rl_nodes.core.errors import ConfigError

TASKS = (TaskRun(robot='arm', task='reach'), TaskRun(robot='a1', task='quadruped_stand'),
         TaskRun(robot='cartpole', task='cartpole_balance'))
METHODS = (MethodRun(env='CartPole-v1', algorithm='dqn', expect=475.0, published='500 @50k'),
           MethodRun(env='CartPole-v1', algorithm='dqn', expect=475.0,
                     changes={'learner.noisy': 'factorised'}),
           MethodRun(env='Pendulum-v1', algorithm='sac_pendulum', expect=-157.0))
RUNS = Runs(tasks=TASKS, methods=METHODS)
PRESENT = {run.name: 'new' for run in (*TASKS, *METHODS)}


def record(run, seed, success, steps=1000, configuration='new', elsewhere=0.5):
    return Record(run.name, seed, configuration, steps, 60.0, 'target',
                  {'pybullet': Played(success, 10.0 * seed), 'mujoco': Played(elsewhere, 1.0)},
                  'x86_64, 2 cores', '0.1.0')


def method_record(run, seed, mean_return):
    return Record(run.name, seed, 'new', 1000, 60.0, 'target',
                  {GYMNASIUM: Played(None, mean_return)}, 'x86_64, 2 cores', '0.1.0')


def row(text, start):
    return next(line for line in text.splitlines() if line.startswith(f'| {start} |'))


def test_the_page_shows_every_run_and_how_it_carries_over():
    text = page(RUNS, [
        *(record(TASKS[0], seed, success, 1000 * seed) for seed, success in
          ((0, 1.0), (1, 0.9), (2, 0.92), (3, 0.94))),
        record(TASKS[1], 0, 0.96, configuration='old', elsewhere=0.0)], PRESENT)
    learned, across = text.split('## Carried over')
    assert row(learned, 'reach') == ('| reach | arm | pybullet | sac | 4 | 1,500 (0 to 3,000) | '
                                     '60 s | 93% (90% to 100%) | 15.0 (0.0 to 30.0) |')
    assert row(learned, 'quadruped_stand †') == (
        '| quadruped_stand † | a1 | pybullet | sac | 1 | 1,000 | 60 s | 96% | 0.0 |')
    assert '† of an earlier form' in text
    assert 'not run yet' in row(learned, 'cartpole_balance')
    assert row(across, 'reach') == '| reach | arm | pybullet | 93% (90% to 100%) | 50% |'
    assert row(across, 'quadruped_stand †') == (
        '| quadruped_stand † | a1 | pybullet | 96% | 0% |')


def test_the_page_says_which_methods_reach_what_is_expected():
    text = page(RUNS, [
        *(method_record(METHODS[0], seed, value) for seed, value in enumerate((500, 490, 480))),
        *(method_record(METHODS[1], seed, value) for seed, value in enumerate((500, 9, 500)))],
        PRESENT)
    cartpole, pendulum = text.split('### CartPole-v1')[1].split('### Pendulum-v1')
    assert row(cartpole, 'dqn') == ('| dqn | 3 | 1,000 | 60 s | 490.0 (480.0 to 500.0) | 475 | '
                                    'yes | 500 @50k |')
    assert row(cartpole, 'dqn, noisy: "factorised"') == (
        '| dqn, noisy: "factorised" | 3 | 1,000 | 60 s | 336.3 (9.0 to 500.0) | 475 | **no** '
        '| – |')
    assert 'not run yet' in row(pendulum, 'sac_pendulum')


def test_a_run_without_a_policy_counts_as_failed():
    failed = Record(TASKS[0].name, 1, 'new', 10, 1.0, 'time', {}, 'x', '0')
    assert successes([record(TASKS[0], 0, 1.0), failed], 'pybullet') == [1.0, 0.0]
    assert METHODS[0].scores([failed]) == [float('-inf')]


def test_lines_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / 'results.jsonl'
    assert read(path) == []
    rows = [record(TASKS[0], seed, None) for seed in (0, 1)]
    write(path, rows)
    assert read(path) == rows
    assert successes(rows, 'pybullet') == []


def test_every_run_that_is_asked_for_loads_and_an_unknown_one_is_refused():
    runs = load(results.ASKED, Runs)
    everything = (*runs.tasks, *runs.methods)
    assert len({run.configuration for run in everything}) == len(everything)
    assert len({run.name for run in everything}) == len(everything)
    assert {run.task for run in results.chosen(runs, ['reach'])} == {'reach'}
    assert {run.env for run in results.chosen(runs, ['CartPole-v1'])} == {'CartPole-v1'}
    with pytest.raises(ConfigError, match="no 'reech' .did you mean 'reach'"):
        results.chosen(runs, ['reech'])


def test_a_switch_of_the_learner_makes_another_configuration():
    assert METHODS[0].configuration != METHODS[1].configuration
    assert METHODS[1].name == 'CartPole-v1_dqn_noisy_factorised'


def test_a_folder_that_is_taken_gets_a_number(tmp_path: Path):
    assert results.free(tmp_path / 'run') == tmp_path / 'run.1'
    (tmp_path / 'run.1').mkdir()
    assert results.free(tmp_path / 'run') == tmp_path / 'run.2'


def test_a_run_that_is_stopped_leaves_no_record(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(results_runs, 'train', lambda options: SimpleNamespace(reason='stopped'))
    assert METHODS[0].perform(0, tmp_path) is None


@pytest.mark.timeout(300)
def test_a_run_trains_and_plays_in_every_simulator(tmp_path: Path):
    short = TaskRun(robot='cartpole', task='cartpole_balance', steps=600)
    found = short.perform(0, tmp_path / 'run')
    assert found.name == 'cartpole_balance_cartpole_sac_pybullet'
    assert found.steps == 600
    assert set(found.played) == set(installed_backends())
    assert all(played.success is not None for played in found.played.values())


def test_a_method_trains_with_its_changes_and_plays(tmp_path: Path):
    short = MethodRun(env='CartPole-v1', algorithm='ppo_cartpole', steps=256, expect=0.0,
                      changes={'learner.hidden': [8]})
    found = short.perform(0, tmp_path / 'run')
    assert found.steps == 256
    assert set(found.played) == {GYMNASIUM}
    assert short.scores([found])[0] >= 1.0
    assert short.perform(0, tmp_path / 'run').steps == 256  # goes on, and there is nothing to do
