# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Cameras in the graphs: drawn, heard of physical robots, or refused."""

from types import SimpleNamespace

import pytest
from rl_nodes.core.errors import GraphError
from rl_nodes.core.resources import find_config
from rl_nodes.graph import build, judge
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.tasks import load_task


def node(graph, name):
    return next(spec for spec in graph.nodes if spec.name == name)


def test_a_policy_that_sees_switches_the_cameras_on(policy, tmp_path, monkeypatch):
    task = tmp_path / 'see.yaml'
    task.write_text(find_config('tasks', 'reach').read_text()
                    + 'pictures: [{camera: wrist, width: 8, height: 8}]\n')
    contract = load_task('arm', str(task)).contract
    bundle = SimpleNamespace(manifest=SimpleNamespace(contract=contract))
    monkeypatch.setattr(PolicyBundle, 'load', lambda path: bundle)
    given = {'policy': policy, 'task': str(task)}
    graph = build('deploy', given | {'robots': '2'}, {})
    assert [spec.path for spec in graph.nodes if spec.name == 'camera'] == [
        'robot_1/camera', 'robot_2/camera']
    assert all(spec.parameters['cameras'] for spec in graph.nodes
               if spec.name == 'experience_recorder')
    # Those of a physical robot have drivers of their own, which are heard.
    graph = build('deploy', given | {'backend': 'servo_bus'}, {})
    assert 'camera' not in [spec.name for spec in graph.nodes]
    for name in ('policy_server', 'experience_recorder'):
        assert node(graph, name).parameters['camera_drivers'] is True
    assert node(graph, 'experience_recorder').parameters['cameras'] is True
    graph = build('record', {'task': str(task), 'policy': policy, 'input': 'joy'}, {})
    assert node(graph, 'experience_recorder').parameters['cameras'] is True


@pytest.mark.parametrize(('name', 'given'), [
    ('record', {}), ('deploy', {'policy': 'run/policy.onnx'}),
    ('gym', {'record': 'true', 'stepping': 'realtime'})])
def test_the_cameras_of_a_physical_robot_are_heard_and_nothing_is_drawn(
        policy, name, given, monkeypatch):
    monkeypatch.setattr('rl_nodes.graph.installed_backends', lambda: ())
    graph = build(name, given | {'backend': 'ros2_control', 'cameras': 'true',
                                 'record_images': 'compressed'}, {})
    assert 'camera' not in [spec.name for spec in graph.nodes]
    recorder = node(graph, 'experience_recorder').parameters
    assert recorder['camera_drivers'] and recorder['cameras'] and recorder['record_images']


@pytest.mark.parametrize(('name', 'given'), [
    ('train', {}), ('deploy', {'policy': 'run/policy.onnx'}), ('gym', {'record': 'true'})])
@pytest.mark.parametrize(('images', 'quality'), [('true', 0), ('compressed', 90)])
def test_cameras_are_a_process_of_their_own_that_control_goes_on_without(
        policy, name, given, images, quality):
    without = build(name, given, {})
    assert 'camera' not in [spec.name for spec in without.nodes]
    graph = build(name, given | {'cameras': 'true', 'record_images': images}, {})
    assert len(graph.nodes) == len(without.nodes) + 1
    assert not judge(node(graph, 'camera'), -9).shutdown
    recorder = node(graph, 'experience_recorder').parameters
    assert (recorder['cameras'], recorder['record_images']) == (True, True)
    assert recorder['jpeg_quality'] == quality


@pytest.mark.parametrize(('name', 'given', 'message'), [
    ('train', {'cameras': 'true', 'robot': 'cartpole', 'task': 'cartpole_balance'},
     'robot cartpole has no cameras'),
    ('train', {'record_images': 'true'}, 'needs cameras:=true'),
    ('train', {'record_images': 'compressed'}, 'compressed needs cameras:=true'),
    ('train', {'record_images': 'jpeg'}, 'allowed: false, true, compressed'),
    ('train', {'jpeg_quality': '96'}, 'from 1 to 95'),
    ('gym', {'record_images': 'true', 'cameras': 'true'}, 'needs record:=true'),
    ('gym', {'topics': 'tf'}, 'topics:=tf needs record:=true'),
    ('gym', {'keep_last_s': '30'}, 'keep_last_s:=30.0 needs record:=true'),
    ('gym', {'cameras': 'true', 'backend': 'servo_bus', 'stepping': 'realtime'},
     'needs record:=true: nothing is drawn'),
    ('record', {'cameras': 'true', 'backend': 'servo_bus', 'robot': 'cartpole',
                'task': 'cartpole_balance'}, 'robot cartpole has no cameras')])
def test_cameras_that_cannot_be(name, given, message):
    with pytest.raises(GraphError, match=message):
        build(name, given, {})


def test_cameras_need_what_draws_them(monkeypatch):
    monkeypatch.setattr('rl_nodes.graph.installed_backends', lambda: ('mujoco',))
    with pytest.raises(GraphError, match='pip install'):
        build('train', {'cameras': 'true', 'backend': 'mujoco'}, {})
