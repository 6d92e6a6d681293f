# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Reward computer: says what each step earned and whether it ended the episode.

The reward is stamped with the state it rewards, the one after the step; an episode's first state
gets a reward of 0. It uses the command really executed, joined by stamp. In real time a period
without a command counts as holding still. Where the task names a success classifier, it is asked
by ONNX Runtime, once a state.

Parameters: robot, task, stepping, autostart.
Subscribes:
  joint_states (sensor_msgs/JointState, SENSOR); goal (geometry_msgs/PoseStamped, EPISODE);
  joint_command (sensor_msgs/JointState, EXECUTED);
  odom (nav_msgs/Odometry), objects (geometry_msgs/PoseArray), scan (sensor_msgs/LaserScan),
  imu (sensor_msgs/Imu), wrench (geometry_msgs/WrenchStamped), all SENSOR: where robot and
  task have them.
Publishes:
  reward (sensor_msgs/JointState, STREAM): names total, every term, terminated, truncated, success;
  frame_id = episode id;
  reward/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
"""

from collections import deque
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.types import EpisodeId, Outcome, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.tasks.success import SuccessJudge
from sensor_msgs.msg import JointState

WINDOW = 64  # states and commands remembered while the other half is on its way


class RewardComputer(TaskNode[NodeParameters]):
    """See the module's text."""

    status_topic = 'reward/status'

    def configure(self) -> None:
        """Build the entities."""
        super().configure()
        self._model, self._judge = self.task.robot, self.task.judge()
        self._goals = GoalBook()
        self._queue: deque[RobotState] = deque(maxlen=WINDOW)  # not rewarded yet
        self._before: RobotState | None = None
        self._executed: dict[int, np.ndarray] = {}
        self._answer: tuple[int, JointState] | None = None
        self._rewarded, self._assumed, self._refused = 0, 0, 0
        self._rewards = self.publish_on(JointState, 'reward', qos.STREAM)
        self.subscribe(PoseStamped, 'goal', self._on_goal, qos.EPISODE)
        self.subscribe(JointState, 'joint_command', self._on_command, qos.EXECUTED)
        self._reader = StateReader(self.task)
        for topic, kind in self._reader.topics.items():
            self.subscribe(kind, topic, partial(self._on_state, topic), qos.SENSOR)

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg, self.task.goal_frame))
        except SpecError as error:
            self._refuse(error)
        self.tick()

    def _on_command(self, msg: JointState) -> None:
        _, command = conversions.msg_to_command(msg, self._model.config.control_mode)
        if len(command.value) == len(self._model.commanded) and np.isfinite(command.value).all():
            self._executed[command.stamp_ns] = command.value
            if len(self._executed) > WINDOW:
                del self._executed[min(self._executed)]
        self.tick()

    def _on_state(self, topic: str, msg: Any) -> None:
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._refuse(error)
            return
        if state is not None:
            self._take(state)

    def _take(self, state: RobotState) -> None:
        """Queue a complete state."""
        newest = self._queue[-1] if self._queue else self._before
        if newest is not None and state.stamp_ns <= newest.stamp_ns:
            if self._answer is not None and self._answer[0] == state.stamp_ns:
                self._rewards.publish(self._answer[1])  # asked again: the same answer
            return
        self._queue.append(state)
        self.tick()

    def tick(self) -> None:
        """Reward every state whose goal and command are here, in order."""
        while self._queue:
            after = self._queue[0]
            goal = self._goals.of(after)
            before = self._before
            if goal is None:
                if len(self._queue) < WINDOW // 2:
                    return
                self._queue.popleft()  # its goal will not come any more
                self._refused += 1
                continue
            if before is None or before.episode != after.episode \
                    or EpisodeId.parse(after.episode).intermission:
                outcome = self.task.first_outcome()
            else:
                command = self._command_after(before)
                if command is None:
                    return
                outcome = self._judge(before, command, after, goal)
            self._queue.popleft()
            self._before = after
            self._publish(after, outcome)

    def _command_after(self, before: RobotState) -> np.ndarray | None:
        """Return the command that answered a state; None to wait for it."""
        command = self._executed.pop(before.stamp_ns, None)
        if command is None and not self.lockstep and len(self._queue) >= 2:
            self._assumed += 1
            return self.task.hold_command(before)
        return command

    def _publish(self, state: RobotState, outcome: Outcome) -> None:
        msg = conversions.outcome_to_msg(state.stamp_ns, state.episode, outcome)
        self._rewards.publish(msg)
        self._answer = (state.stamp_ns, msg)
        self._rewarded += 1

    def _refuse(self, error: SpecError) -> None:
        self._refused += 1
        self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return how many states were rewarded, and how many on an assumed command."""
        by = {'success_classifier': self._judge.label} \
            if isinstance(self._judge, SuccessJudge) else {}
        return (WARN if self._refused else OK), 'running', {
            'rewarded': self._rewarded, 'command_assumed': self._assumed,
            'dropped': self._refused, **by}


def main() -> None:
    """Run the node."""
    run_main(RewardComputer, 'reward_computer')


if __name__ == '__main__':
    main()
