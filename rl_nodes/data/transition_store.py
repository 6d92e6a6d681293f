# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Transitions of many episodes on the disk, to be drawn from without reading or copying them all.

A store is a folder: ``store.json`` and one file per column, plain little-endian values, row after
row, mapped into memory when it is opened. Rows of an episode follow each other. A draw is a pure
function of seed and number, so a run can be repeated and resumed; it copies the drawn rows only.

Legend: N rows, B drawn rows, L length of a window.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
import shutil
from typing import BinaryIO, cast, NamedTuple
import zlib

import msgspec
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, ContractError, RecordingError
from rl_nodes.core.origin import INTERVENTION, ORIGINS
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode, run_ends

LAYOUT = 'transition_store/v2'
INDEX = 'store.json'
_BATCH = tuple(field.name for field in fields(TransitionBatch))
_DTYPES = ('float32', 'bool', 'int64', str(INTERVENTION))
MAX_INDEX_BYTES = 256 << 20


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One column of a store.

    :param dtype: of its values.
    :param width: values per row; 0 for a column of single values.
    :param crc: CRC-32 of its file.
    """

    dtype: str
    width: int
    crc: int


class StoredEpisode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One episode of a store.

    :param name: where it came from.
    :param rows: number of transitions.
    :param metadata: provenance and result.
    """

    name: str
    rows: int
    metadata: dict[str, str] = {}


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a store holds.

    :param layout: name and version of this form.
    :param columns: by name.
    :param episodes: in order of their rows.
    :param contract: JSON of the contract; empty where the data name none.
    """

    layout: str
    columns: dict[str, Column]
    episodes: tuple[StoredEpisode, ...]
    contract: str = ''


class NStep(NamedTuple):
    """
    B rows of up to n steps each (Sutton 1988).

    :param reward: sum over k < m of gamma^k r_{t+k}, (B,), float32; m = n or fewer at the end of
        an unbroken run of steps.
    :param next_observation: the true one after the last step, (B, O).
    :param terminated: whether the task ended there, (B,).
    :param discount: gamma^m, (B,), float32.
    """

    reward: np.ndarray
    next_observation: np.ndarray
    terminated: np.ndarray
    discount: np.ndarray


class Windows(NamedTuple):
    """
    B windows of L steps.

    :param columns: by name, each (B, L) or (B, L, width).
    :param mask: (B, L) bool; False where a window reaches beyond an unbroken run of steps, and
        the run's last row is repeated.
    """

    columns: dict[str, np.ndarray]
    mask: np.ndarray


def write_store(folder: Path, contract: Contract | None,
                episodes: Iterable[RecordedEpisode]) -> int:
    """
    Write a store, one episode in memory at a time; complete or not at all.

    :param folder: must not exist.
    :param contract: of all episodes; None where they come from elsewhere.
    :return: number of rows.
    :raises RecordingError: nothing to write, episodes of different columns, or a full disk.
    """
    if folder.exists():
        raise RecordingError(f'{folder} exists already; name a new folder')
    temporary = folder.with_name(f'.{folder.name}.writing')
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        total = _write(temporary, contract, episodes)
        temporary.rename(folder)
    except OSError as error:
        raise RecordingError(f'{folder} cannot be written: {error}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return total


def _write(folder: Path, contract: Contract | None, episodes: Iterable[RecordedEpisode]) -> int:
    files: dict[str, BinaryIO] = {}
    forms: dict[str, tuple[str, int]] = {}
    crcs: dict[str, int] = {}
    stored: list[StoredEpisode] = []
    try:
        for number, episode in enumerate(episodes):
            columns = episode.columns()
            columns['episode'] = np.full(len(episode), number, np.int64)
            came = {name: (str(values.dtype), values.shape[1] if values.ndim > 1 else 0)
                    for name, values in columns.items()}
            if not files:
                forms = came
                for name in came:
                    files[name] = (folder / f'{name}.bin').open('wb')
                    crcs[name] = 0
            elif came != forms:
                raise RecordingError(f'{episode.name} has the columns {came}, the episodes '
                                     f'before it {forms}')
            for name, values in columns.items():
                data = np.ascontiguousarray(values).tobytes()
                files[name].write(data)
                crcs[name] = zlib.crc32(data, crcs[name])
            stored.append(StoredEpisode(episode.name, len(episode), episode.metadata))
    finally:
        for file in files.values():
            file.close()
    if not stored:
        raise RecordingError('no episode to store')
    index = Index(LAYOUT, {name: Column(*forms[name], crcs[name]) for name in forms},
                  tuple(stored), contract.to_json() if contract else '')
    (folder / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    return sum(entry.rows for entry in stored)


class TransitionStore:
    """
    An opened store.

    :param folder: as :func:`write_store` made it.
    :param expected: the contract that it has to have; None for any. One that names none is taken
        where the sizes of observation and action fit.
    :param verify: read all of it once and compare the CRCs.
    :raises RecordingError: not a store, incomplete, or damaged.
    :raises ContractError: of another contract.
    """

    def __init__(self, folder: str | Path, expected: Contract | None = None,
                 verify: bool = True) -> None:
        self.folder = Path(folder)
        self.index = _read_index(self.folder)
        counts = [entry.rows for entry in self.index.episodes]
        self._length = sum(counts)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.columns = {name: self._map(name, column, verify)
                        for name, column in self.index.columns.items()}
        if missing := [name for name in _BATCH[:12] if name not in self.columns]:
            raise RecordingError(f'{self.folder} lacks the columns {", ".join(missing)}')
        if expected is not None:
            self._require(expected)
        self._ends = run_ends(self.columns['episode'], self.columns['step'],
                              self.columns['terminated'] | self.columns['truncated'])

    def __len__(self) -> int:
        return self._length

    @property
    def contract(self) -> Contract | None:
        """Return the contract; None where the data name none."""
        return Contract.from_json(self.index.contract) if self.index.contract else None

    def _map(self, name: str, column: Column, verify: bool) -> np.ndarray:
        path = self.folder / f'{name}.bin'
        if not name.isidentifier() or column.dtype not in _DTYPES or column.width < 0:
            raise RecordingError(f'{self.folder / INDEX}: column {name!r} of {column.dtype}, '
                                 f'width {column.width}; expected {", ".join(_DTYPES)}')
        shape = (self._length, column.width) if column.width else (self._length,)
        size = self._length * max(column.width, 1) * np.dtype(column.dtype).itemsize
        try:
            have = path.stat().st_size
            if have != size or not size:
                raise RecordingError(f'{path} has {have} bytes, expected {size}')
            values = np.memmap(path, column.dtype, 'r', shape=shape)
        except OSError as error:
            raise RecordingError(f'{path} cannot be read: {error}') from error
        if verify and zlib.crc32(values.data) != column.crc:
            raise RecordingError(f'{path} is damaged: its CRC does not fit; make the store anew')
        return values.view(np.ndarray)  # the same pages; a memmap is slow to index

    def _require(self, expected: Contract) -> None:
        contract = self.contract
        if contract is not None:
            expected.require(contract, 'what is to be learned', f'the store {self.folder}')
        for name, spec in (('observation', expected.observation), ('action', expected.action)):
            if self.columns[name].shape[1:] != spec.shape:
                raise ContractError(f'{self.folder}: {name} has shape '
                                    f'{self.columns[name].shape[1:]}, expected {spec.shape}')

    def batch(self, rows: np.ndarray | slice) -> TransitionBatch:
        """Return chosen rows, as copies."""
        return TransitionBatch(**{name: np.array(self.columns[name][rows])
                                  for name in _BATCH if name in self.columns})

    def episodes(self) -> Iterator[RecordedEpisode]:
        """Yield every episode as it was stored."""
        for entry, first in zip(self.index.episodes, self.starts.tolist()):
            rows = slice(first, first + entry.rows)
            yield RecordedEpisode(entry.name, self.batch(rows),
                                  np.array(self.columns['stamp_ns'][rows]),
                                  dict(entry.metadata))

    def n_step(self, rows: np.ndarray, n: int, discount: float) -> NStep:
        """
        Return what up to n steps from each row on amount to.

        :param rows: shape (B,).
        :param n: at least 1.
        :param discount: gamma, per step.
        """
        ends = self._ends[rows]
        last = np.minimum(rows + n, ends) - 1
        total = np.zeros(len(rows))
        for k in range(n):
            at = rows + k
            total += np.where(at < ends, discount ** k
                              * self.columns['reward'][np.minimum(at, last)], 0.0)
        return NStep(total.astype(np.float32), np.array(self.columns['next_observation'][last]),
                     np.array(self.columns['terminated'][last]),
                     (discount ** (last - rows + 1)).astype(np.float32))

    def windows(self, rows: np.ndarray, length: int,
                names: Iterable[str] = ('observation', 'action')) -> Windows:
        """
        Return windows that begin at rows.

        :param rows: shape (B,).
        :param length: L.
        :param names: columns wanted.
        """
        at = rows[:, None] + np.arange(length)
        ends = self._ends[rows][:, None]
        inside = np.minimum(at, ends - 1)
        return Windows({name: np.array(self.columns[name][inside]) for name in names}, at < ends)


class Draws:
    """
    Which rows are drawn: a pure function of seed and number.

    :param store: where they lie.
    :param batch_size: B.
    :param seed: of all draws.
    :param shares: expected part of each batch by who acted, see ``ORIGINS``; None draws all rows
        alike.
    :raises ConfigError: an origin that is unknown or has no row, or shares that do not sum to 1.
    """

    def __init__(self, store: TransitionStore, batch_size: int, seed: int,
                 shares: Mapping[str, float] | None = None) -> None:
        if batch_size < 1:
            raise ConfigError(f'batch_size {batch_size}; expected at least 1')
        self._count, self._size, self._seed = len(store), batch_size, seed
        self._shares = np.zeros(0)
        if shares is not None:
            self._share(store, {name: part for name, part in shares.items() if part > 0})

    def _share(self, store: TransitionStore, shares: dict[str, float]) -> None:
        if abs(sum(shares.values()) - 1.0) > 1e-6 or not set(shares) <= set(ORIGINS):
            raise ConfigError(f'shares {shares}: expected {", ".join(ORIGINS)} with numbers that '
                              'sum to 1')
        if 'origin' not in store.columns:
            raise ConfigError(f'{store.folder}: shares {shares}: nobody noted who acted in these '
                              'data; draw all rows alike')
        found = store.columns['origin']
        groups = [np.flatnonzero(found == ORIGINS.index(name)) for name in shares]
        self._order, self._shares = np.concatenate(groups), np.array(list(shares.values()))
        self._sizes = np.array([len(group) for group in groups])
        self._firsts = np.cumsum(self._sizes) - self._sizes
        for name, group in zip(shares, groups):
            if not len(group):
                raise ConfigError(f'{store.folder} has no row of {name}, asked for a share of '
                                  f'{shares[name]:g}')

    def rows(self, number: int) -> np.ndarray:
        """Return the rows of the batch of a number, with replacement, int64, shape (B,)."""
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 1, number]))
        if not len(self._shares):
            return rng.integers(self._count, size=self._size)
        which = rng.choice(len(self._shares), self._size, p=self._shares)
        return cast(np.ndarray, self._order[
            self._firsts[which] + rng.integers(self._sizes[which])])

    def epoch(self, number: int) -> Iterator[np.ndarray]:
        """Yield every row once, in batches; only the order is new in each epoch."""
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 2, number]))
        order = rng.permutation(self._count)
        for first in range(0, self._count, self._size):
            yield order[first:first + self._size]


def is_store(path: Path) -> bool:
    """Return whether a path is a folder that looks like a store."""
    return (path / INDEX).is_file()


def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise RecordingError(f'{path} has {path.stat().st_size} bytes, expected at most '
                                 f'{MAX_INDEX_BYTES}')
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except OSError as error:
        raise RecordingError(f'{folder} is no transition store: {error}') from None
    except msgspec.MsgspecError as error:
        raise RecordingError(f'{path} is damaged: {error}') from None
    if index.layout != LAYOUT:
        raise RecordingError(f'{path}: layout {index.layout!r}, expected {LAYOUT!r}: it is of '
                             'another version of rl_nodes; make the store anew of the recorded '
                             'episodes with "rl_nodes dataset export FOLDER format:=store '
                             'output:=NEW"')
    return index
