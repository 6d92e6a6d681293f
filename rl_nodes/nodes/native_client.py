# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One robot that the policy server serves through the C++ control tick."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rl_nodes.core.errors import BundleError
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.scheduling import run_first
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import qos
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.realtime import load, onnxruntime_library
from rl_nodes.realtime.plan import TOPICS

INFERENCE_THREADS = 1


@dataclass(frozen=True)
class LoopOptions:
    """
    How the thread of a control tick runs.

    :param fixed_rate: at the robot's rate, by absolute deadlines, with the newest state; otherwise
        each state is answered when it comes.
    :param busy_poll: look for states without pause.
    :param priority: of SCHED_FIFO, 1 to 99; 0 for the usual scheduling.
    :param cpus: that the thread may run on; empty for all.
    :param lock_memory: keep the process from being swapped out.
    """

    fixed_rate: bool = False
    busy_poll: bool = False
    priority: int = 0
    cpus: tuple[int, ...] = ()
    lock_memory: bool = False


class NativeClient:
    """
    Like :class:`rl_nodes.nodes.policy_client.PolicyClient`, in a thread without the interpreter.

    :param node: whose participant the topics belong to; its task is done by the robot.
    :param namespace: of the robot, relative to the node's.
    :param plan: of the task, see :func:`rl_nodes.realtime.plan.plan_of`.
    :param options: of the thread.
    :raises ConfigError: the extension or ONNX Runtime's library is missing.
    """

    def __init__(self, node: TaskNode, namespace: str, plan: dict[str, Any],
                 options: LoopOptions) -> None:
        if options.priority:  # also for what brings the states; see denied() for a refusal
            run_first(options.priority, python=False)
        native, self._library = load(), str(onnxruntime_library())
        self._make_policy = native.Policy
        states = [(TOPICS[topic], topic_in(namespace, topic), qos.SENSOR.depth, False)
                  for topic in StateReader(node.task).topics]
        goal = (TOPICS['goal'], topic_in(namespace, 'goal'), qos.EPISODE.depth, True)
        self._loop = native.ControlLoop(
            node.handle.pointer, plan, [goal, *reversed(states)],
            topic_in(namespace, 'policy/joint_command'), qos.STREAM.depth,
            {'fixed_period_ns': node.task.period_ns if options.fixed_rate else 0,
             'busy_poll': options.busy_poll, 'priority': options.priority,
             'cpus': list(options.cpus), 'lock_memory': options.lock_memory})

    def use(self, policy: PolicyRuntime) -> None:
        """
        Let a verified policy take over between two states.

        :raises BundleError: ONNX Runtime's C API does not take it.
        """
        contract, bundle = policy.contract, policy.bundle
        try:
            self._loop.set_policy(self._make_policy(
                self._library, bundle.onnx, contract.observation.shape[0],
                contract.action.shape[0], bundle.label, INFERENCE_THREADS,
                [(state.input, state.output, state.shape) for state in bundle.manifest.memory]))
        except RuntimeError as error:
            raise BundleError(f'{bundle.label}: {error}') from None

    def start(self) -> None:
        """Begin to answer."""
        self._loop.start()

    def stop(self) -> None:
        """Fall silent."""
        self._loop.stop()

    def close(self) -> None:
        """Let go of the topics; they must not outlive the node."""
        self._loop = None

    @property
    def dropped(self) -> int:
        """Return how many messages and states were not answered for a reason."""
        return sum(count for name, count in self._loop.counts().items()
                   if name.startswith('dropped') or name == 'publish_failed')

    def latencies(self, kind: str) -> np.ndarray:
        """Return the newest durations [s] of a kind of ``PolicyClient``, or ``lateness``."""
        return np.array(getattr(self._loop, kind)(), np.float64)

    def details(self) -> dict[str, Any]:
        """Return counts, why the last message was dropped, and options that were refused."""
        counts = {name: value for name, value in self._loop.counts().items()
                  if value or name == 'answered'}
        return {**counts, 'last_drop': self._loop.refusal(),
                'options_refused': '; '.join(self._loop.denied())}
