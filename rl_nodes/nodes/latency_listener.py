# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
``rl_nodes latency live``: when the messages of a running graph arrive at an onlooker.

Messages say when they were sent, and the middleware when the safe command arrived: how busy this
process is does not count.

Subscribes: joint_states, policy/joint_command, joint_command (sensor_msgs/JointState, STREAM).
"""

from collections.abc import Callable
import os
from statistics import median
import time
from typing import Any

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rl_nodes.core import ros_environment
from rl_nodes.core.errors import GraphError, RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.latency import (
    Arrivals,
    ARRIVED,
    ChannelMeasurement,
    COMMANDS,
    ListenOptions,
    STATES,
    TOPICS,
)
from rl_nodes.nodes import qos
from sensor_msgs.msg import JointState

WAKE_S = 0.05


def listen(options: ListenOptions) -> ChannelMeasurement:
    """
    Listen to a graph; Ctrl-C ends it earlier.

    :raises GraphError: no state came, or ROS is set up wrongly.
    """
    domain = ros_environment.prepare(os.environ)
    namespace = '/' + options.namespace.strip('/')
    context = Context()
    context.init(args=[], domain_id=domain)
    arrivals = Arrivals()
    node = Node('latency_listener', context=context, namespace=namespace,
                use_global_arguments=False, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    try:
        for topic in TOPICS:
            node.create_subscription(JointState, topic, _hearing(arrivals, topic), qos.STREAM,
                                     raw=True)
        _spin(executor, arrivals, options)
    except KeyboardInterrupt:
        pass  # what there is counts
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
    stamps = sorted(arrivals.first[STATES])
    if len(stamps) < 2:
        raise GraphError(f'nothing on joint_states within {options.timeout_s:g} s (ROS domain '
                         f'{domain}, namespace {namespace!r}); is a graph running there? '
                         'Start one with "rl_nodes launch deploy policy:=...", or say '
                         'namespace:=robot_1 where there are several robots')
    measured = ChannelMeasurement()
    measured.add(arrivals, median(b - a for a, b in zip(stamps, stamps[1:])))
    return measured


def _hearing(arrivals: Arrivals, topic: str) -> Callable[[bytes, dict[str, Any]], None]:
    def on_message(data: bytes, info: dict[str, Any]) -> None:
        try:
            stamp = header_stamp_ns(data)
            arrivals.add(topic, stamp, info['source_timestamp'])
            if topic == COMMANDS:
                arrivals.add(ARRIVED, stamp, info['received_timestamp'])
        except RecordingError:
            pass  # no message with a header; who reads it for its values says so
    return on_message


def _spin(executor: SingleThreadedExecutor, arrivals: Arrivals, options: ListenOptions) -> None:
    begun = time.monotonic_ns()
    first: int | None = None
    while True:
        executor.spin_once(WAKE_S)
        now = time.monotonic_ns()
        late = now - begun > options.timeout_s * NS
        if first is None and (arrivals.first[COMMANDS] or late and arrivals.first[STATES]):
            first = now
        if first is None and late:
            return
        if first is not None and now - first > options.seconds * NS:
            return
