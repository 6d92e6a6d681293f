# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Episodes as messages for a transition assembler.

The observation of a state is (its position, its goal's x), and an action is command minus
position, so that every row says which messages it was made of. State k of episode e is stamped
start + 10 k and has position 100 e + k.
"""

from dataclasses import asdict

import numpy as np
from rl_nodes.core.types import EpisodeId, Goal, JointCommand, Outcome, RobotState
from rl_nodes.data.assembler import TransitionAssembler

PERIOD = 10


class Observer:
    """Remembers nothing."""

    needs_rewards = False

    def observe(self, state, goal):
        return np.array([state.position[0], goal.position[0]], np.float32)

    def acted(self, state, command):
        pass

    def rewarded(self, stamp_ns, episode, total):
        raise AssertionError('nobody needs rewards')


def to_action(state, command):
    return np.asarray(command.value - state.position, np.float32)


def make(**options):
    options = {'patience': 10, 'command_patience': 2, **options}
    return TransitionAssembler(Observer, to_action, PERIOD, observation_size=2, action_size=1,
                               **options)


def state(episode, k):
    position = np.array([100.0 * episode.number + k])
    stamp = episode.start_ns + PERIOD * k
    return RobotState(stamp, str(episode), position, 0 * position, position)


def outcome(total, terminated=False, truncated=False, success=False):
    return Outcome(total, {}, terminated, truncated, success)


class Script:
    """The messages of episodes in their natural order."""

    def __init__(self):
        self.messages = []          # (stamp, rank in a tick, name of the method, arguments)

    def episode(self, number, start, steps, end='terminated', limited=(), version=7):
        episode = EpisodeId(number, start)
        self.add(start, 0, 'add_goal', Goal(start, np.array([number + 0.5, 0, 0]), np.zeros(4)))
        for k in range(steps + 1):
            now = state(episode, k)
            stamp = now.stamp_ns
            self.add(stamp, 1, 'add_state', now)
            last = k == steps
            self.add(stamp, 2, 'add_reward', stamp, str(episode), outcome(
                float(10 * k), terminated=last and end == 'terminated',
                truncated=last and end == 'truncated', success=last))
            if not last:
                wanted = now.position + 0.25
                executed = wanted - 0.125 if k in limited else wanted
                source = f'reach@{version}'
                self.add(stamp, 3, 'add_wanted', JointCommand(stamp, source, wanted))
                self.add(stamp, 4, 'add_executed', JointCommand(stamp, source, executed))
        return self

    def add(self, stamp, rank, method, *arguments):
        self.messages.append((stamp, rank, method, arguments))

    def without(self, method, stamp):
        kept = [m for m in self.messages if not (m[2] == method and m[0] == stamp)]
        assert len(kept) == len(self.messages) - 1
        self.messages = kept
        return self


def play(script, assembler=None, flush=False):
    """Return (batch, counters that are not 0) after all messages."""
    assembler = make() if assembler is None else assembler
    for _, _, method, arguments in script.messages:
        getattr(assembler, method)(*arguments)
    if flush:
        assembler.flush()
    counts = {name: value for name, value in asdict(assembler.counters).items() if value}
    return assembler.take(), counts


def idle(script, start, count=13):
    """Append states in no episode, as a robot sends between episodes."""
    for k in range(count):
        script.add(start + PERIOD * k, 1, 'add_state', RobotState(
            start + PERIOD * k, '', np.zeros(1), np.zeros(1), np.zeros(1)))
    return script
