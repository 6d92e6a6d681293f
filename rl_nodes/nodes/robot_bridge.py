# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Robot bridge: the only node that touches a robot, and the owner of episodes and of time.

In lockstep it advances the simulation by one period once the command stamped with its last state,
and the reward for that state, have arrived; it then owns ``/clock``. In real time it never waits:
it writes the newest command while that is fresh and holds the robot when it is not.

Parameters: robot, task, stepping, autostart, backend, seed, patience_s (see below).
Publishes:
  joint_states (sensor_msgs/JointState, rad or m, control rate, STREAM), frame_id = episode id;
  goal (geometry_msgs/PoseStamped, m, base_link, once per episode, EPISODE);
  /clock (rosgraph_msgs/Clock, lockstep only, CLOCK);
  robot/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Subscribes:
  joint_command (sensor_msgs/JointState, COMMAND): the only topic the robot obeys;
  reward (sensor_msgs/JointState, SENSOR): ends episodes.
Services: ~/reset (std_srvs/Trigger): end the episode by hand and start another.
"""

from typing import Annotated, Any

from geometry_msgs.msg import PoseStamped
from msgspec import Meta
import numpy as np
from rl_nodes.backends import make_robot
from rl_nodes.core.errors import BackendError, SpecError
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import FAULT, OK, TaskNode, WARN
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.safety.watchdog import silent, stale
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
CLOCK_PERIOD_NS = NS // 50  # /clock at most at 50 Hz of real time: every node pays for each tick


class BridgeParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the robot bridge.

    :param backend: what drives the robot; pybullet and mujoco simulate it in this process
    :param seed: of the episode starts; the same seed gives the same episodes
    :param patience_s: lockstep only; after waiting this long the last state is published again
    """

    backend: str = 'pybullet'
    seed: Annotated[int, Meta(ge=0)] = 0
    patience_s: Annotated[float, Meta(gt=0)] = 1.0


class RobotBridge(TaskNode[BridgeParameters]):
    """See the module's text."""

    parameters_type = BridgeParameters
    status_topic = 'robot/status'

    def configure(self) -> None:
        """Build the robot, then the entities."""
        super().configure()
        self._model = self.task.robot
        self._safety = self._model.config.safety
        self._robot = make_robot(self.parameters.backend, self._model)
        self._rng = np.random.default_rng(self.parameters.seed)
        self._stamp = 0
        self._number = 0
        self._steps = 0
        self._held = 0
        self._refused = 0
        self._state: RobotState | None = None
        self._command: JointCommand | None = None
        self._command_at: int | None = None
        self._outcome: Outcome | None = None
        self._published_at = 0
        self._clock_at = 0
        self._reset_wanted = True
        self._latency = LatencyWindow()
        self._rate = (steady_ns(), 0)
        self._states = self.publish_on(JointState, 'joint_states', qos.STREAM)
        self._goals = self.publish_on(PoseStamped, 'goal', qos.EPISODE)
        self.subscribe(JointState, 'joint_command', self._on_command, qos.COMMAND)
        self.subscribe(JointState, 'reward', self._on_reward, qos.SENSOR)
        self.serve(Trigger, 'reset', self._on_reset)
        if self.lockstep:
            self._clock_topic = self.publish_on(Clock, '/clock', qos.CLOCK)
            self.every(self.parameters.patience_s / 2, self._nudge)
        else:
            self.every(self.task.period_ns / NS, self._tick)

    def activate(self) -> None:
        """Start the first episode; in real time the first tick does."""
        self._reset_wanted = True
        if self.lockstep:
            self._begin_episode()

    def deactivate(self) -> None:
        """Leave the robot holding."""
        self._robot.hold()

    def release(self) -> None:
        """Let go of the robot."""
        robot, self._robot = getattr(self, '_robot', None), None
        if robot is not None:
            robot.close()

    # --- what arrives ---------------------------------------------------------------------------

    def _on_command(self, msg: JointState) -> None:
        """Take a command if it is right in every respect; the monitor judged it, so do we."""
        mode = self._model.config.control_mode
        names, command = conversions.msg_to_command(msg, mode)
        why = self._why_refused(names, command)
        if why:
            self._refused += 1
            self.get_logger().warning(f'command refused: {why}', throttle_duration_sec=1.0)
            return
        if self._state is not None and command.stamp_ns == self._state.stamp_ns:
            self._latency.add((steady_ns() - self._published_at) / NS)
        self._command, self._command_at = command, steady_ns()
        if self.lockstep:
            self._advance()

    def _why_refused(self, names: tuple[str, ...], command: JointCommand) -> str:
        if names != self._model.command_names:
            return (f'it names {", ".join(names) or "no joint"}; expected '
                    f'{", ".join(self._model.command_names)}')
        if command.value.shape != (len(names),) or not np.isfinite(command.value).all():
            return f'{command.value.tolist()} is not {len(names)} finite values'
        if self.lockstep:
            due = self._state.stamp_ns if self._state else None
            return '' if command.stamp_ns == due else (
                f'its stamp {command.stamp_ns} is not that of the last state, {due}')
        if self._state is None or command.stamp_ns < EpisodeId.parse(self._state.episode).start_ns:
            return 'it answers a state of an earlier episode'
        if self._command is not None and command.stamp_ns < self._command.stamp_ns:
            return 'a newer one came first'
        return stale(command.stamp_ns, self.get_clock().now().nanoseconds,
                     self._safety.command_timeout_s, self._safety.skew_s)

    def _on_reward(self, msg: JointState) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if self._state is None or episode != self._state.episode:
            return
        if not self.lockstep:
            self._reset_wanted |= outcome.terminated or outcome.truncated
        elif stamp == self._state.stamp_ns:
            self._outcome = outcome
            self._advance()

    def _on_reset(self, _request: Trigger.Request) -> tuple[bool, str]:
        """Start another episode at once (lockstep) or at the next tick (real time)."""
        if self.lockstep:
            self._begin_episode()
        else:
            self._reset_wanted = True
        return True, f'episode {self._number} was ended by hand'

    # --- time -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Lockstep: go on once command and reward for the last state are both here."""
        if self._command is None or self._outcome is None:
            return
        if self._outcome.terminated or self._outcome.truncated:
            self._begin_episode()
        else:
            self._robot.write(self._command.value)
            self._stamp += self.task.period_ns
            self._move()

    def _nudge(self) -> None:
        """Lockstep: publish the last state again if nothing came, for late joiners."""
        if self._state is not None and silent(self._published_at, steady_ns(),
                                              self.parameters.patience_s):
            missing = [name for name, value in (('joint_command', self._command),
                                                ('reward', self._outcome)) if value is None]
            self.get_logger().info(f'waiting for {" and ".join(missing)} of state '
                                   f'{self._state.stamp_ns}', throttle_duration_sec=10.0)
            self._publish(self._state)

    def _tick(self) -> None:
        """Real time: one control period, whatever has arrived."""
        self._stamp = self.get_clock().now().nanoseconds
        if self._reset_wanted:
            self._begin_episode()
            return
        if self._command is not None and not silent(self._command_at, steady_ns(),
                                                    self._safety.command_timeout_s):
            self._robot.write(self._command.value)
        else:
            self._held += 1
            self._robot.hold()
        self._move()

    def _move(self) -> None:
        """Advance the robot by one period and publish where it is."""
        self._robot.step()
        self._steps += 1
        try:
            measured = self._robot.read()
        except BackendError as error:
            self.get_logger().error(str(error))
            self._robot.recover()
            self._begin_episode()
            return
        self._publish(RobotState(self._stamp, self._state.episode, *measured))

    def _begin_episode(self) -> None:
        """Reset robot and goal; the goal goes out first, stamped like the first state."""
        start = self.task.start(self._rng)
        self._robot.reset(start.position, start.goal)
        if self.lockstep:
            self._stamp += self.task.period_ns
        self._number += 1
        self._reset_wanted = False
        self._command_at = None
        self._goals.publish(conversions.goal_to_msg(Goal(self._stamp, start.goal, UPRIGHT)))
        episode = str(EpisodeId(self._number, self._stamp))
        self._publish(RobotState(self._stamp, episode, *self._robot.read()))

    def _publish(self, state: RobotState) -> None:
        if self.lockstep:
            self._command = self._outcome = None
        self._state = state
        now = self._published_at = steady_ns()
        self._states.publish(conversions.state_to_msg(state, self._model.joint_names))
        if self.lockstep and now - self._clock_at >= CLOCK_PERIOD_NS:
            self._clock_at = now
            self._clock_topic.publish(Clock(clock=conversions.ns_to_stamp(state.stamp_ns)))

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return steps, rate, episodes, holds, refusals and the state-to-command latency."""
        now = steady_ns()
        since, steps = self._rate
        rate = (self._steps - steps) * NS / max(now - since, 1)
        self._rate = (now, self._steps)
        values = {'steps': self._steps, 'steps_per_s': round(rate, 1), 'episodes': self._number,
                  'held': self._held, 'commands_refused': self._refused,
                  **{f'latency_{key}': value for key, value in self._latency.summary().items()}}
        quiet = silent(self._command_at, now, self._safety.command_timeout_s)
        if not self.lockstep and quiet:
            return WARN, 'holding: no fresh command', values
        if self.lockstep and silent(self._published_at, now, 10.0):
            return FAULT, 'lockstep stands still: a command or reward is missing', values
        return OK, 'running', values


def main() -> None:
    """Run the node."""
    run_main(RobotBridge, 'robot_bridge')


if __name__ == '__main__':
    main()
