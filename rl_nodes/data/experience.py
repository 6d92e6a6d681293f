# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Labelled columns: transitions as one matrix of float32 values, for the ``experience`` topic.

Row n is transition n; the columns follow each other in the order of the fields of
:class:`TransitionBatch`. A message carries the layout's name and version (``transitions/v1``) and
one text that names every column and its width, as in ``observation:21,action:6,...``; the columns
``privileged`` and ``next_privileged`` are there only where the task has such signals. ``origin``
and ``intervention`` are not sent: no trainer that learns while a policy acts asks for them. A
receiver refuses whatever it does not know, so an old recorder and a new trainer cannot
misunderstand each other. The layout is named apart from the widths because widths belong to a
task.

A float32 holds integers exactly only up to 2^24. Episode numbers, steps and policy versions get
two columns, v = high * 2^24 + low with 0 <= low < 2^24, exact for |v| < 2^47; flags are 0 or 1.
"""

from collections.abc import Sequence

import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import TransitionBatch

LAYOUT = 'transitions/v1'

Columns = list[tuple[str, int]]

_VECTORS = ('observation', 'action', 'wanted', 'next_observation', 'privileged',
            'next_privileged')
_FLAGS = ('terminated', 'truncated', 'success', 'limited')
_INTEGERS = ('policy_version', 'episode', 'step')
_ORDER = ('observation', 'action', 'wanted', 'reward', 'next_observation', *_FLAGS, *_INTEGERS)
_OPTIONAL = ('privileged', 'next_privileged')
_BASE = 1 << 24
_LIMIT = 1 << 47


def layout_columns(observation_size: int, action_size: int,
                   privileged_size: int = 0) -> Columns:
    """Return (name, width) of every column for a task's sizes O, A and P, in order."""
    widths = {'observation': observation_size, 'next_observation': observation_size,
              'action': action_size, 'wanted': action_size}
    rows = [(name, widths.get(name, 2 if name in _INTEGERS else 1)) for name in _ORDER]
    return rows + [(name, privileged_size) for name in _OPTIONAL if privileged_size]


def columns(batch: TransitionBatch) -> Columns:
    """Return (name, width) of every column that :func:`encode` makes of ``batch``."""
    return layout_columns(batch.observation.shape[1], batch.action.shape[1],
                          0 if batch.privileged is None else batch.privileged.shape[1])


def format_columns(labels: Columns) -> str:
    """Return the label text of ``labels``, ``observation:21,action:6,...``."""
    return ','.join(f'{name}:{width}' for name, width in labels)


def parse_columns(text: str) -> Columns:
    """
    Return (name, width) pairs from a label text.

    :raises SpecError: the text is not ``name:width,...``.
    """
    found = []
    for entry in text.split(','):
        name, colon, width = entry.partition(':')
        if not (name.isidentifier() and colon and width.isascii() and width.isdigit()
                and len(width) <= 6):
            raise SpecError(f'experience columns: got {entry[:60]!r}, expected <name>:<width>')
        found.append((name, int(width)))
    return found


def encode(batch: TransitionBatch) -> tuple[Columns, np.ndarray]:
    """
    Return the columns and the rows as flat float32 values, shape (N * sum of widths,).

    :raises SpecError: an integer of 2^47 or more, or shapes that do not fit together.
    """
    labels = columns(batch)
    matrix = np.empty((len(batch), sum(width for _, width in labels)), np.float32)
    start = 0
    for name, width in labels:
        value = getattr(batch, name)
        target = matrix[:, start:start + width]
        start += width
        if name in _INTEGERS:
            if not ((value > -_LIMIT) & (value < _LIMIT)).all():
                raise SpecError(f'experience: {name} from {value.min()} to {value.max()}, '
                                f'expected less than {_LIMIT} in size')
            target[:, 0], target[:, 1] = np.divmod(value, _BASE)
        elif name in _VECTORS:
            if value.shape != target.shape:
                raise SpecError(f'experience: {name} has shape {value.shape}, expected '
                                f'{target.shape}')
            target[...] = value
        else:
            target[:, 0] = value
    return labels, matrix.reshape(-1)


def decode(layout: str, rows: int, labels: str | Columns,
           data: np.ndarray | Sequence[float],
           expected: Columns | None = None) -> TransitionBatch:
    """
    Return the transitions in a message.

    :param layout: name and version that came with it.
    :param rows: number of transitions N that came with it.
    :param labels: its columns, or the text that names them.
    :param data: float32 values, row after row, shape (N * sum of widths,).
    :param expected: columns of the receiver's own task; None accepts any O, A and P.
    :raises SpecError: another layout version, other columns, a wrong amount of values, or a value
        that cannot be (not finite, a flag that is not 0 or 1, a fraction in an integer).
    """
    if layout != LAYOUT:
        raise SpecError(f'experience layout: got {layout!r}, expected {LAYOUT!r}; recorder and '
                        'trainer must come from the same version of rl_nodes')
    came = parse_columns(labels) if isinstance(labels, str) else list(labels)
    _require_columns(came, expected)
    width = sum(size for _, size in came)
    flat = np.asarray(data, np.float32)
    if rows < 0 or flat.shape != (rows * width,):
        raise SpecError(f'experience: got {flat.shape} values, expected {rows} rows of {width} '
                        f'({format_columns(came)})')
    matrix = flat.reshape(rows, width)
    parts = {}
    start = 0
    for name, size in came:
        parts[name] = matrix[:, start:start + size]
        start += size
    _require_finite(matrix, parts)
    values: dict[str, np.ndarray] = {name: parts[name].copy() for name in _VECTORS
                                     if name in parts}
    values['reward'] = parts['reward'][:, 0].copy()
    for name in _FLAGS:
        values[name] = _flags(name, parts[name][:, 0])
    for name in _INTEGERS:
        values[name] = _integers(name, parts[name])
    return TransitionBatch(**values)


def _require_columns(came: Columns, expected: Columns | None) -> None:
    widths = dict(came)
    wanted = expected or layout_columns(widths.get('observation', 1), widths.get('action', 1),
                                        widths.get('privileged', 0))
    if came == wanted:
        return
    for index in range(max(len(came), len(wanted))):
        got = f'{came[index][0]}:{came[index][1]}' if index < len(came) else 'nothing'
        due = f'{wanted[index][0]}:{wanted[index][1]}' if index < len(wanted) else 'nothing'
        if got != due:
            raise SpecError(f'experience columns: got {got} as column {index}, expected {due}; '
                            f'all that came: {format_columns(came)}')


def _require_finite(matrix: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    if np.isfinite(matrix).all():
        return
    for name, part in parts.items():
        bad = np.argwhere(~np.isfinite(part))
        if len(bad):
            row, element = bad[0]
            raise SpecError(f'experience: {name}[{element}] of row {row} is '
                            f'{part[row, element]}, expected finite values')


def _flags(name: str, value: np.ndarray) -> np.ndarray:
    flags: np.ndarray = value == 1.0
    if not (flags | (value == 0.0)).all():
        raise SpecError(f'experience: {name} holds values other than 0 and 1')
    return flags


def _integers(name: str, value: np.ndarray) -> np.ndarray:
    high, low = value[:, 0], value[:, 1]
    ok = ((low >= 0) & (low < _BASE) & (low == np.floor(low))
          & (np.abs(high) <= _LIMIT // _BASE) & (high == np.floor(high)))
    if not ok.all():
        row = int(np.flatnonzero(~ok)[0])
        raise SpecError(f'experience: {name} of row {row} is ({high[row]}, {low[row]}), expected '
                        'two integers (high, low) with 0 <= low < 2^24')
    return high.astype(np.int64) * _BASE + low.astype(np.int64)
