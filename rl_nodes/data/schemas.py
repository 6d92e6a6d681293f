# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Message definitions as recordings carry them, read from installed ROS packages without rclpy.

A recording has to explain itself to readers on other machines. Each of its message types comes
with the text of its ``.msg`` file followed by those of all types used inside (schema encoding
``ros2msg``) and with the RIHS01 hash that ROS 2 compares when endpoints meet. Both lie in
``share/<package>/msg`` of every ament prefix.
"""

from dataclasses import dataclass
from functools import lru_cache
import json
import os
from pathlib import Path
import re
import sys

from rl_nodes.core.errors import RecordingError

ENCODING = 'ros2msg'

_NAME = re.compile(r'([a-z][a-z0-9_]*)/msg/([A-Z][A-Za-z0-9]*)')
_FIELD = re.compile(r'([A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)?)')
_PRIMITIVES = frozenset({
    'bool', 'byte', 'char', 'float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32',
    'uint32', 'int64', 'uint64', 'string', 'wstring'})
_SEPARATOR = '=' * 80


@dataclass(frozen=True)
class MessageSchema:
    """
    The definition of one message type.

    :param name: full name, as in ``sensor_msgs/msg/JointState``.
    :param text: its definition and those of all types inside, each under ``MSG: <pkg>/<Name>``.
    :param type_hash: ``RIHS01_`` and 64 hexadecimal digits.
    """

    name: str
    text: str
    type_hash: str

    @property
    def stamped(self) -> bool:
        """Return whether its messages begin with a header."""
        own = self.text.partition(_SEPARATOR)[0]
        fields = (line.partition('#')[0].split() for line in own.splitlines())
        return next((field[0] for field in fields if field and '=' not in ''.join(field)),
                    '') == 'std_msgs/Header'


def prefixes() -> tuple[Path, ...]:
    """Return where packages are looked up: AMENT_PREFIX_PATH, then the Python environment."""
    ament = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    return tuple(Path(p) for p in [*ament, sys.prefix] if p)


def message_schema(name: str) -> MessageSchema:
    """
    Return the definition of a message type; read once per process and prefix path.

    :param name: full name, as in ``sensor_msgs/msg/JointState``.
    :raises RecordingError: not a message name, or the package or type is not installed.
    """
    return _load(name, prefixes())


@lru_cache(maxsize=256)
def _load(name: str, where: tuple[Path, ...]) -> MessageSchema:
    text = _definition(name, where, used_by='').rstrip('\n') + '\n'
    seen = {name}
    pending = [(dependency, name) for dependency in _dependencies(name, text)]
    while pending:
        dependency, user = pending.pop(0)
        if dependency in seen:
            continue
        seen.add(dependency)
        part = _definition(dependency, where, used_by=user).rstrip('\n') + '\n'
        text += f'{_SEPARATOR}\nMSG: {dependency.replace("/msg/", "/")}\n{part}'
        pending += [(further, dependency) for further in _dependencies(dependency, part)]
    return MessageSchema(name, text, _type_hash(name, where))


def _find(name: str, suffix: str, where: tuple[Path, ...], used_by: str) -> Path:
    match = _NAME.fullmatch(name)
    if match is None:
        raise RecordingError(f'{name!r} is not a message type; expected <package>/msg/<Name>, as '
                             'in sensor_msgs/msg/JointState')
    package, message = match.groups()
    for prefix in where:
        path = prefix / 'share' / package / 'msg' / f'{message}{suffix}'
        if path.is_file():
            return path
    inside = f' (used by {used_by})' if used_by else ''
    raise RecordingError(
        f'no share/{package}/msg/{message}{suffix}{inside} below '
        f'{", ".join(map(str, where))}; install the package {package} or source its workspace')


def _definition(name: str, where: tuple[Path, ...], used_by: str) -> str:
    return _find(name, '.msg', where, used_by).read_text(encoding='utf-8')


def _dependencies(name: str, text: str) -> list[str]:
    """Return full names of the message types that fields in ``text`` use, in order."""
    package = name.partition('/')[0]
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.partition('#')[0].strip())
        if match is None or match[1] in _PRIMITIVES:
            continue
        owner, _, message = match[1].rpartition('/')
        found.append(f'{owner or package}/msg/{message}')
    return list(dict.fromkeys(found))


def _type_hash(name: str, where: tuple[Path, ...]) -> str:
    path = _find(name, '.json', where, used_by='')
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))['type_hashes']
        hashes = {entry['type_name']: str(entry['hash_string']) for entry in entries}
        return hashes[name]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(f'{path} does not give the type hash of {name} ({error!r}); '
                             'reinstall the package') from None
