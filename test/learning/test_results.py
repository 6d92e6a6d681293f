# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of results: what is on it, from which runs, and that a run can be made at all."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import results
from results_guard import Charged
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
import results_shown
from results_shown import Shown
from rl_nodes.core.config import load
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import TransitionBatch
import rl_nodes.envs  # noqa: F401 (registers its environments)
from rl_nodes.tasks import load_task
from rl_nodes.training import demonstrations
from rl_nodes.training.risk import risk_in
from rl_nodes.training.settings import load_settings

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


def method_record(run, seed, mean_return, cost=None):
    return Record(run.name, seed, 'new', 1000, 60.0, 'target',
                  {GYMNASIUM: Played(None, mean_return, cost)}, 'x86_64, 2 cores', '0.1.0')


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


def test_what_lacks_something_has_to_stay_below_and_a_cost_has_to_be_kept():
    plain = MethodRun(env='Pendulum-v1', algorithm='sac', expect=-200.0, in_vain=True)
    limited = MethodRun(env='Costly-v0', algorithm='ppo', expect=-300.0, cost='heat',
                        most_cost=60.0)
    free = MethodRun(env='Costly-v0', algorithm='sac', expect=-300.0, cost='heat')
    runs = Runs(tasks=(), methods=(plain, limited, free))

    def text(returned, cost):
        return page(runs, [method_record(plain, 0, returned),
                           method_record(limited, 0, -250.0, cost),
                           method_record(free, 0, -150.0, 90.0)],
                    dict.fromkeys((run.name for run in runs.methods), 'new'))

    good, bad = text(-900.0, 55.0), text(-150.0, 61.0)
    assert row(good, 'sac').endswith('| -900.0 | below -200 | yes | – |')
    assert row(bad, 'sac').endswith('| -150.0 | below -200 | **no** | – |')
    costly = good.split('### Costly-v0')[1]
    assert '| return | heat | expected |' in costly
    assert row(good, 'ppo').endswith('| -250.0 | 55.0 | -300, heat ≤ 60 | yes | – |')
    assert row(bad, 'ppo').endswith('| -250.0 | 61.0 | -300, heat ≤ 60 | **no** | – |')
    assert row(costly, 'sac').endswith('| -150.0 | 90.0 | -300 | yes | – |')
    assert not limited.met([method_record(limited, 0, -250.0)]), 'a cost that nobody has told'


def test_a_run_without_a_policy_counts_as_failed():
    failed = Record(TASKS[0].name, 1, 'new', 10, 1.0, 'time', {}, 'x', '0')
    assert successes([record(TASKS[0], 0, 1.0), failed], 'pybullet') == [1.0, 0.0]
    assert METHODS[0].scores([failed]) == [float('-inf')]


def test_lines_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / 'results.jsonl'
    assert read(path) == []
    rows = [record(TASKS[0], seed, None) for seed in (0, 1)]
    write(path, rows)
    assert b'cost' not in path.read_bytes()
    rows.append(method_record(METHODS[0], 0, 1.0, 2.0))
    write(path, rows)
    assert read(path) == rows
    assert successes(rows[:2], 'pybullet') == []


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


def test_what_is_shown_makes_another_configuration_and_pays_for_success_alone(
        tmp_path: Path, monkeypatch):
    shown = Shown('cartpole', 'cartpole_swingup', 7)
    told, plain = (MethodRun(env='CartPole-v1', algorithm='sac', expect=0.0, shown=given)
                   for given in (shown, None))
    assert told.configuration != plain.configuration
    assert told.settings == 'sac, 7 episodes shown'
    contract, said = load_task('cartpole', 'cartpole_swingup').contract, []
    seen, done = (np.zeros((3, *spec.shape), np.float32)
                  for spec in (contract.observation, contract.action))
    no, success, numbers = np.zeros(3, bool), np.array([False, True, True]), np.arange(3)

    def rl_nodes(*words):
        said.append(words)
        if words[0] == 'dataset':
            demonstrations.save(tmp_path / 'shown' / 'shown.npz', TransitionBatch(
                seen, done, done, np.full(3, 9.0, np.float32), seen, no, no, success, no, numbers,
                numbers, numbers), contract)

    monkeypatch.setattr(results_shown, 'rl_nodes', rl_nodes)
    for _ in range(2):
        file = shown.made(tmp_path / 'shown')
    assert [words[:2] for words in said] == [('launch', 'record'), ('dataset', 'export')]
    assert demonstrations.load(file, contract).reward.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_is_charged_makes_another_configuration_and_a_guard(tmp_path: Path):
    charged = Charged(60, 4.0)
    told, plain = (MethodRun(env='CartPole-v1', algorithm='sac', expect=0.0, charged=given)
                   for given in (charged, None))
    assert told.configuration != plain.configuration
    assert told.settings == 'sac, risk_coefficient: 4, its risk learned from 60 episodes'
    make = partial(gymnasium.make, 'rl_nodes/CartpoleBalance-v0')
    changes = charged.changes(tmp_path / 'charged', make)
    penalty = load_settings('sac', changes).penalty
    assert (penalty.guard, penalty.risk_coefficient) == (
        str(tmp_path / 'charged' / '60.guard.json'), 4.0)
    risk = risk_in(penalty.guard, load_task('cartpole', 'cartpole_balance').contract)
    upright, falling = risk(np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.3, 0.0, 2.0]]),
                            np.zeros((2, 1)))
    assert upright < 0.3 < falling
    assert charged.changes(tmp_path / 'charged', None) == changes  # made once


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
