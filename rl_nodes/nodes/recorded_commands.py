# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands that a robot executed in a recorded episode."""

import numpy as np
from rl_nodes.core.types import RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.joint_state import deserialize
from rl_nodes.nodes.state_topics import JOINTS
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState


def read_commands(path: str, task: Task) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """
    Return the executed commands (A,) and the positions (J,) measured then, in order of stamps.

    :param path: of a recorded episode.
    :param task: whose robot is to repeat them.
    :raises RecordingError: no readable episode.
    :raises ContractError: of another robot or task, or of another form of it.
    """
    episode = read_episode(path)
    task.contract.require(episode.contract, f'robot {task.robot.name} doing {task.name}',
                          f'episode {path}')
    states: dict[int, RobotState] = {}
    commands: dict[int, np.ndarray] = {}
    for message in episode.messages((JOINTS, 'joint_command')):
        msg = deserialize(message.data, JointState)
        if message.topic == JOINTS:
            state = conversions.msg_to_state(msg, task.robot.joint_names)
            states[state.stamp_ns] = state
        else:
            command = conversions.msg_to_command(msg, task.robot.config.control_mode)[1]
            commands[command.stamp_ns] = command.value
    shared = sorted(states.keys() & commands.keys())
    return [commands[stamp] for stamp in shared], [states[stamp].position for stamp in shared]
