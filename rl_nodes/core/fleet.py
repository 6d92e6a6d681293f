# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Several equal robots in one graph: what their namespaces are called."""


def robot_namespaces(robots: int) -> tuple[str, ...]:
    """
    Return the namespace of each robot's own nodes, relative to the graph's.

    :param robots: how many; a single robot lives in the graph's namespace itself.
    """
    if robots == 1:
        return ('',)
    return tuple(f'robot_{number}' for number in range(1, robots + 1))


def topic_in(namespace: str, topic: str) -> str:
    """Return a relative topic of one robot, as a node of the graph's namespace names it."""
    return f'{namespace}/{topic}' if namespace else topic
