# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Decides what may reach the robot: a pure function of commands, states and injected time.

It starts STOPPED and never restarts motion by itself. A STOP is latched until :meth:`clear`, which
is refused while its cause persists. Silence is noticed by :meth:`tick`, which must be called at a
steady rate, not only when something arrives. While a robot is stopped, :meth:`fall_back` brings it
to rest, one command for each state.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, JointCommand, RobotState
from rl_nodes.safety.budget import budgets_of
from rl_nodes.safety.estop import EmergencyStop
from rl_nodes.safety.fallback import Controllers, Ladder
from rl_nodes.safety.gate import Gate
from rl_nodes.safety.guard import Guard, tightened
from rl_nodes.safety.limits import Narrowing
from rl_nodes.safety.sensing import SensingGuard
from rl_nodes.safety.verdict import Level, Verdict
from rl_nodes.safety.watchdog import silent, stale

INTRUDER = 'intruder'
# Stops after which nothing moves any more: a person wants that, or the state is not to be trusted.
STAND = frozenset({'operator', 'estop', 'inactive', 'fault', 'state_silence', 'state',
                   INTRUDER, SensingGuard.name})
# No fallback begins where what is observed is odd, either; one under way is odd by its nature.
NO_FALLBACK = STAND | {'distribution'}
# Stops that come with the monitor's own beginning and end, when nothing has failed.
LIFECYCLE = frozenset({'boot', 'inactive'})
# Checks that a fallback need not pass: it may take over in full motion, and after chatter.
FOR_A_POLICY = frozenset({'first_command', 'chatter'})
NO_CONTROLLERS: Controllers = MappingProxyType({})
HOLD = 'hold'
PRESS_S = 0.5  # calls that follow each other faster than this come from one press of a button
_NO_COMMAND = np.empty(0)


class Mode(Enum):
    """What an operator is shown."""

    OK = 'OK'
    LIMITING = 'LIMITING'
    HOLD = 'HOLD'
    STOPPED = 'STOPPED'


@dataclass(frozen=True)
class Timeouts:
    """
    Time-outs in force.

    :param watchdog_s: silence of commands or states that stops the robot.
    :param command_s: greatest age of a command's stamp.
    :param skew_s: greatest distance of a stamp into the future.
    :param healthy_s: time without any fault before a stop can be cleared.
    """

    watchdog_s: float
    command_s: float
    skew_s: float
    healthy_s: float


class Supervisor:
    """
    Checks, verdicts, the latch.

    :param robot: limits come from it.
    :param timeouts: time-outs come from it or, in lockstep, from the caller.
    :param controllers: that its ``safety.fallback`` names.
    :param estop: what may not be pressed; None where there is no such thing.
    :param guards: asked within episodes, after the checks on values and before the budgets of its
        ``safety.costs``.
    :ivar mode: what is shown; STOPPED at the start.
    :ivar check: name of the check behind the mode, empty while OK.
    :ivar reason: one sentence behind the mode.
    :ivar counts: verdicts by ``<level>`` and ``<level>/<check>``.
    :ivar estop: as given.
    """

    def __init__(self, robot: RobotModel, timeouts: Timeouts,
                 controllers: Controllers = NO_CONTROLLERS,
                 estop: EmergencyStop | None = None,
                 guards: tuple[Guard, ...] = ()) -> None:
        self._robot = robot
        self._timeouts = timeouts
        self.estop = estop or EmergencyStop()
        self._gate = Gate(robot)
        self._sensing = SensingGuard(robot)
        self._budgets = budgets_of(robot)
        self._guards: tuple[Guard, ...] = (*guards, *self._budgets)
        self._ladder = Ladder(robot, controllers)
        self._state: RobotState | None = None
        self._state_at: int | None = None
        self._command_at: int | None = None
        self._healthy_since: int | None = None
        self._passed_stamp: int | None = None
        self._intrusion: tuple[int, str] | None = None  # steady time and reason of the last one
        self._pressed_at: int | None = None  # last call of clear while nothing was stopped
        self._hangs = False                  # whoever calls it goes on and on
        self._unhealthy = 'no command has been judged yet'
        self.mode = Mode.STOPPED
        self.check, self.reason = 'boot', 'started; call clear_stop to allow motion'
        self.counts: Counter[str] = Counter()

    def observe(self, state: RobotState, steady_ns: int) -> Verdict | None:
        """
        Take the newest state.

        :param steady_ns: when it arrived on the steady clock [ns].
        :return: a STOP where it comes after a silence that nobody has noticed yet.
        """
        self._state = state
        overdue = self.tick(steady_ns)
        self._state_at = steady_ns
        self._sensing.observe(state, self._gate.trace.last)
        return overdue

    def hear_estop(self, name: str, pressed: bool, steady_ns: int) -> Verdict | None:
        """
        Take what an emergency-stop input says.

        :param steady_ns: when it said so on the steady clock [ns].
        :return: a STOP where that stops the robot, or ends its fallback.
        """
        self.estop.hear(name, pressed, steady_ns)
        return self._emergency(steady_ns)

    def judge(self, names: tuple[str, ...], command: JointCommand, now_ns: int,
              steady_ns: int) -> Verdict:
        """
        Judge one command.

        :param names: joint names as they came with the command.
        :param command: the wanted command.
        :param now_ns: now on the clock of the stamps [ns].
        :param steady_ns: now on the steady clock [ns].
        """
        overdue = self.tick(steady_ns)
        if overdue is not None:  # who slept through a silence must not go on after it
            return overdue
        state = self._state
        if state is None or silent(self._state_at, steady_ns, self._timeouts.watchdog_s):
            refusal: tuple[str, str] | None = (
                'state_silence', 'no fresh joint state to judge a command against')
        else:
            refusal = self._refusal(names, command, now_ns)
        if refusal or state is None:
            self._healthy_since = None
            return self._conclude(command.value, Level.HOLD, *(refusal or ('', '')), None)
        judged = tightened(self._gate.judge(command.value, state), self._sensing, command.value,
                           state, self.mode != Mode.STOPPED)
        if not EpisodeId.parse(state.episode).intermission:  # then the bridge only looks for life
            for guard in self._guards:
                judged = tightened(judged, guard, command.value, state,
                                   self.mode != Mode.STOPPED)
        level, check, reason, allowed = judged
        self._unhealthy = reason if level == Level.STOP else ''
        if level == Level.STOP:  # a poisoned command is no sign of life
            self._healthy_since = None
        else:
            if self._healthy_since is None or silent(self._command_at, steady_ns,
                                                     self._timeouts.watchdog_s):
                self._healthy_since = steady_ns
            self._command_at = steady_ns
            if self.mode != Mode.STOPPED:
                self._passed_stamp = command.stamp_ns
                if allowed is not None:
                    self._gate.executed(allowed, state)
        return self._conclude(command.value, level, check, reason, allowed, steady_ns)

    def tick(self, steady_ns: int) -> Verdict | None:
        """Return a STOP if anything has fallen silent since motion was allowed."""
        emergency = self._emergency(steady_ns)
        if emergency is not None:
            return emergency
        if self.mode == Mode.STOPPED:
            if silent(self._state_at, steady_ns, self._timeouts.watchdog_s):
                self._ladder.end()  # what falls back blindly must not go on when it sees again
            return None
        for check, what, last in (('state_silence', 'joint state', self._state_at),
                                  ('command_silence', 'command', self._command_at)):
            if silent(last, steady_ns, self._timeouts.watchdog_s):
                return self._conclude(_NO_COMMAND, Level.STOP, check, f'no usable {what} for more '
                                      f'than {self._timeouts.watchdog_s * 1e3:.0f} ms', None,
                                      steady_ns)
        return None

    def stop(self, check: str, reason: str) -> Verdict:
        """Latch a STOP after which the robot stands; the first reason stays until cleared."""
        return self._conclude(_NO_COMMAND, Level.STOP, check, reason, None)

    def intrude(self, reason: str, steady_ns: int) -> Verdict:
        """Latch a STOP, as somebody publishes who should not; no clearance until that is over."""
        self._intrusion = steady_ns, reason
        return self.stop(INTRUDER, reason)

    def fall_back(self, steady_ns: int) -> Verdict | None:
        """
        Return what a stopped robot gets for the newest state; None where it just stands.

        To be called once for each state.
        """
        if self.mode != Mode.STOPPED or not self._ladder.active or self._state is None:
            return None
        instead, by = self._fallback_command(steady_ns, self._state)
        return Verdict(Level.STOP, 'fallback', self.reason, _NO_COMMAND, None, instead, by)

    def narrow(self, narrowing: Narrowing) -> str:
        """Make limits narrower from now on; return why that is refused, or ``''``."""
        return self._gate.narrow(narrowing)

    def clear(self, steady_ns: int) -> str:
        """
        Allow motion again.

        One press clears one stop: what is called again and again while nothing is stopped comes
        from a button that hangs, and clears nothing until it has been let go of for ``PRESS_S``.

        :return: why it is refused, or ``''`` when motion is allowed.
        """
        moves = self.mode != Mode.STOPPED
        self._hangs = not silent(self._pressed_at, steady_ns, PRESS_S) and (self._hangs or moves)
        if self._hangs or moves:
            self._pressed_at = steady_ns
        if moves:
            return ''
        watchdog_s = self._timeouts.watchdog_s
        objection = self.estop.objection(steady_ns)
        if objection:
            return objection
        if self._intrusion and not silent(self._intrusion[0], steady_ns, self._timeouts.healthy_s):
            return f'the cause persists: {self._intrusion[1]}'
        if self._hangs:
            return ('clear_stop has been called without a pause since before the stop; a press '
                    f'that lasts clears nothing: do not call it for {PRESS_S} s, then once')
        if silent(self._state_at, steady_ns, watchdog_s):
            return 'no joint states arrive; is the robot bridge running?'
        if self._unhealthy:
            return f'the cause persists: {self._unhealthy}'
        if silent(self._command_at, steady_ns, watchdog_s):
            return 'no usable commands arrive; is the policy server running with a policy?'
        healthy_s = (steady_ns - (self._healthy_since or steady_ns)) / NS
        if healthy_s < self._timeouts.healthy_s:
            return (f'healthy for {healthy_s:.1f} s only, {self._timeouts.healthy_s:.1f} s are '
                    'needed; try again')
        self.mode, self.check, self.reason = Mode.OK, '', ''
        self._ladder.end()
        self._gate.trace.forget()
        return ''

    def hold_command(self) -> np.ndarray | None:
        """Return the command that makes the robot stand, shape (A,); None: where is unknown."""
        if self._robot.config.control_mode != 'position':
            return np.zeros(len(self._robot.commanded))
        if self._state is None or self._sensing.finding is not None:
            return None
        position = self._state.position[self._robot.commanded]
        return position if np.isfinite(position).all() else None

    @property
    def falling_back(self) -> str:
        """Return the name of the fallback that commands the robot, and which ones gave up."""
        return f'{self._ladder.failures}{self._ladder.active}'

    @property
    def spent_s(self) -> dict[str, float]:
        """Return the cost of the episode so far by name of the budget [s]."""
        return {f'{budget.name}_s': round(budget.spent_s, 3) for budget in self._budgets}

    @property
    def state(self) -> RobotState | None:
        """Return the newest state."""
        return self._state

    def _emergency(self, steady_ns: int) -> Verdict | None:
        """Return a STOP where an emergency stop is pressed and something still moves the robot."""
        objection = self.estop.objection(steady_ns)
        if objection and (self.mode != Mode.STOPPED or self._ladder.active):
            return self.stop('estop', objection)
        return None

    def _refusal(self, names: tuple[str, ...], command: JointCommand,
                 now_ns: int) -> tuple[str, str] | None:
        """Return (check, reason) if a command must not even be looked at."""
        if names != self._robot.command_names:
            return 'names', (f'command names {", ".join(names) or "nothing"}; expected '
                             f'{", ".join(self._robot.command_names)} in this order')
        why = stale(command.stamp_ns, now_ns, self._timeouts.command_s, self._timeouts.skew_s)
        if why:
            return 'age', f'command refused: {why}'
        if self._passed_stamp is not None and command.stamp_ns < self._passed_stamp:
            return 'order', 'command refused: a newer one has passed already'
        return None

    def _conclude(self, requested: np.ndarray, level: Level, check: str, reason: str,
                  allowed: np.ndarray | None, steady_ns: int | None = None) -> Verdict:
        """
        Count, latch, show.

        :param steady_ns: now; None where the robot is not to be commanded in place of what was
            refused, or only to stand.
        """
        if self.mode == Mode.STOPPED:
            self.counts['refused_while_stopped'] += 1
            instead, by = None, ''
            if check in STAND and self._ladder.active:
                self._ladder.end()
                instead, by = self.hold_command(), HOLD
            return Verdict(Level.STOP, 'latched', f'stopped: {self.reason}', requested, None,
                           instead, by)
        name = level.name.lower()
        self.counts[name] += 1
        if check:
            self.counts[f'{name}/{check}'] += 1
        self.mode = {Level.PASS: Mode.OK, Level.CLAMP: Mode.LIMITING, Level.HOLD: Mode.HOLD,
                     Level.STOP: Mode.STOPPED}[level]
        if level == Level.STOP:  # the clock may have been set back; age is still checked
            self._passed_stamp = None
        self.check, self.reason = check, reason
        return Verdict(level, check, reason, requested, allowed,
                       *self._instead(level, check, steady_ns))

    def _instead(self, level: Level, check: str,
                 steady_ns: int | None) -> tuple[np.ndarray | None, str]:
        """Return (what the robot gets in place of a command, shape (A,) or None; who made it)."""
        if level < Level.HOLD or level == Level.HOLD and steady_ns is None:
            return None, ''
        if level == Level.HOLD or steady_ns is None or check in NO_FALLBACK or self._state is None:
            self._gate.trace.halted()
            return self.hold_command(), HOLD
        last = self._gate.trace.last
        commanded = last and self._robot.config.control_mode != 'effort'
        self._ladder.begin(np.array(last[0].speed) if commanded
                           else self._state.velocity[self._robot.commanded])
        return self._fallback_command(steady_ns, self._state)

    def _fallback_command(self, steady_ns: int,
                          state: RobotState) -> tuple[np.ndarray | None, str]:
        checks = tuple(check for check in self._gate.checks if check.name not in FOR_A_POLICY)
        command, by = self._ladder.command(steady_ns, state, checks, self._gate.trace)
        if command is None:
            self._gate.trace.halted()
            return self.hold_command(), HOLD
        self._gate.executed(command, state)
        self.counts[f'fallback/{by}'] += 1
        return command, by
