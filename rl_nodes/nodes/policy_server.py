# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Policy server: turns each state into the command a policy wants, through ONNX Runtime.

States are answered by a C++ thread (``native_client.py``), or in Python (``policy_client.py``)
where that cannot be: while exploring, and where the extension was not built. Both follow the same
rules.

A policy comes from a file (``policy``) or from the trainer's topic; it is verified away from the
control path, in a process of its own where its structure is new (``inference/trial.py``), and
swapped in between two states. A policy that is refused changes nothing. One that does worse than
the one before it is taken back (``inference/probation.py``).

Parameters: see ``policy_parameters.py``.
Subscribes (states and goals once per robot):
  joint_states (sensor_msgs/JointState, SENSOR); goal (geometry_msgs/PoseStamped, EPISODE);
  odom (nav_msgs/Odometry, SENSOR), where the robot has a floating base; objects, scan, imu and
  wrench likewise;
  reward (sensor_msgs/JointState, STREAM), where the task observes return_to_go;
  camera/<name>/image_raw (sensor_msgs/Image, the newest as it is offered), where the task observes
  pictures; those of physical cameras (also sensor_msgs/CompressedImage) on the topics that the
  robot's YAML names;
  safety/state (diagnostic_msgs/DiagnosticArray, LATCHED), where policies are watched;
  policy/update (std_msgs/UInt8MultiArray, LATCHED): a policy bundle;
  policy/shadow_update (as policy/update), where there is a shadow: another candidate.
Publishes:
  policy/joint_command (sensor_msgs/JointState, STREAM): stamp = stamp of the state that caused
  it, frame_id = <policy name>@<version>;
  policy/shadow_command (sensor_msgs/JointState, STREAM), where there is a shadow: what the
  candidate would do, stamped and named as policy/joint_command;
  policy/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Services:
  ~/rollback (std_srvs/Trigger): let the previous policy act again.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
import threading
from typing import Any

import numpy as np
from rl_nodes.control.controllers import make_controller
from rl_nodes.core.errors import BundleError, ConfigError, SpecError
from rl_nodes.core.fleet import robot_namespaces, topic_in
from rl_nodes.core.picture_desk import PictureDesk
from rl_nodes.core.timing import NS, summary_ms
from rl_nodes.inference.batcher import Batcher
from rl_nodes.inference.batching import BatchRuntime
from rl_nodes.inference.bundle import identify, PolicyBundle, read_parts
from rl_nodes.inference.chunking import Blend
from rl_nodes.inference.runtime import check_providers, PolicyRuntime
from rl_nodes.inference.succession import Succession
from rl_nodes.inference.trial import PolicyTrial
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.native_client import LoopOptions, NativeClient
from rl_nodes.nodes.picture_inbox import PictureInbox
from rl_nodes.nodes.policy_client import PolicyClient
from rl_nodes.nodes.policy_loader import PolicyLoader
from rl_nodes.nodes.policy_parameters import PolicyParameters
from rl_nodes.nodes.policy_watch import PolicyWatch
from rl_nodes.nodes.precedence import Precedence
from rl_nodes.nodes.shadow import Shadow
from rl_nodes.realtime import load
from rl_nodes.realtime.plan import plan_of
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger


class PolicyServer(TaskNode[PolicyParameters]):
    """See the module's text."""

    parameters_type = PolicyParameters
    status_topic = 'policy/status'

    def configure(self) -> None:
        """Verify the policy, then build the entities."""
        super().configure()
        self._model = self.task.robot
        self._stochastic = self.parameters.sampling == 'stochastic'
        parameters = self.parameters
        if parameters.shadow and self.task.sights:
            raise ConfigError(f'shadow = {parameters.shadow}: task {self.task.name} observes '
                              'pictures, which a shadow does not see; leave it empty')
        if parameters.shadow and self._stochastic:
            raise ConfigError('shadow with sampling = stochastic: what explores is no standard to '
                              'compare with; use sampling:=deterministic')
        self._succession, self._lock = Succession(), threading.RLock()
        self._rejected, self._swaps, self._rejection = 0, 0, ''
        self._rollbacks, self._last_rollback = 0, ''
        self._batcher = Batcher() if parameters.batch else None
        runtime = partial(BatchRuntime, rows=parameters.robots) if parameters.batch \
            else PolicyRuntime
        self._trial = PolicyTrial(
            make=partial(runtime, threads=parameters.threads,
                         providers=check_providers(parameters.providers)),
            rows=parameters.robots if parameters.batch else 1)
        bundle = _load(parameters.policy) if parameters.policy else None
        self._fallback = None if parameters.fallback == 'none' else make_controller(
            parameters.fallback, self._model)
        namespaces = robot_namespaces(parameters.robots)
        self._path, make = self._control_path(bundle)
        self.get_logger().info(f'control path: {self._path}')
        self._inbox = PictureInbox(
            self, namespaces, self.wake(self._on_picture) if self.lockstep else _nothing,
            parameters.camera_drivers) if self.task.sights else None
        self._served = [make(namespace, index) for index, namespace in enumerate(namespaces)]
        # Exploration is meant to meet the limits.
        self._watch = PolicyWatch(
            self, dict(zip(namespaces, self._served)),
            0 if self._stochastic else parameters.rollback_states, parameters.rollback_margin,
            self._lock, self._withdraw, self._succession.prove)
        if bundle is not None:
            self._take_over(bundle)
        self._loader = PolicyLoader(
            lambda msg: self._take_over(conversions.msg_to_bundle(msg)), self._refuse)
        self.subscribe(UInt8MultiArray, 'policy/update', self._loader.submit, qos.LATCHED)
        self.serve(Trigger, 'rollback', self._on_rollback)
        self._shadow = self._shadow_loader = None
        if parameters.shadow:
            self._shadow = shadow = Shadow(self, namespaces, self._admit(_load(parameters.shadow)))
            self._shadow_loader = PolicyLoader(
                lambda msg: shadow.use(self._admit(conversions.msg_to_bundle(msg))), self._refuse)
            self.subscribe(UInt8MultiArray, 'policy/shadow_update', self._shadow_loader.submit,
                           qos.LATCHED)

    def _control_path(self, bundle: PolicyBundle | None
                      ) -> tuple[str, Callable[[str, int], NativeClient | PolicyClient]]:
        """Return (how states are answered and why, what makes the client of a robot)."""
        parameters = self.parameters
        options = LoopOptions(
            parameters.fixed_rate, parameters.busy_poll, parameters.priority,
            tuple(int(cpu) for cpu in parameters.cpus.split(',') if cpu), parameters.lock_memory)

        def python(namespace: str, index: int) -> PolicyClient:
            rng = np.random.default_rng(parameters.seed + index) if self._stochastic else None
            desk = self._inbox.desks[namespace] if self._inbox is not None else PictureDesk()
            return PolicyClient(self, namespace, rng, blend, self._fallback, desk, self._batcher)

        blend = Blend(parameters.chunk_blend, parameters.chunk_decay, parameters.chunk_fade_steps)
        why_not = ('as asked' if parameters.control_path == 'python'
                   else 'robots are answered in batches' if parameters.batch
                   else f'task {self.task.name} observes pictures' if self.task.sights
                   else 'exploration noise comes from Python' if self._stochastic
                   else 'lockstep has no rate to keep'
                   if self.lockstep and options.fixed_rate
                   else f'providers = {parameters.providers}' if parameters.providers != 'cpu'
                   else f'threads = {parameters.threads}' if parameters.threads != 1
                   else f'fallback = {parameters.fallback}' if self._fallback is not None
                   else f'{bundle.label} answers with chunks'
                   if bundle is not None and bundle.manifest.chunk is not None else '')
        try:
            if not why_not:
                load()
                plan = plan_of(self.task)
        except ConfigError as error:
            why_not = str(error)
        if not why_not:
            self._kinds = PolicyClient.kinds[self.lockstep:] + ('lateness',) * options.fixed_rate
            self._precedence: Precedence | None = None  # see options_refused of the client
            return 'cpp', lambda namespace, index: NativeClient(
                self, namespace, plan, options)
        if parameters.control_path == 'cpp':
            raise ConfigError(f'control_path = cpp cannot be had: {why_not}')
        if options != LoopOptions(priority=parameters.priority):
            raise ConfigError('fixed_rate, busy_poll, cpus and lock_memory need the C++ control '
                              f'path, which cannot be had: {why_not}')
        self._precedence = Precedence(self, parameters.priority)
        self._kinds = PolicyClient.kinds[self.lockstep:]
        return f'python ({why_not})', python

    def activate(self) -> None:
        """Begin to answer."""
        for client in self._served:
            client.start()

    def deactivate(self) -> None:
        """Fall silent."""
        for client in self._served:
            client.stop()

    def settle(self) -> None:
        """Answer the states that have come, where they are answered together."""
        if self._batcher is not None:
            self._batcher.flush()

    def release(self) -> None:
        """Give up a policy that is just being verified, then let go of the topics."""
        for part in (*(getattr(self, name, None) for name in (
                '_trial', '_loader', '_shadow_loader', '_shadow', '_inbox')),
                *getattr(self, '_served', ())):
            if part is not None:
                part.close()

    def _on_picture(self) -> None:
        for client in self._served:
            client.try_again()

    def _refuse(self, reason: str) -> None:
        self._rejected += 1
        self._rejection = reason
        self.get_logger().error(f'policy update refused, the old policy goes on: {reason}')

    def _admit(self, bundle: PolicyBundle) -> PolicyRuntime:
        """Verify a policy; RlNodesError unless it fits this robot and task."""
        self.task.contract.require(
            bundle.manifest.contract, f'robot {self._model.name} doing {self.task.name}',
            f'policy {bundle.label}')
        if self._stochastic and bundle.manifest.sampling == 'deterministic':
            raise SpecError(f'policy {bundle.label} has no distribution to sample from; use '
                            'sampling:=deterministic')
        if bundle.manifest.chunk is not None and self._path == 'cpp':
            raise SpecError(f'policy {bundle.label} answers with chunks, which the C++ control '
                            'path does not play; start with control_path:=python')
        return self._trial.admit(bundle)

    def _take_over(self, bundle: PolicyBundle) -> None:
        """Verify a policy, then let it act; RlNodesError as :meth:`_admit`, or taken back."""
        policy = self._admit(bundle)
        with self._lock:
            self._succession.require_new(bundle)
            for client in self._served:
                client.use(policy)
            first = self._succession.current is None
            self._swaps += not first
            self._succession.follow(policy, proven=first or not self._watch.begin())

    def _withdraw(self, why: str) -> str:
        """Let the previous policy act again and return its label; BundleError without any."""
        with self._lock:
            withdrawn, policy = self._succession.back(why)
            for client in self._served:
                client.use(policy)
            self._watch.end()
        self._swaps += 1
        self._rollbacks += 1
        self._last_rollback = f'{withdrawn.bundle.label}: {why}'
        self.get_logger().error(f'policy {self._last_rollback}; {policy.bundle.label} acts again')
        return policy.bundle.label

    def _on_rollback(self, _request: Trigger.Request) -> tuple[bool, str]:
        try:
            return True, f'{self._withdraw("rollback was called")} acts again'
        except BundleError as error:
            return False, str(error)

    def _latencies(self) -> dict[str, float]:
        """Return percentiles of each kind, and how many of the newest answers took a period."""
        found: dict[str, float] = {}
        for kind in self._kinds:
            seconds = np.concatenate([client.latencies(kind) for client in self._served])
            found |= {f'{kind}_{name}': value for name, value in summary_ms(seconds, sum(
                int(client.details()['answered']) for client in self._served)).items()}
            if kind == 'total':
                found['late'] = int((seconds * NS >= self.task.period_ns).sum())
        return found

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return the policy, swaps, rollbacks, drops with reasons and latencies."""
        policy = self._succession.current
        label = policy.bundle.label if policy else ''
        values: dict[str, Any] = {}
        for client, namespace in zip(self._served, robot_namespaces(self.parameters.robots)):
            values |= {topic_in(namespace, name): value
                       for name, value in client.details().items()}
        values |= {'policy': label, 'sampling': self.parameters.sampling,
                   'control_path': self._path, 'swaps': self._swaps,
                   'previous': ', '.join(self._succession.previous),
                   'on_probation': self._watch.running, 'rollbacks': self._rollbacks,
                   'last_rollback': self._last_rollback,
                   'updates_rejected': self._rejected, 'last_rejection': self._rejection,
                   'dropped': sum(client.dropped for client in self._served)}
        values |= self._latencies()
        for part in (self._precedence, self._batcher, self._shadow):
            if part is not None:
                values |= part.details()
        silence = '; '.join(client.silence for client in self._served
                            if isinstance(client, PolicyClient) and client.silence)
        instead = f'; {self._fallback.label} stands in' if self._fallback is not None else ''
        if policy is None:
            return WARN, f'waiting for a policy on policy/update{instead}', values
        if silence:
            return WARN, f'{"no action" if instead else "silent"}: {silence}{instead}', values
        if self._succession.fell_back:
            return WARN, f'running {label} again after {self._last_rollback}', values
        return OK, f'running {label}', values


def _nothing() -> None:
    """In real time a picture waits for the next state."""


def _load(path: str) -> PolicyBundle:
    """Return the policy in a file, of which only the hash has been looked at."""
    return identify(*read_parts(Path(path)), path)


def main() -> None:
    """Run the node."""
    run_main(PolicyServer, 'policy_server')


if __name__ == '__main__':
    main()
