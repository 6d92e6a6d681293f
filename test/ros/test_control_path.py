# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The policy server alone, by both control paths: the same states, the same answers."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from harness import (
    make_bundle,
    make_recurrent_bundle,
    Observer,
    observer,
    refusal_of_policy_server,
)
import numpy as np
import pytest
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger

TASK = load_task('arm', 'reach')
PATHS = ['python', 'cpp']


@contextmanager
def server(*parameters: str) -> Iterator[subprocess.Popen]:
    """Run a policy server for the duration of a block; it must end by SIGINT with status 0."""
    given = [word for parameter in parameters for word in ('-p', parameter)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'rl_nodes.nodes.policy_server', '--ros-args', *given], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.output = process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


class Asker:
    """Publishes states and goals as a bridge does, and hears the answers."""

    def __init__(self, seen: Observer, namespace: str = '') -> None:
        self.seen = seen
        self._states = seen.node.create_publisher(
            JointState, topic_in(namespace, 'joint_states'), qos.STREAM)
        self._goals = seen.node.create_publisher(
            PoseStamped, topic_in(namespace, 'goal'), qos.EPISODE)
        self.commands = topic_in(namespace, 'policy/joint_command')
        self.updates = seen.node.create_publisher(UInt8MultiArray, 'policy/update', qos.LATCHED)
        seen.listen(JointState, self.commands, qos.STREAM)
        seen.listen(DiagnosticArray, 'policy/status', qos.LATCHED)
        self._rng = np.random.default_rng(0)
        self.start = time.time_ns()
        self.goal = Goal(self.start, np.array([0.2, 0.1, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))

    def connect(self, readers: int = 1) -> None:
        self.seen.until(lambda: self._states.get_subscription_count() == readers
                        and self._goals.get_subscription_count() == readers, 'the policy server')
        self._goals.publish(conversions.goal_to_msg(self.goal, 'base_link'))

    def state(self, stamp: int | None = None) -> RobotState:
        return RobotState(stamp or time.time_ns(), f'1@{self.start}',
                          self._rng.uniform(-0.5, 0.5, 6), self._rng.uniform(-0.5, 0.5, 6),
                          np.zeros(6))

    def tell(self, state: RobotState, task: Task = TASK) -> None:
        self._states.publish(conversions.state_to_msg(state, task.robot.joint_names))

    def answer(self, stamp: int) -> JointState | None:
        return next((msg for _, msg in self.seen.heard[self.commands]
                     if conversions.stamp_to_ns(msg.header.stamp) == stamp), None)

    def ask(self, state: RobotState) -> JointState:
        self.tell(state)
        self.seen.until(lambda: self.answer(state.stamp_ns) is not None, 'an answer', 10.0)
        return self.answer(state.stamp_ns)

    def status(self, condition: Any, what: str) -> dict[str, str]:
        self.seen.until(lambda: bool(values := self.seen.values('policy/status'))
                        and condition(values), what, 10.0)
        return self.seen.values('policy/status')


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return make_bundle(TASK.contract, seed=1).save(tmp_path / 'policy.onnx')


@pytest.mark.parametrize('path', PATHS)
def test_each_state_gets_its_command(path: str, bundle_path: Path) -> None:
    runtime = PolicyRuntime(make_bundle(TASK.contract, seed=1))
    with observer() as seen, server(f'policy:={bundle_path}', f'control_path:={path}'):
        asker = Asker(seen)
        asker.connect()
        for _ in range(50):
            state = asker.state()
            msg = asker.ask(state)
            expected = TASK.command(state, runtime.act(TASK.observer().observe(
                state, asker.goal)))
            assert tuple(msg.name) == TASK.robot.command_names
            assert msg.header.frame_id == 'untrained@1'
            np.testing.assert_array_equal(msg.position, expected)
            assert not msg.velocity
            assert not msg.effort
        again = len(seen.heard['policy/joint_command'])
        asker.tell(state)  # a state that comes again gets the same answer again
        seen.until(lambda: len(seen.heard['policy/joint_command']) > again, 'the same answer')
        assert seen.heard['policy/joint_command'][-1][1] == msg
        status = asker.status(lambda values: int(values['answered']) >= 50, 'status')
        assert status['control_path'].startswith(path)
        assert {f'{kind}_{name}_ms' for kind in ('inference', 'total')
                for name in ('p50', 'p99', 'p99.9', 'max')} <= set(status)
        assert int(status['late']) < 50
        assert 0 < float(status['inference_p50_ms']) <= float(status['total_p99_ms'])
        assert status['dropped'] == '0'


@pytest.mark.parametrize('path', PATHS)
def test_a_policy_that_remembers_has_its_memory_here(path: str, tmp_path: Path) -> None:
    """Through an episode, a state that comes again, a swap to the same network and a rollback."""
    bundles = [make_recurrent_bundle(TASK.contract, version=version) for version in (1, 2)]
    file = bundles[0].save(tmp_path / 'policy.onnx')
    with observer() as seen, server(f'policy:={file}', f'control_path:={path}',
                                    'rollback_states:=0'):
        asker = Asker(seen)
        asker.connect()
        rollback = seen.node.create_client(Trigger, 'policy_server/rollback')
        for acting in (bundles[0], bundles[1], bundles[0]):
            if acting is bundles[1]:
                asker.updates.publish(conversions.bundle_to_msg(acting))
                asker.status(lambda values: values['policy'] == bundles[1].label, 'the swap')
            elif asker.seen.heard['policy/joint_command']:
                seen.until(rollback.service_is_ready, 'the service')
                done = rollback.call_async(Trigger.Request())
                seen.until(done.done, 'the rollback')
                assert done.result().success
            actor = SingleActor(PolicyRuntime(acting), None)
            for _ in range(20):
                state = asker.state()
                wanted = TASK.command(state, actor.act(TASK.observer().observe(
                    state, asker.goal), state))
                msg = asker.ask(state)
                np.testing.assert_array_equal(msg.position, wanted)
                count = len(seen.heard['policy/joint_command'])
                asker.tell(state)
                seen.until(lambda: len(seen.heard['policy/joint_command']) > count, 'an answer')
                assert seen.heard['policy/joint_command'][-1][1] == msg
        status = asker.status(lambda values: int(values['answered']) >= 60, 'every answer')
        assert status['control_path'].startswith(path)


@pytest.mark.parametrize('path', [
    'cpp', pytest.param('python', marks=pytest.mark.slow)])
def test_a_newer_policy_takes_over_without_a_state_unanswered(path: str,
                                                              bundle_path: Path) -> None:
    with observer() as seen, server(f'policy:={bundle_path}', f'control_path:={path}'):
        asker = Asker(seen)
        asker.connect()
        labels = set()
        for version in range(2, 12):
            asker.updates.publish(conversions.bundle_to_msg(
                make_bundle(TASK.contract, seed=version, version=version)))
            for _ in range(10):
                labels.add(asker.ask(asker.state()).header.frame_id)
        asker.status(lambda values: values['policy'] == 'untrained@11', 'the newest policy')
        labels.add(asker.ask(asker.state()).header.frame_id)
        assert {'untrained@1', 'untrained@11'} <= labels | {'untrained@1'}
        assert len(labels) > 3
        assert asker.ask(asker.state()).header.frame_id == 'untrained@11'


@pytest.mark.parametrize('path', PATHS)
def test_bad_states_are_counted_and_the_next_one_is_answered(path: str,
                                                             bundle_path: Path) -> None:
    with observer() as seen, server(f'policy:={bundle_path}', f'control_path:={path}'):
        asker = Asker(seen)
        asker.connect()
        asker.ask(asker.state())
        bad = asker.state()
        bad.position[2] = np.nan
        asker.tell(bad)
        asker.ask(asker.state())
        status = asker.status(lambda values: values['dropped'] == '1', 'a drop')
        assert asker.answer(bad.stamp_ns) is None
        if path == 'cpp':
            assert status['last_drop'] == 'joint_states is not finite'


def test_a_fixed_rate_answers_the_newest_state_only(bundle_path: Path) -> None:
    with observer() as seen, server(f'policy:={bundle_path}', 'control_path:=cpp',
                                    'fixed_rate:=true', 'priority:=5', 'lock_memory:=true',
                                    'cpus:="0"'):
        asker = Asker(seen)
        asker.connect()
        newest = asker.ask(asker.state())
        states = [asker.state() for _ in range(5)]  # at 50 Hz these fall into one period or two
        for state in states:
            asker.tell(state)
        seen.until(lambda: asker.answer(states[-1].stamp_ns) is not None, 'the newest state')
        answered = [state for state in states if asker.answer(state.stamp_ns) is not None]
        assert len(answered) < len(states)
        status = asker.status(lambda values: int(values.get('idle', 0)) > 10 and int(
            values['answered']) >= len(answered) + 1, 'idle periods and every answer')
        assert newest is not None
        if os.geteuid() == 0:
            assert status['options_refused'] in ('', *(
                f'priority: {why}' for why in ('Operation not permitted',)))


@pytest.mark.parametrize(('parameters', 'message'), [
    (('sampling:=stochastic', 'control_path:=cpp'), 'exploration noise comes from Python'),
    (('control_path:=python', 'busy_poll:=true'), 'need the C++ control path'),
    (('fixed_rate:=true', 'busy_poll:=true'), 'exclude each other'),
    (('cpus:="a"',), 'expected numbers'),
    (('priority:=100',), 'priority'),
])
def test_options_that_cannot_be_had_are_refused(bundle_path: Path, parameters: tuple[str, ...],
                                                message: str) -> None:
    assert message in refusal_of_policy_server(bundle_path, *parameters)
