# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is wrong in the ROS graph around a node, which ROS 2 itself passes over in silence.

A publisher of another type on a topic is simply never heard, and of two nodes of one name both
answer each call of a service. Each is named in the log once and in the diagnostics for as long as
it lasts. Nothing is refused for it: discovery takes seconds, and a node that was killed stays
listed for about 20 s, so the graph is good for a hint and for nothing else.
"""

from collections.abc import Iterator

from rclpy.node import Node


class GraphWatch:
    """
    Looks at the topics and at the name of a node.

    :param node: whose they are.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told: set[str] = set()

    def look(self) -> str:
        """Return what is wrong now, in words; ``''`` where nothing is."""
        found = [*self._other_types(), *self._namesakes()]
        for complaint in found:
            if complaint not in self._told:
                self._node.get_logger().warning(complaint)
        self._told = set(found)
        return '; '.join(found)

    def _other_types(self) -> Iterator[str]:
        node = self._node
        ours = {entity.topic_name: type_name(entity.msg_type)
                for entity in (*node.publishers, *node.subscriptions)}
        for topic, types in node.get_topic_names_and_types():
            kind = ours.get(topic)
            if kind is None or types == [kind]:
                continue
            others = {(info.topic_type, info.node_namespace.rstrip('/') + '/' + info.node_name)
                      for info in (*node.get_publishers_info_by_topic(topic),
                                   *node.get_subscriptions_info_by_topic(topic))
                      if info.topic_type != kind}
            for other, name in sorted(others):
                yield f'{topic} is {other} for {name} and {kind} here: neither hears the other'

    def _namesakes(self) -> Iterator[str]:
        node = self._node
        ours = node.get_name(), node.get_namespace()
        others = [pair for pair in node.get_node_names_and_namespaces() if pair == ours][1:]
        if others:
            yield (f'{node.get_fully_qualified_name()} is also the name of another node, or of '
                   'one that was killed within the last 20 s; both answer whoever calls a service')


def type_name(kind: type) -> str:
    """Return the name of a message type as the graph has it."""
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
