# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Teleoperation: answers each state like a policy, on a topic of its own, for a person.

In the person's place there may be a script that does the task, another policy, or a recorded
episode. Whether the answers reach the robot is the safety monitor's business. While nobody holds
the deadman the answer is to stand, and its source says so (``core/origin.py``). When the device
falls silent under a held deadman there is no answer at all.

Parameters: robot, task, stepping, autostart, input, operator, policy, noise, seed, episode, ramp,
mapping, speed, speed_m_s, speed_rad_s, dead_zone, stuck_s, joy_timeout_s, axes, deadman_button,
page_button, request_buttons, curated (see below).
Subscribes:
  joint_states and the other parts of states (SENSOR); goal (geometry_msgs/PoseStamped, EPISODE);
  joy (sensor_msgs/Joy, SENSOR), with input joy; joint_command (sensor_msgs/JointState, SENSOR),
  with input replay: it stands still until its commands are executed.
Publishes:
  teleop/joint_command (sensor_msgs/JointState, STREAM), stamped like the state it answers;
  teleop/intended_command (sensor_msgs/JointState, STREAM): the same before noise, where there is;
  teleop/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Calls, where curated: experience_recorder/save_episode, discard_episode, mark_success,
mark_failure; robot_bridge/reset, robot_bridge/repeat.
Exit status: 0 once a recording has been replayed, 1 where that was refused on the way.
"""

from functools import partial
from typing import Annotated, Any, Literal

from geometry_msgs.msg import PoseStamped
from msgspec import Meta
import numpy as np
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.origin import operator_source, PERTURBED, REPLAY
from rl_nodes.core.timing import steady_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.curation import Curator
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.recorded_commands import read_commands
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.teleop.device import Device, Layout
from rl_nodes.teleop.experts import Expert, make_expert
from rl_nodes.teleop.motion import make_motion, Mapping
from rl_nodes.teleop.pilots import DevicePilot, Pilot, ReplayPilot, ScriptPilot
from sensor_msgs.msg import JointState, Joy

_Share = Annotated[float, Meta(gt=0, le=1)]
_Button = Annotated[int, Meta(ge=0, le=63)]
_DEFAULT = Layout()


class TeleopParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the teleop node.

    :param input: joy for a device on the topic joy, scripted for a script that does the task,
        replay for a recorded episode
    :param operator: who has control, kept with what is recorded; empty for the input's name
    :param policy: with input scripted, a .onnx file that does the task in the script's place
    :param noise: with input scripted, how much the script's commands are perturbed, as a share of
        them; what it intended is published besides
    :param seed: of the noise
    :param episode: with input replay, the recorded episode (.mcap)
    :param ramp: with input replay, whether the robot may first go to where the recording begins,
        at the home_speed of its section hardware; else it has to be there
    :param mapping: what the axes move: the joints, the tool (cartesian), or the elements of the
        task's action; auto takes what fits the robot
    :param speed: share of the joints' limits that an axis at its end means
    :param speed_m_s: of the tool, with an axis at its end
    :param speed_rad_s: of the tool's turning, with an axis at its end
    :param dead_zone: part of an axis' way around its middle that means nothing
    :param stuck_s: an axis that reports the same value for this long is not believed any more
    :param joy_timeout_s: silence of the device after which it is lost
    :param axes: numbers of the axes that move, in the order of what they move
    :param deadman_button: number of the button that has to be held
    :param page_button: number of the button that goes on to other joints
    :param request_buttons: numbers of the buttons for save, discard, redo, success, failure
    :param curated: whether these buttons are passed on to the experience recorder
    """

    input: Literal['joy', 'scripted', 'replay'] = 'joy'
    operator: str = ''
    policy: str = ''
    noise: Annotated[float, Meta(ge=0, le=2)] = 0.0
    seed: int = 0
    episode: str = ''
    ramp: bool = True
    mapping: Mapping = 'auto'
    speed: _Share = 0.5
    speed_m_s: Annotated[float, Meta(gt=0, le=2)] = 0.25
    speed_rad_s: Annotated[float, Meta(gt=0, le=10)] = 1.0
    dead_zone: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    stuck_s: Annotated[float, Meta(ge=1, le=60)] = 10.0
    joy_timeout_s: Annotated[float, Meta(ge=0.05, le=5)] = 0.5
    axes: str = ','.join(map(str, _DEFAULT.axes))
    deadman_button: _Button = _DEFAULT.deadman
    page_button: _Button = _DEFAULT.page
    request_buttons: str = ','.join(map(str, _DEFAULT.requests))
    curated: bool = False


class Teleop(TaskNode[TeleopParameters]):
    """See the module's text."""

    parameters_type = TeleopParameters
    status_topic = 'teleop/status'

    def configure(self) -> None:
        """Build the pilot, then the entities."""
        super().configure()
        if self.parameters.input == 'joy' and self.lockstep:
            raise ConfigError('input = joy with stepping = lockstep: a simulation that does not '
                              'keep real time is too fast for a person; use stepping:=realtime')
        self._device: Device | None = None
        self._pilot = self._make_pilot()
        self._operator = self.parameters.operator or self.parameters.input
        self._goals, self._reader = GoalBook(), StateReader(self.task)
        self._waiting: RobotState | None = None
        self._answer: tuple[int, bytes] | None = None
        self._answered, self._refused, self._engaged = 0, 0, False
        self._commands = self.publish_on(JointState, 'teleop/joint_command', qos.STREAM)
        self._intended = self.publish_on(
            JointState, 'teleop/intended_command', qos.STREAM) if self.parameters.noise else None
        self._curator = Curator(self) if self.parameters.curated else None
        self.subscribe(PoseStamped, 'goal', self._on_goal, qos.EPISODE)
        for topic, kind in self._reader.topics.items():
            self.subscribe(kind, topic, partial(self._on_state, topic), qos.SENSOR)
        if self._device is not None:
            self.subscribe(Joy, 'joy', self._on_joy, qos.SENSOR)
        if isinstance(self._pilot, ReplayPilot):
            self.subscribe(JointState, 'joint_command', self._on_executed, qos.SENSOR)

    def _make_pilot(self) -> Pilot:
        given = self.parameters
        if bool(given.episode) != (given.input == 'replay'):
            raise ConfigError(f'input = {given.input!r} with episode = {given.episode!r}: an '
                              'episode belongs to input:=replay, which needs one')
        if given.policy and given.input != 'scripted':
            raise ConfigError(f'input = {given.input!r} with policy = {given.policy!r}: a policy '
                              'belongs to input:=scripted')
        if given.input == 'scripted':
            expert = self._policy(given.policy) if given.policy else make_expert(self.task)
            return ScriptPilot(self.task, expert, given.noise, given.seed)
        if given.input == 'replay':
            return ReplayPilot(self.task.robot, *read_commands(given.episode, self.task),
                               given.ramp)
        layout = Layout(_numbers('axes', given.axes), given.deadman_button, given.page_button,
                        _numbers('request_buttons', given.request_buttons))
        if len(layout.requests) != len(_DEFAULT.requests) or len(set(layout.buttons)) != len(
                layout.buttons):
            raise ConfigError(f'buttons {", ".join(map(str, layout.buttons))}: expected the '
                              f'deadman, the page and {len(_DEFAULT.requests)} requests, no '
                              'button twice')
        self._device = Device(layout, given.dead_zone, given.stuck_s, given.joy_timeout_s)
        self._motion = make_motion(self.task, given.mapping, len(layout.axes), given.speed,
                                   given.speed_m_s, given.speed_rad_s)
        return DevicePilot(self._device, self._motion)

    def _policy(self, path: str) -> Expert:
        from rl_nodes.nodes.policy_expert import PolicyExpert

        return PolicyExpert(path, self.task)

    # --- what arrives ---------------------------------------------------------------------------

    def _on_joy(self, msg: Joy) -> None:
        reading = self._device.read(msg.axes, msg.buttons, steady_ns())
        if reading.paged:
            self.get_logger().info(self._motion.page())
        if self._curator is not None:
            for request in reading.requests:
                self._curator.request(request)

    def _on_executed(self, msg: JointState) -> None:
        if msg.header.frame_id.startswith(REPLAY):
            self._pilot.executed(conversions.stamp_to_ns(msg.header.stamp))

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg, self.task.goal_frame))
        except SpecError as error:
            self._refuse(error)
            return
        if self._waiting is not None:
            self._tick(self._waiting)

    def _on_state(self, topic: str, msg: Any) -> None:
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._refuse(error)
            return
        if state is None:  # a part of it is on its way
            return
        if self.lockstep and self._answer is not None and self._answer[0] == state.stamp_ns:
            self._commands.publish(self._answer[1])  # asked again: the same answer
        else:
            self._tick(state)

    def _tick(self, state: RobotState) -> None:
        """Answer a complete state."""
        self._waiting = None
        goal = self._goals.of(state)
        if goal is None:  # the goal of a new episode is still on its way
            self._waiting = state
            return
        try:
            wish = self._pilot.wish(state, goal, steady_ns())
        except SpecError as error:
            self._refuse(error)
            return
        if wish is None:
            self._end_if_over()
            return
        if wish.engaged != self._engaged:
            self._engaged = wish.engaged
            self.publish_health()
        source = (f'{REPLAY}{self._operator}' if self.parameters.input == 'replay'
                  else operator_source(self._operator, wish.engaged))
        if wish.intended is not None:
            self._intended.publish(self._message(state, source, wish.intended))
            source += PERTURBED
        msg = self._message(state, source, wish.command)
        self._answer = (state.stamp_ns, msg)
        self._answered += 1
        self._commands.publish(msg)

    def _message(self, state: RobotState, source: str, value: np.ndarray) -> bytes:
        robot = self.task.robot
        return conversions.command_to_msg(JointCommand(state.stamp_ns, source, value),
                                          robot.command_names, robot.config.control_mode)

    def _end_if_over(self) -> None:
        """Leave once a recording has been replayed, or cannot be."""
        pilot = self._pilot
        if not isinstance(pilot, ReplayPilot) or self.exit_code is not None:
            return
        if pilot.done:
            self.get_logger().info(
                f'replayed {pilot.progress}; distance of any joint from the recording: mean '
                f'{np.mean(pilot.errors):.4f}, greatest {np.max(pilot.errors):.4f} (rad or m)')
            self.exit(0)
        elif pilot.complaint:
            self.get_logger().error(f'replay ended: {pilot.complaint}')
            self.exit(1)

    def _refuse(self, error: SpecError) -> None:
        self._refused += 1
        self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return whether somebody has control, and what is wrong with the device."""
        lost = self._device is not None and self._device.lost(steady_ns())
        complaint = self._pilot.complaint or ('no message on joy' if lost else '')
        return (WARN if complaint else OK), complaint or 'running', {
            'input': self.parameters.input, 'operator': self._operator,
            'engaged': self._engaged, 'answered': self._answered, 'refused': self._refused}


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the numbers in a text like ``1,0,4``."""
    try:
        found = tuple(int(part) for part in text.split(','))
    except ValueError:
        found = ()
    if not found or min(found) < 0 or len(set(found)) != len(found):
        raise ConfigError(f'{name} = {text!r}: expected numbers from 0 on, each once, with '
                          'commas between them')
    return found


def main() -> None:
    """Run the node."""
    run_main(Teleop, 'teleop')


if __name__ == '__main__':
    main()
