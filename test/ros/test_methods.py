# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Methods besides SAC on the graph: exploration, recorded demonstrations, what is refused."""

from pathlib import Path

from harness import graph, make_bundle
import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import RecordingError
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes.recorded_transitions import read_transitions
from rl_nodes.tasks import load_task
from rl_nodes.training import demonstrations
from rl_nodes.training.checkpoint import CheckpointStore

SETTINGS = """
algorithm: td3
learner: {hidden: [32, 32], batch_size: 64, buffer_size: 20000, learning_starts: 200, noise: ou}
loop: {publish_every_s: 0.5, evaluate_every_steps: 1500, evaluation_episodes: 3,
       confirmation_episodes: 3, max_staleness_updates: 400}
"""
SEED = 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_td3_learns_through_the_graph_from_what_was_recorded_too(tmp_path: Path) -> None:
    task, episodes = load_task('arm', 'reach'), tmp_path / 'shown' / 'episodes'
    bundle = make_bundle(task.contract)
    policy = bundle.save(tmp_path / 'policy.onnx')
    with graph('deploy', f'policy:={policy}', 'stepping:=lockstep', 'episodes:=2',
               f'seed:={SEED}', f'run_dir:={tmp_path / "shown"}') as run:
        assert run.wait(90) == 0, run.output

    # What is read is what happened, bit by bit.
    batch, contract = read_transitions([episodes])
    assert contract == task.contract
    env, runtime = SimEnv('arm', 'reach', 'pybullet'), PolicyRuntime(bundle)
    observation, _ = env.reset(seed=SEED)
    for row in range(10):
        assert observation.tobytes() == batch.observation[row].tobytes()
        observation = env.step(runtime.act(observation).copy())[0]
        assert observation.tobytes() == batch.next_observation[row].tobytes()
    env.close()
    with pytest.raises(RecordingError, match='foreign contract'):
        read_transitions([episodes], load_task('cartpole', 'cartpole_balance').contract)

    file = tmp_path / 'shown.npz'
    assert main(['dataset', 'export', str(episodes), 'format:=npz', f'output:={file}']) == 0
    loaded = demonstrations.load(file, task.contract)
    assert loaded.observation.tobytes() == batch.observation.tobytes()

    (tmp_path / 'small.yaml').write_text(SETTINGS)
    run_dir = tmp_path / 'run'
    with graph('train', 'task:=reach', f'algorithm:={tmp_path / "small.yaml"}',
               f'run_dir:={run_dir}', 'time_budget_s:=12', 'target_success:=1.0',
               f'demonstrations:={episodes}') as run:
        assert run.wait(90) == 0, run.output
    assert f'learning from {len(batch)} demonstrated transitions' in run.output
    manifest = PolicyBundle.load(run_dir / 'policy.onnx').manifest
    assert (manifest.algorithm, manifest.sampling) == ('td3', 'gaussian')
    assert manifest.noise_correlation == 0.85
    assert manifest.training_updates > 100
    assert 'Traceback' not in run.output


REMEMBERING = """
algorithm: recurrent_sac
learner: {hidden: [32], memory_size: 8, sequence_length: 8, burn_in: 4, batch_size: 64,
          buffer_size: 20000, learning_starts: 200}
loop: {publish_every_s: 0.5, evaluate_every_steps: 1500, evaluation_episodes: 3,
       confirmation_episodes: 3, max_staleness_updates: 400}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_memory_is_learned_from_episodes_that_come_through_the_graph(tmp_path: Path) -> None:
    (tmp_path / 'small.yaml').write_text(REMEMBERING)
    run_dir = tmp_path / 'run'
    with graph('train', 'task:=cartpole_balance', 'robot:=cartpole',
               f'algorithm:={tmp_path / "small.yaml"}', f'run_dir:={run_dir}',
               'time_budget_s:=20', 'target_success:=1.0') as run:
        assert run.wait(150) == 0, run.output
    assert 'Traceback' not in run.output
    manifest = PolicyBundle.load(run_dir / 'policy.onnx').manifest
    assert (manifest.algorithm, manifest.sampling) == ('recurrent_sac', 'squashed_gaussian')
    assert [tensor.input for tensor in manifest.memory] == ['h_in']
    assert manifest.training_updates > 20
    state, _ = CheckpointStore(run_dir / 'checkpoints').load_newest()
    linked = np.asarray(state['buffer']['after']) >= 0
    ended = np.asarray(state['buffer']['terminated'] + state['buffer']['truncated'])[:, 0] > 0
    assert not (linked & ended).any()
    assert (linked | ended).mean() > 0.99, 'every step but the newest knows the next one'


def test_a_method_that_robots_cannot_tell_enough_is_refused_with_what_to_do(
        tmp_path: Path) -> None:
    path = tmp_path / 'smooth.yaml'
    path.write_text('{algorithm: ppo, learner: {state_dependent_noise: 4}}')
    with graph('train', f'algorithm:={path}', f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(60) == 2
    assert 'ppo: learner.state_dependent_noise is drawn beside the weights' in run.output
    assert 'rl_nodes train algorithm:=ppo' in run.output
    assert 'Traceback' not in run.output
