# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself, also when it is killed."""

import subprocess
import sys

import pytest
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.runs.record import find_runs, read_rows, read_run, RunKeeper, RunRecord

RECORD = RunRecord(task='reach', robot='arm', algorithm='sac', seed=3, settings={'steps': 10})


def test_a_run_goes_on_and_ends(tmp_path):
    with RunKeeper(tmp_path, RECORD) as keeper:
        run = read_run(tmp_path)
        assert run.record.state == 'running' and run.record.settings == {'steps': 10}
        with pytest.raises(ConfigError, match='another process is training'):
            RunKeeper(tmp_path, RECORD)
        keeper.end('target', {'return': 2.0})
    run = read_run(tmp_path)
    assert (run.record.state, run.record.reason, run.result('return')) == (
        'finished', 'target', 2.0)
    assert (run.steps, run.elapsed_s, run.result('success_rate')) == (0, 0.0, None)


@pytest.mark.parametrize('error, state, reason', [
    (TrainingError('diverged'), 'failed', 'diverged'),
    (ValueError(), 'failed', 'ValueError'),
    (KeyboardInterrupt(), 'interrupted', 'stopped')])
def test_what_escapes_is_written_down(tmp_path, error, state, reason):
    with pytest.raises(type(error)):
        with RunKeeper(tmp_path, RECORD):
            raise error
    record = read_run(tmp_path).record
    assert (record.state, record.reason) == (state, reason)


def test_damaged_rows_are_left_out(tmp_path, caplog):
    path = tmp_path / 'metrics.jsonl'
    row = b'{"kind": "train", "step": 10, "wall_s": 0.5}\n'
    path.write_bytes(row + b'\xff\0\n[1, 2]\n"x"\n{"kind": "train", "step": "10"}\n' + row
                     + b'{"kind": "tr')
    assert read_rows(path) == 2 * [{'kind': 'train', 'step': 10, 'wall_s': 0.5}]
    assert 'dropped 5 unfinished or damaged lines' in caplog.text
    assert read_rows(tmp_path / 'none.jsonl') == []


def test_asked_to_stop_is_interrupted(tmp_path):
    with RunKeeper(tmp_path, RECORD) as keeper:
        keeper.end('stopped', None)
    assert read_run(tmp_path).record.state == 'interrupted'


def test_a_killed_run_does_not_go_on(tmp_path):
    script = ('import os, sys; from pathlib import Path\n'
              'from rl_nodes.runs.record import *\n'
              'RunKeeper(Path(sys.argv[1]), RunRecord(task="", robot="", algorithm="", seed=0))\n'
              'print("begun", flush=True); sys.stdin.read()')
    child = subprocess.Popen([sys.executable, '-c', script, tmp_path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'begun\n'
    assert read_run(tmp_path).record.state == 'running'
    child.kill()
    child.communicate()
    record = read_run(tmp_path).record
    assert (record.state, record.reason) == ('interrupted', 'killed')


def test_runs_are_found_in_the_order_of_their_beginnings(make_run, tmp_path, caplog):
    second = make_run('b/second', started='2026-01-02')
    first = make_run('a/first', started='2026-01-01')
    broken = make_run('broken')
    (broken / 'run.json').write_text('{')
    assert [run.folder for run in find_runs([tmp_path, tmp_path / 'b'])] == [first, second]
    assert 'broken' in caplog.text
    with pytest.raises(ConfigError, match='no run in'):
        find_runs([broken])
    with pytest.raises(ConfigError, match='no folder'):
        find_runs([tmp_path / 'none'])


def test_the_best_evaluation_stands_in_for_the_closing_one(make_run):
    folder = make_run('run', [(10, 1.0, 0.5), (20, 0.0, 0.9), (30, 5.0, 0.1)])
    assert read_run(folder).result('success_rate') == 0.9
    assert read_run(folder).steps == 30
    closed = make_run('closed', [(10, 1.0, 0.5)], evaluation={'success_rate': 0.4})
    assert read_run(closed).result('success_rate') == 0.4
