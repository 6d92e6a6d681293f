# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A simulated robot that waits for the graph, and then makes time go on."""

from diagnostic_msgs.msg import DiagnosticArray
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.errors import BackendError
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import JointCommand, Outcome
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.mode import Mode
from rl_nodes.nodes.bridge.outlet import Outlet
from rl_nodes.nodes.bridge.simulation import Simulation
from rl_nodes.nodes.lifecycle import FAULT, OK, TaskNode
from rl_nodes.nodes.simulated_link import PacedStep
from rl_nodes.safety.watchdog import silent
from rosgraph_msgs.msg import Clock

CLOCK_PERIOD_NS = NS // 50  # /clock at most at 50 Hz of real time: every node pays for each tick
STANDSTILL_S = 10.0         # without a command or reward; a fault then


class Lockstep(Mode):
    """
    One period once the command stamped with the last state, and the reward for it, are here.

    :param robot: the simulator.
    :param patience_s: after waiting this long the last state is published again.
    :param factor: simulated seconds per second at most; 0 for as fast as possible.
    :param recorded: the first period waits until ``recorder/status`` says that the recorder
        hears every topic, for 10 s at most; discovery may take seconds.
    """

    def __init__(self, node: TaskNode, outlet: Outlet, episodes: Episodes, robot: SimulatedRobot,
                 patience_s: float, factor: float, recorded: bool) -> None:
        super().__init__(node, outlet, episodes)
        self._simulation = Simulation(robot, outlet, episodes)
        self._outcome: Outcome | None = None
        self._clock_topic, self._clock_at = node.publish_on(Clock, '/clock', qos.CLOCK), 0
        self._patience_s = patience_s
        self._recorder_missing, self._began_at = recorded, 0
        node.every(patience_s / 2, self._nudge)
        if recorded:
            node.subscribe(DiagnosticArray, 'recorder/status', self._on_recorder, qos.LATCHED)
        self._pace = (PacedStep(node, round(self._task.period_ns / factor), self._go_on)
                      if factor else None)

    def activate(self) -> None:
        """Start the first episode."""
        self._began_at = steady_ns()
        self._begin_episode()

    def hold(self) -> None:
        """Do not go on by itself."""
        if self._pace is not None:
            self._pace.cancel()
        self._simulation.robot.hold()

    def close(self) -> None:
        """Close the simulator."""
        self._simulation.robot.close()

    def reward(self, stamp_ns: int, outcome: Outcome) -> None:
        """Take the reward that is due, and go on if that was all."""
        if stamp_ns == self._outlet.state.stamp_ns:
            self._outcome = outcome
            self._advance()

    def reset(self) -> None:
        """Start another episode at once."""
        self._begin_episode()

    def _take(self, command: JointCommand) -> None:
        super()._take(command)
        self._advance()

    def _why_untimely(self, command: JointCommand) -> str:
        due = self._outlet.state.stamp_ns if self._outlet.state else None
        return '' if command.stamp_ns == due else (
            f'its stamp {command.stamp_ns} is not that of the last state, {due}')

    def _on_recorder(self, msg: DiagnosticArray) -> None:
        if self._recorder_missing and conversions.hears_all(msg):
            self._recorder_missing = False
            self._advance()

    # --- time -----------------------------------------------------------------------------------

    @property
    def _complete(self) -> bool:
        return (self._command is not None and self._outcome is not None
                and not self._recorder_missing)

    def _advance(self) -> None:
        """Go on once command and reward for the last state are both here."""
        if not self._complete:
            return
        if self._pace is None:
            self._go_on()
        else:
            self._pace.ready()

    def _go_on(self) -> None:
        """Advance by one period, or begin the next episode."""
        if not self._complete:
            return  # reset by hand while the pace was kept
        if self._outcome.terminated or self._outcome.truncated:
            self._begin_episode()
            return
        self._simulation.robot.write(self._command.value)
        self._stamp += self._task.period_ns
        self._steps += 1
        self._forget()
        try:
            self._simulation.move(self._stamp)
        except BackendError as error:
            self._void_episode(str(error))
            self._begin_episode()
        else:
            self._tick_clock()

    def _begin_episode(self) -> None:
        self._stamp += self._task.period_ns
        self._command_at = None
        self._forget()
        self._simulation.begin_episode(self._stamp)
        self._tick_clock()

    def _forget(self) -> None:
        """Wait for the answers to a new state; to be called before it goes out."""
        self._command = self._outcome = None

    def _tick_clock(self) -> None:
        now = self._outlet.published_at
        if now - self._clock_at >= CLOCK_PERIOD_NS:
            self._clock_at = now
            self._clock_topic.publish(Clock(clock=conversions.ns_to_stamp(self._stamp)))

    def _nudge(self) -> None:
        """Publish the last state again if nothing came, for late joiners."""
        if self._recorder_missing and silent(self._began_at, steady_ns(), STANDSTILL_S):
            self._node.get_logger().warning(
                f'no recorder has heard every topic within {STANDSTILL_S:g} s: going on')
            self._recorder_missing = False
            self._advance()
        state = self._outlet.state
        if state is not None and silent(self._outlet.published_at, steady_ns(),
                                        self._patience_s) and not self._complete:
            missing = [name for name, value in (('joint_command', self._command),
                                                ('reward', self._outcome)) if value is None]
            missing += ['the recorder'] if self._recorder_missing else []
            self._node.get_logger().info(
                f'waiting for {" and ".join(missing)} at state {state.stamp_ns}',
                throttle_duration_sec=10.0)
            self._forget()
            self._outlet.publish(state)
            self._tick_clock()

    def _verdict(self) -> tuple[int, str]:
        if not self._complete and silent(self._outlet.published_at, steady_ns(), STANDSTILL_S):
            return FAULT, 'lockstep stands still: a command, reward or recorder is missing'
        return OK, 'running'
