# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes safety calibrate`` on recorded episodes."""

from rl_nodes.cli import main
from rl_nodes.nodes.recorded_transitions import read_episodes, read_transitions
from rl_nodes.safety.guard_file import parse_guard


def test_episodes_are_read_one_by_one(episodes, task):
    found, contract, files = read_episodes([episodes])
    assert contract == task.contract
    assert files == sorted(episodes.glob('*.mcap'))
    assert sum(map(len, found)) == len(read_transitions([episodes])[0])
    assert all(one.metadata['success'] == 'false' for one in found)


def test_episodes_that_did_not_go_well_make_no_guard(episodes, tmp_path, capsys):
    output = tmp_path / 'guard.json'
    assert main(['safety', 'calibrate', str(episodes), f'output:={output}']) == 2
    assert '0 of 3 episodes went well' in capsys.readouterr().err
    assert not output.exists()


def test_episodes_that_went_well_do(episodes, task, tmp_path, capsys, monkeypatch):
    from rl_nodes.nodes import recorded_transitions

    def well(inputs):
        found, contract, files = read_episodes(inputs)
        for one in found:
            one.metadata['success'] = 'true'
        return found * 2, contract, files
    monkeypatch.setattr(recorded_transitions, 'read_episodes', well)
    output = tmp_path / 'guard.json'
    assert main(['safety', 'calibrate', str(episodes), f'output:={output}',
                 'false_alarms:=0.25']) == 0
    out = capsys.readouterr().out
    assert f'guard: {output}' in out
    guard = parse_guard(output.read_bytes(), task.contract, str(output))
    assert guard.calibration.episodes == guard.fitted_episodes == 3
    assert sorted(guard.data) == sorted(path.name for path in episodes.glob('*.mcap'))
    assert guard.policies == ('reach@3',)
