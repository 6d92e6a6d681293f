# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The command ``rl_nodes``: launch a graph, train in one process, render episodes, check a machine.

Arguments are written ``name:=value`` as for ``ros2 launch``. A wrong argument or configuration is
one paragraph on standard error and exit status 2; other errors of the user's world give 1.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import sys
import textwrap
import typing
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

_USAGE_ERROR = 2
# Found before anything has run.
_REFUSALS = (BundleError, CheckpointError, ConfigError, ContractError, GraphError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
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


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """
    Return ``name:=value`` words as a mapping; the last one of a name wins, as in ROS 2.

    :raises GraphError: a word of another form.
    """
    found = {}
    for word in words:
        name, assigned, value = word.partition(':=')
        if not assigned or not name:
            hint = word.lstrip('-').replace('=', ':=', 1) if '=' in word else 'name:=value'
            raise GraphError(f'argument {word!r} is not of the form name:=value; write {hint}')
        found[name] = value
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='rl_nodes', description='Robot learning as ROS 2 nodes.', allow_abbrev=False)
    parser.add_argument('--version', action='version', version=f'rl_nodes {__version__}')
    commands = parser.add_subparsers(metavar='command', required=True)

    launch = commands.add_parser(
        'launch', add_help=False, help='run a graph of nodes, as ros2 launch does')
    launch.add_argument('graph', nargs='?', help='train, deploy or gym')
    launch.add_argument('arguments', nargs='*', metavar='name:=value')
    launch.add_argument('-h', '--help', '-s', '--show-args', action='store_true', dest='show',
                        help='show the documented arguments')
    launch.set_defaults(run=_launch)

    train = commands.add_parser(
        'train', add_help=False, help='train on a Gymnasium environment in this process')
    train.add_argument('arguments', nargs='*', metavar='name:=value')
    train.add_argument('-h', '--help', '-s', '--show-args', action='store_true', dest='show',
                       help='show the documented arguments')
    train.set_defaults(run=_train)

    render = commands.add_parser('render', help='make a moving picture of recorded episodes')
    render.add_argument('files', type=Path, nargs='+', metavar='file',
                        help='recorded episodes (.mcap), and last the .gif to write; beside the '
                             'first episode where left out')
    render.set_defaults(run=_render)

    latency = commands.add_parser('latency', help='measure the link of recorded episodes')
    latency.add_argument('what', choices=('fit', 'show'),
                         help='fit: write a channel file for channel:=...; show: print a table')
    latency.add_argument('files', nargs='+', metavar='file',
                         help='recorded episodes (.mcap) or folders of them; for fit last the '
                              '.yaml to write, channel.yaml where left out')
    latency.set_defaults(run=_latency)

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
    from rl_nodes.core.config import convert
    from rl_nodes.training.in_process import train, TrainOptions

    if options.show:
        print('usage: rl_nodes train [name:=value ...]\n')
        print(_record_help(TrainOptions))
        return 0
    given = parse_assignments(options.arguments)
    result = train(convert(coerce(given, TrainOptions), TrainOptions, 'rl_nodes train'))
    print(f'ended ({result.reason}) after {result.steps} steps in {result.elapsed_s:.0f} s')
    print(f'policy: {result.policy or "none was good enough to export"}')
    print(f'files:  {result.run_directory}')
    return 0


def _render(options: argparse.Namespace) -> int:
    *episodes, last = options.files
    output = last
    if last.suffix != '.gif':
        episodes, output = options.files, options.files[0].with_suffix('.gif')
    if not episodes:
        raise ConfigError(f'render which episode into {last}? name a .mcap file before it')

    from rl_nodes.nodes.render import render_episodes

    print(render_episodes(episodes, output))
    return 0


def _latency(options: argparse.Namespace) -> int:
    from rl_nodes.data.latency import describe, measure, to_yaml

    inputs, output = list(options.files), Path('channel.yaml')
    if inputs[-1].endswith(('.yaml', '.yml')):
        output = Path(inputs.pop())
        if options.what == 'show':
            raise ConfigError(f'latency show writes nothing; {output} is no recorded episode')
    if not inputs:
        raise ConfigError(f'fit {output} to which episodes? name .mcap files or folders before it')
    measured = measure(inputs)
    print(describe(measured))
    if options.what == 'fit':
        if output.exists():
            raise ConfigError(f'{output} exists; name another file or move that one aside')
        try:
            output.write_text(to_yaml(measured, inputs), encoding='utf-8')
        except OSError as error:
            raise ConfigError(f'{output} cannot be written: {error.strerror}') from None
        print(f'use it with: stepping:=realtime channel:={output}')
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rl_nodes.doctor import examine

    return examine(options.purpose)


def coerce(given: dict[str, str], struct: type) -> dict[str, Any]:
    """
    Return text values as the types that a record's fields have.

    A text that does not fit its field stays text, so that the record's own check names it.
    """
    import msgspec

    hints = typing.get_type_hints(struct, include_extras=True)
    values: dict[str, Any] = {}
    for name, text in given.items():
        try:
            value = msgspec.convert(text, hints.get(name, str), strict=False)
            values[name] = msgspec.to_builtins(value)
        except msgspec.ValidationError:
            values[name] = text
    return values


def _record_help(struct: type) -> str:
    """Return the fields of a record with defaults and the words of its ``:param:`` lines."""
    import msgspec

    texts: dict[str, str] = {}
    for part in (struct.__doc__ or '').split(':param ')[1:]:
        name, _, text = part.partition(':')
        texts[name] = ' '.join(text.split())
    lines = []
    for field in msgspec.structs.fields(struct):
        default = 'required' if field.required else f'default {field.default!r}'
        lines.append(f'  {field.name}  ({default})')
        lines += textwrap.wrap(texts.get(field.name, ''), 93, initial_indent='      ',
                               subsequent_indent='      ')
    return '\n'.join(lines)
