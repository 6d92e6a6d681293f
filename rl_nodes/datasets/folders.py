# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of recorded episodes: what is in them, put together, taken apart, repaired."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError, RecordingError
from rl_nodes.data.inspection import inspect
from rl_nodes.data.reader import Episode
from rl_nodes.data.recovery import recover, Recovery, repair
from rl_nodes.data.rewriting import copy_episode
from rl_nodes.data.rosbag2 import index_folder


class Copied(NamedTuple):
    """
    One file of a new folder.

    :param source: where it was copied from.
    :param path: what it is now.
    """

    source: Path
    path: Path


def describe(episodes: Sequence[Episode]) -> str:
    """Return a table for people: what the episodes are, who acted, how they ended."""
    rows: dict[str, str] = {}
    steps = [int(episode.metadata.get('steps') or 0) for episode in episodes]
    seconds = sum(count / episode.contract.rate_hz
                  for count, episode in zip(steps, episodes) if episode.contract.rate_hz)
    wins = sum(episode.metadata.get('success') == 'true' for episode in episodes)
    returns = [float(episode.metadata['return_undiscounted']) for episode in episodes
               if episode.metadata.get('return_undiscounted')]
    rows['episodes'] = str(len(episodes))
    rows['transitions'] = f'{sum(steps)} ({min(steps)} to {max(steps)} an episode)'
    rows['duration'] = f'{seconds:.1f} s'
    rows['success'] = f'{wins} of {len(episodes)} ({wins / len(episodes):.0%})'
    if returns:
        rows['return'] = f'mean {np.mean(returns):.3g}, {min(returns):.3g} to {max(returns):.3g}'
    for name, key in (('robots', 'robot'), ('tasks', 'task'), ('contracts', 'contract'),
                      ('ended by', 'reason'), ('seeds', 'seed')):
        rows[name] = _counted(episode.metadata.get(key, '')[:16] for episode in episodes)
    rows['policies'] = _counted(name for episode in episodes for name in _json(
        episode, 'policy_versions', [])) or 'none'
    decisions: Counter[str] = Counter()
    for episode in episodes:
        decisions.update({name: n for name, n in dict(_json(episode, 'decisions', {})).items()
                          if isinstance(n, int)})
    rows['decisions'] = ', '.join(f'{name} ({n})' for name, n in decisions.most_common()) or 'none'
    rows['software'] = _counted(f'{name} {version}' for episode in episodes for name, version
                                in _json(episode, 'software', {}).items())
    rows['topics'] = ', '.join(sorted({topic for episode in episodes for topic in episode.topics}))
    rows['bytes'] = str(sum(episode.path.stat().st_size for episode in episodes))
    return '\n'.join(f'{name:<12} {text}' for name, text in rows.items())


def repair_all(inputs: Iterable[str | Path]) -> list[Recovery]:
    """
    Close unfinished files and save what damaged ones hold; sound ones are left alone.

    Folders become bags of rosbag2 again, of all files that are complete.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :raises RecordingError: a path that does not exist.
    """
    found: list[Recovery] = []
    for given in map(Path, inputs):
        if not given.exists():
            raise RecordingError(f'{given} does not exist')
        if given.is_dir():
            found += recover(given)
        files = sorted(given.glob('*.mcap')) if given.is_dir() else [given]
        found += [repair(finding.path) for finding in (inspect(files) if files else [])
                  if finding.episode is None]
        if given.is_dir():
            index_folder(given)
    return found


def merge(episodes: Sequence[Episode], output: Path) -> tuple[list[Copied], list[str]]:
    """
    Copy episodes into one new folder, numbered anew; the same recording twice is copied once.

    :return: the copies and what was left out, in words.
    :raises RecordingError: the folder has files already, or cannot be written.
    """
    known: dict[str, Path] = {}
    chosen, left_out = [], []
    for episode in episodes:
        digest = file_digest(episode.path)
        if digest in known:
            left_out.append(f'{episode.path} left out: the same as {known[digest]}')
        else:
            known[digest] = episode.path
            chosen.append(episode)
    return _copy_all(chosen, output), left_out


def split_by_share(episodes: Sequence[Episode], output: Path, shares: dict[str, float],
                   seed: int) -> dict[str, list[Copied]]:
    """
    Copy each episode into one of several new folders, by chance.

    :param shares: name of a folder below ``output`` to its share; together 1.
    :param seed: the same seed and episodes give the same folders.
    :raises ConfigError: shares that are none.
    """
    if abs(sum(shares.values()) - 1.0) > 1e-6 or min(shares.values()) <= 0:
        raise ConfigError(f'shares {shares}: expected positive numbers that sum to 1')
    order = np.random.default_rng(seed).permutation(len(episodes))
    bounds = np.round(np.cumsum([0.0, *shares.values()]) * len(episodes)).astype(int)
    return {name: _copy_all([episodes[i] for i in sorted(order[low:high])], output / name)
            for name, low, high in zip(shares, bounds, bounds[1:])}


def split_by_metadata(episodes: Sequence[Episode], output: Path,
                      key: str) -> dict[str, list[Copied]]:
    """
    Copy each episode into a folder ``<key>_<value>`` by one entry of its metadata.

    :raises ConfigError: an episode without that entry.
    """
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        if key not in episode.metadata:
            raise ConfigError(f'{episode.path} has no metadata {key!r}'
                              f'{suggestion(key, episode.metadata)}; it has '
                              f'{", ".join(sorted(episode.metadata))}')
        value = ''.join(letter if letter.isalnum() or letter in '-._@' else '_'
                        for letter in episode.metadata[key]).strip('.')[:80] or 'none'
        groups.setdefault(f'{key}_{value}', []).append(episode)
    return {name: _copy_all(group, output / name) for name, group in sorted(groups.items())}


def write_each(episodes: Sequence[Episode], output: Path,
               write: Callable[[Episode, Path], object]) -> list[Path]:
    """
    Have one new file written for each episode, under the name that it has.

    :raises RecordingError: the folder has files already, or two episodes have the same name.
    """
    names = Counter(episode.path.name for episode in episodes)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RecordingError(f'{", ".join(twice)} from several folders; merge them first')
    _require_empty(output)
    paths = [output / episode.path.name for episode in episodes]
    for episode, path in zip(episodes, paths):
        write(episode, path)
    return paths


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    try:
        with path.open('rb') as stream:
            return hashlib.file_digest(stream, 'sha256').hexdigest()
    except OSError as error:
        raise RecordingError(f'{path} cannot be read: {error}') from error


def _copy_all(episodes: Sequence[Episode], output: Path) -> list[Copied]:
    _require_empty(output)
    return [Copied(episode.path, copy_episode(
        episode.path, output / f'episode_{number:06d}.mcap'))
        for number, episode in enumerate(episodes)]


def _require_empty(output: Path) -> None:
    if output.is_dir() and any(output.iterdir()) or output.is_file():
        raise RecordingError(f'{output} has something in it already; name a new folder')


def _json(episode: Episode, key: str, empty: list | dict) -> list | dict:
    try:
        found = json.loads(episode.metadata.get(key) or 'null')
    except ValueError:
        found = None
    return found if isinstance(found, type(empty)) else empty


def _counted(names: Iterable[str]) -> str:
    return ', '.join(f'{name or "none"} ({count})'
                     for name, count in Counter(names).most_common(12))
