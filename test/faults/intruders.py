# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Second publishers of what only one may publish."""

from collections.abc import Callable

from actors import RATE_HZ
from faults import Fault, Outcome, READERS
import numpy as np
from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes import joint_state
from stage import ALLOWED, Heard, PAST_MONITOR, ROBOT, Stage, STATES, WANTED

INTRUDER, HELD = 'stop: intruder', 'held, stop: intruder'
STOPS = (99.9, 100.0)  # from the first message of a second publisher
SHARE_S = 1.0          # for which two publish at the most
FAR_RAD = 0.5


def second(topic: str, change: Callable[[Heard], bytes], least: int) -> Callable[
        [Stage], Outcome]:
    """
    Publish on a topic beside its publisher at the control rate until the robot is stopped.

    :param change: makes its message of the newest one on the topic.
    :param least: subscriptions to find before the first message; it comes at once after that.
    """
    def inject(stage: Stage) -> Outcome:
        stage.disturb()
        with stage.intruder(topic) as publisher:
            stage.until(lambda: publisher.get_subscription_count() >= least)
            at = steady_ns()
            while stage.mode != 'STOPPED' and steady_ns() - at < SHARE_S * 1e9:
                publisher.publish(change(stage.heard[topic][-1]))
                stage.live(1 / RATE_HZ)
            reaction = stage.halt_ms(at)
        return Outcome(stage.verdict(at), reaction)
    return inject


def again(heard: Heard) -> bytes:
    """Return a good message of somebody else: the newest with another source."""
    view = heard.view
    return joint_state.encode(heard.stamp_ns, 'rogue@1', view.name, np.array(view.position))


def state_again(heard: Heard) -> bytes:
    view = heard.view
    return joint_state.encode(heard.stamp_ns, view.header.frame_id, view.name,
                              np.array(view.position), np.array(view.velocity))


def past_the_monitor(stage: Stage) -> Outcome:
    """Tell the robot itself to go far away, well-formed and in time; it must not begin to."""
    before = stage.disturb()
    with stage.intruder(ALLOWED) as publisher:
        stage.until(lambda: publisher.get_subscription_count() >= READERS)
        at, start = steady_ns(), stage.heard[STATES][-1]
        for _ in range(RATE_HZ // 4):
            newest = stage.heard[STATES][-1]
            publisher.publish(joint_state.encode(
                newest.stamp_ns, PAST_MONITOR, newest.view.name,
                np.array(start.view.position) + FAR_RAD))
            stage.live(1 / RATE_HZ)
        moved = max((np.abs(np.subtract(heard.view.position, start.view.position)).max()
                     for heard in stage.since(STATES, at)  # the next episode begins elsewhere
                     if heard.view.header.frame_id == start.view.header.frame_id), default=0.0)
        reaction = stage.halt_ms(before)
        told = stage.until(lambda: 'joint_command has' in stage.words[ROBOT], 3.0)
    if reaction is not None:  # it may have been stopped before a message came
        reaction = max(reaction - (at - before) / 1e6, 0.0)
    held = 'held' if told and moved < FAR_RAD / 5 else f'moved by {moved:.2f}'
    return Outcome(f'{held}, {stage.verdict(before)}', reaction)


FAULTS = (
    Fault('C6', 'a second policy', INTRUDER, second(WANTED, again, 2), bound=STOPS),
    Fault('C6', 'a second robot bridge', INTRUDER, second(STATES, state_again, 3), bound=STOPS),
    Fault('C7', 'somebody else commands the robot', HELD, past_the_monitor, bound=STOPS),
)
