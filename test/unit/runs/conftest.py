# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of runs as training leaves them, made by hand."""

import json

import pytest
from rl_nodes.runs.record import RunRecord, write_record


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run with evaluations (step, return, success rate)."""
    def make(name, curve=(), evaluation=None, **record):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rows = [{'kind': 'evaluation', 'step': step, 'wall_s': step / 10, 'return': total,
                 **({} if rate is None else {'success_rate': rate})}
                for step, total, rate in curve]
        (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        write_record(folder, RunRecord(**({
            'task': 'reach', 'robot': 'arm', 'algorithm': 'sac', 'seed': 0, 'state': 'finished',
            'reason': 'steps', 'evaluation': evaluation} | record)))
        return folder
    return make
