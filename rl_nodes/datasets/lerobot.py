# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Export to and import from LeRobotDataset v3.0, written with pyarrow: the lerobot package pins other
versions of torch and numpy than anything else needs.

A row has ``observation.state``, ``action``, ``next.reward``, ``next.done`` and, so that nothing is
lost, ``next.observation.state``, ``next.terminated``, ``next.truncated``, ``next.success``;
``complementary_info.<name>`` is what else is known of it, the true stamp of its state in
nanoseconds among them. ``timestamp`` is frame_index / fps, as LeRobot demands of its own.

Foreign data sets are read as far as they go. Without ``next.observation.state`` the last frame of
an episode leads nowhere and is no transition; without ``next.reward`` rewards are zero; an end of
which nothing says that the task ended there is ``truncated``.
"""

from collections.abc import Iterator
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.datasets.formats import (
    as_texts,
    CONTRACT_KEY,
    episode_of,
    METADATA_KEY,
    new_path,
    Source,
)
from rl_nodes.datasets.lerobot_video import VideoColumns
from rl_nodes.datasets.tables import vectors

_LOG = logging.getLogger(__name__)

VERSION = 'v3.0'
MAX_INFO_BYTES = 64 << 20
DATA = 'data/chunk-000/file-000.parquet'
EPISODES = 'meta/episodes/chunk-000/file-000.parquet'
_EXTRA = 'complementary_info.'
_NAMES = {'observation': 'observation.state', 'action': 'action', 'reward': 'next.reward',
          'next_observation': 'next.observation.state', 'terminated': 'next.terminated',
          'truncated': 'next.truncated', 'success': 'next.success'}
_QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
_PANDAS = {  # how pandas says that the texts are the index of meta/tasks.parquet
    'index_columns': ['__index_level_0__'], 'column_indexes': [
        {'name': None, 'field_name': None, 'pandas_type': 'unicode', 'numpy_type': 'object',
         'metadata': {'encoding': 'UTF-8'}}],
    'columns': [
        {'name': 'task_index', 'field_name': 'task_index', 'pandas_type': 'int64',
         'numpy_type': 'int64', 'metadata': None},
        {'name': None, 'field_name': '__index_level_0__', 'pandas_type': 'unicode',
         'numpy_type': 'object', 'metadata': None}],
    'creator': {'library': 'pyarrow', 'version': pyarrow.__version__}, 'pandas_version': '2.2.0'}


def write(output: Path, source: Source) -> int:
    """
    Write a LeRobotDataset; return the number of transitions.

    :raises RecordingError: nothing to write, episodes whose cameras differ, or a full disk.
    """
    contract = source.contract
    fps = round(contract.rate_hz) if contract is not None and contract.rate_hz >= 1 else 1
    writer, total, rows, wholes = None, 0, [], []
    names: dict[str, list[str] | None] = {'observation.state': None, 'action': None}
    if contract is not None:
        names = {'observation.state': list(contract.observation.elements),
                 'action': list(contract.action.elements)}
    features: dict[str, Any] = {}
    with new_path(output) as path:
        for part in (DATA, EPISODES):
            (path / part).parent.mkdir(parents=True)
        video = VideoColumns(path, fps)
        try:
            for number, episode in enumerate(source.episodes):
                count = len(episode)
                columns = _columns(episode)
                if source.pictures is not None:
                    columns |= video.add(source.pictures(episode.name), episode)
                columns |= _index(number, total, count, fps)
                if writer is None:
                    features = {name: _feature(name, values, names)
                                for name, values in columns.items()}
                    writer = parquet.ParquetWriter(path / DATA, _schema(columns))
                writer.write_table(pyarrow.table(
                    {name: _array(values) for name, values in columns.items()},
                    schema=writer.schema))
                stats = {name: _stats(values) for name, values in columns.items()
                         if values.dtype != object}
                rows.append({
                    'episode_index': number, 'tasks': [contract.task if contract else 'unknown'],
                    'length': count, 'data/chunk_index': 0, 'data/file_index': 0,
                    'dataset_from_index': total, 'dataset_to_index': total + count,
                    **video.row(total, count), **{
                        f'stats/{name}/{key}': value for name, found in (
                            stats | video.stats()).items() for key, value in found.items()},
                    'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0,
                    METADATA_KEY: json.dumps({'name': episode.name, **episode.metadata})})
                wholes.append(stats | video.stats())
                total += count
            if writer is None:
                raise RecordingError('no episode to export')
        except (pyarrow.ArrowException, KeyError) as error:
            raise RecordingError(f'{output} cannot be written: {error}') from error
        finally:
            if writer is not None:
                writer.close()
            video.close()
        parquet.write_table(pyarrow.Table.from_pylist(rows), path / EPISODES)
        _write_tasks(path, contract)
        _write_json(path / 'meta/stats.json', {
            name: _joined([found[name] for found in wholes]) for name in wholes[0]})
        _write_json(path / 'meta/info.json', {
            'codebase_version': VERSION, 'robot_type': contract.robot if contract else None,
            'total_episodes': len(rows), 'total_frames': total, 'total_tasks': 1,
            'chunks_size': 1000, 'data_files_size_in_mb': 100, 'video_files_size_in_mb': 200,
            'fps': fps, 'splits': {'train': f'0:{len(rows)}'},
            'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
            'video_path': ('videos/{video_key}/chunk-{chunk_index:03d}/'
                           'file-{file_index:03d}.mp4') if video.keys else None,
            'features': {**features, **video.features()},
            CONTRACT_KEY: contract.to_json() if contract else ''})
    return total


def read(path: Path) -> Source:
    """
    Return what a LeRobotDataset v3.0 holds; pictures are not read.

    :raises RecordingError: it is none, damaged, or of another version.
    """
    file = path / 'meta/info.json'
    try:
        if file.stat().st_size > MAX_INFO_BYTES:
            raise RecordingError(f'{file} is larger than {MAX_INFO_BYTES} bytes')
        info = json.loads(file.read_text(encoding='utf-8'))
        version, fps = info['codebase_version'], float(info['fps'])
        if version != VERSION:
            raise RecordingError(f'{path} is a LeRobotDataset {version}, expected {VERSION}; '
                                 'convert it with lerobot first')
        text = info.get(CONTRACT_KEY, '')
        if _NAMES['reward'] not in info['features']:
            _LOG.warning('%s has no %s: all rewards are zero', path, _NAMES['reward'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f'{path} is no LeRobotDataset: {file.name}: {error!r}') from None
    return Source(Contract.from_json(text) if text else None, _episodes(path, fps))


def _episodes(path: Path, fps: float) -> Iterator[RecordedEpisode]:
    """Yield the episodes, whose frames lie one after the other in sorted files."""
    files = sorted((path / 'data').glob('chunk-*/file-*.parquet'))
    if not files:
        raise RecordingError(f'{path} has no data/chunk-*/file-*.parquet')
    known = _metadata(path)
    waiting: list[pyarrow.Table] = []
    current = -1
    try:
        for file in files:
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=4096):
                table = pyarrow.Table.from_batches([batch])
                numbers = table['episode_index'].to_numpy()
                cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
                for first, last in zip(cuts, cuts[1:]):
                    if numbers[first] != current and waiting:
                        yield _read_episode(path, current, waiting, known, fps)
                        waiting = []
                    current = int(numbers[first])
                    waiting.append(table.slice(first, last - first))
        if waiting:
            yield _read_episode(path, current, waiting, known, fps)
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as error:
        raise RecordingError(f'{path} cannot be read: {error!r}') from error


def _read_episode(path: Path, number: int, tables: list[pyarrow.Table],
                  known: dict[int, dict[str, str]], fps: float) -> RecordedEpisode:
    table = pyarrow.concat_tables(tables)
    columns = {name: _numbers(table[name]) for name in table.column_names
               if name in _NAMES.values() or name.startswith((_EXTRA, 'next.done', 'timestamp'))}
    found = {ours: columns[theirs] for ours, theirs in _NAMES.items() if theirs in columns}
    found |= {name.removeprefix(_EXTRA): values for name, values in columns.items()
              if name.startswith(_EXTRA) and name.removeprefix(_EXTRA) in _OURS}
    count = len(table)
    for name in ('observation', 'action'):
        if name not in found:
            raise RecordingError(f'{path} has no {_NAMES[name]}; it has '
                                 f'{", ".join(table.column_names)}')
    found.setdefault('reward', np.zeros(count))
    found.setdefault('terminated', np.asarray(found.get('success', np.zeros(count)), bool)
                     & np.asarray(columns.get('next.done', np.zeros(count)), bool))
    found.setdefault('stamp_ns', np.round(
        columns.get('timestamp', np.arange(count) / fps).astype(np.float64) * 1e9))
    if 'next_observation' not in found:
        found['next_observation'] = found['observation'][1:]
        found = {name: values[:count - 1] for name, values in found.items()}
    if 'truncated' not in found:
        found['truncated'] = np.zeros(len(found['action']), bool)
        if len(found['truncated']):
            found['truncated'][-1] = not found['terminated'][-1]
    metadata = dict(known.get(number, {}))
    return episode_of(metadata.pop('name', f'{path.name}/{number}'), number, found, metadata)


_OURS = ('wanted', 'limited', 'policy_version', 'step', 'stamp_ns', 'origin', 'intervention',
         'privileged', 'next_privileged')


def _metadata(path: Path) -> dict[int, dict[str, str]]:
    """Return what is known of each episode by its index; nothing of foreign ones."""
    found = {}
    for file in sorted((path / 'meta/episodes').glob('chunk-*/file-*.parquet')):
        schema = parquet.read_schema(file)
        if METADATA_KEY in schema.names:
            table = parquet.read_table(file, columns=['episode_index', METADATA_KEY])
            found |= {row['episode_index']: json.loads(row[METADATA_KEY])
                      for row in table.to_pylist()}
    return found


def _numbers(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Return a column as an array, shape (N,) or (N, W)."""
    joined = column.combine_chunks()
    if pyarrow.types.is_nested(joined.type):
        width = len(joined[0]) if len(joined) else 0
        return joined.flatten().to_numpy(zero_copy_only=False).reshape(len(joined), width)
    return joined.to_numpy(zero_copy_only=False)


def _columns(episode: RecordedEpisode) -> dict[str, np.ndarray]:
    batch = episode.batch
    columns = {_NAMES.get(name, _EXTRA + name): values
               for name, values in episode.columns().items() if name != 'episode'}
    if batch.intervention is not None:
        columns[f'{_EXTRA}intervention'] = np.array(as_texts(batch.intervention), object)
    return {**columns, 'next.done': batch.terminated | batch.truncated}


def _index(number: int, first: int, count: int, fps: int) -> dict[str, np.ndarray]:
    frame = np.arange(count, dtype=np.int64)
    return {'timestamp': (frame / fps).astype(np.float32), 'frame_index': frame,
            'episode_index': np.full(count, number, np.int64), 'index': frame + first,
            'task_index': np.zeros(count, np.int64)}


def _array(values: np.ndarray) -> pyarrow.Array:
    return vectors(values) if values.ndim == 2 and values.shape[1] > 1 \
        else pyarrow.array(values.reshape(-1))


def _feature(name: str, values: np.ndarray, names: dict[str, list[str] | None]
             ) -> dict[str, Any]:
    return {'dtype': _type(values), 'shape': [values.shape[1] if values.ndim == 2 else 1],
            'names': names.get(name)}


def _type(values: np.ndarray) -> str:
    return 'string' if values.dtype == object else str(values.dtype)


def _schema(columns: dict[str, np.ndarray]) -> pyarrow.Schema:
    """Return the schema with the note by which the package datasets knows the columns' types."""
    fields, noted = [], {}
    for name, values in columns.items():
        array = _array(values)
        fields.append(pyarrow.field(name, array.type))
        value = {'dtype': _type(values), '_type': 'Value'}
        noted[name] = {'feature': value, 'length': values.shape[1], '_type': 'List'} \
            if pyarrow.types.is_nested(array.type) else value
    return pyarrow.schema(fields, {'huggingface': json.dumps({'info': {'features': noted}})})


def _stats(values: np.ndarray) -> dict[str, list]:
    """Return what LeRobot wants to know of one episode's column, a list per statistic."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(rows, list(_QUANTILES.values()), axis=0)
    return {'min': rows.min(0).tolist(), 'max': rows.max(0).tolist(),
            'mean': rows.mean(0).tolist(), 'std': rows.std(0).tolist(), 'count': [len(rows)],
            **{name: quantiles[i].tolist() for i, name in enumerate(_QUANTILES)}}


def _joined(parts: list[dict[str, list]]) -> dict[str, list]:
    """Return the statistics of all episodes; quantiles as means weighted by length, as LeRobot."""
    counts = np.array([part['count'][0] for part in parts], np.float64)
    stacked = {key: np.array([part[key] for part in parts], np.float64) for key in parts[0]}
    share = (counts / counts.sum()).reshape(-1, *[1] * (stacked['mean'].ndim - 1))
    mean = (share * stacked['mean']).sum(0)
    spread = (share * (stacked['std'] ** 2 + (stacked['mean'] - mean) ** 2)).sum(0)
    return {'min': stacked['min'].min(0).tolist(), 'max': stacked['max'].max(0).tolist(),
            'mean': mean.tolist(), 'std': np.sqrt(spread).tolist(), 'count': [int(counts.sum())],
            **{name: (share * stacked[name]).sum(0).tolist() for name in _QUANTILES}}


def _write_tasks(path: Path, contract: Contract | None) -> None:
    table = pyarrow.table({'task_index': pyarrow.array([0], pyarrow.int64()),
                           '__index_level_0__': [contract.task if contract else 'unknown']})
    parquet.write_table(table.replace_schema_metadata({'pandas': json.dumps(_PANDAS)}),
                        path / 'meta/tasks.parquet')


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4), encoding='utf-8')
