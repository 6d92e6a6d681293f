# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The memory that a vector environment and its workers share.

An anonymous file in memory: it has no name, so whatever dies, and however, nothing is left behind.
"""

import mmap
import os
from typing import Any

from msgspec import Struct
import numpy as np

ALIGNMENT = 64  # a cache line
PICTURE = (480, 640, 3)
MESSAGE_BYTES = 4096
NO_SEED = -1


class BlockLayout(Struct, frozen=True, forbid_unknown_fields=True):
    """
    What both sides must agree on.

    :param environments: N, how many in all.
    :param workers: W, how many processes.
    :param observation: O, elements of an observation.
    :param action: A, elements of an action.
    :param infos: K, values of an environment's info.
    :param privileged: P, elements of what only a critic or a teacher sees.
    :param variation: V, values of what is different in an episode.
    :param pictures: whether there is room for one picture per environment.
    """

    environments: int
    workers: int
    observation: int
    action: int
    infos: int
    privileged: int
    variation: int
    pictures: bool

    def blocks(self) -> list[tuple[str, tuple[int, ...], Any]]:
        """Return (name, shape, type) of every block in order."""
        n = self.environments
        return [('observation', (n, self.observation), np.float32),
                ('final_observation', (n, self.observation), np.float32),
                ('action', (n, self.action), np.float32),
                ('reward', (n,), np.float64),
                ('info', (n, self.infos), np.float64),
                ('privileged', (n, self.privileged), np.float32),
                ('final_privileged', (n, self.privileged), np.float32),
                ('variation', (n, self.variation), np.float64),
                ('difficulty', (n,), np.float64),
                ('terminated', (n,), np.bool_),
                ('truncated', (n,), np.bool_),
                ('seed', (n,), np.int64),
                ('message', (self.workers, MESSAGE_BYTES), np.uint8),
                ('picture', (n if self.pictures else 0, *PICTURE), np.uint8)]


class SharedBlocks:
    """
    The blocks as arrays.

    :ivar observation: (N, O) float32, of the state that the next action answers.
    :ivar final_observation: (N, O) float32, last of an episode; only where one has just ended.
    :ivar action: (N, A) float32.
    :ivar reward: (N,) float64.
    :ivar info: (N, K) float64, of the step; of the old episode where one has just ended.
    :ivar privileged: (N, P) float32, of the state in ``observation``.
    :ivar final_privileged: (N, P) float32, of the state in ``final_observation``.
    :ivar variation: (N, V) float64, of the episode that ``observation`` belongs to.
    :ivar difficulty: (N,) float64, of the next episodes.
    :ivar terminated: (N,) bool.
    :ivar truncated: (N,) bool.
    :ivar seed: (N,) int64 for the next reset; ``NO_SEED`` for none.
    :ivar message: (W, bytes) uint8, why a worker failed, UTF-8, padded with zeros.
    :ivar picture: (N, 480, 640, 3) uint8, or N = 0.

    :param layout: of the blocks.
    :param file: descriptor of the memory; its size is set here.
    """

    def __init__(self, layout: BlockLayout, file: int) -> None:
        size, places = 0, []
        for name, shape, kind in layout.blocks():
            places.append((name, shape, kind, size))
            count = int(np.prod(shape)) * np.dtype(kind).itemsize
            size += -(-count // ALIGNMENT) * ALIGNMENT
        self._memory = mmap.mmap(_sized(file, size), size)
        arrays = {name: np.ndarray(shape, kind, self._memory, offset)
                  for name, shape, kind, offset in places}
        self.observation = arrays['observation']
        self.final_observation = arrays['final_observation']
        self.action = arrays['action']
        self.reward = arrays['reward']
        self.info = arrays['info']
        self.privileged = arrays['privileged']
        self.final_privileged = arrays['final_privileged']
        self.variation = arrays['variation']
        self.difficulty = arrays['difficulty']
        self.terminated = arrays['terminated']
        self.truncated = arrays['truncated']
        self.seed = arrays['seed']
        self.message = arrays['message']
        self.picture = arrays['picture']

    def write_message(self, worker: int, text: str) -> None:
        """Leave a worker's last words."""
        data = text.encode()[:MESSAGE_BYTES]
        self.message[worker] = 0
        self.message[worker, :len(data)] = np.frombuffer(data, np.uint8)

    def read_message(self, worker: int) -> str:
        """Return a worker's last words."""
        return self.message[worker].tobytes().rstrip(b'\0').decode(errors='replace')


def _sized(file: int, size: int) -> int:
    """Return a file that is at least ``size`` bytes long."""
    if os.fstat(file).st_size < size:
        os.ftruncate(file, size)
    return file
