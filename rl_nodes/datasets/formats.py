# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The forms that data sets are exchanged in, and what they have in common."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
import shutil
from types import ModuleType
from typing import NamedTuple

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, RecordingError
from rl_nodes.core.origin import INTERVENTION
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode

CONTRACT_KEY = 'rl_nodes_contract'
METADATA_KEY = 'rl_nodes_episode'
FLAGS = ('terminated', 'truncated', 'success', 'limited')


# Stamp of the state that it shows [ns]; red, green, blue, shape (H, W, 3), uint8.
Picture = tuple[int, np.ndarray]
# Pictures by name of the camera, in order, of the episode with a name.
Pictures = Callable[[str], dict[str, Iterator[Picture]]]


class Source(NamedTuple):
    """
    What is exported.

    :param contract: of all episodes; None where the data came from elsewhere.
    :param episodes: may be gone through once.
    :param pictures: gives the pictures of an episode; None where there are none.
    """

    contract: Contract | None
    episodes: Iterable[RecordedEpisode]
    pictures: Pictures | None = None


class Format(NamedTuple):
    """
    One form of data set.

    :param module: below ``rl_nodes.datasets``; has ``write(output, source)`` and, where it can be
        read, ``read(path)``.
    :param suffix: of a file; empty for a folder.
    :param readable: whether ``import`` takes it.
    :param needs: packages of the extra ``datasets`` that it is made with.
    """

    module: str
    suffix: str
    readable: bool
    needs: tuple[str, ...]


FORMATS = {
    'store': Format('store', '', True, ()),
    'npz': Format('tables', '.npz', False, ()),
    'parquet': Format('tables', '.parquet', False, ('pyarrow',)),
    'lerobot': Format('lerobot', '', True, ('pyarrow', 'av')),
    'minari': Format('minari', '', True, ('minari', 'h5py', 'gymnasium')),
    'robomimic': Format('robomimic', '.hdf5', False, ('h5py',))}


def find_format(name: str, reading: bool = False) -> tuple[Format, ModuleType]:
    """
    Return a format and the module that knows it.

    :param reading: it has to be one that can be imported.
    :raises ConfigError: unknown, cannot be read, or its packages are not installed.
    """
    known = [key for key, form in FORMATS.items() if form.readable or not reading]
    if name not in known:
        raise ConfigError(f'format {name!r}{suggestion(name, known)}; expected one of '
                          f'{", ".join(known)}')
    form = FORMATS[name]
    for package in form.needs:
        try:
            import_module(package)
        except ImportError as error:
            raise ConfigError(f'format {name} needs {package} ({error}); install '
                              '"rl_nodes[datasets]"') from None
    return form, import_module(f'rl_nodes.datasets.{form.module}')


@contextmanager
def new_path(output: Path) -> Iterator[Path]:
    """
    Give a path to write a file or folder to, which gets its name when it is complete.

    :raises RecordingError: the name is taken, or it cannot be written.
    """
    if output.exists():
        raise RecordingError(f'{output} exists already; name another one')
    temporary = output.with_name(f'.writing_{output.name}')
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        temporary.rename(output)
    except OSError as error:
        raise RecordingError(f'{output} cannot be written: {error}') from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def episode_of(name: str, number: int, columns: dict[str, np.ndarray],
               metadata: dict[str, str]) -> RecordedEpisode:
    """
    Return an episode of columns that a foreign data set may have only some of.

    :param columns: ``observation``, ``action``, ``reward``, ``next_observation``, ``terminated``
        and ``truncated`` at least; the rest is filled with what is known of data from elsewhere.
    :raises RecordingError: a column that is missing, not finite or of another length.
    """
    count = len(columns.get('action', ()))
    filled = {
        'wanted': columns.get('action'), 'policy_version': np.full(count, -1),
        'step': np.arange(count), 'stamp_ns': np.zeros(count),
        **dict.fromkeys(('success', 'limited'), np.zeros(count)), **columns,
        'episode': np.full(count, number)}
    types = {**dict.fromkeys(FLAGS, np.bool_), **dict.fromkeys(
        ('policy_version', 'episode', 'step', 'stamp_ns', 'origin'), np.int64)}
    found = {}
    for key, values in filled.items():
        if key == 'intervention':
            found[key] = _as_labels(name, values, count)
            continue
        array = np.asarray(values)
        if array.dtype.kind not in 'fiub' or len(array) != count \
                or not np.isfinite(array.astype(np.float64)).all():
            raise RecordingError(f'{name}: {key} is {array.dtype}{list(array.shape)}, expected '
                                 f'{count} rows of finite numbers')
        found[key] = array.astype(types.get(key, np.float32))
    for key in ('observation', 'next_observation', 'action', 'wanted'):
        if found[key].ndim != 2:
            raise RecordingError(f'{name}: {key} has shape {found[key].shape}, expected rows of '
                                 'one vector each')
    stamps = found.pop('stamp_ns')
    try:
        return RecordedEpisode(name, TransitionBatch(**found), stamps, metadata)
    except (TypeError, ValueError) as error:
        raise RecordingError(f'{name}: {error}') from None


def as_texts(labels: np.ndarray) -> list[str]:
    """Return the column ``intervention`` (N,) as texts."""
    return [label.decode(errors='replace') for label in labels.tolist()]


def _as_labels(name: str, texts: np.ndarray, count: int) -> np.ndarray:
    """
    Return texts as the column ``intervention``, shape (N,).

    :param name: of the episode.
    :param texts: bytes or texts.
    :param count: N.
    :raises RecordingError: other than N texts.
    """
    found = [text.encode() if isinstance(text, str) else text for text in np.asarray(
        texts).tolist()]
    if len(found) != count or not all(isinstance(text, bytes) for text in found):
        raise RecordingError(f'{name}: intervention is not {count} texts')
    return np.array(found, INTERVENTION)
