# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Robot bridge: the only node that touches a robot, and the owner of episodes and of time.

How robot and graph share time is the business of a mode, see ``bridge/``. A physical robot moves
only while commands that the safety monitor let through arrive (``bridge/physical.py``).

In lockstep it advances the simulation by one period once the command stamped with its last state,
and the reward for that state, have arrived; it then owns ``/clock``. In real time it never waits:
it writes the newest command while that is fresh and holds the robot when it is not. There a
simulated robot may be reached through a channel that delays, loses and duplicates states and
commands (not goals and rewards); see ``core/channel.py``. Time-outs are always wall time.

Parameters: robot, task, stepping, autostart, real_time_factor, backend, seed, patience_s,
recorded, channel, difficulty, priority (see below).
Publishes:
  joint_states (sensor_msgs/JointState, rad or m, control rate, STREAM), frame_id = episode id;
  before each joint_states and stamped like it, where robot and task have them (STREAM):
    odom (nav_msgs/Odometry): a floating base;
    objects (geometry_msgs/PoseArray): of the task, in base_link, or odom where the base floats;
    scan (sensor_msgs/LaserScan): of a range sensor;
    imu (sensor_msgs/Imu), wrench (geometry_msgs/WrenchStamped): where the robot has the sensors;
  goal (geometry_msgs/PoseStamped, m, base_link, once per episode, EPISODE);
  randomisation (sensor_msgs/JointState, once per episode, EPISODE): what was drawn for a simulated
  robot, by name, where the task varies its episodes; before the goal;
  privileged (sensor_msgs/JointState, STREAM): what only a critic or a teacher sees of a simulated
  robot's true state, by name, before joint_states and stamped like it, where the task has that;
  /clock (rosgraph_msgs/Clock, lockstep only, CLOCK);
  robot/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Subscribes:
  joint_command (sensor_msgs/JointState, COMMAND): the only topic the robot obeys, as long as one
  alone publishes there, see safety/sole.py;
  reward (sensor_msgs/JointState, SENSOR): ends episodes;
  recorder/status (diagnostic_msgs/DiagnosticArray, LATCHED), where the graph is recorded in
  lockstep.
Services: ~/reset (std_srvs/Trigger): end the episode by hand and start another; the answer names
the new episode's number. The parameter seed may be set before: this reset then starts from it.
~/repeat (std_srvs/Trigger): the same, but the new episode starts like the present one.
"""

from functools import partial
from typing import Annotated, Any, ClassVar

from msgspec import Meta
from rclpy.parameter import Parameter
from rl_nodes.backends import HARDWARE, make_robot
from rl_nodes.core.channel import load_channel
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.lockstep import Lockstep
from rl_nodes.nodes.bridge.mode import Mode
from rl_nodes.nodes.bridge.outlet import Outlet
from rl_nodes.nodes.bridge.physical import Physical, reach
from rl_nodes.nodes.bridge.realtime import RealTime
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.parameters import NodeParameters, Priority
from rl_nodes.nodes.precedence import Precedence
from rl_nodes.nodes.simulated_link import require_awake, require_simulated
from rl_nodes.safety.sole import Doorkeeper
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger


class BridgeParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the robot bridge.

    :param backend: what drives the robot; pybullet and mujoco simulate it in this process,
        servo_bus and ros2_control reach a physical one
    :param seed: of the episode starts; the same seed gives the same episodes. Set while the
        node runs, it holds from the next call of ~/reset on
    :param patience_s: lockstep only; after waiting this long the last state is published again
    :param recorded: lockstep only; the first period waits until the experience recorder hears
        every topic
    :param channel: name in config/channels or path to a YAML file: what happens to states and
        commands on their way; real time and simulated robots only, ideal for nothing
    :param difficulty: of the task's ranges, 0 (easy) to 1 (as configured). Set while the node
        runs, it holds from the next episode on
    :param priority: of SCHED_FIFO for this process, 1 to 99; 0 for the usual scheduling; see
        docs/realtime.md
    """

    settable: ClassVar[tuple[str, ...]] = ('seed', 'difficulty')

    backend: str = 'pybullet'
    seed: Annotated[int, Meta(ge=0)] = 0
    patience_s: Annotated[float, Meta(gt=0)] = 1.0
    recorded: bool = False
    channel: str = 'ideal'
    difficulty: Annotated[float, Meta(ge=0, le=1)] = 1.0
    priority: Priority = 0


class RobotBridge(TaskNode[BridgeParameters]):
    """See the module's text."""

    parameters_type = BridgeParameters
    status_topic = 'robot/status'

    def configure(self) -> None:
        """Build the robot, then the entities."""
        super().configure()
        self._precedence = Precedence(self, self.parameters.priority)
        self._seed: int | None = None  # set since the last reset by hand
        self._episodes = Episodes(self.task, self.get_parameter('seed').value)
        self._episodes.difficulty = self.get_parameter('difficulty').value
        self._mode = self._make_mode()
        self._door = Doorkeeper(self.task.robot.config.safety.command_timeout_s,
                                partial(self.publishers_on, JointState, 'joint_command'))
        self.subscribe(JointState, 'joint_command', self._on_command, qos.COMMAND,
                       numbers=lambda number: self._mode.let_in(
                           self._door.came(number, steady_ns())))
        self.subscribe(JointState, 'reward', self._on_reward, qos.SENSOR)
        self.serve(Trigger, 'reset', self._on_reset)
        self.serve(Trigger, 'repeat', self._on_repeat)
        self.on_parameters_set(self._on_set)

    def _make_mode(self) -> Mode:
        """Return what was asked for; RlNodesError where that cannot be had."""
        wanted, model = self.parameters, self.task.robot
        channel, factor = load_channel(wanted.channel), wanted.real_time_factor
        if self.lockstep and not channel.ideal:
            raise ConfigError(f'channel = {wanted.channel!r} needs stepping:=realtime: '
                              'in lockstep the robot waits for every message; use channel:=ideal')
        self._outlet = Outlet(self)
        if wanted.backend in HARDWARE:
            require_simulated(wanted.backend, channel, factor)
            return Physical(self, self._outlet, self._episodes, reach(self, wanted.backend))
        if factor and not self.lockstep:
            require_awake(self.task.period_ns, model.config.safety.watchdog_s, factor)
        robot = make_robot(wanted.backend, model, self.task.objects, self.task.disturbs)
        if self.lockstep:
            return Lockstep(self, self._outlet, self._episodes, robot, wanted.patience_s, factor,
                            wanted.recorded)
        return RealTime(self, self._outlet, self._episodes, robot, channel, wanted.seed)

    def activate(self) -> None:
        """Start the first episode; in real time the first tick does."""
        self._mode.activate()

    def deactivate(self) -> None:
        """Leave the robot holding."""
        self._mode.hold()

    def release(self) -> None:
        """Let go of the robot."""
        mode, self._mode = getattr(self, '_mode', None), None
        if mode is not None:
            mode.close()

    def _on_command(self, msg: JointState) -> None:
        self._mode.arrive(*conversions.msg_to_command(msg, self.task.robot.config.control_mode))

    def _on_reward(self, msg: JointState) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        state = self._outlet.state
        if state is not None and episode == state.episode:
            self._mode.reward(stamp, outcome)

    def _on_set(self, changed: list[Parameter]) -> None:
        """Keep what was set; type and range have been checked against its description."""
        values = {parameter.name: parameter.value for parameter in changed}
        self._seed = values.get('seed', self._seed)
        self._episodes.difficulty = values.get('difficulty', self._episodes.difficulty)

    def _on_reset(self, _request: Trigger.Request) -> tuple[bool, str]:
        """Start another episode at once (lockstep) or at the next tick (real time)."""
        if self._seed is not None:
            self._episodes.reseed(self._seed)
            self._seed = None
        number = self._episodes.number + 1
        self._mode.reset()
        return True, conversions.reset_answer(number)

    def _on_repeat(self, request: Trigger.Request) -> tuple[bool, str]:
        self._episodes.repeat()
        return self._on_reset(request)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return steps, rate, episodes, holds, refusals and the state-to-command latency."""
        level, message, values = self._mode.health()
        return level, message, values | self._precedence.details()


def main() -> None:
    """Run the node."""
    run_main(RobotBridge, 'robot_bridge')


if __name__ == '__main__':
    main()
