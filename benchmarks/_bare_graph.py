# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The messages of a lockstep deployment between processes that compute nothing."""

import argparse
from collections.abc import Callable, Sequence
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rl_nodes.core.timing import NS
from rl_nodes.nodes import joint_state, qos
from sensor_msgs.msg import JointState

START_S = 60.0
NAMES = tuple(f'joint_{k}' for k in range(6))
STATE, WANTED, ALLOWED, REWARD = 'joint_states', 'policy/joint_command', 'joint_command', 'reward'


class Role(NamedTuple):
    """
    One process of the bare graph; it answers once all its inputs have come.

    :param inputs: topics that it needs of each step.
    :param output: topic that it answers on; empty for one that only listens.
    """

    inputs: tuple[str, ...]
    output: str = ''


BRIDGE = Role((ALLOWED, REWARD), STATE)
ROLES = {'policy': Role((STATE,), WANTED), 'monitor': Role((STATE, WANTED), ALLOWED),
         'reward': Role((STATE, ALLOWED), REWARD), 'evaluator': Role((REWARD,)),
         'recorder': Role((STATE, WANTED, ALLOWED, REWARD))}
PROFILES = {STATE: (qos.STREAM, qos.SENSOR), WANTED: (qos.STREAM, qos.COMMAND),
            ALLOWED: (qos.EXECUTED, qos.EXECUTED), REWARD: (qos.STREAM, qos.SENSOR)}


def sample(topic: str) -> tuple[bytes, bytes]:
    """Return what precedes and what follows the stamp in a message as long as the graph's."""
    zeros = np.zeros(len(NAMES))
    rest = (zeros, zeros) if topic == STATE else ()
    data = joint_state.encode(0, '1@1700000000000000000', NAMES, zeros, *rest)
    return data[:4], data[12:]


class Waiter:
    """
    Subscriptions on a wait set that is kept.

    :ivar sent: when what was returned last was published, by topic, on the wall clock [ns].
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.sent: dict[str, int] = {}
        self._entries: list[tuple[Subscription, str]] = []

    def add(self, topic: str, kind: type, profile: QoSProfile, raw: bool = True) -> None:
        """Listen to a topic as well."""
        self._entries.append((self._node.create_subscription(
            kind, topic, lambda _: None, profile, raw=raw), topic))
        self._wait_set = rclpy_implementation.WaitSet(
            len(self._entries), 0, 0, 0, 0, 0, self._node.context.handle)

    def wait(self, timeout_s: float) -> dict[str, Any]:
        """Wait for messages and return one of each topic that has some."""
        self._wait_set.clear_entities()
        for subscription, _ in self._entries:
            self._wait_set.add_subscription(subscription.handle)
        self._wait_set.wait(int(timeout_s * NS))
        found = {}
        for subscription, topic in self._entries:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is not None:
                found[topic] = taken[0]
                self.sent[topic] = taken[1]['source_timestamp']
        return found


def play(node: Node, role: Role, until: Callable[[int], bool] = lambda _: False) -> None:
    """
    Play a role of the bare graph: answer a step once all inputs that carry its number are here.

    :param until: of the number of steps done; ends it. Only the bridge, which counts them.
    """
    waiter = Waiter(node)
    for topic in role.inputs:
        waiter.add(topic, JointState, PROFILES[topic][1])
    begins = role.output == STATE
    publisher = (node.create_publisher(JointState, role.output, PROFILES[role.output][0])
                 if role.output else None)
    before, after = sample(role.output)
    newest = dict.fromkeys(role.inputs, b'')
    step = 0
    while not until(step):
        found = waiter.wait(0.2)
        newest.update((topic, data[4:12]) for topic, data in found.items())
        stamps = set(newest.values())
        if begins and (not found or stamps == {step.to_bytes(8, 'little')}):
            step += bool(found)
            publisher.publish(before + step.to_bytes(8, 'little') + after)
        elif found and not begins and publisher is not None and len(stamps) == 1:
            publisher.publish(before + stamps.pop() + after)


def bare_rate(names: Sequence[str], seconds: float) -> float:
    """Return the steps per second of bare messages between the bridge and some other roles."""
    others = [subprocess.Popen([sys.executable, '-m', 'benchmarks._bare_graph', name])
              for name in names]
    outputs = {ROLES[name].output for name in names}
    bridge = BRIDGE._replace(inputs=tuple(t for t in BRIDGE.inputs if t in outputs))
    begun: list[tuple[float, int]] = []
    deadline = time.monotonic() + START_S + seconds

    def until(steps: int) -> bool:
        now = time.monotonic()
        if now > deadline:
            raise SystemExit(f'the bare graph of {", ".join(names)} did not run')
        if steps > 500 and not begun:  # warm
            begun.append((now, steps))
        if begun and now - begun[0][0] > seconds:
            begun.append((now, steps))
        return len(begun) == 2

    node = Node('bare_bridge')
    try:
        play(node, bridge, until)
    finally:
        for other in others:
            other.kill()
            other.wait()
        node.destroy_node()
    (begin, first), (end, last) = begun
    return (last - first) / (end - begin)


def main() -> None:
    """Play one role until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('role', choices=ROLES)
    name = parser.parse_args().role
    rclpy.init()
    play(Node(f'bare_{name}'), ROLES[name])


if __name__ == '__main__':
    main()
