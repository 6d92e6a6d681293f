# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Safety monitor: the last thing before the robot. Nothing else runs in this process.

Decisions are made by ``safety/supervisor.py``; this node only brings messages in and verdicts out.
It starts STOPPED. It is a software stop on an ordinary computer, not a certified safety function.

Parameters: robot, task, stepping, autostart, arm_on_start, backend, sources, event_directory,
guard, priority; speed_scale, extra_margin, extra_clearance_m, which may be set while it runs, to
narrow limits only (see below).
Subscribes:
  ~/estop (std_msgs/Bool, SENSOR), where the robot's YAML says so: true is pressed, and so is
  silence;
  joint_states (sensor_msgs/JointState, SENSOR);
  policy/joint_command, teleop/joint_command (sensor_msgs/JointState, COMMAND): what a policy and a
  person want, each where it is among the sources; one acts at a time, see safety/sources.py; a
  second publisher of these, of joint_states or joint_command stops the robot, see intruders.py;
  goal (geometry_msgs/PoseStamped, EPISODE), odom, objects, scan, imu and wrench where there are
  such, reward (sensor_msgs/JointState, STREAM) where it is observed: with a guard only, which
  observes what a policy does, see guard_watch.py.
Publishes:
  joint_command (sensor_msgs/JointState, EXECUTED): what the robot gets, same stamp as its cause,
  frame_id = its source and by which decision it is not what was wanted, see core/origin.py;
  safety/decision (sensor_msgs/JointState, STREAM): every decision but PASS, with what was asked
  for and what the robot gets, see nodes/safety_events.py; same stamp as its cause;
  safety/state (diagnostic_msgs/DiagnosticArray, LATCHED): OK, LIMITING, HOLD or STOPPED with
  check, reason and counts, on every change and at 1 Hz;
  /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Services:
  ~/stop (std_srvs/Trigger): stop now; works in every life-cycle state that has the service;
  ~/clear_stop (std_srvs/Trigger): allow motion again, refused while the cause persists, and where
    it was sent before the robot stopped.
"""

from functools import partial
import time
from typing import Annotated, Any, ClassVar

from msgspec import Meta
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from rl_nodes.backends import BACKENDS, HARDWARE
from rl_nodes.backends.hardware.estop_line import EstopLine
from rl_nodes.control.controllers import KINDS, make_controller
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.origin import MONITOR
from rl_nodes.core.timing import elapsed_ns, NS
from rl_nodes.core.types import JointCommand
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.guard_watch import GuardWatch
from rl_nodes.nodes.intruders import Intruders
from rl_nodes.nodes.lifecycle import FAULT, OK, TaskNode, WARN
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.parameters import NodeParameters, Priority
from rl_nodes.nodes.precedence import Precedence
from rl_nodes.nodes.safety_events import DECISION, decision_to_msg, EventKeeper, intervenes
from rl_nodes.safety.estop import EmergencyStop
from rl_nodes.safety.events import decision_name
from rl_nodes.safety.limits import Narrowing
from rl_nodes.safety.sources import Arbiter, Offer, Sources, TELEOP
from rl_nodes.safety.supervisor import HOLD, LIFECYCLE, Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level, Verdict
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

TICK_S = 0.005
DELIVERY_S = 0.1  # a last stop may take to be acknowledged; what its publisher leaves may be lost
# In lockstep the robot waits, so a late command is no fault; the check on values is the same.
LOCKSTEP = Timeouts(watchdog_s=30.0, command_s=0.0, skew_s=0.0, healthy_s=0.0)
LOCKSTEP_TICK_S = 0.1
JOINT_STATE, STATE = 'sensor_msgs/msg/JointState', 'safety/state'


class MonitorParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the safety monitor.

    :param arm_on_start: simulation only; clear the stop of the start once, when states and
        commands are healthy. On hardware a person calls ~/clear_stop
    :param backend: what drives the robot; with a physical one arm_on_start is refused
    :param sources: whose commands may reach the robot: policy, teleop, or policy+teleop, where a
        person who holds the deadman goes before the policy
    :param guard: file of a guard for this robot and task, as "rl_nodes safety calibrate" writes
        it: what is far from the recorded episodes that went well stops the robot; empty for none
    :param priority: of SCHED_FIFO for this process, 1 to 99; 0 for the usual scheduling; see
        docs/realtime.md
    :param speed_scale: share of the robot's speed limits in force; while the node is configured it
        may be set lower, never higher
    :param extra_margin: kept free at each end of a joint's range beyond the robot's
        position_margin [rad or m]; may be set higher, never lower
    :param extra_clearance_m: added to the clearances of the robot's safety.geometry [m]; may be
        set higher, never lower
    :param event_directory: where the seconds before and after each intervention are kept as MCAP
        files; empty to keep none
    """

    settable: ClassVar[tuple[str, ...]] = ('speed_scale', 'extra_margin', 'extra_clearance_m')

    arm_on_start: bool = False
    backend: str = BACKENDS[0]
    sources: Sources = 'policy'
    guard: str = ''
    priority: Priority = 0
    speed_scale: Annotated[float, Meta(ge=1e-3, le=1)] = 1.0
    extra_margin: Annotated[float, Meta(ge=0, le=100)] = 0.0
    extra_clearance_m: Annotated[float, Meta(ge=0, le=100)] = 0.0
    event_directory: str = ''


class SafetyMonitor(TaskNode[MonitorParameters]):
    """See the module's text."""

    parameters_type = MonitorParameters
    status_topic = STATE

    def configure(self) -> None:
        """Build the supervisor, then the entities."""
        super().configure()
        self._precedence = Precedence(self, self.parameters.priority)
        self._model = self.task.robot
        safety, parameters = self._model.config.safety, self.parameters
        estop = safety.estop
        self._watch = GuardWatch(self, parameters.guard) if parameters.guard else None
        self._supervisor = Supervisor(
            self._model, LOCKSTEP if self.lockstep else Timeouts(
                safety.watchdog_s, safety.command_timeout_s, safety.skew_s, safety.healthy_s),
            {kind: make_controller(kind, self._model).command for kind in safety.fallback
             if kind in KINDS}, estop and EmergencyStop(estop.inputs, estop.timeout_s),
            self._watch.guards if self._watch else ())
        why = self._narrow([])
        if why:
            raise ConfigError(why)
        self.judge_parameters(self._narrow)
        self._arm = parameters.arm_on_start
        if self._arm and parameters.backend in HARDWARE:
            raise ConfigError(f'arm_on_start with backend {parameters.backend}: only a '
                              'person may allow a physical robot to move, by ~/clear_stop')
        self._arbiter = Arbiter(self._model, LOCKSTEP.watchdog_s if self.lockstep
                                else safety.watchdog_s, parameters.sources)
        if safety.clear_needs_deadman and (self._arm or TELEOP not in self._arbiter.sources):
            raise ConfigError(f'robot {self._model.name}: safety.clear_needs_deadman with '
                              f'arm_on_start = {self._arm} and sources = {parameters.sources}: '
                              'somebody has to hold a deadman, so teleop has to be among the '
                              'sources and nothing may arm itself')
        self._waiting: dict[str, Offer] = {}  # by source; their states have not come yet
        self._shown: tuple[Mode, str, str, str] | None = None
        self._stopped_ns = 0  # when motion last ended, on the clock of the day
        self._bad_states = 0
        self._commands = self.publish_on(JointState, 'joint_command', qos.EXECUTED)
        self._decisions = self.publish_on(JointState, DECISION, qos.STREAM)
        wanted = {source: f'{source}/joint_command' for source in self._arbiter.sources}
        self._events = EventKeeper(parameters.event_directory, self.task, {
            **dict.fromkeys(('joint_states', *wanted.values(), 'joint_command', DECISION),
                            JOINT_STATE), STATE: 'diagnostic_msgs/msg/DiagnosticArray'},
            {'stepping': parameters.stepping})
        if estop is not None and estop.topic:
            self.subscribe(Bool, '~/estop', self._on_estop, qos.SENSOR)
        self._line = None if estop is None or estop.line is None else EstopLine(
            estop.line, self.wake(self._on_line))
        intruders = Intruders(self, 'joint_command', safety.watchdog_s, self._on_intruder)
        self.subscribe(JointState, 'joint_states', self._on_state, qos.SENSOR,
                       tap=partial(self._events.see, 'joint_states'),
                       numbers=intruders.numbers('joint_states'))
        for source, topic in wanted.items():
            self.subscribe(JointState, topic, partial(self._on_command, source), qos.COMMAND,
                           tap=partial(self._events.see, topic),
                           numbers=intruders.numbers(topic))
        self.serve(Trigger, 'stop', self._on_stop, always=True)
        self.serve(Trigger, 'clear_stop', self._on_clear)
        self.every(LOCKSTEP_TICK_S if self.lockstep and estop is None else TICK_S, self.tick)

    def activate(self) -> None:
        """Show that motion is not allowed yet."""
        self._show()

    def deactivate(self) -> None:
        """A monitor that does not look must not have allowed motion."""
        self._last_stop('inactive', 'the safety monitor was deactivated')

    def release(self) -> None:
        """Complete the files, let go of the button and of what the guards compute with."""
        for name in ('_events', '_line', '_watch'):
            part = getattr(self, name, None)
            if part is not None:
                part.close()

    def fault(self, text: str) -> None:
        """Stop the robot before the process ends."""
        self._last_stop('fault', 'exception in the safety monitor')
        super().fault(text)

    def _last_stop(self, check: str, reason: str) -> None:
        """Stop the robot and see the command arrive, as nothing may come after it."""
        self._carry_out(self._supervisor.stop(check, reason))
        self._commands.wait_for_all_acked(Duration(seconds=DELIVERY_S))

    def _on_state(self, msg: JointState) -> None:
        try:
            state = conversions.msg_to_state(msg, self._model.joint_names)
        except SpecError as error:  # silence of good states ends in a stop
            self._bad_states += 1
            self.get_logger().warning(f'state dropped: {error}', throttle_duration_sec=1.0)
            return
        overdue = self._supervisor.observe(state, elapsed_ns())
        if self._watch is not None:
            self._watch.joints(msg)
        verdict = overdue or self._supervisor.fall_back(elapsed_ns())
        if verdict is not None:
            self._carry_out(verdict)
        for source, offer in list(self._waiting.items()):
            if offer.command.stamp_ns <= state.stamp_ns:
                self._judge(source, self._waiting.pop(source))

    def _on_intruder(self, reason: str) -> None:
        self._carry_out(self._supervisor.intrude(reason, elapsed_ns()))

    def _on_estop(self, msg: Bool) -> None:
        self._hear_estop('topic', msg.data, elapsed_ns())

    def _on_line(self) -> None:
        for reading in self._line.readings():
            if reading.error:
                self.get_logger().error(f'e-stop: {reading.error}', throttle_duration_sec=1.0)
            self._hear_estop('line', reading.pressed, reading.steady_ns)

    def _hear_estop(self, name: str, pressed: bool, at_ns: int) -> None:
        """Stop in this moment where it is pressed; a launch that arms by itself will not then."""
        self._arm = self._arm and not pressed
        verdict = self._supervisor.hear_estop(name, pressed, at_ns)
        if verdict is not None:
            self._carry_out(verdict)
        else:
            self._show()

    def _on_command(self, source: str, msg: JointState) -> None:
        """Judge a command against the state that caused it, which may arrive just after it."""
        offer = Offer(*conversions.msg_to_command(msg, self._model.config.control_mode))
        state = self._supervisor.state
        if state is None or state.stamp_ns < offer.command.stamp_ns:
            self._waiting[source] = offer
        else:
            self._judge(source, offer)

    def _judge(self, source: str, offer: Offer) -> None:
        state = self._supervisor.state
        chosen = self._arbiter.choose(source, offer, elapsed_ns(),
                                      self._supervisor.mode == Mode.STOPPED)
        if chosen is None:
            self._show()
            return
        names, command = chosen.names, self._arbiter.shaped(chosen.command, state)
        now_ns = state.stamp_ns if self.lockstep else self.get_clock().now().nanoseconds
        verdict = self._supervisor.judge(names, command, now_ns, elapsed_ns())
        if self._arm and self._supervisor.check == 'boot' \
                and not self._supervisor.clear(elapsed_ns()):
            self._arm = False
            self.get_logger().info('armed at start: states and commands are healthy')
            verdict = self._supervisor.judge(names, command, now_ns, elapsed_ns())
        self._carry_out(verdict, command)
        if self._watch is not None:
            self._watch.wanted(chosen.command)

    def _narrow(self, changed: list[Parameter]) -> str:
        """Let parameters make limits narrower; return why that is refused, or ``''``."""
        values = {name: self.get_parameter(name).value for name in self.parameters.settable}
        values.update((parameter.name, parameter.value) for parameter in changed
                      if parameter.name in values)
        try:
            return self._supervisor.narrow(Narrowing(**values))
        except ValueError as error:
            return str(error)

    def tick(self) -> None:
        """Notice silence, also when nothing arrives."""
        if self._waiting and not self.lockstep:
            self._expire_waiting()
        verdict = self._supervisor.tick(elapsed_ns())
        if verdict is not None:
            self._carry_out(verdict)
        self._events.tick()

    def _expire_waiting(self) -> None:
        """A command from the future never finds its state: judge it, which refuses it."""
        now_ns, skew_s = self.get_clock().now().nanoseconds, self._model.config.safety.skew_s
        for source, offer in list(self._waiting.items()):
            if offer.command.stamp_ns - now_ns > skew_s * NS:
                self._judge(source, self._waiting.pop(source))

    def _carry_out(self, verdict: Verdict, cause: JointCommand | None = None) -> None:
        """Publish what is allowed, or what the robot gets in place of what is not."""
        value, source = verdict.allowed, cause.source if cause else MONITOR
        if value is None:
            value, source = verdict.instead, MONITOR
            if verdict.level != Level.STOP or verdict.by != HOLD:  # the robot is not to rest yet
                source = f'{MONITOR}/{verdict.by}'
        state = self._supervisor.state
        stamp = cause.stamp_ns if cause else state.stamp_ns if state else 0
        if value is not None:
            command = conversions.command_to_msg(
                JointCommand(stamp, source, value, self._intervention(verdict)),
                self._model.command_names, self._model.config.control_mode)
            self._commands.publish(command)
            self._events.see('joint_command', command)
            if state is not None:
                self._arbiter.executed(value, state)
        if intervenes(verdict):
            decision = decision_to_msg(stamp, verdict, self._model.command_names)
            self._decisions.publish(decision)
            self._events.see(DECISION, decision)
            self._events.decide(verdict)
        self._show()

    def _intervention(self, verdict: Verdict) -> str:
        """Return the label of what the robot gets; of a fallback, the check that began it."""
        return decision_name(verdict.level, self._supervisor.check) if verdict.level else ''

    def _show(self) -> None:
        """Publish the state when mode, check, source or emergency stop have changed."""
        shown = (self._supervisor.mode, self._supervisor.check, self._arbiter.acting,
                 self._supervisor.estop.shown(elapsed_ns()))
        if shown == self._shown:
            return
        if shown[0] == Mode.STOPPED and shown[1] not in LIFECYCLE:
            self.get_logger().error(f'STOPPED by {shown[1]}: {self._supervisor.reason}')
        if shown[0] == Mode.STOPPED and self._shown and self._shown[0] != Mode.STOPPED:
            self._stopped_ns = time.time_ns()
        self._shown = shown
        state = self.publish_health()
        if self._events.keeps:
            self._events.see(STATE, serialize_message(state))

    def _on_stop(self, _request: Trigger.Request) -> tuple[bool, str]:
        self._arm = False
        self._carry_out(self._supervisor.stop('operator', 'stop was called'))
        return True, 'stopped'

    def _on_clear(self, _request: Trigger.Request) -> tuple[bool, str]:
        safety = self._model.config.safety
        if safety.clear_needs_deadman and not self._arbiter.held(elapsed_ns()):
            return False, ('nobody holds the deadman of the teleoperation device, as '
                           'safety.clear_needs_deadman of this robot asks for; hold it meanwhile')
        why = self._late() or self._supervisor.clear(elapsed_ns())
        self._show()
        if why:
            return False, why
        self.get_logger().info('stop cleared by an operator')
        return True, 'motion is allowed'

    def _late(self) -> str:
        """Return why a clearance was not meant for the present stop, or ``''``."""
        if self._supervisor.mode != Mode.STOPPED or not self._stopped_ns:
            return ''
        if self.asked_ns is None:
            return 'nobody knows when this clear_stop was sent; call it again'
        early_s = (self._stopped_ns - self.asked_ns) / NS
        return '' if early_s <= 0 else (
            f'this clear_stop was sent {early_s:.3f} s before the robot stopped, by the clock of '
            'who sent it: look what stopped the robot, then call it again')

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return the mode, the check and reason behind it, and all counts."""
        supervisor = self._supervisor
        level = {Mode.OK: OK, Mode.STOPPED: FAULT}.get(supervisor.mode, WARN)
        events = self._events.health()
        if events.get('event_log_error'):
            level = max(level, WARN)
        return level, f'{supervisor.mode.value} {supervisor.reason}'.strip(), {
            'mode': supervisor.mode.value, 'check': supervisor.check,
            'reason': supervisor.reason, 'fallback': supervisor.falling_back,
            'estop': supervisor.estop.shown(elapsed_ns()),
            'acting': self._arbiter.acting, 'bad_states': self._bad_states,
            **self._precedence.details(), **self._arbiter.counts(), **supervisor.spent_s, **events,
            **(self._watch.details() if self._watch else {}),
            **dict(sorted(supervisor.counts.items()))}


def main() -> None:
    """Run the node."""
    run_main(SafetyMonitor, 'safety_monitor')


if __name__ == '__main__':
    main()
