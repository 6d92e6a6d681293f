# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A physical robot: it moves only while commands that the safety monitor let through arrive.

Between its episodes, on the way home and while it waits, states belong to the intermission,
episode 0, which is neither scored nor recorded; see ``hardware_session.py``.
"""

from typing import Any

import numpy as np
from rl_nodes.backends import BACKENDS, make_servo_bus
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.origin import MONITOR, STANDBY
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import EpisodeId, JointCommand, RobotState
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.mode import Mode
from rl_nodes.nodes.bridge.outlet import Outlet
from rl_nodes.nodes.hardware_session import HardwareSession, Phase
from rl_nodes.nodes.lifecycle import FAULT, OK, TaskNode, WARN
from rl_nodes.nodes.topic_robot import TopicRobot
from rl_nodes.safety.watchdog import silent


class Physical(Mode):
    """
    Each period: what the session makes of the newest command.

    :param session: the robot, connected.
    """

    def __init__(self, node: TaskNode, outlet: Outlet, episodes: Episodes,
                 session: HardwareSession) -> None:
        super().__init__(node, outlet, episodes)
        self._session = session
        self._permit_at: int | None = None  # steady time of the last command that allows motion
        self._running: bool | None = None   # episode or intermission; None: new
        self._begun = 0                     # stamp of its first state
        self._from_monitor = False          # the newest command is the monitor's own
        self._next_goal = np.zeros(3)
        node.every(self._task.period_ns / NS, self._tick)

    def hold(self) -> None:
        """Hold as well as that is possible now."""
        self._session.hold()

    def close(self) -> None:
        """Let go of the robot."""
        self._session.close()

    def reset(self) -> None:
        """End the episode; where the robot was given up, try it again."""
        if self._session.retry():
            self._node.get_logger().info('reset: the robot is tried again')
        else:
            super().reset()

    def _take(self, command: JointCommand) -> None:
        super()._take(command)
        # By a command of its own the monitor stops the robot; by a fallback's it brings the robot
        # to rest from where it runs, and permits nothing else. A person who holds no deadman does
        # not send it home.
        own, _, fallback = command.source.partition('/')
        self._from_monitor = own == MONITOR
        runs = self._session.phase == Phase.RUNNING
        permits = (fallback != '' and runs if self._from_monitor
                   else runs or not command.source.endswith(STANDBY))
        self._permit_at = self._command_at if permits else None

    def _forget_command(self) -> None:
        super()._forget_command()
        self._permit_at = None

    def _tick(self) -> None:
        """Live through one control period of a physical robot."""
        session, now = self._session, steady_ns()
        self._stamp = self._node.get_clock().now().nanoseconds
        if self._reset_wanted and self._from_monitor:
            self._permit_at = None  # a fallback ends with its episode
        permitted = not silent(self._permit_at, now, self._lasting_s)
        fresh = self._fresh() if permitted else None
        command = None if fresh is None else fresh.value
        ended, self._reset_wanted = self._reset_wanted, False
        ran = session.phase == Phase.RUNNING
        measured = session.tick(now / NS, permitted, command, ended)
        running = session.phase == Phase.RUNNING
        if ran and not ended and not running:
            self._void_episode(session.reason)
        if (ran and ended) or session.phase == Phase.LOST:
            self._running = None
        if measured is None:
            return
        self._steps += ran
        self._held += ran and command is None
        if self._running != running:
            self._begin_episode(running)
        episode = str(EpisodeId(self._episodes.number if running else 0, self._begun))
        self._outlet.publish(RobotState(self._stamp, episode, *measured))

    def _begin_episode(self, running: bool) -> None:
        """Begin an episode or the intermission before it; both have the goal that comes next."""
        if not running or self._running is None:
            self._next_goal = self._episodes.draw().goal
        self._running, self._begun = running, self._stamp
        self._episodes.number += running
        self._command_at = None
        self._outlet.goal(self._stamp, self._next_goal)

    def _verdict(self) -> tuple[int, str]:
        phase, reason = self._session.phase, self._session.reason
        if phase in (Phase.STUCK, Phase.LOST):
            return FAULT, f'{phase.value}: {reason}'
        return (OK if phase == Phase.RUNNING else WARN), phase.value

    def _values(self) -> dict[str, Any]:
        return {**super()._values(), **self._session.diagnostics()}


def reach(node: TaskNode, backend: str) -> HardwareSession:
    """
    Connect to a physical robot.

    :raises RlNodesError: it is not the one expected, or cannot be had as the node is set.
    """
    model = node.task.robot
    if node.lockstep:
        raise ConfigError(
            f'stepping = lockstep cannot be had with backend {backend}: a physical robot does '
            f'not wait. Use stepping:=realtime, or a simulator: {", ".join(BACKENDS)}')
    if node.task.state_parts:
        raise ConfigError(
            f'backend {backend} measures joints only; robot {model.name} doing {node.task.name} '
            f'has {", ".join(node.task.state_parts)} too; use a simulator: {", ".join(BACKENDS)}')
    robot = make_servo_bus(model) if backend == 'servo_bus' else TopicRobot(node, model)
    session = HardwareSession(robot, model, lambda text: node.get_logger().warning(
        text, throttle_duration_sec=1.0))
    try:
        session.connect()
    except BackendError:
        session.close()
        raise
    return session
