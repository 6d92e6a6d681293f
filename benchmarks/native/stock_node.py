# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What most people write: rclpy's executor, messages as objects, torch in eager mode."""

from contextlib import suppress
import sys

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
import torch


class StockNode(Node):
    """Answers each state."""

    def __init__(self, joints: int, size: float) -> None:
        super().__init__('stock_node')
        self._names = [f'joint_{i + 1}' for i in range(joints)]
        self._size, self._goal = size, [0.3, 0.1, 0.3]
        self._net = torch.nn.Sequential(
            torch.nn.Linear(2 * joints + 3, 256), torch.nn.ReLU(),
            torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, joints),
            torch.nn.Tanh())
        self._commands = self.create_publisher(JointState, 'policy/joint_command', 10)
        self.create_subscription(JointState, 'joint_states', self._on_state, 10)

    def _on_state(self, msg: JointState) -> None:
        state = dict(zip(msg.name, zip(msg.position, msg.velocity)))
        position = [state[name][0] for name in self._names]
        velocity = [state[name][1] for name in self._names]
        with torch.no_grad():
            action = self._net(torch.tensor([*position, *velocity, *self._goal]))
        command = JointState()
        command.header.stamp = msg.header.stamp
        command.name = self._names
        command.position = [p + self._size * a for p, a in zip(position, action.tolist())]
        self._commands.publish(command)


if __name__ == '__main__':
    torch.set_num_threads(1)
    rclpy.init()
    with suppress(KeyboardInterrupt):
        rclpy.spin(StockNode(int(sys.argv[1]), float(sys.argv[2])))
