# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The one interface of the three ways in which the bridge and its robot share time."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from rl_nodes.core.origin import MONITOR
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import EpisodeId, JointCommand, Outcome
from rl_nodes.nodes import conversions
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.outlet import Outlet
from rl_nodes.nodes.lifecycle import FAULT, TaskNode
from rl_nodes.safety.watchdog import lasting_s, silent, stale


class Mode(ABC):
    """
    Owns the robot, the episodes and the newest command.

    Built while the node configures; every method is called by the node's executor.

    :param node: the bridge; its task is loaded.
    :param outlet: where states and goals go.
    :param episodes: where episodes start.
    """

    def __init__(self, node: TaskNode, outlet: Outlet, episodes: Episodes) -> None:
        self._node, self._outlet, self._episodes = node, outlet, episodes
        self._task, self._model = node.task, node.task.robot
        self._safety = self._model.config.safety
        self._lasting_s = lasting_s(self._safety.command_timeout_s, self._task.period_ns / NS)
        self._command: JointCommand | None = None
        self._command_at: int | None = None  # steady time when the newest command came
        self._reset_wanted = True
        self._stamp = 0  # of the newest state
        self._steps = 0
        self._held = 0
        self._refused = 0
        self._barred = ''  # why no command is taken, whatever it is
        self._void, self._last_void = 0, ''
        self._rate = (steady_ns(), 0)

    # --- what the node calls --------------------------------------------------------------------

    def activate(self) -> None:
        """Start an episode, at the next tick."""
        self._reset_wanted = True

    @abstractmethod
    def hold(self) -> None:
        """Stop acting and leave the robot holding."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the robot."""

    def let_in(self, barred: str) -> None:
        """Take note of why no command may be taken from now on, or ``''``; the robot is held."""
        if barred:
            self._forget_command()
        if bool(barred) != bool(self._barred):
            self._node.get_logger().error(
                f'joint_command has {barred}; held until safety_monitor/stop and clear_stop'
                if barred else 'joint_command has one publisher again')
        self._barred = barred

    def arrive(self, names: tuple[str, ...], command: JointCommand) -> None:
        """
        Take a command if it is right in every respect; the monitor judged it, so do we.

        Whatever is wrong with the monitor's stop, as its stamp where states come late: what went
        before it is not carried out any more.
        """
        why = self._barred or self._why_refused(names, command)
        if why:
            if command.source == MONITOR:
                self._forget_command()
            self._refused += 1
            self._node.get_logger().warning(f'command refused: {why}',
                                            throttle_duration_sec=1.0)
            return
        self._outlet.answered(command.stamp_ns)
        self._take(command)

    def reward(self, stamp_ns: int, outcome: Outcome) -> None:
        """Hear how a state of the running episode was rewarded."""
        self._reset_wanted |= outcome.terminated or outcome.truncated

    def reset(self) -> None:
        """End the episode by hand and start another, at once or at the next tick."""
        self._reset_wanted = True

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return (OK, WARN or FAULT; one sentence; values) for diagnostics."""
        if self._barred:
            return FAULT, f'holding: joint_command has {self._barred}', self._values()
        return *self._verdict(), self._values()

    # --- what the modes share -------------------------------------------------------------------

    @abstractmethod
    def _verdict(self) -> tuple[int, str]:
        """Return (OK, WARN or FAULT; one sentence)."""

    def _values(self) -> dict[str, Any]:
        """Return steps, rate, episodes, holds, refusals and the state-to-command latency."""
        now = steady_ns()
        since, steps = self._rate
        rate = (self._steps - steps) * NS / max(now - since, 1)
        self._rate = (now, self._steps)
        latency = self._outlet.latency.summary()
        return {'steps': self._steps, 'steps_per_s': round(rate, 1),
                'episodes': self._episodes.number, 'held': self._held,
                'commands_refused': self._refused,
                'episodes_void': self._void, 'last_void': self._last_void,
                **{f'latency_{key}': value for key, value in latency.items()}}

    def _void_episode(self, why: str) -> None:
        """Say at once, before another episode begins, that the present one does not count."""
        self._void += 1
        self._last_void = conversions.void_note(self._outlet.state.episode, why)
        self._node.get_logger().error(f'episode {self._last_void}; it does not count')
        self._node.publish_health()

    def _take(self, command: JointCommand) -> None:
        self._command, self._command_at = command, steady_ns()

    def _forget_command(self) -> None:
        """Hold from now on, until another command comes."""
        self._command_at = None

    def _why_refused(self, names: tuple[str, ...], command: JointCommand) -> str:
        if names != self._model.command_names:
            return (f'it names {", ".join(names) or "no joint"}; expected '
                    f'{", ".join(self._model.command_names)}')
        if command.value.shape != (len(names),) or not np.isfinite(command.value).all():
            return f'{command.value.tolist()} is not {len(names)} finite values'
        return self._why_untimely(command)

    def _why_untimely(self, command: JointCommand) -> str:
        """Return what is wrong with the stamp of a command, or ``''`` for nothing."""
        state = self._outlet.state
        if state is None or command.stamp_ns < EpisodeId.parse(state.episode).start_ns:
            return 'it answers a state of an earlier episode'
        if self._command is not None and command.stamp_ns < self._command.stamp_ns:
            return 'a newer one came first'
        return stale(command.stamp_ns, self._node.get_clock().now().nanoseconds,
                     self._safety.command_timeout_s, self._safety.skew_s)

    def _fresh(self) -> JointCommand | None:
        """Return the newest command while it is fresh, and will be until the next period."""
        return None if silent(self._command_at, steady_ns(), self._lasting_s) else self._command
