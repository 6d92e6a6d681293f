# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a sweep tries: arguments of ``rl_nodes train``, some of them with several values.

``algorithm:=sac,td3`` is each of them, ``learner.discount:=0.9..0.999`` is searched between
two numbers (whole ones where both are), ``log:1e-5..1e-2`` on a logarithmic scale.
"""

from collections.abc import Mapping
import hashlib
import itertools
import json
from pathlib import Path
import re
from typing import Any

import msgspec
from rl_nodes.core.config import read_yaml
from rl_nodes.core.errors import ConfigError

_RANGE = re.compile(r'(log:)?([-+.\deE]+?)\.\.([-+.\deE]+)')
_OWN = ('run_dir', 'resume')  # of each run, and so the sweep's affair
_LONGEST_NAME = 120


class Range(msgspec.Struct, frozen=True):
    """
    Numbers that a search chooses from.

    :param low: least.
    :param high: greatest.
    :param log: on a logarithmic scale.
    """

    low: float | int
    high: float | int
    log: bool = False


class Plan(msgspec.Struct, frozen=True):
    """
    What is tried.

    :param fixed: arguments that every run has, name -> text.
    :param choices: arguments with several values, name -> texts.
    :param ranges: arguments with a range, name -> range; none of them in a grid.
    :param seeds: of the runs of each setting, as text.
    """

    fixed: dict[str, str]
    choices: dict[str, tuple[str, ...]]
    ranges: dict[str, Range]
    seeds: tuple[str, ...]

    def grid(self) -> list[dict[str, str]]:
        """Return each combination of the choices, seeds left out."""
        return [dict(zip(self.choices, values))
                for values in itertools.product(*self.choices.values())]

    def samples(self) -> list[dict[str, str]]:
        """Return arguments with every value and every end of a range in them at least once."""
        found = []
        several = {**self.choices, 'seed': self.seeds, **{
            name: (number_text(span.low), number_text(span.high))
            for name, span in self.ranges.items()}}
        for texts in itertools.zip_longest(*several.values()):
            found.append(self.fixed | {
                name: values[0] if text is None else text
                for (name, values), text in zip(several.items(), texts)})
        return found


def read_plan(given: Mapping[str, str], file: str = '') -> Plan:
    """
    Return the plan in arguments.

    :param given: name -> text; they come before those of the file.
    :param file: YAML with the same names; a list there is several values. Empty for none.
    :raises ConfigError: an argument that a sweep sets itself, or an empty or impossible range.
    """
    words: dict[str, str | list[str]] = {}
    if file:
        for name, value in read_yaml(Path(file).expanduser()).items():
            words[name] = [_yaml_text(member) for member in value] if isinstance(
                value, list) else _yaml_text(value)
    words |= given
    fixed, choices, ranges = {}, {}, {}
    seeds: tuple[str, ...] = ('0',)
    for name, value in words.items():
        if name in _OWN:
            raise ConfigError(f'a sweep sets {name} of every run itself; give '
                              'sweep_directory:=FOLDER, and the same command again to go on')
        values = _split(value) if isinstance(value, str) else value
        if not all(values) or not values:
            raise ConfigError(f'{name}:={value}: a value is empty; write {name}:=first,second')
        if len(set(values)) < len(values):
            raise ConfigError(f'{name}:={value}: a value occurs twice')
        span = _range(name, values[0]) if len(values) == 1 else None
        if name == 'seed':
            if span is not None:
                raise ConfigError(f'{name}:={value}: name the seeds one by one, as in seed:=0,1,2')
            seeds = tuple(values)
        elif span is not None:
            ranges[name] = span
        elif len(values) > 1:
            choices[name] = tuple(values)
        else:
            fixed[name] = values[0]
    if not choices and not ranges and len(seeds) == 1:
        raise ConfigError('a sweep of one run: give an argument several values, as in seed:=0,1,2 '
                          'or learner.discount:=0.9..0.999; "rl_nodes train" does a single run')
    return Plan(fixed, choices, ranges, seeds)


def require_same_plan(earlier: Plan, plan: Plan, folder: Path) -> None:
    """
    Check that a plan goes on with what a folder holds; more values of choices and seeds are fine.

    :raises ConfigError: lists what differs.
    """
    ours = plan.fixed | {f'range of {name}': str(span) for name, span in plan.ranges.items()}
    theirs = earlier.fixed | {
        f'range of {name}': str(span) for name, span in earlier.ranges.items()}
    changed = [f'{name} was {theirs.get(name, "not given")}, is {ours.get(name, "not given")}'
               for name in dict.fromkeys([*theirs, *ours])
               if theirs.get(name) != ours.get(name)]
    if plan.choices.keys() != earlier.choices.keys():
        changed.append(f'varied were {", ".join(earlier.choices) or "seeds only"}, are '
                       f'{", ".join(plan.choices) or "seeds only"}')
    elif plan.ranges and plan.choices != earlier.choices:
        changed.append('the choices of a search cannot change')
    if changed:
        raise ConfigError(f'{folder} holds another sweep: {"; ".join(changed)}. Give another '
                          'sweep_directory, or the same arguments to go on')


def run_name(settings: Mapping[str, str], seed: str) -> str:
    """Return the name of a run's folder: what is special about it."""
    last = [key.rpartition('.')[2] for key in settings]
    keys = last if len(set(last)) == len(last) else list(settings)
    exact = '_'.join([*(f'{key}={value}' for key, value in zip(keys, settings.values())),
                      f'seed={seed}'])
    name = re.sub(r'[^A-Za-z0-9_.=+-]+', '-', exact)[:_LONGEST_NAME]
    if name == exact:
        return name
    return f'{name}_{hashlib.sha256(exact.encode()).hexdigest()[:8]}'


def number_text(value: Any) -> str:
    """Return a searched value as an argument."""
    return repr(value) if isinstance(value, float) else str(value)


def _split(text: str) -> list[str]:
    """Return the parts between commas that are not inside brackets."""
    parts, depth = [''], 0
    for character in text:
        depth += (character in '[{') - (character in ']}')
        if character == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _range(name: str, text: str) -> Range | None:
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    log, ends = bool(found[1]), []
    for part in found.group(2, 3):
        try:
            ends.append(int(part) if re.fullmatch(r'[-+]?\d+', part) else float(part))
        except ValueError:
            raise ConfigError(f'{name}:={text}: {part!r} is no number') from None
    low, high = ends if all(isinstance(end, int) for end in ends) else map(float, ends)
    if not low < high or (log and low <= 0):
        raise ConfigError(f'{name}:={text}: expected low..high with low < high'
                          f'{", both above 0 for log:" if log else ""}')
    return Range(low, high, log)


def _yaml_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
