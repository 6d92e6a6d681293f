# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line: what is refused, with which words and which exit status."""

from pathlib import Path
import subprocess
import sys
from typing import Annotated, Literal

import msgspec
import pytest
from rl_nodes import __version__, cli, doctor, words
from rl_nodes.core.config import convert
from rl_nodes.core.errors import BackendError, ConfigError, GraphError
from rl_nodes.graph_arguments import GRAPHS


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Stand-in for a record of options.

    :param name: text, also of digits.
    :param kind: one of two,
        said over two lines.
    """

    name: str = 'x'
    kind: Literal['a', 'b'] = 'a'
    steps: Annotated[int, msgspec.Meta(ge=1)] = 1
    rate: float = 1e-3
    flag: bool = False
    limit: float | None = None


def run(capsys, *words):
    status = cli.main(words)
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_a_command_the_commands_are_listed(capsys):
    status, out, err = run(capsys)
    assert (status, err) == (2, '')
    for name in ('launch', 'train', 'runs', 'sweep', 'doctor'):
        assert f'\n    {name} ' in out


@pytest.mark.parametrize('command', ['train', 'sweep'])
def test_the_old_name_of_the_run_directory_is_refused_with_the_new_one(capsys, command):
    status, _, err = run(capsys, command, 'env:=Pendulum-v1', 'run_directory:=x',
                        f'seed:={"0" if command == "train" else "0,1"}')
    assert status == 2
    assert "did you mean 'run_dir'" in err


# --- launch -----------------------------------------------------------------------------------

@pytest.mark.parametrize('flag', ['--help', '-h', '-s', '--show-args'])
def test_launch_help_documents_every_argument_of_every_graph(capsys, flag):
    status, out, _ = run(capsys, 'launch', flag)
    assert status == 0
    for arguments in GRAPHS.values():
        assert all(argument.description in out for argument in arguments)


def test_help_of_one_graph(capsys):
    status, out, _ = run(capsys, 'launch', 'deploy', '--help')
    assert status == 0
    assert 'Arguments of deploy' in out
    assert 'Arguments of train' not in out


@pytest.mark.parametrize(('words', 'message'), [
    (('launch',), 'launch which graph'),
    (('launch', 'tarin'), "did you mean 'train'"),
    (('launch', 'tarin', '--help'), "did you mean 'train'"),
    (('launch', 'train', 'tusk:=reach'), "did you mean 'task'"),
    (('launch', 'train', 'task:=raech'), "did you mean 'reach'"),
    (('launch', 'train', 'task=reach'), 'write task:=reach'),
    (('launch', 'train', 'reach'), 'name:=value'),
    (('launch', 'train', ':=reach'), 'name:=value'),
    (('launch', 'deploy'), 'needs the argument policy'),
    (('launch', 'deploy', 'policy:=none.onnx'), 'no such file'),
    (('train', 'algorithm:=bc'), 'dataset:=FOLDER'),
    (('train', 'dataset:=folder'), 'add algorithm:=bc'),
    (('safety', 'calibarte'), "did you mean 'calibrate'"),
    (('safety', 'calibrate'), 'with which episodes'),
    (('safety', 'calibrate', 'folder', 'rate:=0.1'), 'rate'),
    (('safety', 'calibrate', 'folder', 'false_alarms:=0.9'), 'false_alarms'),
    (('replay', 'ramp:=false'), 'replay which episode'),
    (('replay', 'one.mcap', 'two.mcap'), 'replay which episode'),
])
def test_refusals_are_one_paragraph_and_status_2(capsys, words, message):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, '')
    assert err.startswith('error: ')
    assert message in err
    assert len(err.splitlines()) == 1


def test_wrong_domain_is_refused(capsys, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    status, _, err = run(capsys, 'launch', 'train')
    assert status == 2
    assert "ROS_DOMAIN_ID is 'abc'" in err


def test_launch_runs_the_graph_and_returns_its_status(monkeypatch):
    from rl_nodes import runner

    graphs = []
    monkeypatch.setattr(runner, 'run_graph', lambda graph: graphs.append(graph) or 7)
    assert cli.main(['launch', 'train', 'seed:=1', 'seed:=3']) == 7
    assert graphs[0].arguments['seed'] == 3, 'the last one wins, as in ROS 2'


@pytest.mark.parametrize(('policy', 'updates', 'said'), [
    (Path('runs/a/policy.onnx'), 5, 'policy: runs/a/policy.onnx'),
    (None, 5, 'policy: none was good enough to export'),
    (None, 0, 'policy: none: the run ended before the first gradient step')])
def test_train_tells_what_is_left(capsys, monkeypatch, policy, updates, said):
    from rl_nodes.training import in_process
    from rl_nodes.training.experiment import TrainResult

    monkeypatch.setattr(in_process, 'train', lambda options: TrainResult(
        'steps', Path('runs/a'), policy, 60, updates, 1.0, None))
    status, out, _ = run(capsys, 'train', 'env:=Pendulum-v1')
    assert status == 0
    assert said in out.splitlines()


def test_arguments_with_a_dot_go_where_they_belong(monkeypatch):
    seen = []
    monkeypatch.setattr('rl_nodes.training.in_process.train', seen.append)
    assert cli.main(['train', 'env:=CartPole-v1', 'algorithm:=dqn', 'env.max_episode_steps:=20',
                     'env.name:=[a, 1.5]', 'learner.discount:=0.9', 'steps:=3']) == 0
    options, = seen
    assert options.env_arguments == {'max_episode_steps': 20, 'name': ['a', 1.5]}
    assert options.changes == {'learner.discount': '0.9'}


@pytest.mark.parametrize('command', ['launch', 'replay', 'sweep'])
def test_under_torchrun_only_processes_that_learn_are_started(capsys, monkeypatch, command):
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert cli.main([command, 'train']) == 2
    assert 'start graphs and sweeps without it' in capsys.readouterr().err


def test_ctrl_c_before_the_first_node(monkeypatch):
    from rl_nodes import runner

    def interrupted(graph):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, 'run_graph', interrupted)
    assert cli.main(['launch', 'train']) == 0


# --- the others -------------------------------------------------------------------------------

@pytest.mark.parametrize(('given', 'expected'), [
    ({}, Options()), ({'name': '123'}, Options(name='123')), ({'name': ''}, Options(name='')),
    ({'steps': '5'}, Options(steps=5)), ({'rate': '1e-4'}, Options(rate=1e-4)),
    ({'rate': '2'}, Options(rate=2.0)), ({'flag': 'true'}, Options(flag=True)),
    ({'limit': '0.5'}, Options(limit=0.5)), ({'limit': 'null'}, Options()),
    ({'kind': 'b'}, Options(kind='b'))])
def test_texts_become_the_types_of_the_record(given, expected):
    assert convert(words.coerce(given, Options), Options, 'test') == expected


@pytest.mark.parametrize(('given', 'message'), [
    ({'steps': 'many'}, "steps = 'many'"), ({'steps': '0'}, 'steps = 0: expected `int` >= 1'),
    ({'kind': 'c'}, 'kind'),
    ({'stpes': '5'}, "did you mean 'steps'"), ({'rate': 'nan'}, 'finite')])
def test_texts_that_do_not_fit_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        convert(words.coerce(given, Options), Options, 'test')


def test_help_of_a_record_shows_its_own_words():
    text = words.record_help(Options)
    assert "  kind  (default 'a')\n      one of two, said over two lines." in text
    assert '  limit  (default None)' in text
    assert '\n  a.b or c.d\n' in words.record_help(Options, kind='a.b or c.d')


def test_help_of_training_says_how_settings_are_changed(capsys):
    status, out, _ = run(capsys, 'train', '--help')
    assert status == 0 and '  learner.<key>, loop.<key>\n' in out
    assert 'NODEFAULT' not in out and '``' not in out


@pytest.mark.parametrize(('words', 'episodes', 'output'), [
    (['a/1.mcap'], ['a/1.mcap'], 'a/1.gif'),
    (['1.mcap', 'output:=x.gif'], ['1.mcap'], 'x.gif'),
    (['output:=x.gif', '1.mcap', 'b'], ['1.mcap', 'b/2.mcap', 'b/3.mcap'], 'x.gif')])
def test_render(monkeypatch, tmp_path, capsys, words, episodes, output):
    from rl_nodes.nodes import render

    (tmp_path / 'b').mkdir()
    for name in ('3.mcap', '2.mcap', 'notes.txt'):
        (tmp_path / 'b' / name).touch()
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(render, 'render_episodes', lambda *given: calls.append(given) or given[1])
    assert run(capsys, 'render', *words)[:2] == (0, f'{output}\n')
    assert calls == [([Path(episode) for episode in episodes], Path(output))]


@pytest.mark.parametrize(('words', 'message'), [
    (['output:=x.gif'], 'render which episodes?'),
    (['1.mcap', 'x.gif'], 'x.gif is no recorded episode; to write it say output:=x.gif'),
    (['1.mcap', 'output:=x.mp4'], 'output:=x.mp4: expected the name of a .gif file'),
    (['1.mcap', 'output:='], 'output:=: expected the name of a .gif file'),
    (['1.mcap', 'outptu:=x.gif'], "no argument 'outptu' (did you mean 'output'?)")])
def test_render_refuses(capsys, words, message):
    status, _, err = run(capsys, 'render', *words)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(('words', 'message'), [
    (('fit', 'a', 'b.yaml'), 'to write it say output:=b.yaml'),
    (('show', 'a', 'output:=b.yaml'), 'latency show writes nothing')])
def test_latency_refuses(capsys, words, message):
    status, _, err = run(capsys, 'latency', *words)
    assert status == 2
    assert message in err


def test_train_without_an_environment(capsys):
    status, _, err = run(capsys, 'train')
    assert status == 2
    assert 'env' in err


@pytest.mark.parametrize(('error', 'status'), [
    (ConfigError('x'), 2), (GraphError('x'), 2), (BackendError('x'), 1),
    (KeyboardInterrupt(), 130)])
def test_exit_status(monkeypatch, error, status):
    def fail(options):
        raise error

    monkeypatch.setattr(cli, '_doctor', fail)
    assert cli.main(['doctor']) == status


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(options):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, '_doctor', fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(['doctor'])


def test_doctor_finds_this_machine_ready(capsys):
    status, out, _ = run(capsys, 'doctor')
    assert status == 0, out
    assert 'ready to train' in out


@pytest.mark.parametrize(('why', 'line'), [
    ('', '  ok  priority'), ('Operation not permitted', 'note  priority')])
def test_doctor_says_whether_a_priority_may_be_had(capsys, monkeypatch, why, line):
    monkeypatch.setattr(doctor, 'why_refused', lambda _: why)
    monkeypatch.setattr(doctor, 'REQUIREMENTS', ())
    assert any(found.startswith(line) and why in found
               for found in run(capsys, 'doctor')[1].splitlines())


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor, 'REQUIREMENTS', (
        doctor.Requirement('no_such_module', 'none', ('deploy',), '1', 'this test'),
        doctor.Requirement('json', 'numpy', ('deploy',), '999', 'a version that is not out'),
        doctor.Requirement('not_needed_here', 'none', ('train',), '1', 'this test')))
    monkeypatch.setenv('ROS_SECURITY_ENABLE', 'True')
    status, out, _ = run(capsys, 'doctor', 'deploy')
    assert status == 1
    assert 'not ready to deploy: security, no_such_module, json' in out
    assert 'at least 999' in out


@pytest.mark.parametrize(('text', 'expected'), [
    ('2.13.0+cpu', (2, 13, 0)), ('1.31', (1, 31)), ('2.0.0rc1', (2, 0, 0))])
def test_versions_as_numbers(text, expected):
    assert doctor.numbers(text) == expected


# --- as a program -----------------------------------------------------------------------------

def program(*words):
    return subprocess.run([sys.executable, '-m', 'rl_nodes', *words], capture_output=True,
                          text=True, check=False)


def test_module_is_a_program():
    result = program('--version')
    assert (result.returncode, result.stdout.strip()) == (0, f'rl_nodes {__version__}')


@pytest.mark.parametrize('words', [(), ('lanuch',), ('render',), ('doctor', 'everything')])
def test_usage_errors_give_status_2(words):
    result = program(*words)
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr


def test_a_reader_that_goes_away_leaves_no_traceback():
    command = f'{sys.executable} -m rl_nodes launch --help | head -n 1'
    result = subprocess.run(['bash', '-c', command], capture_output=True, text=True, check=False)
    assert 'usage: rl_nodes launch' in result.stdout
    assert result.stderr == ''
