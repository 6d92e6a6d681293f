# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``rl_nodes runs ...`` does: each verb returns a text for people."""

from collections.abc import Callable, Sequence
from pathlib import Path
import shutil
import sys
from typing import Literal, NamedTuple

import msgspec
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import find_runs, Run
from rl_nodes.runs.tables import compare_groups, groups_of, list_runs


class RunsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Arguments of ``rl_nodes runs``.

    :param metric: plot: column of the evaluations that is drawn, as in final_distance; empty for
        the success rate, or the return where a task has none
    :param against: plot: steps or time
    :param output: plot: the .png file
    """

    metric: str = ''
    against: Literal['steps', 'time'] = 'steps'
    output: str = 'runs.png'


class Verb(NamedTuple):
    """
    One verb.

    :param run: does it.
    :param takes: options that mean something to it.
    :param help: one line.
    """

    run: Callable[[list[Run], RunsOptions], str]
    takes: tuple[str, ...]
    help: str


def run(verb: str, folders: Sequence[str], options: RunsOptions, given: Sequence[str]) -> str:
    """
    Do what a command line says.

    :param folders: that hold runs; ``runs`` where there are none.
    :param given: names of the options that were written.
    :raises ConfigError: an unknown verb, an option that means nothing to it, or no run.
    """
    if verb not in VERBS:
        raise ConfigError(f'runs {verb!r}{suggestion(verb, VERBS)}; expected one of '
                          f'{", ".join(VERBS)}')
    takes = VERBS[verb].takes
    for name in given:
        if name not in takes:
            raise ConfigError(f'runs {verb} takes no {name}:=...{suggestion(name, takes)}; it '
                              f'takes {", ".join(takes) or "folders only"}')
    return VERBS[verb].run(
        find_runs([Path(folder).expanduser() for folder in folders or ['runs']]), options)


def help_text() -> str:
    """Return the verbs, a line each, and where runs are looked for."""
    return '\n'.join([*(f'  {name:8} {verb.help}' for name, verb in VERBS.items()), '',
                      'Runs are looked for in folders and below, in runs/ where none is named.'])


def _list(runs: list[Run], options: RunsOptions) -> str:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return list_runs(runs, Path(), width)


def _compare(runs: list[Run], options: RunsOptions) -> str:
    return compare_groups(groups_of(runs))


def _plot(runs: list[Run], options: RunsOptions) -> str:
    from rl_nodes.runs.curves import draw

    if not options.output.endswith('.png'):
        raise ConfigError(f'output:={options.output}: expected the name of a .png file')
    return str(draw(runs, Path(options.output).expanduser(), options.metric, options.against))


VERBS = {
    'list': Verb(_list, (), 'a line per run: what, how far, how good, and how it ended'),
    'compare': Verb(_compare, (), 'the settings that differ, and the results over seeds'),
    'plot': Verb(_plot, ('metric', 'against', 'output'), 'learning curves in one picture'),
}
