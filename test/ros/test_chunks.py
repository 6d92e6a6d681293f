# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies with chunks, controllers that stand in, residual policies: as the server plays them."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, make_bundle, Observer, observer
import numpy as np
import pytest
from rl_nodes.control.controllers import make_controller
from rl_nodes.core.types import RobotState
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.chunking import Blend, ChunkLayout, ChunkPlayer, ChunkQueue
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
from test_control_path import Asker, server, TASK
from test_parity import recorded
import torch

SLOW = Path(__file__).parents[1] / 'emulators' / 'slow_policy_server.py'
SLOW_S = 0.06
LAYOUT = ChunkLayout(8, 2)
PERIOD_S = TASK.period_ns * 1e-9


class ChunkNet(torch.nn.Module):
    """Moves all joints to and fro; what it says of a moment changes little with the state."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Linear(observations, actions)
        self.register_buffer('fade', torch.linspace(1.0, 0.8, LAYOUT.horizon)[:, None])

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.tanh(self.body(observation))[:, None] * self.fade


class Nothing(torch.nn.Module):
    """Adds nothing to its controller."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :1] * 0.0


def chunk_bundle(version: int = 1) -> PolicyBundle:
    contract = TASK.contract
    net = ChunkNet(len(contract.observation.elements), len(contract.action.elements))
    return PolicyExporter(net, contract, 'chunks', 'none', 'deterministic', chunk=LAYOUT).export(
        net, version, 0)


class PerfectArm(Asker):
    """Asks every period, and is where the last command wanted it to be."""

    def __init__(self, seen: Observer) -> None:
        super().__init__(seen)
        seen.listen(JointState, 'joint_command', qos.STREAM)
        seen.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
        self.told: dict[int, RobotState] = {}
        self._position = TASK.robot.home
        seen.node.create_timer(PERIOD_S, self._tell)

    def connect(self, readers: int = 1) -> None:
        """The safety monitor may read states too."""
        self.seen.until(lambda: self._goals.get_subscription_count() == readers, 'the server')
        self._goals.publish(conversions.goal_to_msg(self.goal, 'base_link'))

    def _tell(self) -> None:
        heard = self.seen.heard['joint_command']
        before, self._position = self._position, np.array(heard[-1][1].position) if heard \
            else self._position
        stamp = time.time_ns()
        self.told[stamp] = state = RobotState(
            stamp, f'1@{self.start}', self._position, (self._position - before) / PERIOD_S,
            np.zeros(len(before)))
        self.tell(state)

    def answers(self) -> dict[int, np.ndarray]:
        """Return what every answered state was answered by, as an action."""
        return {stamp: TASK.to_action(self.told[stamp], np.array(msg.position))
                for _, msg in list(self.seen.heard['policy/joint_command'])
                if (stamp := conversions.stamp_to_ns(msg.header.stamp)) in self.told}


@contextmanager
def process(*words: str, **environment: str) -> Iterator[None]:
    """Run a program for the duration of a block; it must end by SIGINT with status 0."""
    running = subprocess.Popen([sys.executable, *words], env=os.environ | environment)
    try:
        yield
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0
    finally:
        running.kill()
        running.wait()


@pytest.mark.slow
def test_a_slow_model_misses_no_period_and_one_that_never_ends_is_silence(tmp_path: Path) -> None:
    """60 ms of inference at 50 Hz; the safety monitor looks on."""
    never, policy = tmp_path / 'never', chunk_bundle().save(tmp_path / 'policy.onnx')
    with observer() as seen, \
            process('-m', 'rl_nodes.nodes.safety_monitor', '--ros-args', '-p',
                    'arm_on_start:=true'), \
            process(str(SLOW), '--ros-args', '-p', f'policy:={policy}',
                    SLOW_POLICY_S=str(SLOW_S), SLOW_POLICY_NEVER=str(never)):
        arm = PerfectArm(seen)
        arm.connect()
        seen.until(lambda: bool(seen.heard['joint_command']), 'a command that is let through')
        begun = max(arm.answers())
        seen.until(lambda: sum(stamp > begun for stamp in arm.answers()) >= 150, '150 answers')
        answers = {stamp: action for stamp, action in arm.answers().items() if stamp >= begun}
        asked = [stamp for stamp in arm.told if begun <= stamp <= max(answers)]
        missed = [index for index, stamp in enumerate(asked) if stamp not in answers]
        assert not missed, f'{len(missed)} of {len(asked)} periods without a command: {missed}'
        actions = np.array([answers[stamp] for stamp in asked])
        assert np.abs(actions).max() <= 0.5 + 1e-6  # never more than the policy ever says
        assert np.abs(actions).max() > 0.1
        steps = np.abs(np.diff(actions, axis=0)).max()
        assert steps < 0.1, f'the action jumps by {steps}'
        assert seen.values('safety/state')['mode'] == 'OK'
        status = arm.status(lambda values: float(values.get('chunk_p50_ms', 0)) > 0, 'durations')
        assert float(status['chunk_p50_ms']) >= 1e3 * SLOW_S
        assert float(status['inference_p50_ms']) < 1e3 * PERIOD_S
        assert status['control_path'] == 'python (chunks@1 answers with chunks)'

        never.touch()
        status = arm.status(lambda values: values['silence'], 'silence')
        assert 'chunks@1: no chunk reaches as far as this state' in status['silence']
        assert 'an inference has been running for' in status['silence']
        message = seen.last('policy/status').status[0]
        assert message.level == b'\x01'
        assert message.message.startswith('silent: chunks@1')
        seen.until(lambda: seen.values('safety/state')['check'] == 'command_silence', 'a stop')
        last = max(arm.answers())
        assert int(status['unanswered']) > 0
        hold = np.array(seen.last('joint_command').position)
        seen.until(lambda: max(arm.told) > last + 10 * TASK.period_ns, 'ten more states')
        np.testing.assert_array_equal(seen.last('joint_command').position, hold)
        assert max(arm.answers()) == last


def test_a_policy_with_chunks_follows_once_its_first_chunk_is_there(tmp_path: Path) -> None:
    policy, never = make_bundle(TASK.contract).save(tmp_path / 'policy.onnx'), tmp_path / 'never'
    with observer() as seen, \
            process(str(SLOW), '--ros-args', '-p', f'policy:={policy}', '-p',
                    'control_path:=python', SLOW_POLICY_S='0.3', SLOW_POLICY_NEVER=str(never)):
        arm = PerfectArm(seen)
        arm.connect()
        seen.until(lambda: bool(arm.answers()), 'an answer')
        # Too slow: nothing it says is ever in time, so the one before it goes on.
        arm.updates.publish(conversions.bundle_to_msg(chunk_bundle(2)))
        status = arm.status(lambda values: values['policy'] == 'chunks@2', 'the policy')
        begun = max(arm.answers())
        seen.until(lambda: max(arm.answers()) > begun + 50 * TASK.period_ns, 'a second of answers')
        status = arm.status(lambda values: True, 'status')
        assert (status['acting'], status['silence']) == ('untrained@1', '')
        assert seen.heard['policy/joint_command'][-1][1].header.frame_id == 'untrained@1'


@pytest.mark.slow
def test_in_lockstep_chunks_give_the_same_bits_as_in_the_simulated_environment(
        tmp_path: Path) -> None:
    bundle = chunk_bundle()
    with graph('deploy', f'policy:={bundle.save(tmp_path / "policy.onnx")}', 'stepping:=lockstep',
               'episodes:=2', 'seed:=7', 'chunk_blend:=crossfade', f'run_dir:={tmp_path / "run"}',
               'control_path:=python') as run:
        assert run.wait(100) == 0, run.output
    batches, _ = recorded(tmp_path / 'run' / 'episodes', TASK)
    env, policy = SimEnv('arm', 'reach'), PolicyRuntime(bundle)
    player = ChunkPlayer(policy.answer, ChunkQueue(
        LAYOUT, len(TASK.robot.commanded), TASK.period_ns, Blend('crossfade')), overlap=False)
    for number in range(2):
        observation, _ = env.reset(seed=7 if number == 0 else None)
        step, ended = 0, False
        while not ended:
            assert observation.tobytes() == batches[number].observation[step].tobytes(), step
            action = player.act(observation, step * TASK.period_ns, str(number))
            observation, _, terminated, truncated, _ = env.step(action)
            step, ended = step + 1, terminated or truncated
        assert step == len(batches[number]) > 10
    env.close()


def test_a_controller_stands_in_while_there_is_no_policy_and_where_it_fails() -> None:
    pd = make_controller('pd', TASK.robot)
    with observer() as seen, server('fallback:=pd'):
        asker = Asker(seen)
        asker.connect()
        for _ in range(5):
            state = asker.state()
            msg = asker.ask(state)
            np.testing.assert_array_equal(msg.position, pd.command(state))
            assert msg.header.frame_id == f'controller:{pd.label}'
        status = asker.status(lambda values: int(values['fallback_answers']) == 5, 'the count')
        assert status['control_path'] == 'python (fallback = pd)'
        assert 'stands in' in seen.last('policy/status').status[0].message
        asker.updates.publish(conversions.bundle_to_msg(make_bundle(TASK.contract)))
        seen.until(lambda: asker.ask(asker.state()).header.frame_id == 'untrained@1', 'a policy')


def test_a_residual_policy_of_nothing_is_its_controller_bit_by_bit(tmp_path: Path) -> None:
    task = load_task('cartpole', 'cartpole_balance_residual')
    lqr, net = make_controller('lqr', task.robot), Nothing()
    path = PolicyExporter(net, task.contract, 'nothing', 'none', 'deterministic').export(
        net, 1, 0).save(tmp_path / 'policy.onnx')
    rng = np.random.default_rng(0)
    with observer() as seen, server(f'policy:={path}', 'robot:=cartpole',
                                    'task:=cartpole_balance_residual'):
        asker = Asker(seen)
        asker.connect()
        for _ in range(20):
            state = RobotState(time.time_ns(), f'1@{asker.start}',
                               *rng.uniform(-0.1, 0.1, (2, 2)), np.zeros(2))
            asker.tell(state, task)
            seen.until(lambda at=state.stamp_ns: asker.answer(at) is not None, 'an answer', 10.0)
            np.testing.assert_array_equal(asker.answer(state.stamp_ns).effort,
                                          lqr.command(state))
        status = asker.status(lambda values: int(values['answered']) == 20, 'the count')
        assert status['control_path'] == 'python (actions are added to a controller)'


@pytest.mark.parametrize(('parameters', 'message'), [
    (('fallback:=lqr',), 'robot arm: controllers.lqr is missing'),
    (('fallback:=pid',), 'fallback'),
    (('fallback:=hold', 'control_path:=cpp'), 'control_path = cpp cannot be had: fallback = hold'),
    (('robot:=cartpole', 'task:=cartpole_balance_residual', 'control_path:=cpp'),
     'cannot be had: actions are added to a controller'),
    (('chunk_blend:=ensembel',), 'chunk_blend')])
def test_what_cannot_be_had_is_refused(parameters: tuple[str, ...], message: str) -> None:
    refused = subprocess.run(
        [sys.executable, '-m', 'rl_nodes.nodes.policy_server', '--ros-args',
         *(word for given in parameters for word in ('-p', given))],
        capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    assert 'Traceback' not in refused.stderr


def test_chunks_that_come_to_the_cpp_path_are_refused(tmp_path: Path) -> None:
    policy = make_bundle(TASK.contract).save(tmp_path / 'policy.onnx')
    with observer() as seen, server(f'policy:={policy}', 'control_path:=cpp'):
        asker = Asker(seen)
        asker.connect()
        asker.updates.publish(conversions.bundle_to_msg(chunk_bundle(2)))
        status = asker.status(lambda values: values['updates_rejected'] == '1', 'the refusal')
        assert 'answers with chunks' in status['last_rejection']
        assert 'control_path:=python' in status['last_rejection']
        assert asker.ask(asker.state()).header.frame_id == 'untrained@1'
