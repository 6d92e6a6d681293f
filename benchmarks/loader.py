# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Drawing from recorded data: ``python -m benchmarks.loader [--quick]``.

Samples per second of our mapped store against LeRobot's own ``LeRobotDataset`` behind torch's
``DataLoader``, both in one process. The data are the same episodes, exported by ``rl_nodes dataset
export`` and, for LeRobot, without what it has no use for; each batch is of the same rows, drawn at
random, and what comes is compared.

    transitions_vs_lerobot   observation, action, reward, next observation, whether it ended
    windows_vs_lerobot       16 observations and actions in a row, and which are behind the end

They take turns in blocks; the figure is the median over the blocks. LeRobot pins another torch
than rl_nodes, so it wants an environment of its own: ``pip install lerobot==0.4.4 -e .[datasets]``
there, and ``python -m benchmarks.loader``.
"""

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
import json
import os
from pathlib import Path
import tempfile
import time

import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.data.transition_store import Draws, TransitionStore, write_store
from rl_nodes.datasets.formats import episode_of, Source
from rl_nodes.tasks import load_task
import torch

from benchmarks.report import Metric, publish, table

BATCH, WINDOW, ROWS = 256, 16, 500      # of a batch, a window and an episode
PEER = 'lerobot 0.4'
KEPT = ('observation.state', 'action', 'next.reward', 'next.done', 'next.success', 'timestamp',
        'frame_index', 'episode_index', 'index', 'task_index')

# A batch of row numbers to tensors: observation, action and more.
Load = Callable[[np.ndarray], dict[str, torch.Tensor]]


def episodes(contract: Contract, count: int) -> Iterator[RecordedEpisode]:
    """Yield episodes of numbers."""
    rng = np.random.default_rng(0)
    size, actions = contract.observation.shape[0], contract.action.shape[0]
    for number in range(count):
        states = rng.normal(size=(ROWS + 1, size)).astype(np.float32)
        yield episode_of(str(number), number, {
            'observation': states[:-1], 'next_observation': states[1:],
            'action': rng.uniform(-1, 1, (ROWS, actions)), 'reward': rng.normal(size=ROWS),
            'terminated': np.zeros(ROWS), 'truncated': np.arange(ROWS) == ROWS - 1}, {})


def our_transitions(store: TransitionStore) -> Load:
    """Return what loads transitions from a store."""
    def load(rows: np.ndarray) -> dict[str, torch.Tensor]:
        batch = store.batch(rows)
        return {name: torch.from_numpy(column) for name, column in batch.columns().items()}
    return load


def our_windows(store: TransitionStore) -> Load:
    """Return what loads windows from a store."""
    def load(rows: np.ndarray) -> dict[str, torch.Tensor]:
        columns, mask = store.windows(rows, WINDOW)
        return {**{name: torch.from_numpy(column) for name, column in columns.items()},
                'mask': torch.from_numpy(mask)}
    return load


def lerobot(folder: Path, steps: dict[str, int], fps: float) -> Load:
    """
    Return what LeRobot loads.

    :param steps: how many values of each column belong to a sample.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    dataset = LeRobotDataset('rl_nodes/benchmark', root=folder, delta_timestamps={
        name: [k / fps for k in range(count)] for name, count in steps.items()})

    def load(rows: np.ndarray) -> dict[str, torch.Tensor]:
        found, = torch.utils.data.DataLoader(dataset, batch_sampler=[rows.tolist()])
        return found
    return load


def export_lerobot(folder: Path, contract: Contract, count: int) -> None:
    """Write the episodes as a LeRobotDataset, with what it reads of its own data only."""
    from pyarrow import parquet
    from rl_nodes.datasets import lerobot as exporter
    exporter.write(folder, Source(contract, episodes(contract, count), None))
    file, about = folder / 'data/chunk-000/file-000.parquet', folder / 'meta/info.json'
    parquet.write_table(parquet.read_table(file, columns=list(KEPT)).replace_schema_metadata(),
                        file)
    info = json.loads(about.read_text())
    info['features'] = {name: info['features'][name] for name in KEPT}
    about.write_text(json.dumps(info))


def rate(load: Load, draws: Draws, seconds: float) -> float:
    """Return samples per second."""
    begin, number = time.perf_counter(), 0
    while not number or time.perf_counter() - begin < seconds:
        load(draws.rows(number))
        number += 1
    return number * BATCH / (time.perf_counter() - begin)


def require_same(name: str, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]
                 ) -> None:
    """Require that both have loaded the same."""
    observed, inside = theirs['observation.state'], ~theirs['observation.state_is_pad']
    if name == 'windows':
        same = torch.equal(inside, ours['mask']) and torch.equal(
            observed[inside], ours['observation'][inside])
    else:
        same = torch.equal(observed[:, 0], ours['observation']) and torch.equal(
            observed[:, 1][inside[:, 1]], ours['next_observation'][inside[:, 1]])
    if not same:
        raise SystemExit(f'{name}: what LeRobot loads is not what we load')


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='within a minute')
    options = parser.parse_args()
    count, blocks, seconds = (20, 3, 1.0) if options.quick else (200, 7, 4.0)
    os.environ['HF_HUB_OFFLINE'] = '1'
    torch.set_num_threads(1)
    contract = load_task('arm', 'reach').contract
    peer = find_spec('lerobot') is not None
    steps = {'transitions': {'observation.state': 2},
             'windows': {'observation.state': WINDOW, 'action': WINDOW}}
    rows, metrics = [], {}
    with tempfile.TemporaryDirectory() as name:
        write_store(Path(name) / 'store', contract, episodes(contract, count))
        store = TransitionStore(Path(name) / 'store', contract)
        draws = Draws(store, BATCH, seed=0)
        if peer:
            export_lerobot(Path(name) / 'lerobot', contract, count)
        for kind, ours in (('transitions', our_transitions(store)),
                           ('windows', our_windows(store))):
            theirs = lerobot(Path(name) / 'lerobot', steps[kind], contract.rate_hz) if peer \
                else None
            if theirs is not None:
                require_same(kind, ours(draws.rows(0)), theirs(draws.rows(0)))
            taken = [(rate(ours, draws, seconds), rate(theirs, draws, seconds) if theirs else 0.0)
                     for _ in range(blocks)]
            fast, slow = np.median(taken, axis=0)
            rows.append([kind, f'{fast:.0f}', f'{slow:.0f}' if peer else '-'])
            metrics[f'{kind}_vs_lerobot'] = Metric(
                float(np.median([a / b for a, b in taken])) if peer else None, '>= 1',
                f'{PEER}, {count * ROWS} rows, batches of {BATCH}' if peer else
                f'{PEER} is not installed, see above')
    print(table(['samples per second', 'rl_nodes', PEER], rows), '\n')
    publish(metrics)


if __name__ == '__main__':
    main()
