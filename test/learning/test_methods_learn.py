# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every method learns what ``results.yaml`` asks of it, judged through the exported policy."""

from pathlib import Path

import pytest
import results_runs
from rl_nodes.core.config import load

METHODS = load(Path(results_runs.__file__).with_name('results.yaml'), results_runs.Runs).methods


@pytest.mark.learning
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('run', METHODS, ids=lambda run: run.name)
def test_learns(tmp_path, run):
    if not run.available:
        pytest.skip(f'{run.env_module} is not installed: an environment of others, optional; '
                    'docs/results.md says where it comes from')
    record = run.perform(0, tmp_path / 'run')
    assert run.met([record])
    assert (tmp_path / 'run' / 'learning_curve.png').is_file()
