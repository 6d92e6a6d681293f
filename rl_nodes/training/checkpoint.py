# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints that are complete or absent, whatever is killed, and that notice damage.

``<folder>/checkpoint_<steps>.pt`` holds tensors, numbers and text only and is loaded with weights
only; ``.sha256`` beside it is written first, so that a file without it was never finished. The
folder keeps the newest K.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from rl_nodes.core.errors import CheckpointError
import torch

FORMAT_VERSION = 1
_log = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        """
        Create the folder.

        :param keep: how many checkpoints stay; at least 2 protect against a damaged newest one.
        """
        self.folder = folder
        self._keep = keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f'{folder}: cannot be used for checkpoints: {error}') from error

    def paths(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.folder.glob('checkpoint_*.pt'))

    def save(self, state: dict[str, Any], steps: int) -> Path:
        """
        Write a checkpoint and then drop the oldest ones.

        :param state: nested dicts and lists of tensors, numpy arrays, numbers and text.
        :param steps: environment steps so far; names the file.
        :raises CheckpointError: the disk refused; what was there before is untouched.
        """
        path = self.folder / _name(steps)
        temporary = path.with_suffix('.pt.tmp')
        try:
            self._remove_leftovers()  # of a process that was killed while writing
            with _written(temporary) as stream:
                torch.save({'format_version': FORMAT_VERSION, 'state': _to_tensors(state)}, stream)
            digest_path = _digest_path(path)
            with _written(digest_path.with_suffix('.sha256.tmp')) as stream:
                stream.write(f'{_file_digest(temporary)}  {path.name}\n'.encode())
            os.replace(digest_path.with_suffix('.sha256.tmp'), digest_path)
            os.replace(temporary, path)
            _sync_folder(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            self._remove_leftovers()
            raise CheckpointError(f'{path}: cannot be written: {error}; earlier checkpoints are '
                                  'untouched. Free some disk space') from error
        for old in self.paths()[:-self._keep]:
            old.unlink(missing_ok=True)
            _digest_path(old).unlink(missing_ok=True)
        return path

    def _remove_leftovers(self) -> None:
        for leftover in self.folder.glob('*.tmp'):
            leftover.unlink(missing_ok=True)

    def load_newest(self, most_steps: int | None = None) -> tuple[dict[str, Any], Path] | None:
        """
        Return the newest undamaged checkpoint and its path; None where there is no checkpoint.

        A damaged one is reported with its reason and the one before it is used.

        :param most_steps: leave newer ones out.
        :raises CheckpointError: checkpoints exist, but every one is damaged.
        """
        problems = []
        for path in reversed(self.paths()):
            if most_steps is not None and path.name > _name(most_steps):
                continue
            try:
                state = load(path)
            except CheckpointError as error:
                problems.append(str(error))
                _log.error('DAMAGED CHECKPOINT: %s. Going back to the one before it', error)
            else:
                return state, path
        if problems:
            raise CheckpointError(f'no usable checkpoint in {self.folder}: {"; ".join(problems)}. '
                                  'Start again in a new run directory')
        return None


def load(path: Path) -> dict[str, Any]:
    """
    Return the state in one checkpoint; arrays come back as tensors.

    :raises CheckpointError: missing, damaged, without its digest, or of another format.
    """
    try:
        content = path.read_bytes()
        expected = _digest_path(path).read_text(encoding='ascii').split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise CheckpointError(f'{path}: cannot be read with its .sha256: {error}') from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise CheckpointError(f'{path}: SHA-256 is {actual[:16]}…, expected {expected[:16]}…; the '
                              'file is damaged or incomplete')
    try:
        loaded = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except Exception as error:  # whatever torch's reader meets in a foreign file
        raise CheckpointError(f'{path}: not a checkpoint of rl_nodes: {error}') from error
    if not isinstance(loaded, dict) or loaded.get('format_version') != FORMAT_VERSION:
        raise CheckpointError(f'{path}: not a checkpoint of format {FORMAT_VERSION}; it is from '
                              'another version of rl_nodes')
    state: dict[str, Any] = loaded['state']
    return state


def require_same(saved: dict[str, Any], present: dict[str, Any], source: str) -> None:
    """
    Compare the settings of a checkpoint with those of this run.

    :param saved: nested dicts of numbers and text, from the checkpoint.
    :param present: the same of this run.
    :param source: what the checkpoint is called in messages.
    :raises CheckpointError: lists every difference.
    """
    if found := differences(saved, present, 'checkpoint', 'this run'):
        raise CheckpointError(f'{source} was made with other settings:\n' + '\n'.join(found)
                              + '\nResume with the same settings, or start a new run directory')


def differences(theirs: dict[str, Any], ours: dict[str, Any], they: str, we: str) -> list[str]:
    """
    Return a line for each value that differs between two nested dicts of numbers and text.

    :param they: what has the first ones.
    :param we: what has the others.
    """
    their_leaves, our_leaves, missing = _leaves(theirs), _leaves(ours), '(absent)'
    return [f'  {key}: {they} has {their_leaves.get(key, missing)}, {we} has '
            f'{our_leaves.get(key, missing)}'
            for key in dict.fromkeys([*their_leaves, *our_leaves])
            if their_leaves.get(key, missing) != our_leaves.get(key, missing)]


def _leaves(value: Any, key: str = '') -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: list(value) if isinstance(value, tuple) else value}
    found: dict[str, Any] = {}
    for name, member in value.items():
        found |= _leaves(member, f'{key}.{name}' if key else str(name))
    return found


def _name(steps: int) -> str:
    return f'checkpoint_{steps:012d}.pt'


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_tensors(member) for member in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value


def _digest_path(path: Path) -> Path:
    return path.with_suffix('.sha256')


def _file_digest(path: Path) -> str:
    with path.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[io.BufferedWriter]:
    """Open for writing; the bytes are on the disk when the block ends."""
    with path.open('wb') as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
