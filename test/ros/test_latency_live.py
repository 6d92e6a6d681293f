# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes latency live``: a table of a running graph, a clear word where none runs."""

from pathlib import Path
import subprocess
import sys
import time

from harness import graph
import pytest


def live(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'rl_nodes', 'latency', 'live', *words], capture_output=True,
        text=True, timeout=90, check=False)


@pytest.mark.parametrize(('stepping', 'rows'), [
    ('realtime', ['states', 'policy', 'safety', 'arrival', 'commands', 'total']),
    pytest.param('lockstep', ['policy', 'safety', 'arrival', 'commands'],
                 marks=pytest.mark.slow)])
def test_a_running_graph(stepping: str, rows: list[str], policy_path: Path,
                         tmp_path: Path) -> None:
    with graph('deploy', f'policy:={policy_path}', f'run_dir:={tmp_path / "run"}',
               'episodes:=0', f'stepping:={stepping}'):
        done = live('seconds:=3', 'timeout_s:=40')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == rows, 'no note about clocks either'
    table = {line.split()[0]: [float(word) for word in line.split()[1:5]] for line in lines[1:]}
    for p50, p99, p999, most in table.values():
        assert 0.0 <= p50 <= p99 <= p999 <= most < 10e3
    assert table['commands'][0] == pytest.approx(
        table['policy'][0] + table['safety'][0], rel=0.5, abs=0.5)


def test_nobody_there() -> None:
    begun = time.monotonic()
    done = live('timeout_s:=1', 'namespace:=robot_1')
    assert done.returncode == 2
    assert 'nothing on joint_states within 1 s' in done.stderr
    assert "namespace '/robot_1'" in done.stderr
    assert 'Traceback' not in done.stderr
    assert time.monotonic() - begun < 20.0
