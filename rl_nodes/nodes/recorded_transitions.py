# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes to transitions, as the recorder sent them; no running graph is needed."""

from collections.abc import Iterator, Sequence
import contextlib
from dataclasses import replace
from functools import lru_cache
import logging
from pathlib import Path

import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError, SpecError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.inspection import open_episodes
from rl_nodes.data.reader import Episode
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.nodes.transition_feed import TransitionFeed
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task

_LOG = logging.getLogger(__name__)


def read_transitions(inputs: Sequence[str | Path], expected: Contract | None = None,
                     robot: str = '', task: str = '') -> tuple[TransitionBatch, Contract]:
    """
    Return the transitions of recorded episodes and the contract that all of them have.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :param expected: the contract that they must have; None for that of most of them.
    :param robot: as of :func:`task_of`.
    :param task: as of :func:`task_of`.
    :raises RecordingError: names every file that cannot be used, or no transition in any of them.
    :raises ContractError: recorded with another version of robot or task.
    """
    opened, left_out = open_episodes(inputs, expected)
    batches = [replace(recorded.batch, episode=np.full(len(recorded), number, np.int64))
               for number, recorded in enumerate(
                   recorded_episodes(opened, left_out, robot, task))]
    for line in left_out:
        _LOG.warning('%s', line)
    return TransitionBatch.concatenate(batches), opened[0].contract


def read_episodes(inputs: Sequence[str | Path]
                  ) -> tuple[list[RecordedEpisode], Contract, list[Path]]:
    """
    Return recorded episodes one by one, the contract that all of them have, and their files.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :raises RecordingError: as :func:`read_transitions`.
    :raises ContractError: as :func:`read_transitions`.
    """
    opened, left_out = open_episodes(inputs)
    found = list(recorded_episodes(opened, left_out))
    for line in left_out:
        _LOG.warning('%s', line)
    return found, opened[0].contract, [episode.path for episode in opened]


def task_of(episode: Episode, robot: str = '', task: str = '', same: bool = True) -> Task:
    """
    Return the task that an episode was recorded with, as it is configured today.

    Its pace and what it was to earn are those of the episode.

    :param robot: name or file; empty for the name that the episode says.
    :param task: the same.
    :param same: its contract has to be that of the episode.
    :raises ContractError: it has changed since, in a way that a policy relies on.
    """
    contract = episode.contract
    found = _load(robot or contract.robot, task or contract.task, episode.period_ns,
                  episode.target_return)
    if same:
        found.contract.require(contract, 'the present configuration',
                               f'episode {episode.path.name}')
    return found


@lru_cache(maxsize=8)
def _load(robot: str, name: str, period_ns: int, target_return: float | None) -> Task:
    task = load_task(robot, name)
    task.period_ns = period_ns
    if None not in (task.target_return, target_return):
        task.target_return = target_return
    return task


def recorded_episodes(episodes: Sequence[Episode], left_out: list[str], robot: str = '',
                      task: str = '') -> Iterator[RecordedEpisode]:
    """
    Yield the transitions of each episode that has any.

    :param left_out: gets a line for each that has none.
    :param robot: as of :func:`task_of`.
    :param task: as of :func:`task_of`.
    :raises RecordingError: a file that changed since, or no transition in any episode.
    """
    found = False
    for episode in episodes:
        recorded = read_recorded(episode, task_of(episode, robot, task))
        if len(recorded):
            found = True
            yield recorded
        else:
            left_out.append(f'{episode.path} left out: no complete transition in it')
    if not found:
        raise RecordingError(f'no complete transition in {len(episodes)} episodes, the first of '
                             f'which is {episodes[0].path}; expected states, goals, commands and '
                             'rewards with the same stamps')


def read_recorded(episode: Episode, task: Task) -> RecordedEpisode:
    """
    Return the transitions of one episode, which may be none.

    :raises RecordingError: a message that cannot be read.
    """
    feed = TransitionFeed(task)
    for message in episode.messages(feed.kinds):
        with contextlib.suppress(SpecError):  # as the live recorder, which counts it and goes on
            feed.add(message.topic, message.data)
    feed.assembler.flush()
    return RecordedEpisode(episode.path.name, *feed.assembler.take_stamped(),
                           dict(episode.metadata))
