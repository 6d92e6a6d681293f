# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""On-policy methods on the graph: what the newest policy did is learned from, and nothing else."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, observer
import numpy as np
import pytest
from rl_nodes.data.experience import layout_columns
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import OnnxSession
from rl_nodes.nodes import qos
from rl_nodes.nodes.conversions import msg_to_batch, msg_to_bundle
from rl_nodes.runs.record import read_run
from rl_nodes.tasks import load_task
from std_msgs.msg import Float32MultiArray, UInt8MultiArray
from test_training_graph import train

SETTINGS = """
algorithm: ppo
learner: {hidden: [16, 16], rollout_steps: 256, epochs: 4, initial_log_std: -1.5,
          normalize_observation: true}
loop: {evaluate_every_steps: 1500, evaluation_episodes: 3, confirmation_episodes: 3,
       checkpoint_every_s: 2.0, log_every_s: 0.5}
"""
NO_TARGET = 'target_success:=1.0'


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / 'small.yaml'
    path.write_text(SETTINGS)
    return path


def rows_of(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    return [row for row in rows if row['kind'] == 'train']


def deviates(bundle: PolicyBundle, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return (action - mean) / deviation where the action was not clipped."""
    session = OnnxSession(bundle.onnx, bundle.manifest.contract)
    found = []
    for seen, done in zip(observation, action):
        session.observation[:] = seen
        session.run()
        inside = np.abs(done) < 0.999
        found.append(((done - session.outputs['action_mean'])
                      / session.outputs['action_std'])[inside])
    return np.concatenate(found)


@pytest.mark.timeout(150)
def test_ppo_learns_from_what_its_newest_policy_did(settings: Path, tmp_path: Path) -> None:
    run_dir, contract = tmp_path / 'run', load_task('arm', 'reach').contract
    columns = layout_columns(contract.observation.shape[0], contract.action.shape[0], 0)
    with observer() as seen, graph(*train(settings, run_dir, NO_TARGET)) as run:
        seen.listen(UInt8MultiArray, 'policy/update', qos.LATCHED)
        seen.listen(Float32MultiArray, 'experience', qos.BATCH)
        seen.listen(DiagnosticArray, 'trainer/status', qos.LATCHED)
        seen.until(lambda: int(seen.values('trainer/status').get('transitions', 0)) > 1500
                   and len(seen.heard['policy/update']) > 4, 'some rollouts', 60.0)
        assert float(seen.values('trainer/status')['stale_refused']) > 0
        bundles = {bundle.manifest.version: bundle for _, msg in seen.heard['policy/update']
                   for bundle in [msg_to_bundle(msg)]}
        batches = [msg_to_batch(msg, columns) for _, msg in seen.heard['experience']]
        run.interrupt()
        assert run.wait(20) == 0, run.output
    assert 'Traceback' not in run.output
    manifest = PolicyBundle.load(run_dir / 'policy.onnx').manifest
    assert (manifest.algorithm, manifest.sampling) == ('ppo', 'gaussian')
    assert manifest.training_updates > 20

    last = rows_of(run_dir)[-1]
    assert last['step'] % 256 == 0 and 0 < last['stale_refused'] < last['step']

    # The number beside each step is that of the policy whose draw it was.
    drawn = [deviates(bundles[version], batch.observation[own], batch.wanted[own])
             for batch in batches for version in np.unique(batch.policy_version)
             if version in bundles for own in [batch.policy_version == version]]
    assert len(drawn) > 3 and sum(map(len, drawn)) > 5000
    assert np.abs(np.concatenate(drawn)).max() < 6.0
    assert np.concatenate(drawn).std() == pytest.approx(1.0, abs=0.05)
    assert abs(np.concatenate(drawn).mean()) < 0.05


def train_in_one_process(env: str, settings: Path, run: Path, *more: str) -> PolicyBundle:
    done = subprocess.run(
        [sys.executable, '-m', 'rl_nodes', 'train', f'env:={env}', 'env_module:=rl_nodes.envs',
         f'algorithm:={settings}', f'run_dir:={run}', 'steps:=768', 'n_envs:=1', 'film:=false',
         *more], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return PolicyBundle.load(run / 'policy.onnx')


@pytest.mark.timeout(250)
def test_in_lockstep_the_graph_trains_what_one_process_trains(settings: Path,
                                                              tmp_path: Path) -> None:
    """Also what robots that go on cannot tell: here noise that is held for some steps."""
    more = ('learner.state_dependent_noise:=4', 'loop.evaluate_every_steps:=100000')
    with graph('gym', 'robot:=arm', 'task:=reach', f'run_dir:={tmp_path / "graph"}'):
        over_graph = train_in_one_process(
            'rl_nodes/Ros-v0', settings, tmp_path / 'a', 'env.robot:=arm', 'env.task:=reach',
            'env.arm:=true', *more)
    alone = train_in_one_process('rl_nodes/Reach-v0', settings, tmp_path / 'b', *more)
    assert over_graph.manifest.training_updates == alone.manifest.training_updates > 0
    assert over_graph.manifest.golden == alone.manifest.golden, 'the same weights, bit by bit'


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_two_robots_fill_one_rollout(settings: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / 'run'
    with graph(*train(settings, run_dir, NO_TARGET, 'time_budget_s:=12', 'robots:=2')) as run:
        assert run.wait(120) == 0, run.output
    last = rows_of(run_dir)[-1]
    assert last['step'] % 256 == 0 and last['updates'] > 20
    assert last['length'] == 100.0, 'each episode counts once'
    assert 'Traceback' not in run.output


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_trainer_leaves_control_and_a_run_that_goes_on(settings: Path,
                                                              tmp_path: Path) -> None:
    run_dir = tmp_path / 'run'
    with observer() as seen, graph(*train(settings, run_dir, NO_TARGET)) as run:
        for topic in ('trainer/status', 'robot/status', 'safety/state'):
            seen.listen(DiagnosticArray, topic, qos.LATCHED)
        seen.until(lambda: int(seen.values('trainer/status').get('policy_updates_in_use', 0)) > 50
                   and any((run_dir / 'checkpoints').glob('*.pt')), 'a checkpoint', 60.0)
        os.kill(run.nodes()['trainer'], signal.SIGKILL)
        steps = int(seen.values('robot/status')['steps'])
        seen.until(lambda: int(seen.values('robot/status')['steps']) > steps + 500, 'more steps')
        assert seen.values('safety/state')['mode'] in ('OK', 'LIMITING')
    with graph(*train(settings, run_dir, NO_TARGET, f'resume:={run_dir}',
                      'time_budget_s:=25')) as again:
        assert again.wait(120) == 0, again.output
    assert 'resumed at step' in again.output
    assert read_run(run_dir).record.state == 'finished'
    steps_after = [row['step'] for row in rows_of(run_dir)]
    assert steps_after == sorted(steps_after) and rows_of(run_dir)[-1]['updates'] > 100


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_divergence_ends_the_trainer_and_the_last_good_policy_goes_on(tmp_path: Path) -> None:
    path = tmp_path / 'wild.yaml'
    path.write_text(SETTINGS.replace('epochs: 4', 'learning_rate: 1.0e+30, epochs: 4, '
                                     'max_gradient_norm: 1.0e+30'))
    with observer() as seen, graph(*train(path, tmp_path / 'run', NO_TARGET)) as run:
        for topic in ('robot/status', 'safety/state', 'policy/status'):
            seen.listen(DiagnosticArray, topic, qos.LATCHED)
        seen.until(lambda: 'trainer' in run.nodes(), 'the trainer')
        seen.until(lambda: 'trainer' not in run.nodes(), 'the end of the trainer', 80.0)
        steps = int(seen.values('robot/status')['steps'])
        seen.until(lambda: int(seen.values('robot/status')['steps']) > steps + 200, 'more steps')
        assert seen.values('safety/state')['mode'] in ('OK', 'LIMITING')
        run.interrupt()
        assert run.wait(10) == 1, 'or a script would take the training for done'
    assert 'trainer DIED (exit code 1): CONTROL GOES ON' in run.output
    assert run.output.count('DIVERGED') >= 4 and 'gave up after 4 divergences' in run.output
    assert 'Traceback' not in run.output
    assert read_run(tmp_path / 'run').record.state == 'failed'
