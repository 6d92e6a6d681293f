# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A guard in the real graph: silent where all is as it was, an alarm at a robot that is not."""

from dataclasses import replace
import json
from pathlib import Path

from harness import graph, make_spending_bundle, observer, override, returning
import numpy as np
import pytest
from rl_nodes.core.origin import Origin
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import JointCommand, Outcome, RobotState, TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, joint_state, safety_monitor
from rl_nodes.nodes.lifecycle import FAILURE, SUCCESS
from rl_nodes.nodes.recorded_transitions import read_transitions
from rl_nodes.nodes.safety_monitor import SafetyMonitor
from rl_nodes.training.guarding import calibrate, CalibrateOptions
from test_graph_faults import watch
from test_safety_monitor import Sink
from test_training_graph import SETTINGS

FIRST_SEED = 1000  # of deploy
EPISODES, STEPS = 60, 100  # as long as they are in the graph


def simulated(number: int, env: SimEnv, policy: PolicyRuntime, fails: bool) -> RecordedEpisode:
    """
    Return an episode as the recorder would keep it; some are said to fail at their end.

    They come in the order in which a graph in lockstep has them.
    """
    observation = np.empty((STEPS + 1, *env.contract.observation.shape), np.float32)
    action = np.empty((STEPS, *env.contract.action.shape), np.float32)
    observation[0] = env.reset(seed=None if number else FIRST_SEED)[0]
    for step in range(STEPS):
        action[step] = policy.act(observation[step])
        observation[step + 1] = env.step(action[step])[0]
    last, no = np.arange(STEPS) == STEPS - 1, np.zeros(STEPS, bool)
    return RecordedEpisode(f'{number}', TransitionBatch(
        observation[:-1], action, action, np.zeros(STEPS, np.float32), observation[1:],
        last & fails, last & (not fails), ~no & (not fails), no, np.ones(STEPS, np.int64),
        np.full(STEPS, number), np.arange(STEPS), origin=np.full(STEPS, int(Origin.AUTONOMOUS))),
        np.arange(STEPS), {'success': str(not fails).lower()})


@pytest.fixture(scope='module')
def guards(policy_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a guard of the arm's reach task, and one with a risk network."""
    folder, env = tmp_path_factory.mktemp('guards'), SimEnv('arm', 'reach')
    policy = PolicyRuntime(PolicyBundle.load(policy_path))
    episodes = [simulated(number, env, policy, False) for number in range(EPISODES)]
    failed = [simulated(1000 + number, env, policy, True) for number in range(10)]
    env.close()
    return {
        'hold': calibrate(CalibrateOptions(
            output=str(folder / 'hold.json'), false_alarms=0.025, fit_share=0.33,
            verdict='hold'), episodes, env.contract, [])[0],
        'distribution': calibrate(CalibrateOptions(
            output=str(folder / 'guard.json'), false_alarms=0.025, fit_share=0.33), episodes,
            env.contract, [])[0],
        'risk': calibrate(CalibrateOptions(
            output=str(folder / 'risky.json'), false_alarms=0.05, fit_share=0.33, risk=True),
            [*episodes, *failed], env.contract, [])[0]}


def noisy_task(folder: Path) -> str:
    """Return the reach task with noise on the measured joint velocities."""
    text = find_config('tasks', 'reach').read_text()
    (folder / 'reach.yaml').write_text(
        f'{text}\nrandomisation: {{noise: {{joint_velocity: [0.5, 0.5]}}}}\n')
    return str(folder / 'reach.yaml')


def deploy(policy: Path, folder: Path, guard: Path, *more: str) -> tuple[str, ...]:
    return ('deploy', f'policy:={policy}', f'run_dir:={folder / "run"}', f'guard:={guard}',
            'stepping:=lockstep', *more)


def test_a_noisy_robot_raises_the_alarm(policy_path: Path, tmp_path: Path,
                                        guards: dict[str, Path]) -> None:
    task = noisy_task(tmp_path)
    with observer() as seen, graph(*deploy(policy_path, tmp_path, guards['distribution'],
                                           f'task:={task}', 'episodes:=0')):
        watch(seen)
        # It may be noticed before the robot has moved at all; the stop of the start stays then.
        seen.until(lambda: float(seen.values('safety/state').get('guard_score', 0)) > 0,
                   'a score')
        seen.until(lambda: 'distribution' in str(seen.values('safety/state')), 'the alarm')
        values = seen.values('safety/state')
        assert values['mode'] == 'STOPPED'
        refused = seen.call('safety_monitor/clear_stop')
        assert not refused.success


def test_the_robot_that_was_recorded_raises_none(policy_path: Path, tmp_path: Path,
                                                 guards: dict[str, Path]) -> None:
    with graph(*deploy(policy_path, tmp_path, guards['risk'], 'episodes:=5')) as run:
        assert run.wait(60) == 0, run.output
    assert 'STOPPED' not in run.output, run.output
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    assert report['episodes'] == 5


@pytest.mark.slow
def test_training_goes_on_under_a_guard_that_holds(tmp_path: Path,
                                                   guards: dict[str, Path]) -> None:
    """A learner that explores is held often; the episodes say when, and by what."""
    settings, run_dir = tmp_path / 'small.yaml', tmp_path / 'run'
    settings.write_text(SETTINGS)
    with observer() as seen, graph(
            'train', 'task:=reach', f'algorithm:={settings}', f'run_dir:={run_dir}',
            f'guard:={guards["hold"]}', 'time_budget_s:=20', 'target_success:=1.0') as run:
        watch(seen)
        seen.until(lambda: int(seen.values('safety/state').get('hold/distribution', 0)) > 10,
                   'the guard', 90.0)
        assert run.wait(120) == 0, run.output
    assert 'STOPPED' not in run.output, run.output
    batch, _ = read_transitions([run_dir / 'episodes'])
    held = batch.intervention == b'hold/distribution'
    assert held.any() and (batch.origin[held] == Origin.NOBODY).all() and batch.limited[held].all()
    assert (batch.origin[~held] == Origin.AUTONOMOUS).all()


# --- The node alone ---------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['distribution', 'risk'])
def test_a_guard_that_sees_nothing_holds_and_what_is_odd_stops(
        ros: None, policy_path: Path, guards: dict[str, Path], kind: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    node = SafetyMonitor('monitor', parameter_overrides=override(
        stepping='lockstep', arm_on_start=True, guard=str(guards[kind])))
    assert node.trigger_configure() == SUCCESS, node.refusal
    assert node.trigger_activate() == SUCCESS
    sink = node._commands = Sink()
    env, policy = SimEnv('arm', 'reach'), PolicyRuntime(PolicyBundle.load(policy_path))
    observation, names = env.reset(seed=0)[0], node._model.joint_names
    monkeypatch.setattr(safety_monitor, 'elapsed_ns', lambda: env._state.stamp_ns)

    def live(faster: float = 0.0) -> tuple[str, str]:
        """Measure and command; return (mode, check)."""
        nonlocal observation
        state, action = env._state, policy.act(observation)
        command = env.task.command(state, action)
        node._on_state(joint_state.decode(conversions.state_to_msg(
            replace(state, velocity=state.velocity + faster), names)))
        node._on_command('policy', joint_state.decode(conversions.command_to_msg(
            JointCommand(state.stamp_ns, 'p@1', command), names, 'position')))
        observation = env.step(action)[0]
        return node.health()[2]['mode'], node.health()[2]['check']

    assert live() == ('HOLD', 'distribution'), 'no goal yet'
    node._watch._on_goal(conversions.goal_to_msg(env._goal, 'base_link'))
    modes = {live() for _ in range(30)}
    assert modes <= {('OK', ''), ('LIMITING', 'velocity'), ('LIMITING', 'geometry')}
    assert sink.heard[-1].source == 'p@1'
    assert {command.intervention for command in sink.heard} <= {
        'hold/distribution', 'clamp/velocity', 'clamp/geometry', ''}
    assert 0.0 < node.health()[2]['guard_score'] < 10.0
    assert ('guard_risk' in node.health()[2]) == (kind == 'risk')
    assert live(1.5) == ('STOPPED', 'distribution')
    assert 'deviations off' in node.health()[2]['reason']
    live()
    assert 'the cause persists' in node._supervisor.clear(env._state.stamp_ns)
    env.close()
    node.trigger_deactivate()
    assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()


def test_a_state_is_observed_once_what_was_earned_before_it_is_known(ros: None,
                                                                     tmp_path: Path) -> None:
    name = returning(tmp_path)
    env = SimEnv('arm', name)
    policy = PolicyRuntime(make_spending_bundle(env.contract))
    path, _ = calibrate(CalibrateOptions(output=str(tmp_path / 'guard.json'), false_alarms=0.25),
                        [simulated(number, env, policy, False) for number in range(8)],
                        env.contract, [])
    node = SafetyMonitor('monitor', parameter_overrides=override(
        stepping='lockstep', task=name, guard=str(path)))
    assert node.trigger_configure() == SUCCESS, node.refusal
    watch, observation = node._watch, env.reset(seed=0)[0]
    watch._on_goal(conversions.goal_to_msg(env._goal, 'base_link'))

    def measure() -> RobotState:
        watch.joints(joint_state.decode(conversions.state_to_msg(
            env._state, node._model.joint_names)))
        return env._state

    state, earned = measure(), 0.0
    for _ in range(3):
        before, reward = state, earned
        np.testing.assert_array_equal(node._supervisor._guards[0]._eye.of(state), observation)
        observation, earned, *_ = env.step(policy.act(observation))
        state = measure()
        assert watch._complete is not None and watch._complete.stamp_ns == before.stamp_ns
        watch._on_reward(joint_state.decode(conversions.outcome_to_msg(
            before.stamp_ns, before.episode, Outcome(reward, {}, False, False, False))))
        assert watch._complete.stamp_ns == state.stamp_ns, 'its reward was on its way'
    assert watch.details()['guard_score'] > 0.0
    assert watch.details()['guard_dropped'] == 0
    env.close()
    assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()


def test_guards_that_do_not_fit_are_refused(ros: None, guards: dict[str, Path],
                                            tmp_path: Path) -> None:
    def refusal(**parameters: object) -> str:
        node = SafetyMonitor('monitor', parameter_overrides=override(**parameters))
        assert node.trigger_configure() == FAILURE
        text = str(node.refusal)
        node.destroy_node()
        return text

    path = guards['distribution']
    assert 'made for arm doing reach' in refusal(guard=str(path), robot='panda',
                                                 task='reach_panda')
    assert 'cannot be read' in refusal(guard=str(tmp_path / 'none.json'))
    (tmp_path / 'bad.json').write_bytes(path.read_bytes()[:-100])
    assert 'no guard of this version' in refusal(guard=str(tmp_path / 'bad.json'))
    (tmp_path / 'risky.json').write_bytes(guards['risk'].read_bytes())
    assert 'risky.risk.onnx' in refusal(guard=str(tmp_path / 'risky.json'))
