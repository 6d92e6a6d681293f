# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Serialized messages of a graph to transitions: one way, for the live recorder and for recordings.

Which topic means what, which messages are refused and which states belong to no episode is
decided here only, so that a recording gives the rows that the trainer got when it was made.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import EpisodeId
from rl_nodes.data.assembler import TransitionAssembler
from rl_nodes.nodes import conversions
from rl_nodes.nodes.joint_state import deserialize
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.safety.sources import Sources
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState

GOAL, REWARD, PRIVILEGED = 'goal', 'reward', 'privileged'
WANTED, TELEOP, EXECUTED = 'policy/joint_command', 'teleop/joint_command', 'joint_command'
INTENDED = 'teleop/intended_command'  # what was wanted at TELEOP before noise was added to it


class Heard(NamedTuple):
    """
    What a message says.

    :param stamp_ns: of its header [ns].
    :param frame_id: of its header: the episode id of states and rewards; of commands, who they
        come from, see ``core/origin.py``.
    :param value: RobotState, Goal, JointCommand, Outcome or what the critic is to see; None where
        other parts of a state are on their way.
    """

    stamp_ns: int
    frame_id: str
    value: Any


class TransitionFeed:
    """
    Reads messages and feeds an assembler with them.

    :param task: of the robot that the messages are of.
    :param privileged: rows have what the critic is to see, where the task lists such signals.
    :param sources: whose wishes are read.
    :ivar assembler: what is fed.
    :ivar wanted: topics of these wishes, the first of which is always there.
    :ivar kinds: message type by topic of everything that is read.
    """

    def __init__(self, task: Task, privileged: bool = True,
                 sources: Sources = 'policy+teleop') -> None:
        contract = task.contract
        self._task, self._states = task, StateReader(task)
        self._mode = task.robot.config.control_mode
        self._privileged = contract.privileged.elements if contract.privileged else ()
        self.state_topics = self._states.topics
        topics = {'policy': (WANTED,), 'teleop': (TELEOP, INTENDED)}
        self.wanted = [topic for source in sources.split('+') for topic in topics[source]]
        self.kinds: dict[str, type] = {
            **self._states.topics, GOAL: PoseStamped,
            **dict.fromkeys((*self.wanted, EXECUTED, REWARD), JointState),
            **({PRIVILEGED: JointState} if self._privileged else {})}
        self.assembler = TransitionAssembler(
            task.observer, lambda state, command: task.to_action(state, command.value),
            task.period_ns, observation_size=contract.observation.shape[0],
            action_size=contract.action.shape[0],
            privileged_size=len(self._privileged) if privileged else 0)

    def type_names(self) -> dict[str, str]:
        """Return the full type name by topic of everything that is read."""
        return {topic: f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
                for topic, kind in self.kinds.items()}

    def add(self, topic: str, data: bytes) -> Heard:
        """
        Read one message and pass it on.

        :param topic: one of ``kinds``.
        :raises SpecError: it is not what its topic promises; nothing was passed on.
        """
        kind = self.kinds[topic]
        try:
            msg = deserialize(data, kind)
        except SpecError:
            raise
        except Exception as error:  # whatever the middleware makes of bytes it cannot read
            raise SpecError(
                f'{topic}: {len(data)} bytes are no {kind.__name__}: {error}') from None
        stamp, frame = conversions.stamp_to_ns(msg.header.stamp), msg.header.frame_id
        if stamp <= 0:
            raise SpecError(f'{topic}: a message without a stamp')
        return Heard(stamp, frame, self._pass_on(topic, msg, stamp, frame))

    def _pass_on(self, topic: str, msg: Any, stamp: int, frame: str) -> Any:
        assembler = self.assembler
        if topic in self.state_topics:
            state = self._states.read(topic, msg)
            if state is not None:  # one of no episode has nothing to learn from
                out = EpisodeId.parse(state.episode).intermission
                assembler.add_state(replace(state, episode='') if out else state)
            return state
        if topic == GOAL:
            goal = conversions.msg_to_goal(msg, self._task.goal_frame)
            assembler.add_goal(goal)
            return goal
        if topic == REWARD:
            outcome = conversions.msg_to_outcome(msg)[2]
            assembler.add_reward(stamp, frame, outcome)
            return outcome
        if topic == PRIVILEGED:
            values = conversions.msg_to_privileged(msg, self._privileged)[1]
            assembler.add_privileged(stamp, values)
            return values
        command = conversions.msg_to_command(msg, self._mode)[1]
        if topic == EXECUTED:
            assembler.add_executed(command)
        else:
            assembler.add_wanted(command)
        return command
