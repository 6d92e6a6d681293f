# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every method learns what ``results.yaml`` asks of it, judged through the exported policy."""

from pathlib import Path

import pytest
import results_runs
from rl_nodes.core.config import load
from rl_nodes.training.in_process import train, TrainOptions

METHODS = load(Path(results_runs.__file__).with_name('results.yaml'), results_runs.Runs).methods


@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('run', METHODS, ids=lambda run: run.name)
def test_learns(tmp_path, run):
    if not run.available:
        pytest.skip(f'{run.env_module} is not installed')
    record = run.perform(0, tmp_path / 'run')
    assert run.scores([record])[0] >= run.expect
    assert (tmp_path / 'run' / 'learning_curve.png').is_file()


@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('env, algorithm, steps, below', [
    ('CartPolePositions', 'ppo_cartpole', 50_000, 200.0),
    ('PendulumPositions', 'sac_pendulum', 20_000, -500.0)])
def test_without_a_memory_a_pole_whose_speed_is_not_seen_falls(
        tmp_path, env, algorithm, steps, below):
    """So what is asked of a method with a memory there needs it."""
    result = train(TrainOptions(
        env=f'rl_nodes_test/{env}-v0', env_module='partial_pole', film=False,
        algorithm=algorithm, steps=steps, run_dir=str(tmp_path)))
    assert result.evaluation.mean_return < below
