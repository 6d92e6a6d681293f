# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a safety monitor did, read from its event files or from recorded episodes.

Two measures need their definitions:

* *time to stop*: from the decision to the first measured state from which on every commanded joint
  stays below ``STILL`` of its speed limit, until the stop is cleared or the file ends. Simulated
  time in lockstep, arrival at the monitor or recorder otherwise.
* a *brief* stop: its cause was gone within ``BRIEF_S``: what had fallen silent spoke again, or the
  next command was usable. Such stops are candidates for false ones; whether one was false is for a
  person to say. Of causes other than silence and unusable commands it cannot be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
import json
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import SpecError
from rl_nodes.core.timing import NS
from rl_nodes.data.reader import Episode
from rl_nodes.nodes import conversions, joint_state
from rl_nodes.nodes.safety_events import DECISION, Decision, msg_to_decision
from rl_nodes.safety.events import Interventions
from rl_nodes.safety.verdict import Level

STILL = 0.02        # share of a joint's speed limit
BRIEF_S = 0.25
STATES, SAFETY_STATE = 'joint_states', 'safety/state'
WANTED = ('policy/joint_command', 'teleop/joint_command')


class Margin(NamedTuple):
    """
    How far a command was over what was allowed.

    :param joint: with the greatest excess.
    :param requested: what was asked of it.
    :param executed: what it got.
    :param excess: the difference, in shares of the joint's limit (position: of its step).
    """

    joint: str
    requested: float
    executed: float
    excess: float


@dataclass
class Intervention:
    """
    One intervention, see ``safety/events.py``.

    :param at_ns: when it began, on the wall clock [ns].
    :param level: how grave.
    :param check: that decided.
    :param reason: in words, empty where it was not recorded.
    :param decisions: how many belong to it.
    :param worst: of a CLAMP, the greatest excess.
    :param stop_s: of a STOP, time to stop [s]; None where that was not seen.
    :param brief: of a STOP, whether its cause was gone at once; None where that cannot be told.
    """

    at_ns: int
    level: Level
    check: str
    reason: str = ''
    decisions: int = 0
    worst: Margin | None = None
    stop_s: float | None = None
    brief: bool | None = None


class _State(NamedTuple):
    log_ns: int
    stamp_ns: int
    speed: float    # of the fastest commanded joint, as a share of its limit


@dataclass
class MonitorFiles:
    """
    The files of one monitor, in order; neighbours may hold the same messages.

    :ivar interventions: found so far.
    """

    interventions: list[Intervention] = field(default_factory=list)
    _tell: Interventions = field(default_factory=Interventions)
    _newest_ns: int = 0

    def add(self, episode: Episode) -> int:
        """Read a file; return the time of its last message [ns]."""
        contract, last = episode.contract, 0
        lockstep = json.loads(episode.metadata.get('notes') or '{}').get('stepping') == 'lockstep'
        states: list[_State] = []
        wanted: list[tuple[int, bool]] = []             # when, usable
        modes: list[tuple[int, dict[str, str]]] = []
        decisions: list[tuple[int, Decision]] = []
        for message in episode.messages((STATES, SAFETY_STATE, DECISION, *WANTED)):
            at, data = message.log_time_ns, message.data
            last = max(last, at)
            try:
                if message.topic == DECISION:
                    decisions.append((at, msg_to_decision(data)))
                elif message.topic == STATES:
                    states.append(_State(at, *_speed(data, contract)))
                elif message.topic == SAFETY_STATE:
                    modes.append((at, _mode(data)))
                else:
                    wanted.append((at, _usable(data, contract)))
            except SpecError:
                continue    # the monitor refused it as well
        for at, decision in decisions:
            if at > self._newest_ns:
                self._newest_ns = at
                one = self._decide(at, decision, contract, modes)
                if decision.level == Level.STOP:
                    until = next((when for when, mode in modes if when > at
                                  and mode.get('mode', 'STOPPED') != 'STOPPED'), last + 1)
                    one.stop_s = _time_to_stop(at, decision.stamp_ns, [
                        state for state in states if state.log_ns < until], lockstep)
                    one.brief = _brief(one.check, at, states, wanted)
        return last

    def _decide(self, at: int, decision: Decision, contract: Contract,
                modes: list[tuple[int, dict[str, str]]]) -> Intervention:
        """Return the intervention that a decision belongs to."""
        check = decision.name.partition('/')[2]
        one = next((found for found in reversed(self.interventions)
                    if (found.level, found.check) == (decision.level, check)), None)
        # Files made otherwise may hold decisions that a monitor does not tell, as stop/latched.
        if self._tell.begins(decision.level, check, at) or one is None:
            reason = next((mode.get('reason', '') for when, mode in modes
                           if abs(when - at) < NS and mode.get('check') == check), '')
            one = Intervention(at, decision.level, check, reason)
            self.interventions.append(one)
        one.decisions += 1
        if decision.level == Level.CLAMP:
            margin = _margin(decision, contract)
            if margin is not None and (one.worst is None or margin.excess > one.worst.excess):
                one.worst = margin
        return one


def _speed(data: bytes, contract: Contract) -> tuple[int, float]:
    """Return (stamp [ns], speed of the fastest commanded joint as a share of its limit)."""
    msg = joint_state.decode(data)
    speeds = dict(zip(msg.name, msg.velocity.tolist()))
    return conversions.stamp_to_ns(msg.header.stamp), max(
        (abs(speeds.get(joint.name, 0.0)) / joint.velocity for joint in contract.commanded),
        default=0.0)


def _mode(data: bytes) -> dict[str, str]:
    """Return the values of a safety state."""
    return conversions.status_values(joint_state.deserialize(data, DiagnosticArray))


def _usable(data: bytes, contract: Contract) -> bool:
    values = getattr(joint_state.decode(data), contract.control_mode)
    return len(values) == len(contract.commanded) and bool(np.isfinite(values).all())


def _margin(decision: Decision, contract: Contract) -> Margin | None:
    """Return the greatest excess; None where a command or its limit is not known."""
    found = []
    for joint in contract.commanded:
        requested, got = (values.get(joint.name) for values in (
            decision.requested, decision.executed))
        limit = joint.effort if contract.control_mode == 'effort' else joint.velocity / (
            contract.rate_hz if contract.control_mode == 'position' else 1.0)
        if requested is not None and got is not None and np.isfinite(requested) and limit > 0:
            found.append(Margin(joint.name, requested, got, abs(requested - got) / limit))
    return max(found, key=lambda margin: margin.excess, default=None)


def _time_to_stop(at: int, stamp_ns: int, states: Sequence[_State],
                  lockstep: bool) -> float | None:
    """Return how long the robot went on moving [s]; None where it was not seen to stand."""
    before = sum(state.log_ns <= at for state in states)
    after = states[max(before - 1, 0):]  # with the state that it was decided in
    moving = [number for number, state in enumerate(after) if state.speed > STILL]
    first = moving[-1] + 1 if moving else 0
    if first >= len(after):
        return None
    if not moving:
        return 0.0
    still = after[first]
    return (still.stamp_ns - stamp_ns if lockstep else still.log_ns - at) / NS


def _brief(check: str, at: int, states: Sequence[_State],
           wanted: Sequence[tuple[int, bool]]) -> bool | None:
    """Return whether the cause of a stop was gone at once; None where that cannot be told."""
    until = at + round(BRIEF_S * NS)
    if check == 'state_silence':
        return any(at < state.log_ns <= until for state in states)
    if check == 'command_silence':
        return any(at < when <= until for when, _ in wanted)
    if check == 'finite':
        return next((usable for when, usable in wanted if at < when <= until), False)
    return None
