# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The command ``rl_nodes runs`` as a person types it."""

import numpy as np
from PIL import Image
import pytest
from rl_nodes.cli import main
from rl_nodes.runs.curves import aligned
from rl_nodes.runs.record import read_run
from rl_nodes.runs.tables import differing, groups_of

CURVE = [(100, -5.0, 0.1), (200, -2.0, 0.6), (300, -1.0, 0.9)]


@pytest.fixture
def runs(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        for rate, gain in ((0.001, 0), (0.01, 2)):
            curve = [(step, total + gain + seed / 10, min(1.0, success + gain / 10))
                     for step, total, success in CURVE]
            make_run(f'runs/{rate}_{seed}', curve, {'success_rate': curve[-1][2],
                                                    'return': curve[-1][1]}, seed=seed,
                     settings={'learner.learning_rate': rate, 'learner.discount': 0.9})
    return tmp_path


def test_list(runs, capsys, make_run):
    make_run('runs/bad', state='failed', reason='learning diverged', algorithm='td3', robot='')
    assert main(['runs', 'list']) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ['run', 'task', 'robot', 'algorithm', 'seed', 'steps', 'success',
                            'return', 'time', 'state']
    assert len(lines) == 9
    bad = next(line for line in lines if 'bad' in line).split()
    assert bad == ['runs/bad', 'reach', '–', 'td3', '0', '0', '–', '–', '0:00', 'failed',
                   '(learning', 'diverged)']
    good = next(line for line in lines if 'runs/0.01_3' in line).split()
    assert good == ['runs/0.01_3', 'reach', 'arm', 'sac', '3', '300', '100%', '1.30', '0:30',
                    'finished', '(steps)']


@pytest.mark.parametrize('columns, heads', [
    (200, 'run task robot algorithm seed steps success return time state'),
    (110, 'run task algorithm steps success return state'),
    (70, 'run task steps success return state')])
def test_a_list_fits_the_terminal(runs, capsys, make_run, monkeypatch, columns, heads):
    make_run('runs/with_a_name_that_takes_its_room', state='failed', reason='the disk is full')
    monkeypatch.setenv('COLUMNS', str(columns))
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    assert main(['runs', 'list']) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == heads.split()
    assert max(map(len, lines)) <= columns
    long = next(line for line in lines if 'room ' in line)
    assert long.startswith('runs/') and long.endswith('full)')


def test_compare_shows_what_differs_and_the_middle_over_seeds(runs, capsys):
    assert main(['runs', 'compare', 'runs']) == 0
    head, first, second, note = capsys.readouterr().out.splitlines()
    assert head.split() == ['learner.learning_rate', 'runs', 'success', 'return', 'steps',
                            'done', 'time']
    # Returns are -1, -0.9, -0.8, -0.7: the middle two.
    assert first.split()[:4] == ['0.001', '4', '90%', '[90%,']
    assert '-0.85 [' in first and '300' in first
    assert second.split()[0] == '0.01' and '95 %' in note


def test_methods_are_compared_without_the_settings_of_their_learners(make_run, tmp_path):
    def settings(**learner):
        return {f'learner.{name}': value for name, value in learner.items()} | {'steps': 5}

    made = [make_run('a', settings=settings(tau=1)), make_run('b', settings=settings(tau=2)),
            make_run('c', algorithm='ppo', settings=settings(tau=3, clip=4)),
            make_run('d', algorithm='td3', settings=settings(tau=1) | {'steps': 6})]
    groups = groups_of([read_run(folder) for folder in made])
    assert differing(groups) == ['algorithm', 'learner.tau', 'steps']
    assert differing(groups[1:]) == ['algorithm', 'steps']
    assert groups[0].name(['algorithm', 'learner.tau']) == 'algorithm sac, tau 1'


def test_plot(runs, capsys):
    assert main(['runs', 'plot', 'runs', 'output:=curves.png']) == 0
    assert capsys.readouterr().out == 'curves.png\n'
    with Image.open('curves.png') as picture:
        assert picture.size[0] > 600
        colours = {colour for _, colour in picture.convert('RGB').getcolors(1 << 20)}
    assert {(0x00, 0x72, 0xb2), (0xd5, 0x5e, 0x00)} <= colours  # a line for each group


def test_no_two_columns_of_a_comparison_have_one_name(make_run, tmp_path, capsys):
    for steps in (300, 600):
        make_run(f'runs/{steps}', CURVE, settings={'steps': steps})
    assert main(['runs', 'compare', str(tmp_path)]) == 0
    head, *_ = capsys.readouterr().out.splitlines()
    columns = [name for name in head.split('  ') if name]
    assert [name.strip() for name in columns] == ['steps', 'runs', 'success', 'return',
                                                  'steps done', 'time']


def test_a_long_legend_is_not_cut(make_run, tmp_path):
    for number in range(5):
        make_run(f'runs/{number}', CURVE, settings={
            f'learner.quite_a_long_name_{letter}': number / 3 for letter in 'abcdefgh'})
    path = tmp_path / 'curves.png'
    assert main(['runs', 'plot', str(tmp_path / 'runs'), f'output:={path}']) == 0
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert('L'))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()


@pytest.mark.parametrize('words, text', [
    (['lits'], "did you mean 'list'"),
    (['plot', 'metric:=nothing'], 'there are return, success_rate'),
    (['plot', 'output:=x.gif'], 'a .png file'),
    (['list', 'metric:=return'], 'takes no metric'),
    (['plot', 'against:=miles'], 'against'),
    (['list', 'elsewhere'], 'no folder elsewhere')])
def test_mistakes_are_named(runs, words, text, capsys):
    assert main(['runs', *words]) == 2
    assert text in capsys.readouterr().err


def test_curves_of_runs_that_end_at_different_steps():
    early = (np.array([0.0, 10.0]), np.array([0.0, 1.0]), True)    # at its target: 1 from then on
    late = (np.array([5.0, 20.0]), np.array([0.0, 1.5]), False)
    grid, values = aligned([early, late])
    assert (grid[0], grid[-1]) == (5.0, 20.0)
    np.testing.assert_allclose(values[:, 0], [0.5, 0.0])
    np.testing.assert_allclose(values[:, -1], [1.0, 1.5])
    grid, _ = aligned([(early[0], early[1], False), late])
    assert grid[-1] == 10.0
