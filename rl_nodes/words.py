# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The words of a command line: ``name:=value``, files, and what a record's fields make of them."""

from collections.abc import Sequence
from pathlib import Path
import textwrap
import typing
from typing import Any

from rl_nodes.core.errors import ConfigError, GraphError


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


def files_and_output(command: str, words: Sequence[str],
                      suffixes: tuple[str, ...]) -> tuple[list[str], Path | None]:
    """
    Return (recorded episodes or folders of them, what ``output:=`` names) of a command line.

    :param suffixes: that the output may have; the first one is recommended.
    :raises ConfigError: another argument, another kind of output, or no episode.
    """
    from rl_nodes.core.config import suggestion

    files = [word for word in words if ':=' not in word]
    given = parse_assignments([word for word in words if ':=' in word])
    output = given.pop('output', None)
    for name in given:
        raise ConfigError(f'{command} has no argument {name!r}{suggestion(name, ["output"])}; '
                          f'it takes recorded episodes and output:=file{suffixes[0]}')
    for file in files:
        if file.endswith(suffixes):
            raise ConfigError(f'{file} is no recorded episode; to write it say output:={file}')
    if output is not None and not output.endswith(suffixes):
        raise ConfigError(f'output:={output}: expected the name of a {suffixes[0]} file')
    if not files:
        raise ConfigError(f'{command} which episodes? name .mcap files or folders of them')
    return files, None if output is None else Path(output)


def coerce(given: dict[str, str], struct: type) -> dict[str, Any]:
    """
    Return text values as the types that a record's fields have.

    What does not fit its field stays the number or the text that it is, so that the record's own
    check names it.
    """
    import msgspec

    hints = typing.get_type_hints(struct, include_extras=True)
    values: dict[str, Any] = {}
    for name, text in given.items():
        try:
            value = msgspec.convert(text, hints.get(name, str), strict=False)
            values[name] = msgspec.to_builtins(value)
        except msgspec.ValidationError:
            try:
                values[name] = msgspec.convert(text, int | float, strict=False)
            except msgspec.ValidationError:
                values[name] = text
    return values


def record_help(struct: type, **written: str) -> str:
    """
    Return the fields of a record with defaults and the words of its ``:param:`` lines.

    :param written: how arguments are written that do not have the name of their field.
    """
    import msgspec

    texts: dict[str, str] = {}
    for part in (struct.__doc__ or '').split(':param ')[1:]:
        name, _, text = part.partition(':')
        texts[name] = ' '.join(text.replace('``', '').split())
    lines = []
    for field in msgspec.structs.fields(struct):
        default = 'required' if field.required else f'default {field.default!r}'
        lines.append(f'  {written.get(field.name, f"{field.name}  ({default})")}')
        lines += textwrap.wrap(texts.get(field.name, ''), 93, initial_indent='      ',
                               subsequent_indent='      ')
    return '\n'.join(lines)
