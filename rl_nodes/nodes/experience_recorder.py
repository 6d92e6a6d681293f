# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Experience recorder: keeps episodes as MCAP files and sends transitions to the trainer.

Messages are taken serialized and go to the disk as they came. Transitions are joined by stamp
(``data/assembler.py``), files are kept by ``data/episode_log.py``; neither ever blocks the graph.

Parameters: robot, task, stepping, autostart, directory, record_every, publish_experience,
batch_size, discount, seed (see below).
Subscribes (all STREAM, serialized):
  joint_states, policy/joint_command, joint_command, reward (sensor_msgs/JointState);
  goal (geometry_msgs/PoseStamped, EPISODE);
  odom (nav_msgs/Odometry), where the robot has a floating base;
  safety/state (diagnostic_msgs/DiagnosticArray, LATCHED).
Publishes:
  experience (std_msgs/Float32MultiArray, BATCH): labelled columns, one row per transition;
  recorder/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
"""

from dataclasses import asdict, replace
from pathlib import Path
import time
from typing import Annotated, Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from msgspec import Meta
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.state_join import StateJoin
from rl_nodes.core.types import EpisodeId, RobotState
from rl_nodes.data.assembler import TransitionAssembler
from rl_nodes.data.episode_log import EpisodeLog
from rl_nodes.data.recovery import recover
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray

SEND_S = 0.1  # transitions wait at most this long for their batch to fill
JOINT_STATE, POSE = 'sensor_msgs/msg/JointState', 'geometry_msgs/msg/PoseStamped'
TOPICS = {'joint_states': JOINT_STATE, 'goal': POSE, 'policy/joint_command': JOINT_STATE,
          'joint_command': JOINT_STATE, 'reward': JOINT_STATE,
          'safety/state': 'diagnostic_msgs/msg/DiagnosticArray'}
ODOM = {'odom': 'nav_msgs/msg/Odometry'}  # where the robot has a floating base


class RecorderParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the experience recorder.

    :param directory: where episodes are kept; empty to keep none
    :param record_every: keep every n-th episode
    :param publish_experience: send transitions to the trainer
    :param batch_size: transitions per message
    :param discount: per step, of the discounted return in an episode's metadata
    :param seed: of the run, kept with each episode
    """

    directory: str = ''
    record_every: Annotated[int, Meta(ge=1)] = 1
    publish_experience: bool = False
    batch_size: Annotated[int, Meta(ge=1, le=10000)] = 32
    discount: Annotated[float, Meta(gt=0, le=1)] = 0.99
    seed: int = 0


class ExperienceRecorder(TaskNode[RecorderParameters]):
    """See the module's text."""

    parameters_type = RecorderParameters
    status_topic = 'recorder/status'

    def configure(self) -> None:
        """Recover what a killed recorder left, then build the entities."""
        super().configure()
        self._model, parameters = self.task.robot, self.parameters
        self._mode = self._model.config.control_mode
        contract = self.task.contract
        directory = Path(parameters.directory)
        if parameters.directory:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f'directory {directory}: {error}') from None
            for found in recover(directory):
                self.get_logger().warning(f'{found.original.name}: {found.note}')
        self._assembler = TransitionAssembler(
            self.task.observe, lambda state, command: self.task.to_action(state, command.value),
            self.task.period_ns, observation_size=contract.observation.shape[0],
            action_size=contract.action.shape[0])
        topics = {**TOPICS, **ODOM} if self._model.config.floating_base else TOPICS
        self._log: EpisodeLog | None = EpisodeLog(
            directory, contract, topics, every=parameters.record_every, seed=parameters.seed,
            notes={'stepping': parameters.stepping,
                   'real_time_factor': str(parameters.real_time_factor)},
            discount=parameters.discount, clock=time.time_ns) if parameters.directory else None
        self._sent, self._refused = 0, 0
        self._batches = self.publish_on(Float32MultiArray, 'experience', qos.BATCH)
        self.subscribe(PoseStamped, 'goal', self._on_goal, qos.EPISODE, raw=True)
        self.subscribe(JointState, 'joint_states', self._on_state, qos.STREAM, raw=True)
        self._join: StateJoin | None = None
        if self._model.config.floating_base:
            self._join = StateJoin()
            self.subscribe(Odometry, 'odom', self._on_odom, qos.STREAM, raw=True)
        self.subscribe(JointState, 'policy/joint_command', self._on_wanted, qos.STREAM, raw=True)
        self.subscribe(JointState, 'joint_command', self._on_executed, qos.STREAM, raw=True)
        self.subscribe(JointState, 'reward', self._on_reward, qos.STREAM, raw=True)
        self.subscribe(DiagnosticArray, 'safety/state', self._on_safety, qos.LATCHED, raw=True)
        self.every(SEND_S, self._send)

    def deactivate(self) -> None:
        """Send what is left."""
        self._assembler.flush()
        self._send()

    def release(self) -> None:
        """Complete the files."""
        log, self._log = getattr(self, '_log', None), None
        if log is not None:
            log.close(timeout_s=2.0)

    def _on_state(self, data: bytes) -> None:
        try:
            state = conversions.msg_to_state(deserialize_message(data, JointState),
                                             self._model.joint_names)
        except SpecError as error:
            self._refuse(error)
            return
        if self._log is not None:
            self._log.add_state('joint_states', state.stamp_ns, state.episode, data)
        if EpisodeId.parse(state.episode).intermission:
            state = replace(state, episode='')  # in no episode: nothing to learn from
        self._assemble(state if self._join is None else self._join.add_state(state))

    def _on_odom(self, data: bytes) -> None:
        try:
            stamp, base = conversions.odom_to_base(deserialize_message(data, Odometry))
        except SpecError as error:
            self._refuse(error)
            return
        self._keep('odom', stamp, data)
        self._assemble(self._join.add_base(stamp, base))

    def _assemble(self, state: RobotState | None) -> None:
        """Hand on a complete state; None while one of its messages is on its way."""
        if state is None:
            return
        self._assembler.add_state(state)
        if self._assembler.ready >= self.parameters.batch_size:
            self._send()

    def _on_goal(self, data: bytes) -> None:
        try:
            goal = conversions.msg_to_goal(deserialize_message(data, PoseStamped))
        except SpecError as error:
            self._refuse(error)
            return
        self._keep('goal', goal.stamp_ns, data)
        self._assembler.add_goal(goal)

    def _on_wanted(self, data: bytes) -> None:
        command = self._command(data)
        self._keep('policy/joint_command', command.stamp_ns, data)
        if self._log is not None:
            self._log.note_policy(command.stamp_ns, command.source)
        self._assembler.add_wanted(command)

    def _on_executed(self, data: bytes) -> None:
        command = self._command(data)
        self._keep('joint_command', command.stamp_ns, data)
        self._assembler.add_executed(command)

    def _command(self, data: bytes) -> conversions.JointCommand:
        return conversions.msg_to_command(deserialize_message(data, JointState), self._mode)[1]

    def _on_reward(self, data: bytes) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(
                deserialize_message(data, JointState))
        except SpecError as error:
            self._refuse(error)
            return
        self._keep('reward', stamp, data)
        if self._log is not None:
            self._log.note_reward(episode, stamp, outcome)
        self._assembler.add_reward(stamp, episode, outcome)

    def _on_safety(self, data: bytes) -> None:
        if self._log is not None:
            self._log.add_now('safety/state', data)

    def _keep(self, topic: str, stamp_ns: int, data: bytes) -> None:
        if self._log is not None:
            self._log.add(topic, stamp_ns, data)

    def _send(self) -> None:
        """Publish the finished transitions; without a trainer they are counted and let go."""
        if not self._assembler.ready:
            return
        batch = self._assembler.take()
        self._sent += len(batch)
        if self.parameters.publish_experience:
            self._batches.publish(conversions.batch_to_msg(batch))

    def _refuse(self, error: SpecError) -> None:
        self._refused += 1
        self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return transitions, files and everything that was lost, by reason."""
        values = {'transitions': self._sent, 'refused': self._refused,
                  **asdict(self._assembler.counters)}
        if self._log is None:
            return OK, 'running', values
        values |= {'files': self._log.files, 'messages_dropped': self._log.dropped,
                   'messages_misplaced': self._log.misplaced}
        if self._log.error:
            return WARN, f'recording failed, control goes on: {self._log.error}', values
        return OK, 'running', values


def main() -> None:
    """Run the node."""
    run_main(ExperienceRecorder, 'experience_recorder')


if __name__ == '__main__':
    main()
