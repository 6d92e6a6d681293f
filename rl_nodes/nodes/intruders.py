# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Who publishes where only one may, as the safety monitor notices it."""

from collections.abc import Callable

from rl_nodes.core.timing import steady_ns
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.safety.sole import Sequel, Step
from sensor_msgs.msg import JointState

LOOK_S = 0.05  # how often the graph is asked who else publishes what the robot gets


class Intruders:
    """
    Reports second publishers.

    :param node: the safety monitor, while it configures.
    :param own: topic that it alone may publish; who else is listed there is reported, as often as
        it is looked at. Its own kind, as one that was killed, is not.
    :param silence_s: of a topic that is heard, after which another publisher may go on.
    :param report: gets what is wrong, in words.
    """

    def __init__(self, node: ManagedNode, own: str, silence_s: float,
                 report: Callable[[str], None]) -> None:
        self._node, self._own, self._silence_s, self._report = node, own, silence_s, report
        node.every(LOOK_S, self._look)

    def numbers(self, topic: str) -> Callable[[int | None], None]:
        """Return what takes the number of each message of a topic, see ``subscribe``."""
        sequel = Sequel(self._silence_s)

        def came(number: int | None) -> None:
            if sequel.came(number, steady_ns()) == Step.BACK:
                self._report(f'{topic} has two publishers: '
                             f'{", ".join(self._node.publishers_on(JointState, topic))}')
        return came

    def _look(self) -> None:
        if self._node.count_publishers(self._own) < 2:
            return
        mine = self._node.get_fully_qualified_name()
        others = [name for name in self._node.publishers_on(JointState, self._own) if name != mine]
        if others:
            self._report(f'{self._own} is published by {", ".join(others)} beside {mine}')
