# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes to states, and what a success classifier learns from these."""

from collections.abc import Sequence
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rl_nodes.core.errors import ConfigError, RecordingError, SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState
from rl_nodes.data.inspection import open_episodes
from rl_nodes.data.reader import Episode
from rl_nodes.nodes.recorded_transitions import task_of
from rl_nodes.nodes.transition_feed import EXECUTED, GOAL, REWARD, TransitionFeed
from rl_nodes.tasks.base import Task
from rl_nodes.tasks.success import SuccessView
from rl_nodes.training.success import EpisodeStates

MOST_GOALS = 100_000
_LOG = logging.getLogger(__name__)


class RecordedStates(NamedTuple):
    """
    What is known of the states of one episode, by stamp.

    :param states: complete ones that have a goal, in order, at least one.
    :param commands: finite ones that were executed.
    :param rewards: as they were recorded, those that can be read.
    """

    states: dict[int, tuple[RobotState, Goal]]
    commands: dict[int, np.ndarray]
    rewards: dict[int, Outcome]


def read_states(episode: Episode, task: Task) -> RecordedStates:
    """
    Return the states of one episode.

    :param task: of the same robot.
    :raises RecordingError: a message that cannot be read, or no state.
    """
    feed = TransitionFeed(task)
    states: dict[int, RobotState] = {}
    goals, commands, rewards = GoalBook(MOST_GOALS), dict[int, np.ndarray](), dict[int, Outcome]()
    for message in episode.messages((*feed.state_topics, GOAL, EXECUTED, REWARD)):
        try:
            heard = feed.add(message.topic, message.data)
        except SpecError as error:
            if message.topic == REWARD:
                continue  # what is not read needs not be right
            raise RecordingError(f'{episode.path}: {error}') from None
        value = heard.value
        if isinstance(value, RobotState):
            states.setdefault(value.stamp_ns, value)
        elif isinstance(value, Goal):
            goals.add(value)
        elif isinstance(value, JointCommand) and np.isfinite(value.value).all():
            commands.setdefault(value.stamp_ns, value.value)
        elif isinstance(value, Outcome):
            rewards.setdefault(heard.stamp_ns, value)
    with_goals = {stamp: (states[stamp], goal) for stamp in sorted(states)
                  if (goal := goals.of(states[stamp])) is not None}
    if not with_goals:
        raise RecordingError(f'{episode.path} has no complete state with a goal')
    return RecordedStates(with_goals, commands, rewards)


def require_same_robot(episode: Episode, task: Task, wanted: str) -> None:
    """
    Refuse a task whose robot is another one than the one recorded.

    :param wanted: what is to be done with the episode, for the message.
    :raises ConfigError: names what differs.
    """
    recorded, ours = episode.contract, task.contract
    for key in ('robot', 'rate_hz', 'control_mode', 'joints'):
        if getattr(recorded, key) != getattr(ours, key):
            raise ConfigError(f'{episode.path} cannot be {wanted} {ours.task}: {key} was '
                              f'{getattr(recorded, key)}, is {getattr(ours, key)}')


def read_examples(inputs: Sequence[str | Path], signals: tuple[str, ...],
                  like: Task | None = None) -> tuple[list[EpisodeStates], SuccessView, Task,
                                                     list[Path]]:
    """
    Return what a success classifier sees of recorded episodes.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :param signals: that it sees; empty for those that the task observes of one state.
    :param like: task whose signals are computed, of the same robot; None for the one recorded.
    :return: episodes, what was seen of whom, the task, the files.
    :raises RecordingError: as :func:`rl_nodes.data.inspection.open_episodes`.
    :raises ContractError: recorded with another version of robot or task.
    """
    opened, left_out = open_episodes(inputs)
    for line in left_out:
        _LOG.warning('%s', line)
    task = task_of(opened[0]) if like is None else like
    view, found = SuccessView(task, signals), []
    for episode in opened:
        require_same_robot(episode, task, 'seen as')
        recorded = read_states(episode, task)
        rows, flags = [], []
        for stamp, (state, goal) in recorded.states.items():
            if EpisodeId.parse(state.episode).intermission:
                continue
            rows.append(view.see(state, goal))
            flags.append(stamp in recorded.rewards and recorded.rewards[stamp].success)
        seen = np.array(rows, np.float32).reshape(-1, *view.contract.observation.shape)
        found.append(EpisodeStates(episode.path.name, seen, np.array(flags, bool),
                                   episode.metadata.get('success') == 'true'))
    return found, view, task, [episode.path for episode in opened]
