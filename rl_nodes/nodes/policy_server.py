# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Policy server: turns each state into the command a policy wants, through ONNX Runtime.

States are answered by a C++ thread (``native_client.py``), or in Python (``policy_client.py``)
where that cannot be: while exploring, in lockstep, and where the extension was not built. Both
follow the same rules.

A policy comes from a file (``policy``) or from the trainer's topic; it is verified away from the
control path and swapped in between two states. A policy that is refused changes nothing.

Parameters: those of every node, policy, sampling, seed, robots, control_path, fixed_rate,
busy_poll, priority, cpus, lock_memory (see below).
Subscribes (states and goals once per robot):
  joint_states (sensor_msgs/JointState, SENSOR); goal (geometry_msgs/PoseStamped, EPISODE);
  odom (nav_msgs/Odometry, SENSOR), where the robot has a floating base;
  policy/update (std_msgs/UInt8MultiArray, LATCHED): a policy bundle.
Publishes:
  policy/joint_command (sensor_msgs/JointState, STREAM): stamp = stamp of the state that caused
  it, frame_id = <policy name>@<version>;
  policy/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
"""

from collections.abc import Callable
from pathlib import Path
import re
import threading
from typing import Annotated, Any, Literal

from msgspec import Meta
import numpy as np
from rl_nodes.core.errors import ConfigError, RlNodesError, SpecError
from rl_nodes.core.fleet import robot_namespaces, topic_in
from rl_nodes.core.timing import summary_ms
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.native_client import LoopOptions, NativeClient
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.policy_client import PolicyClient
from rl_nodes.realtime import load
from rl_nodes.realtime.plan import plan_of
from std_msgs.msg import UInt8MultiArray


class PolicyParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the policy server.

    :param policy: path of a policy's .onnx file; empty to wait for policy/update
    :param sampling: deterministic (deployment) or stochastic (exploration while training)
    :param seed: of the exploration noise
    :param robots: how many are served; beyond one each has its namespace robot_<number>
    :param control_path: cpp or python; auto takes cpp where it can be had, and says so
    :param fixed_rate: cpp only; answer the newest state at the robot's rate, by absolute deadlines
    :param busy_poll: cpp only; look for states without pause, which takes a whole core
    :param priority: cpp only; of SCHED_FIFO, 1 to 99; 0 for the usual scheduling
    :param cpus: cpp only; processors that the thread may run on, as in 2,3; empty for all
    :param lock_memory: cpp only; keep the process from being swapped out
    """

    policy: str = ''
    sampling: Literal['deterministic', 'stochastic'] = 'deterministic'
    seed: Annotated[int, Meta(ge=0)] = 0
    robots: Annotated[int, Meta(ge=1)] = 1
    control_path: Literal['auto', 'cpp', 'python'] = 'auto'
    fixed_rate: bool = False
    busy_poll: bool = False
    priority: Annotated[int, Meta(ge=0, le=99)] = 0
    cpus: str = ''
    lock_memory: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r'(\d+(,\d+)*)?', self.cpus):
            raise ValueError(f'cpus = {self.cpus!r}; expected numbers as in 2,3')
        if self.fixed_rate and self.busy_poll:
            raise ValueError('fixed_rate and busy_poll exclude each other')


class PolicyServer(TaskNode[PolicyParameters]):
    """See the module's text."""

    parameters_type = PolicyParameters
    status_topic = 'policy/status'

    def configure(self) -> None:
        """Verify the policy, then build the entities."""
        super().configure()
        self._model = self.task.robot
        self._stochastic = self.parameters.sampling == 'stochastic'
        self._policy: PolicyRuntime | None = None
        self._rejected, self._swaps, self._rejection = 0, 0, ''
        self._loader: threading.Thread | None = None
        self._path, make = self._control_path()
        self.get_logger().info(f'control path: {self._path}')
        self._served = [make(namespace, index) for index, namespace in enumerate(
            robot_namespaces(self.parameters.robots))]
        if self.parameters.policy:
            self._take_over(PolicyBundle.load(Path(self.parameters.policy)))
        self.subscribe(UInt8MultiArray, 'policy/update', self._on_update, qos.LATCHED)

    def _control_path(self) -> tuple[str, Callable[[str, int], NativeClient | PolicyClient]]:
        """Return (how states are answered and why, what makes the client of a robot)."""
        parameters = self.parameters
        options = LoopOptions(
            parameters.fixed_rate, parameters.busy_poll, parameters.priority,
            tuple(int(cpu) for cpu in parameters.cpus.split(',') if cpu), parameters.lock_memory)

        def python(namespace: str, index: int) -> PolicyClient:
            rng = np.random.default_rng(parameters.seed + index) if self._stochastic else None
            return PolicyClient(self, namespace, rng)

        why_not = ('as asked' if parameters.control_path == 'python'
                   else 'exploration noise comes from Python' if self._stochastic
                   else 'in lockstep nothing is late' if self.lockstep else '')
        try:
            if not why_not:
                load()
                plan_of(self.task)
        except ConfigError as error:
            why_not = str(error)
        if not why_not:
            return 'cpp', lambda namespace, index: NativeClient(self, namespace, options)
        if parameters.control_path == 'cpp':
            raise ConfigError(f'control_path = cpp cannot be had: {why_not}')
        if options != LoopOptions():
            raise ConfigError('fixed_rate, busy_poll, priority, cpus and lock_memory need the C++ '
                              f'control path, which cannot be had: {why_not}')
        return f'python ({why_not})', python

    def activate(self) -> None:
        """Begin to answer."""
        for client in self._served:
            client.start()

    def deactivate(self) -> None:
        """Fall silent."""
        for client in self._served:
            client.stop()

    def release(self) -> None:
        """Wait for a policy that is just being verified, then let go of the topics."""
        loader = getattr(self, '_loader', None)
        if loader is not None:
            loader.join(timeout=2.0)
        for client in getattr(self, '_served', ()):
            client.close()

    def _on_update(self, msg: UInt8MultiArray) -> None:
        """Verify a new policy in a thread of its own; the next state finds it ready."""
        if self._loader is not None and self._loader.is_alive():
            self._loader.join(timeout=1.0)  # updates come seconds apart, verification takes ms

        def load() -> None:
            try:
                self._take_over(conversions.msg_to_bundle(msg))
            except RlNodesError as error:
                self._rejected += 1
                self._rejection = str(error)
                self.get_logger().error(f'policy update refused, the old policy goes on: {error}')
        if self._policy is None:
            load()
        else:
            self._loader = threading.Thread(target=load, name='policy loader', daemon=True)
            self._loader.start()

    def _take_over(self, bundle: PolicyBundle) -> None:
        """Verify a policy, then let it act; RlNodesError unless it fits this robot and task."""
        self.task.contract.require(
            bundle.manifest.contract, f'robot {self._model.name} doing {self.task.name}',
            f'policy {bundle.label}')
        if self._stochastic and bundle.manifest.sampling == 'deterministic':
            raise SpecError(f'policy {bundle.label} has no distribution to sample from; use '
                            'sampling:=deterministic')
        policy = PolicyRuntime(bundle)
        for client in self._served:
            client.use(policy)
        self._swaps += self._policy is not None
        self._policy = policy

    def _latency(self, kind: str) -> dict[str, float]:
        values = [client.latencies(kind) for client in self._served]
        return summary_ms(np.concatenate(values), sum(
            int(client.details()['answered']) for client in self._served))

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return the policy, swaps, drops with reasons and latencies."""
        label = self._policy.bundle.label if self._policy else ''
        values = {'policy': label, 'sampling': self.parameters.sampling,
                  'control_path': self._path, 'swaps': self._swaps,
                  'updates_rejected': self._rejected, 'last_rejection': self._rejection,
                  'dropped': sum(client.dropped for client in self._served)}
        for client, namespace in zip(self._served, robot_namespaces(self.parameters.robots)):
            values |= {topic_in(namespace, name): value
                       for name, value in client.details().items()}
        for kind in ('inference', 'total'):
            values |= {f'{kind}_{name}': value for name, value in self._latency(kind).items()}
        if self._policy is None:
            return WARN, 'waiting for a policy on policy/update', values
        return OK, f'running {label}', values


def main() -> None:
    """Run the node."""
    run_main(PolicyServer, 'policy_server')


if __name__ == '__main__':
    main()
