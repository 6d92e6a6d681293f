# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Policy server: turns each state into the command a policy wants, through ONNX Runtime.

A policy comes from a file (``policy``) or from the trainer's topic; it is verified away from the
control path and swapped in between two states. A policy that is refused changes nothing.

Parameters: robot, task, stepping, autostart, policy, sampling, seed (see below).
Subscribes:
  joint_states (sensor_msgs/JointState, SENSOR); goal (geometry_msgs/PoseStamped, EPISODE);
  odom (nav_msgs/Odometry, SENSOR), where the robot has a floating base;
  policy/update (std_msgs/UInt8MultiArray, LATCHED): a policy bundle.
Publishes:
  policy/joint_command (sensor_msgs/JointState, STREAM): stamp = stamp of the state that caused
  it, frame_id = <policy name>@<version>;
  policy/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
"""

from pathlib import Path
import threading
from typing import Any, Literal

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
import numpy as np
from rl_nodes.core.errors import RlNodesError, SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.state_join import StateJoin
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray


class PolicyParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the policy server.

    :param policy: path of a policy's .onnx file; empty to wait for policy/update
    :param sampling: deterministic (deployment) or stochastic (exploration while training)
    :param seed: of the exploration noise
    """

    policy: str = ''
    sampling: Literal['deterministic', 'stochastic'] = 'deterministic'
    seed: int = 0


class PolicyServer(TaskNode[PolicyParameters]):
    """See the module's text."""

    parameters_type = PolicyParameters
    status_topic = 'policy/status'

    def configure(self) -> None:
        """Verify the policy, then build the entities."""
        super().configure()
        self._model = self.task.robot
        self._rng = np.random.default_rng(self.parameters.seed)
        self._stochastic = self.parameters.sampling == 'stochastic'
        self._goals = GoalBook()
        self._policy: PolicyRuntime | None = None
        self._next: PolicyRuntime | None = None
        if self.parameters.policy:
            self._policy = self._accept(PolicyBundle.load(Path(self.parameters.policy)))
        self._waiting: Any = None
        self._answer: tuple[int, JointState] | None = None
        self._refused, self._rejected, self._swaps = 0, 0, 0
        self._rejection = ''
        self._loader: threading.Thread | None = None
        self._inference, self._total = LatencyWindow(), LatencyWindow()
        self._commands = self.publish_on(JointState, 'policy/joint_command', qos.STREAM)
        self.subscribe(PoseStamped, 'goal', self._on_goal, qos.EPISODE)
        self.subscribe(JointState, 'joint_states', self._on_state, qos.SENSOR)
        self._join: StateJoin | None = None
        if self._model.config.floating_base:
            self._join = StateJoin()
            self.subscribe(Odometry, 'odom', self._on_odom, qos.SENSOR)
        self.subscribe(UInt8MultiArray, 'policy/update', self._on_update, qos.LATCHED)

    def release(self) -> None:
        """Wait for a policy that is just being verified."""
        loader = getattr(self, '_loader', None)
        if loader is not None:
            loader.join(timeout=2.0)

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg))
        except SpecError as error:
            self._refuse(error)
            return
        if self._waiting is not None:
            self.tick(self._waiting, steady_ns())

    def _on_state(self, msg: JointState) -> None:
        arrived = steady_ns()
        try:
            state = conversions.msg_to_state(msg, self._model.joint_names)
        except SpecError as error:
            self._refuse(error)
            return
        if self._answer is not None and self._answer[0] == state.stamp_ns:
            self._commands.publish(self._answer[1])  # asked again: the same answer, same noise
            return
        if self._join is None:
            self.tick(state, arrived)
        else:
            self._tick_joined(self._join.add_state(state), arrived)

    def _on_odom(self, msg: Odometry) -> None:
        arrived = steady_ns()
        try:
            joined = self._join.add_base(*conversions.odom_to_base(msg))
        except SpecError as error:
            self._refuse(error)
            return
        self._tick_joined(joined, arrived)

    def _tick_joined(self, state: RobotState | None, arrived_ns: int) -> None:
        if state is not None:
            self.tick(state, arrived_ns)

    def tick(self, state: Any, arrived_ns: int) -> None:
        """Answer one state: observe, infer, command."""
        if self._next is not None:
            self._policy, self._next = self._next, None
            self._swaps += 1
        self._waiting = None
        if self._policy is None:
            return
        goal = self._goals.of(state)
        if goal is None:  # the goal of a new episode is still on its way
            self._waiting = state
            return
        try:
            observation = self.task.observe(state, goal)
            begun = steady_ns()
            action = (self._policy.sample(observation, self._rng) if self._stochastic
                      else self._policy.act(observation))
            self._inference.add((steady_ns() - begun) / NS)
        except SpecError as error:
            self._refuse(error)
            return
        command = JointCommand(state.stamp_ns, self._policy.bundle.label,
                               self.task.command(state, action))
        msg = conversions.command_to_msg(command, self._model.command_names,
                                         self._model.config.control_mode)
        self._commands.publish(msg)
        self._answer = (state.stamp_ns, msg)
        self._total.add((steady_ns() - arrived_ns) / NS)

    def _on_update(self, msg: UInt8MultiArray) -> None:
        """Verify a new policy in a thread of its own; the next state finds it ready."""
        if self._loader is not None and self._loader.is_alive():
            self._loader.join(timeout=1.0)  # updates come seconds apart, verification takes ms

        def load() -> None:
            try:
                self._next = self._accept(conversions.msg_to_bundle(msg))
            except RlNodesError as error:
                self._rejected += 1
                self._rejection = str(error)
                self.get_logger().error(f'policy update refused, the old policy goes on: {error}')
        if self._policy is None:
            load()
        else:
            self._loader = threading.Thread(target=load, name='policy loader', daemon=True)
            self._loader.start()

    def _accept(self, bundle: PolicyBundle) -> PolicyRuntime:
        """Return a warmed-up runtime; RlNodesError unless the policy fits this robot and task."""
        self.task.contract.require(
            bundle.manifest.contract, f'robot {self._model.name} doing {self.task.name}',
            f'policy {bundle.label}')
        if self._stochastic and bundle.manifest.sampling == 'deterministic':
            raise SpecError(f'policy {bundle.label} has no distribution to sample from; use '
                            'sampling:=deterministic')
        return PolicyRuntime(bundle)

    def _refuse(self, error: SpecError) -> None:
        self._refused += 1
        self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return the policy, swaps, refusals and latencies."""
        label = self._policy.bundle.label if self._policy else ''
        values = {'policy': label, 'sampling': self.parameters.sampling, 'swaps': self._swaps,
                  'updates_rejected': self._rejected, 'last_rejection': self._rejection,
                  'dropped': self._refused,
                  **{f'inference_{k}': v for k, v in self._inference.summary().items()},
                  **{f'total_{k}': v for k, v in self._total.summary().items()}}
        if self._policy is None:
            return WARN, 'waiting for a policy on policy/update', values
        return OK, f'running {label}', values


def main() -> None:
    """Run the node."""
    run_main(PolicyServer, 'policy_server')


if __name__ == '__main__':
    main()
