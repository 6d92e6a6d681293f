# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes to transitions, as the recorder sent them; no running graph is needed."""

from collections.abc import Sequence
from pathlib import Path

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.assembler import TransitionAssembler
from rl_nodes.data.reader import Episode, episode_files, read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState

_COMMANDS = ('policy/joint_command', 'joint_command')


def read_transitions(inputs: Sequence[str | Path],
                     expected: Contract | None = None) -> tuple[TransitionBatch, Contract]:
    """
    Return the transitions of recorded episodes and the contract that all of them have.

    :param inputs: ``.mcap`` files, and folders that hold them.
    :param expected: the contract that they must have; None for that of the first one.
    :raises RecordingError: not a readable episode, or no transition in any of them.
    :raises ContractError: an episode of another robot or task, or of another form of it.
    """
    batches, task = [], None
    for number, path in enumerate(episode_files(inputs)):
        episode = read_episode(path)
        contract = episode.contract
        if task is None:
            task = load_task(contract.robot, contract.task)
            expected = expected or task.contract
        expected.require(contract, 'what is to be learned', f'episode {path.name}')
        batch = _transitions(episode, task)
        batch.episode[:] = number  # each recorder counts from 1
        batches.append(batch)
    if expected is None or not any(map(len, batches)):
        raise RecordingError(f'no complete transition in {", ".join(map(str, inputs))}')
    return TransitionBatch.concatenate(batches), expected


def _transitions(episode: Episode, task: Task) -> TransitionBatch:
    """Return the transitions of one episode, by the same rules as live."""
    privileged = task.contract.privileged.elements if task.contract.privileged else ()
    assembler = TransitionAssembler(
        task.observer, lambda state, command: task.to_action(state, command.value),
        task.period_ns, observation_size=task.contract.observation.shape[0],
        action_size=task.contract.action.shape[0], privileged_size=len(privileged))
    reader, mode = StateReader(task), task.robot.config.control_mode
    wanted = (*reader.topics, *_COMMANDS, 'goal', 'reward', 'privileged')
    for message in episode.messages(wanted):
        topic, data = message.topic, message.data
        if topic in reader.topics:
            state = reader.read(topic, deserialize_message(data, reader.topics[topic]))
            if state is not None:
                assembler.add_state(state)
            continue
        if topic == 'goal':
            assembler.add_goal(conversions.msg_to_goal(deserialize_message(data, PoseStamped),
                                                       task.goal_frame))
            continue
        msg = deserialize_message(data, JointState)
        if topic == 'reward':
            assembler.add_reward(*conversions.msg_to_outcome(msg))
        elif topic == 'privileged':
            assembler.add_privileged(*conversions.msg_to_privileged(msg, privileged))
        elif topic == 'joint_command':
            assembler.add_executed(conversions.msg_to_command(msg, mode)[1])
        else:
            assembler.add_wanted(conversions.msg_to_command(msg, mode)[1])
    assembler.flush()
    return assembler.take()
