# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Export to and import from Minari, by its own library.

A Minari episode has one more observation than steps, each the next one of the step before. So an
episode in which states are missing becomes several; the last step before a gap is ``truncated``
there. What else is known of each step is in ``infos``.
"""

from collections.abc import Iterator
import json
from pathlib import Path

import gymnasium
import minari
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.data.recorded import RecordedEpisode, run_ends
from rl_nodes.datasets.formats import CONTRACT_KEY, episode_of, METADATA_KEY, new_path, Source

_IN_LAYOUT = ('observation', 'next_observation', 'action', 'reward', 'terminated', 'truncated',
              'episode')


def write(output: Path, source: Source) -> int:
    """
    Write a Minari data set; return the number of transitions.

    :param output: its folder, as ``<MINARI_DATASETS_PATH>/<name>-v0``.
    :raises RecordingError: nothing to write, or it cannot be written.
    """
    buffers, metadata = [], []
    for episode in source.episodes:
        for part in _unbroken(episode):
            buffers.append(_buffer(len(buffers), part))
            metadata.append({METADATA_KEY: json.dumps({'name': part.name, **part.metadata})})
    if not buffers:
        raise RecordingError('no episode to export')
    with new_path(output) as path:
        path.mkdir()
        storage = MinariStorage.new(
            path / 'data', observation_space=_space(
                source.contract and source.contract.observation, buffers[0].observations),
            action_space=_space(source.contract and source.contract.action, buffers[0].actions),
            data_format='hdf5')
        storage.update_metadata({
            'dataset_id': output.name, 'minari_version': minari.__version__,
            'algorithm_name': 'rl_nodes', 'requirements': [],
            CONTRACT_KEY: source.contract.to_json() if source.contract else ''})
        storage.update_episodes(buffers)
        storage.update_episode_metadata(metadata)
    return sum(len(buffer) for buffer in buffers)


def read(path: Path) -> Source:
    """
    Return what a Minari data set holds.

    :raises RecordingError: it is none, or observations or actions are not vectors of numbers.
    """
    if not (path / 'data').is_dir():
        raise RecordingError(f'{path} is no Minari data set: it has no folder data')
    try:
        dataset = minari.MinariDataset(path / 'data')
        for name, space in (('observations', dataset.observation_space),
                            ('actions', dataset.action_space)):
            if not (isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1):
                raise RecordingError(f'{path}: {name} are {space}, expected vectors (Box)')
        text = dataset.storage.metadata.get(CONTRACT_KEY, '')
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise RecordingError(f'{path} cannot be read: {error}') from error
    return Source(Contract.from_json(text) if text else None, _episodes(path, dataset))


def _episodes(path: Path, dataset: minari.MinariDataset) -> Iterator[RecordedEpisode]:
    known = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    try:
        for number, (episode, noted) in enumerate(zip(dataset.iterate_episodes(), known)):
            metadata = json.loads(noted.get(METADATA_KEY, '{}'))
            infos = {name: values for name, values in (episode.infos or {}).items()
                     if name in _KNOWN_INFOS}
            yield episode_of(metadata.pop('name', f'{path.name}/{number}'), number, {
                'observation': episode.observations[:-1],
                'next_observation': episode.observations[1:], 'action': episode.actions,
                'reward': episode.rewards, 'terminated': episode.terminations,
                'truncated': episode.truncations, **infos}, metadata)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f'{path} cannot be read: {error}') from error


_KNOWN_INFOS = ('wanted', 'success', 'limited', 'policy_version', 'step', 'stamp_ns', 'origin',
                'intervention', 'privileged', 'next_privileged')


def _unbroken(episode: RecordedEpisode) -> Iterator[RecordedEpisode]:
    """Yield the runs of steps that follow each other."""
    batch = episode.batch
    ends = np.unique(run_ends(batch.episode, batch.step, batch.terminated | batch.truncated))
    columns, start = episode.columns(), 0
    for end in ends.tolist():
        part = {name: values[start:end].copy() for name, values in columns.items()}
        part['truncated'][-1] |= not part['terminated'][-1]
        suffix = '' if len(ends) == 1 else f'#{start}'
        yield episode_of(f'{episode.name}{suffix}', 0, part, episode.metadata)
        start = end


def _buffer(number: int, episode: RecordedEpisode) -> EpisodeBuffer:
    batch = episode.batch
    return EpisodeBuffer(
        id=number, observations=np.concatenate([batch.observation, batch.next_observation[-1:]]),
        actions=batch.action, rewards=batch.reward, terminations=batch.terminated,
        truncations=batch.truncated,
        infos={name: values for name, values in episode.columns().items()
               if name not in _IN_LAYOUT})


def _space(spec: ArraySpec | None, like: np.ndarray) -> gymnasium.spaces.Box:
    if spec is None:
        return gymnasium.spaces.Box(-np.inf, np.inf, like.shape[1:], np.float32)
    low, high = spec.bounds()
    return gymnasium.spaces.Box(low, high, dtype=np.float32)
