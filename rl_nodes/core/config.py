# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
YAML to frozen typed records, strictly.

One loader serves the three families of configuration (robots, tasks, train). An unknown key, a
wrong type or a value out of range is a :class:`ConfigError` that names the file, the key, what
came and what is allowed.
"""

import difflib
import math
from pathlib import Path
import re
import typing
from typing import Any, TypeVar

import msgspec
from rl_nodes.core.errors import ConfigError
import yaml

MAX_BYTES = 1 << 20  # no configuration of ours is near 1 MiB; a larger file is a mistake

T = TypeVar('T')


class _Loader(yaml.SafeLoader):
    """Safe loader that reads 1e-3 as a number and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f'key {key!r} is not text', key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'key {key!r} occurs twice', key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 as PyYAML has it takes 1e-3 for text; ROS parameter files take it for a number.
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$'), list('-+.0123456789'))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """
    Return the mapping that a YAML text holds.

    :param text: YAML with one mapping at its top; an empty text is an empty mapping.
    :param source: name used in error messages.
    :raises ConfigError: malformed YAML, duplicate keys, aliases, or no mapping at the top.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise ConfigError(f'{source}: YAML aliases (*name) are not accepted; write it out')
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f'{source}: not valid YAML: {_one_line(error)}') from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f'{source}: expected "key: value" lines at the top, got {type(data).__name__}')
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """
    Return the mapping that a YAML file holds.

    :raises ConfigError: unreadable, larger than 1 MiB, or as :func:`parse_yaml`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f'{path}: {path.stat().st_size} bytes; at most {MAX_BYTES} allowed')
        return parse_yaml(path.read_text(encoding='utf-8'), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: cannot be read: {error}') from None


def convert(data: Any, struct: type[T], source: str) -> T:
    """
    Return ``data`` as a record of type ``struct``.

    :param data: builtin types as a YAML loader makes them; numbers must be finite.
    :param struct: a frozen msgspec Struct declared with ``forbid_unknown_fields=True``.
    :param source: name used in error messages, usually the file's path.
    :raises ConfigError: names the source, the key, what came and what is allowed.
    """
    _refuse_non_finite(data, source, '')
    try:
        return msgspec.convert(data, struct)
    except msgspec.ValidationError as error:
        raise ConfigError(f'{source}: {_explain(str(error), data, struct)}') from None


def load(path: Path, struct: type[T]) -> T:
    """Return the record in a YAML file; errors as :func:`read_yaml` and :func:`convert`."""
    return convert(read_yaml(path), struct, str(path))


def field_names(struct: type) -> list[str]:
    """Return the keys that a record accepts, in order of declaration."""
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """Return ``' (did you mean X?)'`` where a known name is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean {close[0]!r}?)' if close else ''


def _refuse_non_finite(data: Any, source: str, key: str) -> None:
    if isinstance(data, dict):
        for name, value in data.items():
            _refuse_non_finite(value, source, f'{key}.{name}' if key else str(name))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _refuse_non_finite(value, source, f'{key}[{index}]')
    elif isinstance(data, float) and not math.isfinite(data):
        raise ConfigError(f'{source}: {key} is {data}; every number must be finite')


def _explain(message: str, data: Any, struct: type) -> str:
    """Add the offending key's value, and for an unknown key the keys that exist."""
    text, _, path = message.partition(' - at `$')
    value, kind, where = data, struct, ''
    for part in re.findall(r'\[\d+\]|\[\.\.\.\]|\.[^.\[\]`]+', path):
        kind = _member(kind, part.lstrip('.'))
        key = _culprit(value, kind) if part == '[...]' else (
            int(part[1:-1]) if part.startswith('[') else part[1:])
        where += f'[{key}]' if isinstance(key, int) else f'.{key}'
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
    where = where.lstrip('.') or 'top level'
    unknown = re.search(r'unknown field `([^`]+)`', text)
    if unknown:
        name = unknown.group(1)
        known = field_names(kind) if _is_struct(kind) else []
        return (f'unknown key {name!r} at {where}{suggestion(name, known)}; '
                f'allowed: {", ".join(known)}')
    if 'missing required field' in text:
        return f'{text.replace("Object ", "")} at {where}'
    return f'{where} = {value!r}: {text[0].lower()}{text[1:]}'


def _culprit(mapping: Any, kind: Any) -> str:
    """Return the first key whose value is not of its type: msgspec says only that one is not."""
    for key, value in (mapping.items() if isinstance(mapping, dict) else ()):
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return str(key)
    return '?'


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _member(kind: Any, key: str) -> Any:
    """Return the declared type of a member, as far as error messages need it."""
    if _is_struct(kind):
        kind = typing.get_type_hints(kind).get(key)
    else:
        arguments = typing.get_args(kind)
        kind = arguments[-1] if arguments else None
    options = [option for option in typing.get_args(kind) if _is_struct(option)]
    return options[0] if typing.get_origin(kind) not in (dict, list, tuple) and options else kind


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
