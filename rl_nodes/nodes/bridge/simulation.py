# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A simulated robot whose measurements are published."""

from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.errors import BackendError
from rl_nodes.core.types import EpisodeId, RobotState
from rl_nodes.nodes.bridge.episodes import Episodes
from rl_nodes.nodes.bridge.outlet import Outlet


class Simulation:
    """
    Starts episodes of a simulated robot and moves it by one period at a time.

    :param robot: the simulator.
    :param outlet: where states and goals go.
    :param episodes: where episodes start.
    """

    def __init__(self, robot: SimulatedRobot, outlet: Outlet, episodes: Episodes) -> None:
        self.robot = robot
        self._outlet, self._episodes = outlet, episodes

    def begin_episode(self, stamp_ns: int) -> None:
        """Reset robot and goal; the goal goes out first, stamped like the first state."""
        start = self._episodes.draw()
        self.robot.reset(start)
        self._episodes.number += 1
        episode = str(EpisodeId(self._episodes.number, stamp_ns))
        self._outlet.variation(stamp_ns, episode, start.variation)
        self._outlet.goal(stamp_ns, start.goal)
        if self._outlet.privileged is not None:
            self._outlet.privileged.begin(stamp_ns, start)
        self._publish(stamp_ns, episode)

    def move(self, stamp_ns: int) -> None:
        """
        Advance the robot by one period and publish where it is.

        :raises BackendError: the simulation has exploded; it is cured, an episode must begin.
        """
        self.robot.step()
        try:
            self._publish(stamp_ns, self._outlet.state.episode)
        except BackendError:
            self.robot.recover()
            raise

    def _publish(self, stamp_ns: int, episode: str) -> None:
        """Publish what is measured now."""
        measured = self.robot.read()
        if self._outlet.privileged is not None:
            self._outlet.privileged.sample(stamp_ns, episode, self.robot.truth())
        self._outlet.publish(RobotState(stamp_ns, episode, *measured))
