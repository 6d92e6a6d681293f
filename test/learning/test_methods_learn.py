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
def test_without_a_memory_a_pole_whose_speed_is_not_seen_falls(tmp_path):
    """So what ``recurrent_ppo`` is asked for there needs its memory."""
    result = train(TrainOptions(
        env='rl_nodes_test/CartPolePositions-v0', env_module='partial_pole', film=False,
        algorithm='ppo_cartpole', steps=50_000, run_dir=str(tmp_path)))
    assert result.evaluation.mean_return < 200.0
