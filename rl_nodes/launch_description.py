# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A graph as launch_ros actions, for ``ros2 launch rl_nodes train.launch.py``.

``launch`` and ``launch_ros`` come with a ROS installation and not from a package index, so they
are imported inside the functions; the rest of this package works without them.
"""

from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import GraphError
from rl_nodes.core.locks import RunLock
from rl_nodes.graph import build, Graph, judge, NodeSpec
from rl_nodes.graph_arguments import Argument, find_graph
from rl_nodes.orphan_guard import SIGINT_GRACE_S, SIGTERM_GRACE_S
from rl_nodes.runner import prepare

if TYPE_CHECKING:
    from launch import LaunchContext, LaunchDescription


def make(name: str) -> 'LaunchDescription':
    """
    Return the launch description of a graph.

    :param name: as in ``train``, see ``graph_arguments.GRAPHS``.
    """
    from launch import LaunchDescription
    from launch.actions import OpaqueFunction

    arguments = find_graph(name)
    declared = [_declare(argument) for argument in arguments]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[name])])


def _declare(argument: Argument) -> Any:
    from launch.actions import DeclareLaunchArgument

    return DeclareLaunchArgument(argument.name, default_value=argument.default,
                                 description=argument.description,
                                 choices=list(argument.choices) or None)


def _start(context: 'LaunchContext', name: str) -> list[Any]:
    """Check everything and return the nodes; runs once launch knows the arguments."""
    names = [argument.name for argument in find_graph(name)]
    refuse_unknown(name, names, context.argv, sys.argv)
    graph = build(name, {key: context.launch_configurations[key] for key in names})
    lock = RunLock('graph', graph.domain_id, graph.namespace, graph.description).acquire()
    try:
        prepare(graph)
    except GraphError:
        lock.release()
        raise
    running = {spec.path for spec in graph.nodes}
    return [_node(spec, graph, running, lock) for spec in graph.nodes]


def refuse_unknown(name: str, known: list[str], given: list[str], command: list[str]) -> None:
    """
    Refuse misspelt arguments, which launch itself would ignore.

    :param given: ``name:=value`` words of the command line.
    :param command: the whole command line. Where it does not name our launch file we are included
        from another one, whose own arguments are no concern of ours.
    :raises GraphError: lists the arguments that exist.
    """
    if not any(Path(word).name == f'{name}.launch.py' for word in command):
        return
    for word in given:
        key, assigned, _ = word.partition(':=')
        if assigned and key not in known and key not in ('launch-prefix', 'launch-prefix-filter'):
            raise GraphError(f'{name} has no argument {key!r}{suggestion(key, known)}; '
                             f'valid arguments: {", ".join(known)}')


def _node(spec: NodeSpec, graph: Graph, running: set[str], lock: RunLock) -> Any:
    from launch.actions import LogInfo, Shutdown
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    def on_exit(event: Any, context: 'LaunchContext') -> list[Any]:
        running.discard(spec.path)
        if not running:
            lock.release()
        if context.is_shutdown:
            return []
        verdict = judge(spec, event.returncode)
        if verdict.shutdown and verdict.exit_code != 0:
            raise GraphError(verdict.message)  # launch then ends everything and returns 1
        note = LogInfo(msg=verdict.message)
        return [note, Shutdown(reason=verdict.message)] if verdict.shutdown else [note]

    # launch would read a plain text as YAML again: '' would be null and '1' a number.
    parameters = {key: ParameterValue(value, value_type=type(value))
                  for key, value in spec.parameters.items()}
    return Node(
        package='rl_nodes', executable=spec.executable, name=spec.name,
        namespace=spec.full_namespace(graph.namespace), parameters=[parameters],
        remappings=spec.remappings(graph.namespace), output='screen',
        additional_env={'PYTHONUNBUFFERED': '1', 'ROS_DOMAIN_ID': str(graph.domain_id)},
        sigterm_timeout=str(SIGINT_GRACE_S), sigkill_timeout=str(SIGTERM_GRACE_S),
        on_exit=on_exit)
