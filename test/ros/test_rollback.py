# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One policy after another on a running server, back again, and one in the shadow of another."""

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, make_bundle, observer, refusal_of_policy_server, source_of
import numpy as np
import pytest
from rl_nodes.core.types import RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.nodes import conversions, qos
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray
from test_control_path import Asker, bundle_path, server, TASK  # noqa: F401 - a fixture
import torch

SPEC = TASK.contract.observation
VELOCITY = next(i for i, name in enumerate(SPEC.elements) if 'velocity' in name)


class _Brittle(torch.nn.Module):
    """Answers with NaN where a velocity is exactly zero, as no random observation has it."""

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        velocity = observation[:, VELOCITY:VELOCITY + 1]
        mean = torch.zeros(1, len(TASK.contract.action.elements)) + 0 * velocity / velocity
        return torch.tanh(mean), mean, torch.full_like(mean, 0.3)


class _Constant(torch.nn.Module):
    """Always moves every joint by the same share of its greatest step."""

    def __init__(self, action: float) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.full(
            (1, len(TASK.contract.action.elements)), float(np.arctanh(action))))

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = self.mean + 0 * observation[:, :1]
        return torch.tanh(mean), mean, torch.full_like(mean, 0.3)


def constant(action: float, version: int) -> PolicyBundle:
    net = _Constant(action)
    return PolicyExporter(net, TASK.contract, 'untrained', 'none',
                          'squashed_gaussian').export(net, version, 0)


def brittle(version: int) -> PolicyBundle:
    return PolicyExporter(_Brittle(), TASK.contract, 'untrained', 'none',
                          'squashed_gaussian').export(_Brittle(), version, 0)


def poison(asker: Asker) -> RobotState:
    state = asker.state()
    state.velocity[:] = 0.0
    return state


def update(asker: Asker, bundle: PolicyBundle, label: str) -> dict[str, str]:
    asker.updates.publish(conversions.bundle_to_msg(bundle))
    return asker.status(lambda values: values['policy'] == label, label)


@pytest.mark.parametrize('path', [
    'cpp', pytest.param('python', marks=pytest.mark.slow)])
def test_back_by_hand_and_not_forward_again_but_to_a_newer_version(path: str,
                                                                   bundle_path: Path) -> None:  # noqa: F811
    with observer() as seen, server(f'policy:={bundle_path}', f'control_path:={path}',
                                    'rollback_states:=0'):
        asker = Asker(seen)
        asker.connect()
        answer = seen.call('policy_server/rollback')
        assert (answer.success, answer.message) == (
            False, 'untrained@1 is running and no policy came before it')
        second = make_bundle(TASK.contract, seed=2, version=2)
        status = update(asker, second, 'untrained@2')
        assert status['previous'] == 'untrained@1'
        assert asker.ask(asker.state()).header.frame_id == 'untrained@2'
        answer = seen.call('policy_server/rollback')
        assert (answer.success, answer.message) == (True, 'untrained@1 acts again')
        assert asker.ask(asker.state()).header.frame_id == 'untrained@1'
        asker.updates.publish(conversions.bundle_to_msg(second))
        status = asker.status(lambda values: values['updates_rejected'] == '1', 'a refusal')
        assert 'only a version after 2 is accepted' in status['last_rejection']
        assert status['last_rollback'] == 'untrained@2: rollback was called'
        update(asker, make_bundle(TASK.contract, seed=2, version=3), 'untrained@3')
        assert asker.ask(asker.state()).header.frame_id == 'untrained@3'


@pytest.mark.parametrize('path', [
    'cpp', pytest.param('python', marks=pytest.mark.slow)])
def test_a_policy_without_a_finite_answer_is_taken_back_at_once(path: str,
                                                                bundle_path: Path) -> None:  # noqa: F811
    with observer() as seen, server(f'policy:={bundle_path}', f'control_path:={path}') as process:
        asker = Asker(seen)
        asker.connect()
        assert asker.ask(poison(asker)).header.frame_id == 'untrained@1'
        status = update(asker, brittle(2), 'untrained@2')
        assert status['on_probation'] == 'True'
        assert asker.ask(asker.state()).header.frame_id == 'untrained@2'
        asker.tell(bad := poison(asker))
        status = asker.status(lambda values: values['rollbacks'] == '1', 'a rollback')
        assert asker.answer(bad.stamp_ns) is None
        assert asker.ask(poison(asker)).header.frame_id == 'untrained@1'
        assert status['policy'] == 'untrained@1'
        assert status['dropped_policy'] == '1'
        assert status['last_rollback'] == 'untrained@2: no finite answer to 1 states'
    assert 'untrained@2: no finite answer to 1 states; untrained@1 acts again' in process.output


def test_a_policy_that_the_monitor_limits_more_is_taken_back(bundle_path: Path) -> None:  # noqa: F811
    with observer() as seen, server(f'policy:={bundle_path}', 'rollback_states:=50',
                                    'rollback_margin:=0.1'):
        asker = Asker(seen)
        monitor = seen.node.create_publisher(DiagnosticArray, 'safety/state', qos.LATCHED)
        counts = {'pass': 100, 'clamp': 0}

        def go_on(kind: str, values: dict[str, str], key: str, wanted: str) -> bool:
            """Judge another command, unless the server says what is waited for."""
            if values.get(key) == wanted:
                return True
            counts[kind] += 1
            array = DiagnosticArray(status=[conversions.status('safety_monitor', 0, 'OK', {
                **counts, 'clamp/velocity': counts['clamp']})])
            monitor.publish(array)
            return False

        asker.connect()
        status = update(asker, make_bundle(TASK.contract, seed=2, version=2), 'untrained@2')
        assert status['on_probation'] == 'True'
        status = asker.status(lambda values: go_on('pass', values, 'on_probation', 'False'),
                              'the end of the probation')
        assert status['policy'] == 'untrained@2'
        update(asker, make_bundle(TASK.contract, seed=3, version=3), 'untrained@3')
        status = asker.status(lambda values: go_on('clamp', values, 'rollbacks', '1'),
                              'a rollback')
        assert status['policy'] == 'untrained@2'
        assert 'limited or held 6 of 6 commands' in status['last_rollback']


@pytest.mark.slow
def test_in_a_graph_a_policy_that_pushes_against_the_limits_is_taken_back(tmp_path: Path) -> None:
    gentle = constant(0.0, 1).save(tmp_path / 'policy.onnx')
    with observer() as seen, graph('deploy', f'policy:={gentle}', 'episodes:=0',
                                   f'run_dir:={tmp_path / "run"}') as run:
        seen.listen(DiagnosticArray, 'policy/status', qos.LATCHED)
        seen.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
        seen.listen(JointState, 'joint_command', qos.STREAM)
        updates = seen.node.create_publisher(UInt8MultiArray, 'policy/update', qos.LATCHED)
        seen.until(lambda: int(seen.values('safety/state').get('pass', 0)) > 50, 'motion')
        updates.publish(conversions.bundle_to_msg(constant(0.999, 2)))
        seen.until(lambda: seen.values('policy/status').get('rollbacks') == '1', 'a rollback')
        status = seen.values('policy/status')
        assert status['policy'] == 'untrained@1'
        assert 'limited or held' in status['last_rollback']
        count = len(seen.heard['joint_command'])
        seen.until(lambda: len(seen.heard['joint_command']) > count + 50, 'motion')
        labels = [source_of(msg) for _, msg in seen.heard['joint_command']]
        assert {'untrained@1', 'untrained@2'} <= set(labels)
        assert labels[-1] == 'untrained@1'
        assert run.running


@pytest.mark.parametrize('path', [
    'cpp', pytest.param('python', marks=pytest.mark.slow)])
def test_a_shadow_is_heard_and_compared_and_does_nothing(path: str, bundle_path: Path,  # noqa: F811
                                                         tmp_path: Path) -> None:
    shadow = make_bundle(TASK.contract, seed=2, version=9)
    with observer() as seen, server(
            f'policy:={bundle_path}', f'control_path:={path}',
            f'shadow:={shadow.save(tmp_path / "shadow.onnx")}') as process:
        asker = Asker(seen)
        seen.listen(JointState, 'policy/shadow_command', qos.STREAM)
        candidates = seen.node.create_publisher(UInt8MultiArray, 'policy/shadow_update',
                                                qos.LATCHED)
        asker.connect(readers=2)
        differences = []
        for _ in range(20):
            state = asker.state()
            sent = asker.ask(state)
            seen.until(lambda s=state: any(
                conversions.stamp_to_ns(msg.header.stamp) == s.stamp_ns
                for _, msg in seen.heard['policy/shadow_command']), 'what the shadow would do')
            would = seen.heard['policy/shadow_command'][-1][1]
            assert (sent.header.frame_id, would.header.frame_id) == ('untrained@1', 'untrained@9')
            assert would.name == sent.name
            differences.append(np.abs(np.array(would.position) - sent.position))
        status = asker.status(lambda values: values.get('shadow_count') == '20', 'the shadow')
        assert float(status['shadow_difference_max']) == pytest.approx(
            np.max(differences), abs=1e-6)
        assert float(status['shadow_difference_mean']) == pytest.approx(
            np.mean(differences), abs=1e-6)
        candidates.publish(conversions.bundle_to_msg(brittle(10)))
        asker.status(lambda values: values['shadow'] == 'untrained@10', 'another candidate')
        assert asker.ask(poison(asker)).header.frame_id == 'untrained@1'
        status = asker.status(lambda values: values['shadow_dropped'] != '', 'the shadow gone')
        assert 'not finite' in status['shadow_dropped']
        assert asker.ask(asker.state()).header.frame_id == 'untrained@1'
        assert asker.status(lambda values: values['answered'] == '22', 'the status')['dropped'] \
            == '0'
    assert 'shadow untrained@10 dropped' in process.output


@pytest.mark.slow
def test_a_shadow_is_recorded_with_the_episodes(bundle_path: Path,  # noqa: F811
                                                tmp_path: Path) -> None:
    shadow = make_bundle(TASK.contract, seed=2, version=9).save(tmp_path / 'shadow.onnx')
    with graph('deploy', f'policy:={bundle_path}', f'shadow:={shadow}', 'stepping:=lockstep',
               'episodes:=2', f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(90) == 0, run.output
    episode = read_episode(sorted((tmp_path / 'run' / 'episodes').glob('*.mcap'))[0])
    sent, would = (len(list(episode.messages([topic]))) for topic in (
        'policy/joint_command', 'policy/shadow_command'))
    assert sent > 50
    assert would > sent / 2, 'it may begin late, and nobody waits for it'


@pytest.mark.parametrize(('parameters', 'message'), [
    (('providers:=gpu',), 'allowed: cpu, cuda, tensorrt'),
    (('providers:=cuda',), 'does not have cuda; it has cpu'),
    (('threads:=2', 'control_path:=cpp'), 'cannot be had: threads = 2'),
    (('shadow:=/nowhere.onnx',), 'cannot be read'),
])
def test_what_cannot_be_had_is_refused(bundle_path: Path, parameters: tuple[str, ...],  # noqa: F811
                                       message: str) -> None:
    assert message in refusal_of_policy_server(bundle_path, *parameters)
