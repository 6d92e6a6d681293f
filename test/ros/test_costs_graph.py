# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Costs through the graph: what the safety monitor limits reaches the learner; prefill, film."""

from pathlib import Path

from harness import arm_file, graph
import numpy as np
from PIL import Image
import pytest
from rl_nodes.core.types import TransitionBatch
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.runs.record import read_rows
from rl_nodes.training import demonstrations
from rl_nodes.training.checkpoint import CheckpointStore

SETTINGS = """
algorithm: sac
learner:
  hidden: [32, 32]
  batch_size: 64
  buffer_size: 20000
  learning_starts: 200
  constraint: {cost: COST, limit: 1.0, episodes: 1, integral_gain: 0.01}
  penalty: {cost: COST, cost_coefficient: 0.25}
loop: {publish_every_s: 0.5, evaluate_every_steps: 3000, evaluation_episodes: 2, log_every_s: 0.2,
       confirmation_episodes: 2, checkpoint_every_s: 2.0, max_staleness_updates: 400}
"""
SLOW = ('{name: shoulder_pan, home: 0.0}', '{name: shoulder_pan, home: 0.0, acceleration: 0.5}')


def settings_file(folder: Path, cost: str = 'limited') -> Path:
    path = folder / 'small.yaml'
    path.write_text(SETTINGS.replace('COST', cost))
    return path


def lived(robot: Path, steps: int) -> tuple[SimEnv, TransitionBatch]:
    """Return an environment and what happened in it while nobody knew what to do."""
    env, rng, rows = SimEnv(str(robot), 'reach'), np.random.default_rng(0), []
    observation, ended = env.reset(seed=0)[0], False
    for step in range(steps):
        if ended:
            observation = env.reset()[0]
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        following, reward, terminated, truncated, info = env.step(action)
        rows.append((observation, action, action, np.float32(reward), following, terminated,
                     truncated, info['success'], info['limited'], 0, 0, step))
        observation, ended = following, terminated or truncated
    return env, TransitionBatch(*map(np.array, zip(*rows)))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_the_monitor_limits_moves_the_multiplier_and_is_penalised(tmp_path: Path) -> None:
    """The shoulder may hardly speed up, so exploration is limited in nearly every step."""
    robot, run_dir = arm_file(tmp_path, SLOW), tmp_path / 'run'
    env, shown = lived(robot, 300)
    env.close()
    assert shown.limited.mean() > 0.5
    file = demonstrations.save(tmp_path / 'shown.npz', shown, env.contract)
    with graph('train', f'robot:={robot}', f'algorithm:={settings_file(tmp_path)}',
               f'run_dir:={run_dir}', 'time_budget_s:=20', 'target_success:=0',
               f'prefill:={file}', 'film:=true') as run:
        assert run.wait(150) == 0, run.output
    assert 'the replay buffer begins with 300 transitions' in run.output
    assert 'Traceback' not in run.output

    rows = [row for row in read_rows(run_dir / 'metrics.jsonl') if row['kind'] == 'train']
    seen = [row for row in rows if 'cost' in row]
    assert seen[-1]['cost'] > 20.0
    assert seen[-1]['multiplier'] > 0.5
    assert max(row['penalty'] for row in rows if 'penalty' in row) > 0.1
    state, _ = CheckpointStore(run_dir / 'checkpoints').load_newest()
    stored, limited = state['buffer'], shown.limited.astype(np.float32)
    np.testing.assert_array_equal(stored['cost'][:300, 0], limited)
    np.testing.assert_allclose(stored['reward'][:300, 0], shown.reward - 0.25 * limited,
                               rtol=1e-6)
    fresh = np.asarray(stored['cost'])[300:, 0]
    assert len(fresh) > 300
    assert set(fresh.tolist()) <= {0.0, 1.0}
    assert fresh.mean() > 0.3
    with Image.open(run_dir / 'rollout.gif') as film:
        assert film.n_frames > 5


def test_a_cost_that_the_graph_does_not_send_is_refused(tmp_path: Path) -> None:
    with graph('train', f'algorithm:={settings_file(tmp_path, "energy")}',
               f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(60) == 2
    assert "'energy'; the graph sends 'limited'" in run.output
    assert 'Traceback' not in run.output
