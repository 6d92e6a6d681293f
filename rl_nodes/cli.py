# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The command ``rl_nodes``: launch a graph, train in one process, look after policies and recordings.

Arguments are written ``name:=value`` as for ``ros2 launch``. A wrong argument or configuration is
one paragraph on standard error and exit status 2; other errors of the user's world give 1.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import sys
from typing import Any

from rl_nodes import __version__
from rl_nodes.core.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    ContractError,
    GraphError,
    RlNodesError,
)
from rl_nodes.words import coerce, files_and_output, parse_assignments, record_help

_USAGE_ERROR = 2
# Found before anything has run.
_REFUSALS = (BundleError, CheckpointError, ConfigError, ContractError, GraphError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if 'run' not in options:
        parser.print_help()
        return _USAGE_ERROR
    try:
        _require_fit(options.run)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except RlNodesError as error:
        print(f'error: {error}', file=sys.stderr)
        return _USAGE_ERROR if isinstance(error, _REFUSALS) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in "rl_nodes launch --help | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _require_fit(run: Any) -> None:
    """Refuse what torchrun, which starts each command several times, would have done as often."""
    if run in (_launch, _replay, _sweep) and int(os.environ.get('WORLD_SIZE', '1')) > 1:
        raise ConfigError('torchrun starts processes that learn together, which is for "rl_nodes '
                          'train" on environments in process; start graphs and sweeps without it')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='rl_nodes', description='Robot learning as ROS 2 nodes.', allow_abbrev=False)
    parser.add_argument('--version', action='version', version=f'rl_nodes {__version__}')
    commands = parser.add_subparsers(metavar='command')

    for name, run, words, text in (  # those that show their arguments themselves
            ('launch', _launch, ('graph', 'arguments'),
             'run a graph of nodes, as ros2 launch does'),
            ('train', _train, ('arguments',), 'train on a Gymnasium environment in this process'),
            ('solve', _solve, ('arguments',), 'solve a small environment by a table of values'),
            ('runs', _runs, ('words',), 'list, compare and draw training runs'),
            ('sweep', _sweep, ('words',), 'train with many settings, several at a time'),
            ('dataset', _dataset, ('verb', 'words'),
             'look after recorded episodes, make data sets of them'),
            ('safety', _safety, ('verb', 'words'),
             'report what the safety monitor did; make guards for it of recorded episodes'),
            ('import', _import, ('words',), "make a policy of another trainer's ONNX file")):
        command = commands.add_parser(name, add_help=False, help=text)
        for word in words[:-1]:
            command.add_argument(word, nargs='?')
        command.add_argument(words[-1], nargs='*', metavar='name:=value')
        command.add_argument('-h', '--help', '-s', '--show-args', action='store_true', dest='show')
        command.set_defaults(run=run)

    render = commands.add_parser('render', help='make a moving picture of recorded episodes')
    render.add_argument('words', nargs='+', metavar='file',
                        help='recorded episodes (.mcap) or folders of them; output:=file.gif '
                             'names the picture, which is beside the first where left out')
    render.set_defaults(run=_render)

    latency = commands.add_parser(
        'latency', help='measure the way from a state to its command, recorded or live')
    latency.add_argument('words', nargs='+', metavar='[show|fit|live] file',
                         help='show (the default): print a table of recorded episodes (.mcap) or '
                              'folders of them; fit: write a channel file for channel:=... '
                              'besides, output:=file.yaml or channel.yaml; live: listen to a '
                              'running graph, seconds:=10 timeout_s:=5 namespace:=robot_1')
    latency.set_defaults(run=_latency)

    replay = commands.add_parser(
        'replay', help='repeat the commands of a recorded episode, through the safety monitor')
    replay.add_argument('words', nargs='+', metavar='episode.mcap name:=value',
                        help='a recorded episode, and arguments of "rl_nodes launch replay"')
    replay.set_defaults(run=_replay)

    inspect = commands.add_parser('inspect', help='show what a policy is, and run it')
    inspect.add_argument('policy', help='a .onnx file with its manifest beside it')
    inspect.set_defaults(run=_inspect)

    diff = commands.add_parser('diff', help='compare the contracts of two policies')
    diff.add_argument('words', nargs='+', metavar='policy.onnx',
                      help='two policies, or one and robot:=... task:=...; exit status 1 where '
                           'they differ')
    diff.set_defaults(run=_diff)

    robot = commands.add_parser('robot', help='make or check the configuration of a robot')
    robot.add_argument('what', choices=('init', 'check', 'lqr'),
                       help='init: write a .yaml file to edit for a .urdf; check: print the robot '
                            'as everything sees it and what is wrong; lqr: compute the gain of '
                            'its section controllers.lqr')
    robot.add_argument('robot', help='init: a .urdf file or pybullet_data:path; check and lqr: a '
                                     'name in config/robots, a .yaml or a .urdf file')
    robot.add_argument('arguments', nargs='*', metavar='name:=value',
                       help='init: output:=file.yaml, beside the URDF where left out; lqr: '
                            'backend:=mujoco, or the simulator that is installed')
    robot.set_defaults(run=_robot)

    doctor = commands.add_parser('doctor', help='check whether this machine is ready')
    doctor.add_argument('purpose', nargs='?', choices=('train', 'deploy'), default='train',
                        help='what the machine is for; deploy needs no torch')
    doctor.set_defaults(run=_doctor)
    return parser


def _launch(options: argparse.Namespace) -> int:
    from rl_nodes.graph_arguments import find_graph, GRAPHS, help_text

    if options.graph is None and not options.show:
        raise GraphError(f'launch which graph? available: {", ".join(GRAPHS)}; '
                         'try "rl_nodes launch train --help"')
    if options.show:
        chosen = list(GRAPHS) if options.graph is None else [options.graph]
        for name in chosen:
            find_graph(name)
        print('usage: rl_nodes launch <graph> [name:=value ...]\n')
        print('\n\n'.join(help_text(name) for name in chosen))
        return 0

    from rl_nodes.graph import build
    from rl_nodes.runner import run_graph

    try:
        return run_graph(build(options.graph, parse_assignments(options.arguments)))
    except KeyboardInterrupt:  # before the first node was started
        return 0


def _train(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import read_yaml
    from rl_nodes.core.resources import find_config
    from rl_nodes.training.cloning import CloneOptions
    from rl_nodes.training.in_process import train, TrainOptions
    from rl_nodes.training.success import SuccessOptions

    if options.show:
        print('usage: rl_nodes train [name:=value ...]\n')
        print(record_help(TrainOptions, changes='learner.<key>, loop.<key>',
                          env_arguments='env.<key>'))
        print('\nwith algorithm:=bc, of recorded demonstrations:\n')
        print(record_help(CloneOptions))
        print('\nwith algorithm:=success_classifier, of recorded examples:\n')
        print(record_help(SuccessOptions))
        return 0
    given = parse_assignments(options.arguments)
    of_recordings = {'bc': _clone, 'success_classifier': _train_success}
    method = read_yaml(find_config('train', given.get('algorithm', 'sac'))).get('algorithm')
    if method in of_recordings:
        if 'dataset' not in given:
            raise ConfigError(f'algorithm:={given["algorithm"]} learns from recorded episodes: '
                              'dataset:=FOLDER; "rl_nodes launch record" makes them')
        return of_recordings[method](given)
    if 'dataset' in given:
        raise ConfigError('dataset:=... is what some methods learn from; add '
                          + ' or '.join(f'algorithm:={name}' for name in of_recordings))
    if (result := train(_train_options(given))) is None:  # the first process of several tells
        return 0
    print(f'ended ({result.reason}) after {result.steps} steps in {result.elapsed_s:.0f} s')
    none = 'none was good enough to export' if result.updates else (
        'none: the run ended before the first gradient step')
    print(f'policy: {result.policy or none}')
    print(f'files:  {result.run_dir}')
    return 0


def _train_options(given: dict[str, str]) -> Any:
    """Return the TrainOptions in arguments; those with a dot are settings of something."""
    from rl_nodes.core.config import convert, parse_yaml
    from rl_nodes.training.in_process import TrainOptions
    from rl_nodes.training.settings import load_settings

    of_env = {name.removeprefix('env.'): parse_yaml(f'value: {text}', f'{name}:={text}')['value']
              for name, text in given.items() if name.startswith('env.')}
    changes = {name: text for name, text in given.items()
               if '.' in name and not name.startswith('env.')}
    plain = {name: text for name, text in given.items() if '.' not in name}
    options = convert({'changes': changes, 'env_arguments': of_env, **coerce(plain, TrainOptions)},
                      TrainOptions, 'rl_nodes train')
    load_settings(options.algorithm, options.changes)
    return options


def _clone(given: dict[str, str]) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.data.reader import episode_files
    from rl_nodes.nodes.recorded_transitions import read_transitions
    from rl_nodes.training.cloning import clone, CloneOptions

    options = convert(coerce(given, CloneOptions), CloneOptions, 'rl_nodes train')
    files = episode_files([Path(options.dataset).expanduser()])
    result = clone(options, *read_transitions(files), files)
    print(f'policy: {result.policy}')
    print(f'files:  {result.run_dir}')
    print(f'next:   rl_nodes launch deploy policy:={result.policy}')
    return 0


def _train_success(given: dict[str, str]) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.nodes.recorded_states import read_examples
    from rl_nodes.training.success import describe, SuccessOptions, train_success

    options = convert(coerce(given, SuccessOptions), SuccessOptions, 'rl_nodes train')
    signals = tuple(filter(None, options.signals.split(',')))
    episodes, view, task, files = read_examples([options.dataset], signals)
    negatives: list = []
    if options.negatives:
        negatives, _, _, more = read_examples([options.negatives], signals, task)
        files = [*files, *more]
    result = train_success(options, episodes, negatives, view.contract, files)
    print(describe(result.figures))
    print(f'classifier: {result.classifier}')
    print(f'files:      {result.run_dir}')
    return 0


def _solve(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.training.tabular import solve, SolveOptions

    if options.show:
        print('usage: rl_nodes solve [name:=value ...]\n')
        print(record_help(SolveOptions))
        return 0
    given = parse_assignments(options.arguments)
    print(solve(convert(coerce(given, SolveOptions), SolveOptions, 'rl_nodes solve'))[1])
    return 0


def _runs(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.runs.commands import help_text, run, RunsOptions

    if options.show or not options.words:
        print(f'usage: rl_nodes runs <verb> [folder ...] [name:=value ...]\n\n{help_text()}\n\n'
              f'{record_help(RunsOptions)}')
        return 0 if options.show else _USAGE_ERROR
    verb, *folders = [word for word in options.words if ':=' not in word] or ['']
    given = parse_assignments([word for word in options.words if ':=' in word])
    print(run(verb, folders, convert(coerce(given, RunsOptions), RunsOptions, 'rl_nodes runs'),
              list(given)))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import convert, field_names
    from rl_nodes.sweep.command import HELP, sweep, SweepOptions

    if options.show:
        print(f'{HELP}\n\n{record_help(SweepOptions)}')
        return 0
    given = parse_assignments(options.words)
    own = {name: given.pop(name) for name in field_names(SweepOptions) if name in given}
    text, status = sweep(given, convert(coerce(own, SweepOptions), SweepOptions,
                                        'rl_nodes sweep'), _train_options,
                         lambda line: print(line, file=sys.stderr, flush=True))
    print(text)
    return status


def _render(options: argparse.Namespace) -> int:
    from rl_nodes.data.reader import episode_files
    from rl_nodes.nodes.render import render_episodes

    inputs, output = files_and_output('render', options.words, ('.gif',))
    episodes = episode_files(inputs)
    print(render_episodes(episodes, output or episodes[0].with_suffix('.gif')))
    return 0


def _dataset(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.datasets.commands import DatasetOptions, help_text, run

    if options.show or options.verb is None:
        print(f'usage: rl_nodes dataset <verb> file ... [name:=value ...]\n\n{help_text()}\n\n'
              f'{record_help(DatasetOptions)}')
        return 0 if options.show else _USAGE_ERROR
    given = parse_assignments([word for word in options.words if ':=' in word])
    text, status = run(
        options.verb, [word for word in options.words if ':=' not in word],
        convert(coerce(given, DatasetOptions), DatasetOptions, 'rl_nodes dataset'), list(given))
    print(text)
    return status


def _safety(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import suggestion

    verbs = {'report': _safety_report, 'calibrate': _safety_calibrate}
    if options.verb is not None and options.verb not in verbs:
        raise ConfigError(f'safety {options.verb!r}{suggestion(options.verb, verbs)}; expected '
                          f'{", ".join(verbs)}')
    if options.show or options.verb is None:
        from rl_nodes.training.guarding import CalibrateOptions

        print('usage: rl_nodes safety report file ... [output:=picture.png]\n'
              '  of a run, a folder of its safety_events, or files of events or episodes\n\n'
              'usage: rl_nodes safety calibrate file ... [name:=value ...]\n')
        print(record_help(CalibrateOptions))
        return 0 if options.show else _USAGE_ERROR
    verbs[options.verb](options.words)
    return 0


def _safety_report(words: list[str]) -> None:
    from rl_nodes.datasets.interventions import describe, make_report
    from rl_nodes.datasets.interventions_figure import write_figure

    inputs, named = files_and_output('safety report', words, ('.png',))
    report = make_report(inputs)
    first = Path(inputs[0])
    output = named or (first if first.is_dir() else first.parent) / 'safety_report.png'
    print(f'{describe(report)}\n\npicture: {write_figure(report, output)}')


def _safety_calibrate(words: list[str]) -> None:
    from rl_nodes.core.config import convert
    from rl_nodes.nodes.recorded_transitions import read_episodes
    from rl_nodes.training.guarding import calibrate, CalibrateOptions

    files = [word for word in words if ':=' not in word]
    if not files:
        raise ConfigError('safety calibrate with which episodes? name .mcap files or folders')
    given = parse_assignments([word for word in words if ':=' in word])
    asked = convert(coerce(given, CalibrateOptions), CalibrateOptions, 'rl_nodes safety calibrate')
    path, text = calibrate(asked, *read_episodes(files))
    print(f'{text}\nguard: {path}\nnext:  rl_nodes launch deploy policy:=... guard:={path}')


def _latency(options: argparse.Namespace) -> int:
    what, words = 'show', list(options.words)
    if words[0] in ('show', 'fit', 'live'):
        what = words.pop(0)
    if what == 'live':
        return _latency_live(words)
    from rl_nodes.data.latency import describe, measure, to_yaml

    inputs, named = files_and_output(f'latency {what}', words, ('.yaml', '.yml'))
    if named is not None and what == 'show':
        raise ConfigError(f'latency show writes nothing; output:={named} belongs to fit')
    output = named or Path('channel.yaml')
    measured = measure(inputs)
    print(describe(measured))
    if what == 'fit':
        if output.exists():
            raise ConfigError(f'{output} exists; name another file or move that one aside')
        try:
            output.write_text(to_yaml(measured, inputs), encoding='utf-8')
        except OSError as error:
            raise ConfigError(f'{output} cannot be written: {error.strerror}') from None
        print(f'use it with: stepping:=realtime channel:={output}')
    return 0


def _latency_live(words: Sequence[str]) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.data.latency import describe, ListenOptions
    from rl_nodes.nodes.latency_listener import listen

    asked = convert(coerce(parse_assignments(words), ListenOptions), ListenOptions,
                    'rl_nodes latency live')
    print(describe(listen(asked)))
    return 0


def _replay(options: argparse.Namespace) -> int:
    from rl_nodes.graph import build
    from rl_nodes.runner import run_graph

    files = [word for word in options.words if ':=' not in word]
    given = parse_assignments([word for word in options.words if ':=' in word])
    if len(files) + ('episode' in given) != 1:
        raise ConfigError(f'replay which episode? got {", ".join(files) or "none"}; name one '
                          '.mcap file')
    return run_graph(build('replay', given | dict.fromkeys(['episode'][:len(files)], ''.join(
        files))))


def _import(options: argparse.Namespace) -> int:
    from rl_nodes.core.config import convert
    from rl_nodes.policies.importing import import_policy, ImportOptions

    if options.show:
        print('usage: rl_nodes import model.onnx [name:=value ...]\n')
        print(record_help(ImportOptions))
        return 0
    files = [word for word in options.words if ':=' not in word]
    given = parse_assignments([word for word in options.words if ':=' in word])
    if len(files) != 1:
        raise ConfigError(f'import which file? got {", ".join(files) or "none"}; write "rl_nodes '
                          'import model.onnx robot:=arm task:=reach"')
    print(import_policy(Path(files[0]), convert(
        coerce(given, ImportOptions), ImportOptions, 'rl_nodes import'))[1])
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from rl_nodes.policies.describing import inspect_policy

    report, accepted = inspect_policy(Path(options.policy))
    print(report)
    return 0 if accepted else 1


def _diff(options: argparse.Namespace) -> int:
    from rl_nodes.policies.describing import differing_memories, read_manifest
    from rl_nodes.tasks import load_task

    policies = {word: read_manifest(Path(word)) for word in options.words if ':=' not in word}
    sides = {word: manifest.contract for word, manifest in policies.items()}
    given = parse_assignments([word for word in options.words if ':=' in word])
    if set(given) == {'robot', 'task'}:
        name = f'robot {given["robot"]} doing {given["task"]}'
        sides[name] = load_task(given['robot'], given['task']).contract
    elif given:
        raise ConfigError(f'diff takes robot:=... and task:=... together, got '
                          f'{", ".join(given)}; or give two policies')
    if len(sides) != 2:
        raise ConfigError(f'diff compares two, got {", ".join(sides) or "none"}; give two '
                          'policies, or one and robot:=... task:=...')
    (ours, first), (theirs, second) = sides.items()
    differences = first.explain(second, ours, theirs) + differing_memories(policies)
    print('\n'.join(differences) or f'{ours} and {theirs} have the same contract')
    return 1 if differences else 0


def _robot(options: argparse.Namespace) -> int:
    from rl_nodes.backends import installed_backends
    from rl_nodes.robot_setup.check import check, init

    given = parse_assignments(options.arguments)
    takes = {'init': 'output', 'lqr': 'backend'}.get(options.what)
    for name in given:
        if name != takes:
            raise ConfigError(f'robot {options.what} takes no {name}:=...; only init takes '
                              'output:=file.yaml and lqr backend:=...')
    if options.what == 'lqr':
        from rl_nodes.robot_setup.lqr import lqr
        print(lqr(options.robot, given.get('backend', (*installed_backends(), 'mujoco')[0])))
        return 0
    output = given.get('output', '')
    report, usable = init(options.robot, output) if options.what == 'init' else check(
        options.robot)
    print(report)
    return 0 if usable else 1


def _doctor(options: argparse.Namespace) -> int:
    from rl_nodes.doctor import examine

    return examine(options.purpose)
