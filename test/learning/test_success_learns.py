# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Reaching paid by a classifier's word alone: it and the policy learn from a script's examples.

``python test/learning/test_success_learns.py FOLDER`` makes the run of docs/success_classifier.md;
it goes on where it was interrupted.
"""

from pathlib import Path
import shutil
import sys

import gymnasium
import pytest
from results_shown import rl_nodes
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.training.evaluation import evaluate, FRESH_SEED
from rl_nodes.training.in_process import train, TrainOptions

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'reach_by_example.yaml'
DEMONSTRATIONS, STEPS = 200, 15_000
LEAST_SUCCESS = 0.8  # within 2 cm, of 50 goals never seen


def learned(folder: Path, seed: int = 0) -> float:
    """Record, learn what success is, learn to succeed; return the share of goals truly reached."""
    shown, known, told, run = (folder / name for name in ('shown', 'known', 'told', f'run_{seed}'))
    if not shown.exists():
        rl_nodes('launch', 'record', 'task:=reach', f'episodes:={DEMONSTRATIONS}', 'noise:=0.8',
                 'keep:=demonstrated', f'run_dir:={shown}')
    if not (known / 'success.onnx').exists():
        rl_nodes('train', 'algorithm:=success_classifier', f'dataset:={shown / "episodes"}',
                 f'run_dir:={known}', 'signals:=goal_offset')
    task = known / EXAMPLE.name
    shutil.copy(EXAMPLE, task)
    if not (file := told / 'rows.npz').exists():
        rl_nodes('dataset', 'relabel', str(shown / 'episodes'), f'task:={task}', f'output:={told}')
        rl_nodes('dataset', 'export', str(told), 'format:=npz', 'robot:=arm', f'task:={task}',
                 f'output:={file}')
    gymnasium.register('by_example/Reach-v0', entry_point='rl_nodes.envs.sim_env:SimEnv',
                       kwargs={'robot': 'arm', 'task': str(task)})
    train(TrainOptions(
        env='by_example/Reach-v0', algorithm='sac_demonstrations', demonstrations=str(file),
        seed=seed, steps=STEPS, film=False, run_dir=str(run),
        resume=(run / 'checkpoints').exists()))
    # Neither rewards nor the choice of the best policy knew this measure.
    task.write_text(task.read_text().replace('success: classifier', 'success: task'))
    env = SimEnv('arm', str(task))
    found = evaluate(env, PolicyRuntime(PolicyBundle.load(run / 'policy.onnx')),
                     range(FRESH_SEED, FRESH_SEED + 50))
    env.close()
    return found.success_rate


@pytest.mark.learning
@pytest.mark.timeout(3600)
def test_a_classifier_is_all_that_reaching_needs(tmp_path: Path) -> None:
    assert learned(tmp_path) >= LEAST_SUCCESS


if __name__ == '__main__':
    print(learned(Path(sys.argv[1])))  # noqa: T201
