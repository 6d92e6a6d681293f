# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Export to one table, a row per transition: ``.npz`` or ``.parquet``.

The ``.npz`` file has one array per column of a ``TransitionBatch`` and the contract's fingerprint
as ``contract_fingerprint``. The ``.parquet`` file has stamps and the file that each row comes from
besides, and says who acted by name; the contract and the episodes' metadata are in the file's
metadata.
"""

import json
from pathlib import Path

import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.origin import ORIGINS
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.datasets.formats import as_texts, CONTRACT_KEY, METADATA_KEY, new_path, Source
from rl_nodes.training.demonstrations import save


def write(output: Path, source: Source) -> int:
    """
    Write a table; return the number of transitions.

    :raises RecordingError: nothing to write, or it cannot be written.
    """
    with new_path(output) as path:
        return _write_npz(path, source) if output.suffix == '.npz' else _write_parquet(
            path, source)


def _write_npz(path: Path, source: Source) -> int:
    batches = []
    for number, episode in enumerate(source.episodes):
        episode.batch.episode[:] = number
        batches.append(episode.batch)
    if not batches:
        raise RecordingError('no episode to export')
    batch = TransitionBatch.concatenate(batches)
    save(path, batch, source.contract)
    return len(batch)


def _write_parquet(path: Path, source: Source) -> int:
    import pyarrow
    from pyarrow import parquet

    count, writer, metadata = 0, None, {}
    try:
        for number, episode in enumerate(source.episodes):
            table = _table(number, episode)
            metadata[episode.name] = episode.metadata
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += len(episode)
        if writer is None:
            raise RecordingError('no episode to export')
        writer.add_key_value_metadata({
            METADATA_KEY: json.dumps(metadata),
            CONTRACT_KEY: source.contract.to_json() if source.contract else ''})
    except pyarrow.ArrowException as error:
        raise RecordingError(f'{path} cannot be written: {error}') from error
    finally:
        if writer is not None:
            writer.close()
    return count


def _table(number: int, episode: RecordedEpisode) -> 'pyarrow.Table':  # noqa: F821 - optional
    import pyarrow

    columns = {}
    for name, values in {**episode.columns(),
                         'episode': np.full(len(episode), number)}.items():
        columns[name] = vectors(values) if values.ndim == 2 else pyarrow.array(values)
    batch = episode.batch
    if batch.origin is not None:
        columns['origin'] = pyarrow.array([ORIGINS[code] for code in batch.origin.tolist()])
    if batch.intervention is not None:
        columns['intervention'] = pyarrow.array(as_texts(batch.intervention))
    columns['file'] = pyarrow.array([episode.name] * len(episode))
    return pyarrow.table(columns)


def vectors(values: np.ndarray) -> 'pyarrow.Array':  # noqa: F821 - optional
    """Return rows of equal length, shape (N, W), as a column."""
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
