# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Robot bridge: the only node that touches a robot, and the owner of episodes and of time.

A physical robot moves only while commands that the safety monitor let through arrive; see
``hardware_session.py``. Between its episodes, on the way home and while it waits, states belong to
the intermission, episode 0, which is neither scored nor recorded. Simulated robots have none.

In lockstep it advances the simulation by one period once the command stamped with its last state,
and the reward for that state, have arrived; it then owns ``/clock``. In real time it never waits:
it writes the newest command while that is fresh and holds the robot when it is not. There a
simulated robot may be reached through a channel that delays, loses and duplicates states and
commands (not goals and rewards); see ``core/channel.py``. Time-outs are always wall time.

Parameters: robot, task, stepping, autostart, real_time_factor, backend, seed, patience_s, channel
(see below).
Publishes:
  joint_states (sensor_msgs/JointState, rad or m, control rate, STREAM), frame_id = episode id;
  odom (nav_msgs/Odometry, control rate, STREAM): a floating base, before its joint_states;
  goal (geometry_msgs/PoseStamped, m, base_link, once per episode, EPISODE);
  /clock (rosgraph_msgs/Clock, lockstep only, CLOCK);
  robot/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Subscribes:
  joint_command (sensor_msgs/JointState, COMMAND): the only topic the robot obeys;
  reward (sensor_msgs/JointState, SENSOR): ends episodes.
Services: ~/reset (std_srvs/Trigger): end the episode by hand and start another; the answer names
the new episode's number. The parameter seed may be set before: this reset then starts from it.
"""

from typing import Annotated, Any, ClassVar

from geometry_msgs.msg import PoseStamped
from msgspec import Meta
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.parameter import Parameter
from rl_nodes.backends import BACKENDS, HARDWARE, make_robot, make_servo_bus
from rl_nodes.core.channel import load_channel
from rl_nodes.core.errors import BackendError, ConfigError, SpecError
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.hardware_session import HardwareSession, Phase
from rl_nodes.nodes.lifecycle import FAULT, OK, TaskNode, WARN
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.safety_monitor import MONITOR
from rl_nodes.nodes.simulated_link import (
    ImperfectLink,
    PacedStep,
    require_awake,
    require_simulated,
)
from rl_nodes.nodes.topic_robot import TopicRobot
from rl_nodes.safety.watchdog import silent, stale
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
KEPT_STATES = 256  # newest states whose commands are timed; a command answering an older is void
CLOCK_PERIOD_NS = NS // 50  # /clock at most at 50 Hz of real time: every node pays for each tick


class BridgeParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the robot bridge.

    :param backend: what drives the robot; pybullet and mujoco simulate it in this process,
        servo_bus and ros2_control reach a physical one
    :param seed: of the episode starts; the same seed gives the same episodes. Set while the
        node runs, it holds from the next call of ~/reset on
    :param patience_s: lockstep only; after waiting this long the last state is published again
    :param channel: name in config/channels or path to a YAML file: what happens to states and
        commands on their way; real time and simulated robots only, ideal for nothing
    """

    settable: ClassVar[tuple[str, ...]] = ('seed',)

    backend: str = 'pybullet'
    seed: Annotated[int, Meta(ge=0)] = 0
    patience_s: Annotated[float, Meta(gt=0)] = 1.0
    channel: str = 'ideal'


class RobotBridge(TaskNode[BridgeParameters]):
    """See the module's text."""

    parameters_type = BridgeParameters
    status_topic = 'robot/status'

    def configure(self) -> None:
        """Build the robot, then the entities."""
        super().configure()
        self._model = self.task.robot
        self._safety = self._model.config.safety
        self._hardware: HardwareSession | None = None
        channel, factor = load_channel(self.parameters.channel), self.parameters.real_time_factor
        if self.lockstep and not channel.ideal:
            raise ConfigError(f'channel = {self.parameters.channel!r} needs stepping:=realtime: '
                              'in lockstep the robot waits for every message; use channel:=ideal')
        if self.parameters.backend in HARDWARE:
            require_simulated(self.parameters.backend, channel, factor)
            self._robot = None
            self._hardware = self._reach_hardware()
        else:
            self._robot = make_robot(self.parameters.backend, self._model)
        self._rng = np.random.default_rng(self.get_parameter('seed').value)
        self._seed: int | None = None  # set since the last reset by hand
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
        self._sampled_at: dict[int, int] = {}  # steady time of the newest states, by stamp
        self._clock_at = 0
        self._reset_wanted = True
        self._permit_at: int | None = None  # steady time of the last command that allows motion
        self._running: bool | None = None   # physical robot: episode or intermission; None: new
        self._next_goal = np.zeros(3)
        self._void, self._last_void = 0, ''
        self._latency = LatencyWindow()
        self._rate = (steady_ns(), 0)
        self._states = self.publish_on(JointState, 'joint_states', qos.STREAM)
        self._odom = (self.publish_on(Odometry, 'odom', qos.STREAM)
                      if self._model.config.floating_base else None)
        self._goals = self.publish_on(PoseStamped, 'goal', qos.EPISODE)
        self._link: ImperfectLink | None = None
        self._pace: PacedStep | None = None
        if not channel.ideal:
            self._link = ImperfectLink(self, channel, self.parameters.seed, self._send,
                                       self._on_command)
        self.subscribe(JointState, 'joint_command',
                       self._link.send_command if self._link else self._on_command, qos.COMMAND)
        self.subscribe(JointState, 'reward', self._on_reward, qos.SENSOR)
        self.serve(Trigger, 'reset', self._on_reset)
        self.on_parameters_set(self._on_set)
        if self.lockstep:
            self._clock_topic = self.publish_on(Clock, '/clock', qos.CLOCK)
            self.every(self.parameters.patience_s / 2, self._nudge)
            if factor:
                self._pace = PacedStep(self, round(self.task.period_ns / factor), self._go_on)
        else:
            if factor:
                require_awake(self.task.period_ns, self._safety.watchdog_s, factor)
            self.every(self.task.period_ns / NS,
                       self._tick if self._hardware is None else self._tick_hardware)

    def _reach_hardware(self) -> HardwareSession:
        """Connect to the physical robot; RlNodesError unless it is the one expected."""
        backend = self.parameters.backend
        if self.lockstep:
            raise ConfigError(
                f'stepping = lockstep cannot be had with backend {backend}: a physical robot does '
                f'not wait. Use stepping:=realtime, or a simulator: {", ".join(BACKENDS)}')
        if self._model.config.floating_base:
            raise ConfigError(f'backend {backend} measures no floating base, which robot '
                              f'{self._model.name} has; use a simulator: {", ".join(BACKENDS)}')
        robot = (make_servo_bus(self._model) if backend == 'servo_bus'
                 else TopicRobot(self, self._model))
        session = HardwareSession(robot, self._model, lambda text: self.get_logger().warning(
            text, throttle_duration_sec=1.0))
        try:
            session.connect()
        except BackendError:
            session.close()
            raise
        return session

    def activate(self) -> None:
        """Start the first episode; in real time the first tick does."""
        self._reset_wanted = True
        if self.lockstep:
            self._begin_episode()

    def deactivate(self) -> None:
        """Leave the robot holding."""
        for timed in (self._link, self._pace):
            if timed is not None:
                timed.cancel()
        (self._hardware or self._robot).hold()

    def release(self) -> None:
        """Let go of the robot."""
        for name in ('_robot', '_hardware'):
            robot = getattr(self, name, None)
            setattr(self, name, None)
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
        sampled_at = self._sampled_at.get(command.stamp_ns)
        if sampled_at is not None:
            self._latency.add((steady_ns() - sampled_at) / NS)
        self._command, self._command_at = command, steady_ns()
        self._permit_at = None if command.source == MONITOR else self._command_at
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

    def _on_set(self, changed: list[Parameter]) -> None:
        """Keep a seed; type and range have been checked against the parameter's description."""
        self._seed = next((p.value for p in changed if p.name == 'seed'), self._seed)

    def _on_reset(self, _request: Trigger.Request) -> tuple[bool, str]:
        """Start another episode at once (lockstep) or at the next tick (real time)."""
        if self._seed is not None:
            self._rng, self._seed = np.random.default_rng(self._seed), None
        number = self._number + 1
        if self.lockstep:
            self._begin_episode()
        elif self._hardware is not None and self._hardware.retry():
            self.get_logger().info('reset: the robot is tried again')
        else:
            self._reset_wanted = True
        return True, conversions.reset_answer(number)

    # --- time -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Lockstep: go on once command and reward for the last state are both here."""
        if self._command is None or self._outcome is None:
            return
        if self._pace is None:
            self._go_on()
        else:
            self._pace.ready()

    def _go_on(self) -> None:
        """Lockstep: one period, or the next episode."""
        if self._command is None or self._outcome is None:
            return  # reset by hand while the pace was kept
        if self._outcome.terminated or self._outcome.truncated:
            self._begin_episode()
        else:
            self._robot.write(self._command.value)
            self._stamp += self.task.period_ns
            self._move()

    def _nudge(self) -> None:
        """Lockstep: publish the last state again if nothing came, for late joiners."""
        if self._state is not None and silent(self._published_at, steady_ns(),
                                              self.parameters.patience_s) \
                and (self._command is None or self._outcome is None):
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

    def _tick_hardware(self) -> None:
        """Live through one control period of a physical robot."""
        session, now = self._hardware, steady_ns()
        self._stamp = self.get_clock().now().nanoseconds
        timeout_s = self._safety.command_timeout_s
        permitted = not silent(self._permit_at, now, timeout_s)
        command = (self._command.value if permitted and self._command is not None
                   and not silent(self._command_at, now, timeout_s) else None)
        ended, self._reset_wanted = self._reset_wanted, False
        ran = session.phase == Phase.RUNNING
        measured = session.tick(now / NS, permitted, command, ended)
        running = session.phase == Phase.RUNNING
        if ran and not ended and not running:
            self._void += 1
            self._last_void = f'{self._state.episode}: {session.reason}'
            self.get_logger().error(f'episode {self._last_void}; it does not count')
        if (ran and ended) or session.phase == Phase.LOST:
            self._running = None
        if measured is None:
            return
        self._steps += ran
        self._held += ran and command is None
        if self._running != running:
            self._begin_hardware_episode(running)
        episode = str(EpisodeId(self._number if running else 0, self._begun))
        self._publish(RobotState(self._stamp, episode, *measured))

    def _begin_hardware_episode(self, running: bool) -> None:
        """Begin an episode or the intermission before it; both have the goal that comes next."""
        if not running or self._running is None:
            self._next_goal = self.task.start(self._rng).goal
        self._running, self._begun = running, self._stamp
        self._number += running
        self._command_at = None
        self._goals.publish(conversions.goal_to_msg(Goal(self._stamp, self._next_goal, UPRIGHT)))

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
        self._robot.reset(start)
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
        now = self._published_at = self._sampled_at[state.stamp_ns] = steady_ns()
        if len(self._sampled_at) > KEPT_STATES:
            del self._sampled_at[next(iter(self._sampled_at))]
        if self._link is None:
            self._send(state)
        else:
            self._link.send_state(state)
        if self.lockstep and now - self._clock_at >= CLOCK_PERIOD_NS:
            self._clock_at = now
            self._clock_topic.publish(Clock(clock=conversions.ns_to_stamp(state.stamp_ns)))

    def _send(self, state: RobotState) -> None:
        if self._odom is not None and state.base is not None:
            self._odom.publish(conversions.base_to_odom(state.stamp_ns, state.base))
        self._states.publish(conversions.state_to_msg(state, self._model.joint_names))

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return steps, rate, episodes, holds, refusals and the state-to-command latency."""
        now = steady_ns()
        since, steps = self._rate
        rate = (self._steps - steps) * NS / max(now - since, 1)
        self._rate = (now, self._steps)
        values = {'steps': self._steps, 'steps_per_s': round(rate, 1), 'episodes': self._number,
                  'held': self._held, 'commands_refused': self._refused,
                  **{f'latency_{key}': value for key, value in self._latency.summary().items()}}
        if self._link is not None:
            values |= self._link.counts()
        if self._hardware is not None:
            values |= {'episodes_void': self._void, 'last_void': self._last_void,
                       **self._hardware.diagnostics()}
            phase, reason = self._hardware.phase, self._hardware.reason
            if phase in (Phase.STUCK, Phase.LOST):
                return FAULT, f'{phase.value}: {reason}', values
            return (OK if phase == Phase.RUNNING else WARN), phase.value, values
        quiet = silent(self._command_at, now, self._safety.command_timeout_s)
        if not self.lockstep and quiet:
            return WARN, 'holding: no fresh command', values
        if self.lockstep and (self._command is None or self._outcome is None) \
                and silent(self._published_at, now, 10.0):
            return FAULT, 'lockstep stands still: a command or reward is missing', values
        return OK, 'running', values


def main() -> None:
    """Run the node."""
    run_main(RobotBridge, 'robot_bridge')


if __name__ == '__main__':
    main()
