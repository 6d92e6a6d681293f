# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of people and of what they hold: deadmen, sticks, buttons that hang, impatience."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import signal
import threading

from faults import (
    asks_again,
    COMMANDS_SILENT,
    Fault,
    goes_on,
    KILL,
    Outcome,
    POLICY_STOP,
    STOP,
)
from rclpy.node import Node
from rl_nodes.core.timing import steady_ns
from rl_nodes.core.types import EpisodeId
from rl_nodes.nodes import qos
from rl_nodes.nodes.conversions import episode_of_answer
from rl_nodes.teleop.device import Layout
from rl_nodes.teleop.keys import AXES, BUTTONS
from sensor_msgs.msg import Joy
from stage import ALLOWED, Stage, START_S, STATES, TELEOP
from std_srvs.srv import Trigger

LAYOUT = Layout()
PERSON = 'teleop:joy'
JOY_S, PRESS_S = 0.02, 0.05  # between the messages of a gamepad, the calls of a button that hangs
HEALTHY = 50                 # wishes of the policy, longer than healthy_s


class Gamepad:
    """A gamepad on the topic joy, in a thread; at rest until somebody changes that."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(Joy, 'joy', qos.SENSOR)
        self._node, self._ending = node, threading.Event()
        self.stick, self.held = 0.0, False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(JOY_S):
            axes, buttons = [0.0] * AXES, [0] * BUTTONS
            axes[LAYOUT.axes[2]], buttons[LAYOUT.deadman] = self.stick, int(self.held)
            self._publisher.publish(Joy(axes=axes, buttons=buttons))

    def unplug(self) -> None:
        """Fall silent."""
        self._ending.set()
        self._thread.join()

    def close(self) -> None:
        """Take it away."""
        self.unplug()
        self._node.destroy_publisher(self._publisher)


@contextmanager
def gamepad(stage: Stage) -> Iterator[Gamepad]:
    """Yield a gamepad once there is a teleop node."""
    stage.until(lambda: stage.words[TELEOP], START_S)
    pad = Gamepad(stage.node)
    try:
        yield pad
    finally:
        pad.close()


def acts(stage: Stage, source: str) -> bool:
    """Return whether the robot does what this source wants."""
    return stage.heard[ALLOWED][-1].source == source


def take_over(stage: Stage, pad: Gamepad) -> None:
    """Press the deadman, again until the device has been believed, and push the stick."""
    for _ in range(20):
        pad.held = True
        if stage.until(lambda: acts(stage, PERSON), 0.5):
            pad.stick = 0.5
            stage.live(0.1)
            return
        pad.held = False
        stage.live(0.1)
    raise RuntimeError(f'nobody can take over: {stage.actors["teleop"].said[-2000:]}')


def deserted(cause: Callable[[Stage, Gamepad], None]) -> Callable[[Stage], Outcome]:
    """Lose a person, in one way or another, who holds the deadman of a robot that moves."""
    def inject(stage: Stage) -> Outcome:
        with gamepad(stage) as pad:
            stage.disturb()
            take_over(stage, pad)
            at = stage.disturb()
            cause(stage, pad)
            reaction = stage.halt_ms(at)
            asks_again(stage, stage.disturb())
            return Outcome(stage.verdict(at), reaction)
    return inject


def signalled(number: signal.Signals) -> Callable[[Stage, Gamepad], None]:
    """Signal the teleop node; what was frozen thaws with its stop."""
    def cause(stage: Stage, pad: Gamepad) -> None:
        at = steady_ns()
        if number == KILL:
            kill_teleop(stage)
        else:
            stage.actors['teleop'].signal(number)
            stage.halt_ms(at)
            stage.actors['teleop'].signal(signal.SIGCONT)
    return cause


def kill_teleop(stage: Stage) -> None:
    """Kill the teleop node; the next one is heard of when it says something."""
    stage.actors['teleop'].signal(KILL)
    stage.words[TELEOP] = ''


def odd_axis(value: float) -> Callable[[Stage], Outcome]:
    """Let an axis report what it cannot under a held deadman; the policy acts again."""
    def inject(stage: Stage) -> Outcome:
        with gamepad(stage) as pad:
            stage.disturb()
            take_over(stage, pad)
            at = stage.disturb()
            pad.stick = value
            back = stage.until(lambda: not acts(stage, PERSON))
            again = steady_ns()
            goes_on(stage, again, HEALTHY)
            back = back and not any(
                heard.source == PERSON for heard in stage.since(ALLOWED, again))
            return Outcome(f'{"disarmed" if back else "believed"}, {stage.verdict(at)}')
    return inject


def held_at_start(stage: Stage) -> Outcome:
    """Start the teleop node under a held deadman and a stick that is away from its middle."""
    with gamepad(stage) as pad:
        pad.held, pad.stick = True, 1.0
        stage.disturb()
        kill_teleop(stage)
        stage.ready()
        stage.until(lambda: 'let go of' in stage.words[TELEOP], START_S)
        at = stage.disturb()
        goes_on(stage, at, HEALTHY)
        believed = any(heard.source == PERSON for heard in stage.since(ALLOWED, at))
        return Outcome(f'{"believed" if believed else "not believed"}, {stage.verdict(at)}')


def hanging_button(stage: Stage) -> Outcome:
    """Clear the stop on and on, since before the robot is stopped: that clears nothing."""
    client = stage.client(Trigger, 'safety_monitor/clear_stop')
    ending = threading.Event()

    def press() -> None:
        while not ending.wait(PRESS_S):
            client.call_async(Trigger.Request())
    pressing = threading.Thread(target=press)
    stage.disturb()
    pressing.start()
    stage.live(0.3)
    with stage.frozen('policy_server') as at:
        reaction = stage.halt_ms(at)
    asks_again(stage, stage.disturb(), HEALTHY)
    outcome = Outcome(stage.verdict(at), reaction)
    ending.set()
    pressing.join()
    stage.live(0.6)
    return outcome


def reset_twice(stage: Stage) -> Outcome:
    """Ask for another episode while the robot moves, and at once for another."""
    before = EpisodeId.parse(stage.heard[STATES][-1].view.header.frame_id).number
    at = stage.disturb()
    answers = [stage.call('robot_bridge/reset') for _ in range(2)]
    goes_on(stage, at)
    first, second = (episode_of_answer(answer.message) for answer in answers)
    begun = [EpisodeId.parse(state.view.header.frame_id).number
             for state in reversed(stage.since(STATES, at))]
    ordered = before < first <= second <= before + 2 and second in begun and begun == sorted(begun)
    return Outcome(f'{"in order" if ordered else (before, first, second)}, {stage.verdict(at)}')


FAULTS = (
    Fault('A11', 'teleop killed under a held deadman', COMMANDS_SILENT,
          deserted(signalled(KILL)), 'teleop', POLICY_STOP, True),
    Fault('A11', 'teleop frozen under a held deadman', COMMANDS_SILENT,
          deserted(signalled(STOP)), 'teleop'),
    Fault('F12', 'gamepad unplugged under a held deadman', COMMANDS_SILENT,
          deserted(lambda _, pad: pad.unplug()), 'teleop'),
    Fault('F10', 'axis NaN under a held deadman', 'disarmed, goes on', odd_axis(float('nan')),
          'teleop'),
    Fault('F10', 'deadman and stick held at the start', 'not believed, goes on', held_at_start,
          'teleop', restarts=True),
    Fault('F8', 'clear_stop called on and on', COMMANDS_SILENT, hanging_button),
    Fault('F13', 'reset twice at once', 'in order, goes on', reset_twice),
)
