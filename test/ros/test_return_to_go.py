# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies that observe what is left to be earned: in whole graphs, and the server alone."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path

from harness import graph, make_spending_bundle, observer, refusal_of_policy_server, returning
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, RewardMissingError
from rl_nodes.core.types import Outcome, RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.joint_state import decode
from rl_nodes.nodes.policy_expert import PolicyExpert
from rl_nodes.nodes.recorded_transitions import read_recorded, task_of
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState
from test_control_path import Asker, server
from test_imperfect_simulation import patient_arm

SLOWNESS = 0.1  # of real time: a state waits 100 ms for a reward, on busy machines too


@pytest.mark.parametrize(('stepping', 'pace'), [
    ('lockstep', 0.0), pytest.param('realtime', 0.5, marks=pytest.mark.slow)])
def test_every_action_follows_from_what_was_earned_before(
        tmp_path: Path, stepping: str, pace: float) -> None:
    """In the files of a deployment with another target than the task's, and with a shadow."""
    name = returning(tmp_path, target=20.0)
    task = load_task('arm', name)
    bundle = make_spending_bundle(task.contract)
    policy = bundle.save(tmp_path / 'policy.onnx')
    run_dir = tmp_path / 'run'
    with graph('deploy', f'policy:={policy}', f'shadow:={policy}', f'task:={name}',
               'target_return:=32', f'stepping:={stepping}', f'real_time_factor:={pace}',
               'episodes:=2', f'run_dir:={run_dir}', patient_arm(tmp_path)) as run:
        assert run.wait(120) == 0, run.output
    assert json.loads((run_dir / 'report.json').read_text())['episodes'] == 2
    runtime, rows, actions = PolicyRuntime(bundle), 0, []
    for path in sorted((run_dir / 'episodes').glob('episode_*.mcap')):
        episode = read_episode(path)
        assert episode.target_return == 32.0
        recorded = read_recorded(episode, task_of(episode, task=name))
        earned, shadows = {}, {}
        for message in episode.messages(('reward', 'policy/shadow_command')):
            msg = decode(message.data)
            if message.topic == 'reward':
                stamp, _, outcome = conversions.msg_to_outcome(msg)
                earned[stamp] = outcome.total
            else:
                shadows[conversions.stamp_to_ns(msg.header.stamp)] = np.array(msg.position)
        wanted = {}
        for message in episode.messages(('policy/joint_command',)):
            msg = decode(message.data)
            wanted[conversions.stamp_to_ns(msg.header.stamp)] = np.array(msg.position)
        for stamp in shadows.keys() & wanted.keys():
            np.testing.assert_array_equal(shadows[stamp], wanted[stamp])
        for stamp, row, action in zip(recorded.stamp_ns, recorded.batch.observation,
                                      recorded.batch.wanted):
            left = 32.0 - sum(total for at, total in sorted(earned.items()) if at < stamp)
            assert row[1] == np.float32(left / 8.0)
            np.testing.assert_allclose(action, runtime.act(row), atol=1e-5)
            actions.append(action[0])
        rows += len(recorded)
    assert rows > 150 and np.ptp(actions) > 0.1, 'a policy that does the same proves nothing'


class Bench(Asker):
    """A bridge and a reward computer, whose states are exactly a period apart."""

    def __init__(self, seen, task: Task) -> None:
        super().__init__(seen)
        self.task, self.observer = task, task.observer()
        self._rewards = seen.node.create_publisher(JointState, 'reward', qos.STREAM)
        self._states_by_step: dict[int, RobotState] = {}

    def connect(self, readers: int = 1) -> None:
        super().connect(readers)
        self.seen.until(lambda: self._rewards.get_subscription_count() == readers, 'the server')

    def at(self, step: int) -> RobotState:
        return self._states_by_step.setdefault(
            step, self.state(self.start + step * self.task.period_ns))

    def earn(self, step: int, total: float, episode: str = '') -> None:
        """Publish the reward of a state; what the observer of this bench learns is the truth."""
        stamp = self.start + step * self.task.period_ns
        self._rewards.publish(conversions.outcome_to_msg(
            stamp, episode or f'1@{self.start}', Outcome(total, {}, False, False, False)))
        if not episode:
            self.observer.rewarded(stamp, f'1@{self.start}', total)

    def expected(self, step: int, runtime: PolicyRuntime) -> np.ndarray:
        state = self.at(step)
        return self.task.command(state, runtime.act(self.observer.observe(state, self.goal)))

    def drops(self, count: int) -> dict[str, str]:
        return self.status(lambda values: values.get('dropped_reward_missing') == str(count),
                           f'{count} states dropped')


@contextmanager
def bench(folder: Path, *parameters: str) -> Iterator[tuple[Bench, PolicyRuntime]]:
    """A policy server and what it needs."""
    name = returning(folder)
    task = load_task('arm', name)
    bundle = make_spending_bundle(task.contract)
    policy = bundle.save(folder / 'policy.onnx')
    if 'stepping:=lockstep' not in parameters:
        task.period_ns = round(task.period_ns / SLOWNESS)
        parameters += (f'real_time_factor:={SLOWNESS}',)
    with observer() as seen, server(f'policy:={policy}', f'task:={name}', *parameters):
        asker = Bench(seen, task)
        asker.connect()
        yield asker, PolicyRuntime(bundle)


def test_in_real_time_a_late_reward_is_not_waited_for_and_nothing_is_guessed(
        tmp_path: Path) -> None:
    with bench(tmp_path) as (asker, runtime):
        first = asker.ask(asker.at(0))
        np.testing.assert_array_equal(first.position, asker.expected(0, runtime))
        asker.tell(asker.at(1))
        status = asker.drops(1)  # the reward of state 0 has not come
        assert 'reward_computer' in status['silence'] and status['answered'] == '1'
        with pytest.raises(RewardMissingError):
            asker.expected(1, runtime)
        asker.earn(0, 0.0)  # too late for state 1
        for _ in range(3):
            asker.earn(1, 2.5)  # counts once
        asker.earn(1, 100.0, episode='7@5')  # is of another episode
        answer = asker.ask(asker.at(2))
        np.testing.assert_array_equal(answer.position, asker.expected(2, runtime))
        assert asker.answer(asker.at(1).stamp_ns) is None
        asker.tell(asker.at(3))
        asker.earn(2, -1.0)  # on its way when its state's successor comes
        asker.seen.until(lambda: asker.answer(asker.at(3).stamp_ns) is not None, 'an answer')
        np.testing.assert_array_equal(asker.answer(asker.at(3).stamp_ns).position,
                                      asker.expected(3, runtime))
        status = asker.status(lambda values: values['answered'] == '3', 'three answers')
        assert status['dropped'] == '1' and status['silence'] == ''
        assert status['control_path'] == (
            "python (the signal 'return_to_go' is computed in Python only)")


def test_in_lockstep_a_state_waits_for_its_reward(tmp_path: Path) -> None:
    with bench(tmp_path, 'stepping:=lockstep') as (asker, runtime):
        asker.ask(asker.at(0))
        asker.expected(0, runtime)
        asker.tell(asker.at(1))
        asker.drops(1)  # said, after a second; the bridge publishes the state again
        asker.tell(asker.at(1))
        asker.earn(0, 0.0)
        asker.seen.until(lambda: asker.answer(asker.at(1).stamp_ns) is not None, 'an answer')
        np.testing.assert_array_equal(asker.answer(asker.at(1).stamp_ns).position,
                                      asker.expected(1, runtime))


def test_in_the_middle_of_an_episode_a_controller_may_stand_in(tmp_path: Path) -> None:
    with bench(tmp_path, 'fallback:=hold') as (asker, _):
        asker.earn(5, 1.0)  # those before have passed unheard
        answer = asker.ask(asker.at(6))
        assert answer.header.frame_id == 'controller:hold'
        assert 'on only' in asker.drops(1)['silence']


def test_a_demonstrating_policy_is_refused(tmp_path: Path) -> None:
    task = load_task('arm', returning(tmp_path))
    policy = make_spending_bundle(task.contract).save(tmp_path / 'policy.onnx')
    with pytest.raises(ConfigError, match='observes return_to_go'):
        PolicyExpert(str(policy), task)


def test_the_cpp_path_is_refused(tmp_path: Path) -> None:
    name = returning(tmp_path)
    policy = make_spending_bundle(load_task('arm', name).contract).save(tmp_path / 'policy.onnx')
    said = refusal_of_policy_server(policy, f'task:={name}', 'control_path:=cpp')
    assert "'return_to_go' is computed in Python only" in said
