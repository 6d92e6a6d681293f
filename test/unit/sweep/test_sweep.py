# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Sweeps with children that only pretend to learn: what is kept, skipped, failed and stopped."""

import os
import signal
import sys
import threading

import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import find_runs, hold
from rl_nodes.sweep.command import sweep, SweepOptions

# Learns nothing: its return is its argument x, and other arguments tell it how to end.
PRETENDER = """
import json, os, signal, sys, time
from pathlib import Path
from rl_nodes.core.errors import TrainingError
from rl_nodes.runs.record import RunKeeper, RunRecord
given = dict(word.split(':=') for word in sys.argv[1:])
folder = Path(given['run_dir'])
how = given.get('how', 'well')
with (folder / 'words').open('a') as file:
    file.write(' '.join(sys.argv[1:]) + '\\n')
if how == 'early':
    print('error: there is no such environment', file=sys.stderr)
    sys.exit(2)
if how == 'exits':
    print('step 64', flush=True)
    os._exit(7)
stopped = []
signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
with RunKeeper(folder, RunRecord(task=given['env'], robot='', algorithm='sac',
               seed=int(given['seed']), settings={'x': float(given['x'])})) as keeper:
    if how == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 'diverges':
        raise TrainingError('learning diverged')
    if how == 'waits' and 'resume' not in given:
        (folder / 'checkpoints').mkdir()
        (folder / 'checkpoints' / 'checkpoint_1.pt').touch()
        print('waiting', flush=True)
        while not stopped:
            time.sleep(0.01)
    worth, waits = float(given['x']), given.get('last') == 'waits'
    if waits:  # each worse than the one before
        worth = -float(folder.name[6:10])
    for step in range(1, 1 + int(given.get('evaluations', 0))):
        with (folder / 'metrics.jsonl').open('a') as file:
            file.write(json.dumps({'kind': 'evaluation', 'step': step, 'wall_s': 0.0,
                                   'return': step * worth}) + '\\n')
    while waits and worth <= -5 and not stopped:
        time.sleep(0.01)  # for somebody who knows that it is no good
    keeper.end('stopped' if stopped else 'steps',
               {'return': float(given['x']) + 0.1 * int(given['seed'])})
"""


def pretend(words):
    return [sys.executable, '-c', PRETENDER, *words]


@pytest.fixture
def run(tmp_path):
    said = []

    def start(options=None, **given):
        said.clear()
        asked = SweepOptions(**({'sweep_directory': str(tmp_path / 'sweep'), 'jobs': 2}
                                | (options or {})))
        return (*sweep(given, asked, lambda words: None, said.append, pretend),
                list(said))
    return start


def states(tmp_path):
    return {found.folder.name: (found.record.state, found.record.reason)
            for found in find_runs([tmp_path / 'sweep'])}


def test_grid_ends_in_a_table_with_the_best_first(run, tmp_path):
    text, status, said = run(env='a', x='1,5', seed='0,1')
    assert status == 0
    assert set(states(tmp_path)) == {'x=1_seed=0', 'x=1_seed=1', 'x=5_seed=0', 'x=5_seed=1'}
    lines = text.splitlines()
    assert lines[1].split()[0] == 'x' and lines[2].split()[:2] == ['5', '2']
    assert lines[3].startswith('1 ')
    assert 'next: rl_nodes runs plot' in text and '4 finished, 0 failed' in text
    assert said[0].startswith('4 runs, 2 at a time') and len(said) == 9

    # Again: nothing is repeated; with one more seed only that is done.
    assert len(run(env='a', x='1,5', seed='0,1')[2]) == 1
    assert len(run(env='a', x='1,5', seed='0,1,2')[2]) == 5
    assert len(run()[2]) == 1, 'the folder alone says what is to be done'


def test_what_fails_is_recorded_and_the_others_go_on(run, tmp_path):
    text, status, said = run(env='a', x='1', how='early,diverges,killed,well,exits')
    assert status == 1
    assert states(tmp_path) == {
        'how=early_seed=0': ('failed', 'there is no such environment'),
        'how=diverges_seed=0': ('failed', 'learning diverged'),
        'how=killed_seed=0': ('failed', 'killed by SIGKILL'),
        'how=exits_seed=0': ('failed', 'exit status 7, saying last: step 64'),
        'how=well_seed=0': ('finished', 'steps')}
    assert 'FAILED how=killed_seed=0: killed by SIGKILL' in text
    assert '1 finished, 4 failed' in text
    # Failed ones stay so unless asked for.
    same = {'env': 'a', 'x': '1', 'how': 'early,diverges,killed,well,exits'}
    assert len(run(**same)[2]) == 1
    assert len(run({'retry': True}, **same)[2]) == 9


@pytest.mark.parametrize('engine', ['processes', 'ray'])
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(run, tmp_path, engine):
    if engine == 'ray':
        pytest.importorskip('ray')
    waiting = tmp_path / 'sweep' / 'how=waits_seed=0' / 'output.log'

    def interrupt():
        while not (waiting.is_file() and 'waiting' in waiting.read_text()) \
                or states(tmp_path).get('how=well_seed=0', ('',))[0] != 'finished':
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    text, status, said = run({'engine': engine}, env='a', x='1', how='well,waits')
    thread.join()
    assert status == 130
    assert states(tmp_path) == {'how=well_seed=0': ('finished', 'steps'),
                                'how=waits_seed=0': ('interrupted', 'stopped')}
    assert text.endswith(f'next: rl_nodes sweep sweep_directory:={tmp_path / "sweep"}')

    text, status, said = run()
    assert (status, said[1]) == (0, 'begins: how=waits_seed=0')
    first, second = (waiting.parent / 'words').read_text().splitlines()
    assert second == first + ' resume:=true'


def test_runs_on_ray(run, tmp_path):
    ray = pytest.importorskip('ray')
    try:
        text, status, said = run({'engine': 'ray'}, env='a', x='1,5', how='well,killed')
    finally:
        ray.shutdown()
    assert status == 1 and '2 finished, 2 failed' in text
    assert states(tmp_path)['x=1_how=killed_seed=0'] == ('failed', 'killed by SIGKILL')


def test_ray_that_is_missing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ConfigError, match=r'pip install "rl_nodes\[ray\]"'):
        run({'engine': 'ray'}, env='a', x='1,5')


def test_wrong_arguments_are_found_before_anything_runs(tmp_path):
    def check(words):
        if words['x'] == '3':
            raise ConfigError('x = 3: too many')

    asked = SweepOptions(sweep_directory=str(tmp_path / 'sweep'))
    with pytest.raises(ConfigError, match='too many'):
        sweep({'env': 'a', 'x': '1,2,3'}, asked, check, print)
    with pytest.raises(ConfigError, match='needs env'):
        sweep({'x': '1,2,3'}, asked, check, print)
    assert not (tmp_path / 'sweep').exists()
    lock = hold(tmp_path / 'sweep')
    with pytest.raises(ConfigError, match='another process'):
        sweep({'env': 'a', 'x': '1,2'}, asked, check, print)
    os.close(lock)


def test_a_search_without_optuna_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(ConfigError, match=r'pip install "rl_nodes\[sweep\]"'):
        sweep({'env': 'a', 'x': '1..2'}, SweepOptions(sweep_directory=str(tmp_path)),
              lambda words: None, print)


def test_search_finds_the_better_end_and_goes_on(run, tmp_path):
    optuna = pytest.importorskip('optuna')
    text, status, _ = run({'trials': 6}, env='a', x='0.0..10.0', seed='0,1')
    assert status == 0 and '12 finished, 0 failed' in text
    study = optuna.load_study(study_name='sweep', storage=f'sqlite:///{tmp_path}/sweep/search.db')
    assert [trial.state.name for trial in study.trials] == ['COMPLETE'] * 6
    for trial in study.trials:
        assert trial.value == pytest.approx(trial.params['x'] + 0.05)

    text, status, said = run({'trials': 8}, env='a', x='0.0..10.0', seed='0,1')
    assert '16 finished' in text and len(said) == 9
    values = [trial.params['x'] for trial in optuna.load_study(
        study_name='sweep', storage=f'sqlite:///{tmp_path}/sweep/search.db').trials]
    assert len(set(values)) == 8


def test_search_takes_up_what_was_interrupted(tmp_path):
    optuna = pytest.importorskip('optuna')
    asked = SweepOptions(sweep_directory=str(tmp_path / 'sweep'), trials=1, jobs=1)
    plan = {'env': 'a', 'x': '0.0..10.0', 'how': 'waits'}
    said = []

    def say(line):
        said.append(line)
        if line.startswith('begins'):
            threading.Thread(target=interrupt).start()

    def interrupt():
        log = tmp_path / 'sweep' / 'trial_0000_seed=0' / 'output.log'
        while not (log.is_file() and 'waiting' in log.read_text()):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    assert sweep(plan, asked, lambda words: None, say, pretend)[1] == 130
    assert sweep({}, asked, lambda words: None, said.append, pretend)[1] == 0
    study = optuna.load_study(study_name='sweep', storage=f'sqlite:///{tmp_path}/sweep/search.db')
    assert [trial.state.name for trial in study.trials] == ['COMPLETE']


def test_search_records_failures(run, tmp_path):
    optuna = pytest.importorskip('optuna')
    text, status, _ = run({'trials': 2}, env='a', x='1..9', how='diverges')
    assert status == 1 and '0 finished, 2 failed' in text
    study = optuna.load_study(study_name='sweep', storage=f'sqlite:///{tmp_path}/sweep/search.db')
    assert [trial.state.name for trial in study.trials] == ['FAIL'] * 2


@pytest.mark.parametrize('prune', ['median', pytest.param('halving', marks=pytest.mark.slow)])
def test_bad_trials_are_pruned_and_a_search_repeats_bit_by_bit(run, tmp_path, prune):
    optuna = pytest.importorskip('optuna')
    found = []
    for name in ('first', 'second'):
        folder = tmp_path / name
        text, status, _ = run({'trials': 8, 'jobs': 1, 'prune': prune,
                               'sweep_directory': str(folder)},
                              env='a', x='0.0..10.0', seed='0,1', evaluations='5')
        assert status == 0
        study = optuna.load_study(study_name='sweep', storage=f'sqlite:///{folder}/search.db')
        found.append([(trial.params['x'], trial.state.name, trial.intermediate_values)
                      for trial in study.trials])
        pruned = [trial for trial in study.trials if trial.state.name == 'PRUNED']
        assert 0 < len(pruned) < 8
        done = [trial.params['x'] for trial in study.trials if trial.state.name == 'COMPLETE']
        assert min(trial.params['x'] for trial in pruned) < max(done)
        for trial in pruned:
            assert not (folder / f'trial_{trial.number:04d}_seed=1').exists(), 'it was no good'
    assert found[0] == found[1]


def test_a_run_that_is_no_good_is_interrupted_and_stays_so(run, tmp_path):
    pytest.importorskip('optuna')
    words = {'env': 'a', 'x': '0.0..10.0', 'evaluations': '3', 'last': 'waits'}
    options = {'trials': 7, 'jobs': 1, 'prune': 'median'}
    text, status, said = run(options, **words)
    assert status == 0
    assert '5 finished, 0 failed, 2 pruned' in text
    for number in (5, 6):
        assert states(tmp_path)[f'trial_{number:04d}_seed=0'] == ('interrupted', 'pruned')
        assert f'pruned: trial_{number:04d}_seed=0' in said
    assert len(run(options, **words)[2]) == 1, 'nothing is left to do'


def test_a_grid_is_not_pruned(run):
    with pytest.raises(ConfigError, match='prune:=median ends bad settings of a search'):
        run({'prune': 'median'}, env='a', x='1,2')
