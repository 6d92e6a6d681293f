# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The faults that are injected into a running deployment, and what is expected of each.

More of them are in ``machine.py``, ``middleware.py`` and ``people.py``; ``catalogue.py`` has all.

``entry`` numbers the entry of the fault catalogue in ``docs/faults.md``. A fault is a function of
the stage that causes it once, waits for what becomes of it, and heals it. The tests of
``test/ros/test_faults.py`` inject each once, ``campaign.py`` many times.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import signal
import sys
from typing import NamedTuple

from actors import RATE_HZ, ROOT
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.nodes import conversions, joint_state
from stage import ALLOWED, Heard, PAST_MONITOR, POLICY, ROBOT, Stage, STATES, WANTED
from stand_ins import BridgeStandIn, PolicyStandIn
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger

ON = 15           # commands that pass before a fault is taken to have done nothing
ATTEMPTS = 5
READERS = 4       # of the robot's topic: bridge, recorder, reward computer, the stage
PERIOD_NS = NS // RATE_HZ
SLOW_SERVER = ROOT / 'test' / 'emulators' / 'slow_policy_server.py'
KILL, STOP = signal.SIGKILL, signal.SIGSTOP


class Outcome(NamedTuple):
    """What was observed; ``reaction_ms`` from the fault to the stop at the robot, if any."""

    observed: str
    reaction_ms: float | None = None


@dataclass(frozen=True)
class Fault:
    """
    One fault.

    :param entry: of the catalogue.
    :param name: in a few words.
    :param expected: what :class:`Outcome` must say.
    :param inject: causes it.
    :param backend: the setup that it needs, see ``actors.SETUPS``.
    :param bound: (percentile, milliseconds) of the reaction; None where no bound is stated.
    :param restarts: a process is started again, which takes seconds.
    """

    entry: str
    name: str
    expected: str
    inject: Callable[[Stage], Outcome]
    backend: str = 'pybullet'
    bound: tuple[float, float] | None = None
    restarts: bool = False


def attempt(stage: Stage, fault: Fault) -> Outcome:
    """
    Inject a fault once into a robot that moves as it should.

    Where it is not to stop the robot, but a message came later than the watchdog allows, the stop
    was right; ``stage.stalls`` counts these attempts, and another one follows.
    """
    for _ in range(ATTEMPTS):
        stage.ready()
        outcome = fault.inject(stage)
        if 'silence' in fault.expected or 'silence' not in outcome.observed or (
                not stage.stalled(stage.ready_at)):
            break
        stage.stalls += 1
    return outcome


# --- processes -----------------------------------------------------------------------------------

def asks_again(stage: Stage, at: int, count: int = 5) -> None:
    """Wait until the policy wants to move again: nothing of that may reach a stopped robot."""
    stage.until(lambda: len(stage.since(WANTED, at)) >= count)


def halting(name: str, number: signal.Signals, topic: str) -> Callable[[Stage], Outcome]:
    """
    Kill or freeze what the robot cannot do without; the monitor stops it.

    A busy machine carries a signal out when the process has its turn, so the reaction counts from
    the last message on its ``topic`` where that comes after the signal.
    """
    def inject(stage: Stage) -> Outcome:
        at = stage.disturb()
        stage.actors[name].signal(number)
        reaction = stage.halt_ms(at)
        if reaction is not None:
            reaction -= max(stage.heard[topic][-1].at - at, 0) / 1e6
        if number == STOP:
            thawed = stage.disturb()
            stage.actors[name].signal(signal.SIGCONT)
            asks_again(stage, thawed)
        return Outcome(stage.verdict(at), reaction)
    return inject


def surviving(name: str, number: signal.Signals) -> Callable[[Stage], Outcome]:
    """Kill or freeze what the robot can do without; half a second of commands passes."""
    def inject(stage: Stage) -> Outcome:
        at = stage.disturb()
        stage.actors[name].signal(number)
        goes_on(stage, at, RATE_HZ // 2)
        if number == STOP:
            stage.actors[name].signal(signal.SIGCONT)
        return Outcome(stage.verdict(at))
    return inject


def without_monitor(number: signal.Signals) -> Callable[[Stage], Outcome]:
    """Kill or freeze the monitor; the bridge holds, and only a person ends that."""
    def inject(stage: Stage) -> Outcome:
        at = stage.disturb()
        monitor = stage.actors['safety_monitor']
        monitor.signal(number)
        reaction = stage.stand_ms(at)
        held = 'moves on' if reaction is None else 'bridge holds'
        healed = stage.disturb()
        if number == STOP:
            monitor.signal(signal.SIGCONT)
        else:
            monitor.start()
        stage.until(lambda: any(shown.mode == 'STOPPED' for shown in stage.shown_since(healed)),
                    20.0)
        asks_again(stage, stage.disturb())
        # Whichever of the two silences it notices first.
        verdict = stage.verdict(at).replace('command_', '').replace('state_', '')
        return Outcome(f'{held}, {verdict}', reaction)
    return inject


def goes_on(stage: Stage, at: int, count: int = ON) -> None:
    """Wait until so many commands of the policy have passed, or the robot is stopped."""
    stage.until(lambda: stage.mode == 'STOPPED' or sum(
        not heard.stops for heard in stage.since(ALLOWED, at)) >= count, 10.0)


def by_service(stage: Stage) -> None:
    """Ask for a stop by the service; return without waiting for the answer."""
    stage.client(Trigger, 'safety_monitor/stop').call_async(Trigger.Request())


def by_button(stage: Stage) -> None:
    """Press an emergency stop."""
    stage.button.say(True)


# Every way in which a person may stop the robot: sends one message and does not wait.
BY_HAND: dict[str, tuple[str, Callable[[Stage], None]]] = {
    'service stop': ('operator', by_service), 'topic estop': ('estop', by_button)}


def emergency(press: Callable[[Stage], None]) -> Callable[[Stage], Outcome]:
    """Stop by hand; the policy goes on wanting to move."""
    def inject(stage: Stage) -> Outcome:
        client = stage.client(Trigger, 'safety_monitor/stop')
        stage.until(client.service_is_ready)
        at = stage.disturb()
        press(stage)
        reaction = stage.halt_ms(at)
        asks_again(stage, stage.disturb())
        stage.button.say(False)
        return Outcome(stage.verdict(at), reaction)
    return inject


# --- messages ------------------------------------------------------------------------------------

def message(heard: Heard, names: tuple[str, ...], values: np.ndarray, stamp_ns: int,
            source: str = 'rogue@1') -> bytes:
    return joint_state.encode(stamp_ns, source, names, np.asarray(values, np.float64))


def rogue(change: Callable[[Heard, Stage], bytes]) -> Callable[[Stage], Outcome]:
    """Let somebody act in the policy's place and publish once what no policy should."""
    def inject(stage: Stage) -> Outcome:
        with PolicyStandIn(stage) as acting:
            for _ in range(ATTEMPTS):
                at = stage.disturb()
                acting.change = change
                goes_on(stage, at)
                if stage.verdict(at) != 'goes on':  # its next one may have come over it
                    break
            halted = stage.mode == 'STOPPED'
            return Outcome(stage.verdict(at), stage.halt_ms(at) if halted else None)
    return inject


def valued(value: float, length: int | None = None) -> Callable[[Heard, Stage], bytes]:
    """Return the policy's command with one value replaced, or of another length."""
    def change(heard: Heard, stage: Stage) -> bytes:
        values = np.array(heard.view.position)
        values[stage.random.randrange(len(values))] = value
        return message(heard, heard.view.name, values[:length], heard.stamp_ns)
    return change


def older(periods: float) -> Callable[[Heard, Stage], bytes]:
    return lambda heard, stage: message(heard, heard.view.name, heard.view.position,
                                        heard.stamp_ns - round(periods * PERIOD_NS))


def permuted(heard: Heard, stage: Stage) -> bytes:
    return message(heard, heard.view.name[::-1], heard.view.position, heard.stamp_ns)


def oversized(heard: Heard, stage: Stage) -> bytes:
    return message(heard, heard.view.name, np.zeros(10_000), heard.stamp_ns)


def at_the_bridge(change: Callable[[Heard, Stage], bytes]) -> Callable[[Stage], Outcome]:
    """Publish past the monitor what nobody may: the bridge checks again and counts it."""
    def inject(stage: Stage) -> Outcome:
        stage.until(lambda: 'commands_refused' in stage.values[ROBOT])
        before = int(stage.values[ROBOT]['commands_refused'])
        at = stage.disturb()
        with stage.intruder(ALLOWED) as publisher:
            stage.until(lambda: publisher.get_subscription_count() >= READERS)
            begun = steady_ns()
            for _ in range(ATTEMPTS):
                view = joint_state.decode(change(stage.heard[WANTED][-1], stage))
                publisher.publish(joint_state.encode(
                    conversions.stamp_to_ns(view.header.stamp), PAST_MONITOR, view.name,
                    view.position))
                stage.live(1.3 / RATE_HZ)
            reaction = stage.halt_ms(at)
            refused = stage.until(
                lambda: int(stage.values[ROBOT]['commands_refused']) > before, 3.0)
        if reaction is not None:  # it may have been stopped before it said anything
            reaction = max(reaction - (begun - at) / 1e6, 0.0)
        return Outcome(f'{"refused" if refused else "taken"} by the bridge, {stage.verdict(at)}',
                       reaction)
    return inject


def states(change: Callable[[Heard, int], bytes], expected_stop: bool = True) -> Callable[
        [Stage], Outcome]:
    """
    Stand in for the bridge, and then send what ``change`` makes of each state.

    :param change: of the state and a new stamp [ns].
    """
    def inject(stage: Stage) -> Outcome:
        with BridgeStandIn(stage) as robot:
            at = stage.disturb()
            robot.change = change
            stage.until(lambda: stage.mode == 'STOPPED', 0.5)
            verdict = stage.verdict(at)
            reaction = stage.halt_ms(at, 0.0) if expected_stop else None
        asks_again(stage, stage.disturb())
        return Outcome(verdict, reaction)
    return inject


def state(last: Heard, stamp: int, names: tuple[str, ...] | None = None,
          position: np.ndarray | None = None, velocity: np.ndarray | None = None) -> bytes:
    view = last.view
    return joint_state.encode(
        stamp, view.header.frame_id, view.name if names is None else names,
        np.array(view.position if position is None else position),
        np.array(view.velocity if velocity is None else velocity))


def poisoned(last: Heard, stamp: int) -> bytes:
    position = np.array(last.view.position)
    position[2] = np.nan
    return state(last, stamp, position=position)


def shuffled(last: Heard, stamp: int) -> bytes:
    view = last.view
    return state(last, stamp, view.name[::-1], view.position[::-1], view.velocity[::-1])


# --- policies, parameters, transitions -----------------------------------------------------------

def update(make: Callable[[PolicyBundle], UInt8MultiArray]) -> Callable[[Stage], Outcome]:
    """Send a policy that is none; the one that acts goes on acting."""
    def inject(stage: Stage) -> Outcome:
        stage.until(lambda: 'updates_rejected' in stage.values[POLICY])
        before = int(stage.values[POLICY]['updates_rejected'])
        at = stage.disturb()
        stage.updates.publish(make(stage.bundle))
        refused = stage.until(
            lambda: int(stage.values[POLICY]['updates_rejected']) > before, 10.0)
        return Outcome(f'{"refused" if refused else "accepted"}, {stage.verdict(at)}')
    return inject


def damaged(bundle: PolicyBundle) -> UInt8MultiArray:
    msg = conversions.bundle_to_msg(bundle)
    msg.data[len(msg.data) // 2] ^= 1
    return msg


def garbage(bundle: PolicyBundle) -> UInt8MultiArray:
    msg = conversions.bundle_to_msg(bundle)
    msg.data = msg.data[:100]
    return msg


@contextmanager
def other_server(stage: Stage, script: Path, environ: dict[str, str],
                 *parameters: str) -> Iterator[None]:
    """Let the policy server be another one for the duration of a block, and then as it was."""
    actor = stage.actors['policy_server']
    normal = actor.command, actor.environ
    stage.disturb()
    actor.signal(KILL)
    actor.command = [sys.executable, str(script), *normal[0][normal[0].index('--ros-args'):],
                     *(word for given in parameters for word in ('-p', given))]
    actor.environ = normal[1] | environ
    try:
        stage.ready()
        yield
    finally:
        actor.signal(KILL)
        actor.command, actor.environ = normal


def slow(seconds: str) -> Callable[[Stage], Outcome]:
    """
    Let inference take so long; empty for ever.

    The policy server is started anew with a switch in its model, and afterwards without.
    """
    def inject(stage: Stage) -> Outcome:
        switch = stage.folder / 'never'
        with other_server(stage, SLOW_SERVER, {
                'SLOW_POLICY_S': '0', 'SLOW_POLICY_NEVER': str(switch)}, 'control_path:=python'):
            at = stage.disturb()
            switch.write_text(seconds)
            reaction = stage.halt_ms(at)
            if seconds:
                asks_again(stage, stage.disturb(), 2)
            switch.unlink()
            return Outcome(stage.verdict(at), reaction)
    return inject


def parameters(stage: Stage) -> Outcome:
    """Set what may not be set: out of range, not a number, of another type, read-only."""
    at = stage.disturb()
    accepted = []
    for name, value in (('speed_scale', float('nan')), ('speed_scale', 0.0), ('speed_scale', 2.0),
                        ('speed_scale', [0.5]), ('extra_margin', float('inf')), ('robot', 'rover'),
                        ('extra_margin', -1.0), ('arm_on_start', True), ('unknown', 1.0)):
        answer = stage.call('safety_monitor/set_parameters', SetParameters, SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]))
        if answer is None or answer.results[0].successful:
            accepted.append(name)
    goes_on(stage, stage.disturb())
    return Outcome(f'{", ".join(accepted) or "refused"}, {stage.verdict(at)}')


def transitions(stage: Stage) -> Outcome:
    """Ask the active monitor for transitions that are not valid now."""
    at = stage.disturb()
    accepted = []
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
                   Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ON_CONFIGURE_SUCCESS, 99):
        answer = stage.call('safety_monitor/change_state', ChangeState, ChangeState.Request(
            transition=Transition(id=number)))
        if answer is None or answer.success:
            accepted.append(str(number))
    goes_on(stage, stage.disturb())
    return Outcome(f'{", ".join(accepted) or "refused"}, {stage.verdict(at)}')


POLICY_STOP, MONITOR_STOP, PERSON_STOP = (99.9, 60.0), (99.9, 110.0), (99.0, 5.0)
COMMANDS_SILENT, STATES_SILENT = 'stop: command_silence', 'stop: state_silence'
ROS2 = 'ros2_control'
INTRUDED = 'refused by the bridge, stop: intruder'

FAULTS = (
    Fault('A1', 'policy killed', COMMANDS_SILENT, halting('policy_server', KILL, WANTED),
          bound=POLICY_STOP, restarts=True),
    Fault('A2', 'policy frozen', COMMANDS_SILENT, halting('policy_server', STOP, WANTED),
          bound=POLICY_STOP),
    Fault('A3', 'inference takes 200 ms', COMMANDS_SILENT, slow('0.2'), restarts=True),
    Fault('A4', 'inference never ends, node alive', COMMANDS_SILENT, slow(''), restarts=True),
    Fault('A5', 'monitor killed', 'bridge holds, stop: boot', without_monitor(KILL),
          ROS2, MONITOR_STOP, True),
    Fault('A6', 'monitor frozen', 'bridge holds, stop: silence', without_monitor(STOP),
          ROS2, MONITOR_STOP),
    Fault('A7', 'bridge killed', STATES_SILENT, halting('robot_bridge', KILL, STATES),
          restarts=True),
    Fault('A7', 'bridge frozen', STATES_SILENT, halting('robot_bridge', STOP, STATES)),
    Fault('A8', 'recorder killed', 'goes on', surviving('experience_recorder', KILL),
          restarts=True),
    Fault('A8', 'recorder frozen', 'goes on', surviving('experience_recorder', STOP)),
    Fault('A10', 'reward computer killed', 'goes on', surviving('reward_computer', KILL),
          restarts=True),
    Fault('A10', 'reward computer frozen', 'goes on', surviving('reward_computer', STOP)),
    Fault('B1', 'states not finite', STATES_SILENT, states(poisoned)),
    Fault('B2', 'states of another length', STATES_SILENT, states(
        lambda last, stamp: state(last, stamp, position=last.view.position[:5]))),
    Fault('B3', 'joint names permuted', 'goes on', states(shuffled, False)),
    Fault('B4', 'a joint missing', STATES_SILENT, states(lambda last, stamp: state(
        last, stamp, last.view.name[:5], last.view.position[:5], last.view.velocity[:5]))),
    Fault('B4', 'a joint twice', STATES_SILENT, states(lambda last, stamp: state(
        last, stamp, (*last.view.name[:5], last.view.name[0])))),
    Fault('B5', 'states a second old', COMMANDS_SILENT, states(
        lambda last, stamp: state(last, stamp - NS))),
    Fault('C1', 'command NaN', 'stop: finite', rogue(valued(np.nan))),
    Fault('C1', 'command infinite', 'stop: finite', rogue(valued(-np.inf))),
    Fault('C2', 'command far outside', 'limited', rogue(valued(40.0))),
    Fault('C4', 'command 1e308', 'limited', rogue(valued(1e308))),
    Fault('C5', 'command of five values', 'stop: finite', rogue(valued(0.0, 5))),
    Fault('C5', 'command names permuted', 'refused: names', rogue(permuted)),
    Fault('C5', 'command of 10,000 values', 'stop: finite', rogue(oversized)),
    Fault('C8', 'old command again', 'refused: order', rogue(older(2.0))),
    Fault('C8', 'command a second old', 'refused: age', rogue(older(RATE_HZ))),
    Fault('C8', 'command from the future', 'refused: age', rogue(older(-RATE_HZ))),
    Fault('C7', 'NaN past the monitor', INTRUDED,
          at_the_bridge(valued(np.nan))),
    Fault('C7', 'an old one past the monitor', INTRUDED,
          at_the_bridge(older(RATE_HZ))),
    Fault('C7', 'permuted past the monitor', INTRUDED,
          at_the_bridge(permuted)),
    *(Fault('C9', f'stop by hand: {name}', f'stop: {check}', emergency(press), bound=PERSON_STOP)
      for name, (check, press) in BY_HAND.items()),
    Fault('F1', 'wrong transitions', 'refused, goes on', transitions),
    Fault('F3', 'wrong parameters', 'refused, goes on', parameters),
    Fault('G1', 'policy with a flipped bit', 'refused, goes on', update(damaged)),
    Fault('G1', 'policy cut short', 'refused, goes on', update(garbage)),
)
