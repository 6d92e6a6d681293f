# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A simulated robot that never waits, as a physical one does not."""

from typing import Any

from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.channel import ChannelSettings
from rl_nodes.core.errors import BackendError
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.mode import Mode
from rl_nodes.nodes.bridge.outlet import Outlet
from rl_nodes.nodes.bridge.simulation import Simulation
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.simulated_link import ImperfectLink


class RealTime(Mode):
    """
    Each period: the newest command while that is fresh, else the robot is held.

    :param robot: the simulator.
    :param channel: what happens to states and commands on their way.
    :param seed: of the channel's draws.
    """

    def __init__(self, node: TaskNode, outlet: Outlet, episodes: Episodes,
                 robot: SimulatedRobot, channel: ChannelSettings, seed: int) -> None:
        super().__init__(node, outlet, episodes)
        self._simulation = Simulation(robot, outlet, episodes)
        self._link: ImperfectLink | None = None
        if not channel.ideal:
            self._link = ImperfectLink(node, channel, seed, outlet.transmit,
                                       lambda sent: super(RealTime, self).arrive(*sent))
            outlet.send = self._link.send_state
        node.every(self._task.period_ns / NS, self._tick)

    def hold(self) -> None:
        """Forget what is under way."""
        if self._link is not None:
            self._link.cancel()
        self._simulation.robot.hold()

    def close(self) -> None:
        """Close the simulator."""
        self._simulation.robot.close()

    def arrive(self, names: tuple[str, ...], command: JointCommand) -> None:
        """Take a command, or send it through the channel first."""
        if self._link is None:
            super().arrive(names, command)
        else:
            self._link.send_command((names, command))

    def _tick(self) -> None:
        """Live through one control period, whatever has arrived."""
        self._stamp = self._node.get_clock().now().nanoseconds
        if self._reset_wanted:
            self._begin_episode()
            return
        command = self._fresh()
        if command is not None:
            self._simulation.robot.write(command.value)
        else:
            self._held += 1
            self._simulation.robot.hold()
        self._steps += 1
        try:
            self._simulation.move(self._stamp)
        except BackendError as error:
            self._void_episode(str(error))
            self._begin_episode()

    def _begin_episode(self) -> None:
        self._reset_wanted, self._command_at = False, None
        self._simulation.begin_episode(self._stamp)

    def _verdict(self) -> tuple[int, str]:
        if self._fresh() is None:
            return WARN, 'holding: no fresh command'
        return OK, 'running'

    def _values(self) -> dict[str, Any]:
        return super()._values() | ({} if self._link is None else self._link.counts())
