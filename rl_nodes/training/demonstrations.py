# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Transitions in a file, to learn from beside what is experienced.

``<name>.npz`` holds one array per column of a ``TransitionBatch`` and, where it was made by
``rl_nodes dataset export``, the contract's fingerprint. A file of other origin needs
``observation``, ``action``, ``reward``, ``next_observation`` and ``terminated``; ``truncated`` is
false if absent, and without ``episode`` and ``step`` no row follows the one before it.
"""

from dataclasses import fields
import os
from pathlib import Path
import zipfile

import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, ContractError
from rl_nodes.core.origin import INTERVENTION
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.transition_store import is_store, TransitionStore

NEEDED = ('observation', 'action', 'reward', 'next_observation', 'terminated')
_FINGERPRINT = 'contract_fingerprint'


def save(path: Path, batch: TransitionBatch, contract: Contract | None) -> Path:
    """
    Write transitions, complete or not at all.

    :param path: the file, ending in ``.npz``.
    :param contract: what they were recorded under; None where that is not known.
    :raises ConfigError: it cannot be written.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open('wb') as stream:
            named = {} if contract is None else {
                _FINGERPRINT: np.array(contract.fingerprint())}
            np.savez_compressed(stream, **batch.columns(), **named)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f'{path} cannot be written: {error}') from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: Path, contract: Contract) -> TransitionBatch:
    """
    Return the transitions in a ``.npz`` file or a store.

    :param contract: of what is trained; one that names another one is refused.
    :raises ConfigError: unreadable, or columns that are missing or of other shapes.
    :raises ContractError: recorded under another contract.
    """
    if is_store(path):
        return TransitionStore(path, contract).batch(slice(None))
    if path.suffix != '.npz':
        raise ConfigError(f'demonstrations {path}: expected a .npz file or a store; "rl_nodes '
                          f'dataset export {path} format:=npz output:=demonstrations.npz" makes '
                          'one of recorded episodes')
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f'demonstrations {path}: cannot be read: {error}') from None
    fingerprint = str(found.pop(_FINGERPRINT, contract.fingerprint()))
    if fingerprint != contract.fingerprint():
        raise ContractError(f'demonstrations {path} were recorded under the contract '
                            f'{fingerprint[:16]}..., this run has that of {contract.task} '
                            f'({contract.fingerprint()[:16]}...); record them anew')
    return _batch(path, found, contract)


def _batch(path: Path, found: dict[str, np.ndarray], contract: Contract) -> TransitionBatch:
    if missing := [name for name in NEEDED if name not in found]:
        raise ConfigError(f'demonstrations {path}: no {", ".join(missing)}; expected '
                          f'{", ".join(NEEDED)} and perhaps truncated, got '
                          f'{", ".join(found) or "nothing"}')
    count = len(found['reward'])
    action = found['action']
    rest = {'wanted': action, 'policy_version': np.full(count, -1), 'episode': np.zeros(count),
            'step': np.zeros(count), **dict.fromkeys(('truncated', 'success', 'limited'),
                                                      np.zeros(count))}
    types = {'intervention': INTERVENTION, **dict.fromkeys(
        ('terminated', 'truncated', 'success', 'limited'), np.bool_), **dict.fromkeys(
        ('policy_version', 'episode', 'step', 'origin'), np.int64)}
    names = {field.name for field in fields(TransitionBatch)}
    sizes = {name: spec.shape[0] for name, spec in (
        ('observation', contract.observation), ('next_observation', contract.observation),
        ('action', contract.action), ('wanted', contract.action))}
    columns = {}
    for name, column in (rest | found).items():
        wanted = (count, sizes[name]) if name in sizes else (count, *column.shape[1:])
        kinds, what = ('S', 'bytes') if name == 'intervention' else ('fiub', 'numbers')
        if name not in names or column.shape != wanted or column.dtype.kind not in kinds:
            raise ConfigError(f'demonstrations {path}: {name} is {column.dtype}'
                              f'{list(column.shape)}, expected {what} {list(wanted)} in a column '
                              f'of {", ".join(sorted(names))}')
        columns[name] = column.astype(types.get(name, np.float32))
    return TransitionBatch(**columns)
