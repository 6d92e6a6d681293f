# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The graphs with people, scripts and recordings in them."""

import pytest
from rl_nodes.core.errors import GraphError, RecordingError
import rl_nodes.graph as graph_module
from rl_nodes.graph import build


def nodes(graph):
    return {spec.name: spec for spec in graph.nodes}


def test_a_script_is_recorded_in_lockstep(tmp_path):
    graph = build('record', {'seed': '4', 'run_dir': 'run', 'episodes': '7'}, {})
    found = nodes(graph)
    assert list(found) == ['robot_bridge', 'safety_monitor', 'reward_computer',
                           'experience_recorder', 'teleop', 'record_session']
    assert found['robot_bridge'].parameters['stepping'] == 'lockstep'
    assert found['safety_monitor'].parameters['sources'] == 'teleop'
    recorder = found['experience_recorder'].parameters
    assert {key: recorder[key] for key in ('sources', 'operator', 'keep', 'most_episodes',
                                           'seed', 'directory')} == {
        'sources': 'teleop', 'operator': 'scripted', 'keep': 'successes', 'most_episodes': 7,
        'seed': 4, 'directory': str(tmp_path / 'run' / 'episodes')}
    teleop = found['teleop'].parameters
    assert (teleop['input'], teleop['noise'], teleop['seed'], teleop['curated']) == (
        'scripted', 0.4, 4, True)
    assert found['record_session'].parameters['unattended']
    again = build('record', dict(word.split(':=') for word in graph.description.split()[3:]), {})
    assert again.arguments == graph.arguments  # what is printed can be typed


def test_a_person_is_recorded_in_real_time(monkeypatch):
    found = nodes(build('record', {'input': 'joy', 'operator': 'anna'}, {}))
    assert found['robot_bridge'].parameters['stepping'] == 'realtime'
    teleop = found['teleop'].parameters
    assert (teleop['input'], teleop['operator'], teleop['noise']) == ('joy', 'anna', 0.0)
    assert 'keyboard' not in found
    monkeypatch.setattr(graph_module.os, 'ttyname', lambda fd: '/dev/pts/9')
    found = nodes(build('record', {'input': 'keyboard'}, {}))
    assert found['keyboard'].parameters['terminal'] == '/dev/pts/9'
    assert found['teleop'].parameters['input'] == 'joy'


def test_a_person_corrects_a_policy(policy):
    found = nodes(build('record', {'input': 'joy', 'policy': policy}, {}))
    assert found['policy_server'].parameters['policy'] == policy
    assert found['safety_monitor'].parameters['sources'] == 'policy+teleop'
    found = nodes(build('deploy', {'policy': policy, 'teleop': 'joy'}, {}))
    assert found['safety_monitor'].parameters['sources'] == 'policy+teleop'
    assert found['experience_recorder'].parameters['operator'] == 'joy'
    assert not found['teleop'].parameters.get('curated')
    alone = nodes(build('deploy', {'policy': policy}, {}))
    assert 'sources' not in alone['safety_monitor'].parameters
    assert 'teleop' not in alone


def test_another_policy_demonstrates(policy):
    found = nodes(build('record', {'expert': policy}, {}))
    assert found['teleop'].parameters['policy'] == policy
    assert 'policy_server' not in found


@pytest.mark.parametrize(('name', 'arguments', 'message'), [
    ('record', {'input': 'joy', 'stepping': 'lockstep'}, 'too fast for a person'),
    ('record', {'policy': 'p.onnx'}, 'does not take over'),
    ('record', {'input': 'joy', 'expert': 'p.onnx'}, 'belongs to input:=scripted'),
    ('record', {'expert': 'none.onnx'}, 'expert:=none.onnx: no such file'),
    ('record', {'input': 'joystick'}, 'allowed: scripted, joy, keyboard'),
    ('record', {'backend': 'servo_bus', 'stepping': 'lockstep'}, 'does not wait'),
    ('deploy', {'teleop': 'joy', 'robots': '2', 'policy': 'p.onnx'}, 'one robot at a time'),
    ('replay', {}, 'needs the argument episode')])
def test_what_does_not_go_together(name, arguments, message):
    with pytest.raises(GraphError, match=message):
        build(name, arguments, {})


def test_the_keyboard_needs_a_terminal(monkeypatch):
    def no_terminal(fd):
        raise OSError(25, 'not a terminal')
    monkeypatch.setattr(graph_module.os, 'ttyname', no_terminal)
    with pytest.raises(GraphError, match='no terminal'):
        build('record', {'input': 'keyboard'}, {})


def test_a_physical_robot_is_neither_hurried_nor_perturbed():
    found = nodes(build('record', {'backend': 'servo_bus'}, {}))
    assert found['robot_bridge'].parameters['stepping'] == 'realtime'
    assert found['teleop'].parameters['noise'] == 0.0
    assert found['safety_monitor'].parameters['arm_on_start'] is False


def test_what_is_no_recording_is_not_replayed(tmp_path):
    with pytest.raises(RecordingError, match='cannot be read'):
        build('replay', {'episode': 'nowhere.mcap'}, {})
