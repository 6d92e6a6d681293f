# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The section ``curriculum`` of a task: how its start distribution widens with difficulty."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, structs, to_builtins
from rl_nodes.core.config import convert, suggestion
from rl_nodes.core.errors import ConfigError

Easy = float | tuple[float, float]


def check_curriculum(easy: Mapping[str, Easy], config: Struct, allowed: Iterable[str]) -> None:
    """
    Require that every easy value stands for a range of the task that its start is drawn from.

    :param easy: value at difficulty 0 by dotted key, as in ``goal.radius_m``.
    :param config: the task's record; it holds the values at difficulty 1.
    :param allowed: keys that the start is drawn from.
    :raises ConfigError: another key, a number where a range belongs or the other way round, or
        values that the task does not accept.
    """
    if not easy:
        return
    known = tuple(allowed)
    for key, value in easy.items():
        if key not in known:
            raise ConfigError(f'curriculum: {key!r} is no range that starts are drawn from'
                              f'{suggestion(key, known)}; those of this task: '
                              f'{", ".join(known) or "none"}')
        full = _get(config, key)
        if isinstance(value, tuple) != isinstance(full, tuple):
            raise ConfigError(f'curriculum: {key} = {value} at difficulty 0 does not fit {full} '
                              'at difficulty 1: both must be one number or [low, high]')
    try:
        easiest = at_difficulty(config, easy, 0.0)
    except ValueError as error:
        raise ConfigError(f'curriculum, at difficulty 0: {error}') from None
    convert(to_builtins(easiest), type(config), 'curriculum, at difficulty 0')


def require_difficulty(value: float) -> float:
    """Return a difficulty; ConfigError unless it lies from 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f'difficulty = {value}: expected a number from 0 (easy) to 1')
    return float(value)


def at_difficulty(config: Any, easy: Mapping[str, Easy], difficulty: float) -> Any:
    """Return a task's record with (1 - d) · easy + d · full for every key of the curriculum."""
    for key, value in easy.items():
        full = _get(config, key)
        if isinstance(value, tuple):
            config = _set(config, key, tuple(_between(a, b, difficulty)
                                             for a, b in zip(value, full, strict=True)))
        else:
            config = _set(config, key, _between(value, full, difficulty))
    return config


def _between(easy: float, full: float, difficulty: float) -> float:
    return (1.0 - difficulty) * easy + difficulty * full


def _get(config: Any, key: str) -> Any:
    for part in key.split('.'):
        config = getattr(config, part)
    return config


def _set(config: Any, key: str, value: Any) -> Any:
    """Return the record with one value replaced; nested records are replaced on the way."""
    part, _, rest = key.partition('.')
    inner = _set(getattr(config, part), rest, value) if rest else value
    return structs.replace(config, **{part: inner})
