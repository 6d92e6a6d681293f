# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The graphs as data: arguments, refusals, parameters, and what the end of a node means."""

from datetime import datetime, UTC
from pathlib import Path
from types import SimpleNamespace

import pytest
from rl_nodes.core.errors import BundleError, ConfigError, ContractError, GraphError, RlNodesError
from rl_nodes.core.resources import find_config
from rl_nodes.graph import build, describe_returncode, judge, NodeSpec, stopped_on_request
from rl_nodes.graph_arguments import GRAPHS, help_text, resolve
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.tasks import load_task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def node(graph, name):
    return next(spec for spec in graph.nodes if spec.name == name)


# --- train ------------------------------------------------------------------------------------

def test_train_has_its_nodes_in_starting_order():
    graph = build('train', {}, {}, NOW)
    assert [spec.name for spec in graph.nodes] == [
        'robot_bridge', 'safety_monitor', 'reward_computer', 'experience_recorder',
        'policy_server', 'trainer']
    assert (graph.namespace, graph.domain_id) == ('/', 0)


def test_train_names_its_run_by_time_task_and_algorithm(tmp_path):
    graph = build('train', {}, {}, NOW)
    assert graph.run_directory == tmp_path / 'runs' / '20260102-030405_reach_sac'
    assert not graph.run_directory.exists(), 'building a graph writes nothing'


def test_train_parameters(tmp_path):
    graph = build('train', {'run_dir': 'here', 'seed': '7', 'time_budget_s': '60'}, {}, NOW)
    shared = {'robot': 'arm', 'task': 'reach', 'stepping': 'lockstep', 'autostart': True,
              'real_time_factor': 0.0}
    run = tmp_path / 'here'
    assert {spec.name: spec.parameters for spec in graph.nodes} == {
        'robot_bridge': {**shared, 'backend': 'pybullet', 'seed': 7, 'channel': 'ideal',
                         'recorded': True},
        'safety_monitor': {**shared, 'arm_on_start': True, 'backend': 'pybullet'},
        'reward_computer': shared,
        'experience_recorder': {**shared, 'directory': f'{run}/episodes', 'record_every': 20,
                                'publish_experience': True, 'cameras': False,
                                'record_images': False, 'jpeg_quality': 0, 'shadow': False,
                                'topics': '', 'keep_last_s': 0.0},
        'policy_server': {**shared, 'policy': '', 'sampling': 'stochastic', 'seed': 7,
                          'robots': 1},
        'trainer': {**shared, 'algorithm': 'sac', 'run_dir': str(run), 'seed': 7,
                    'time_budget_s': 60.0, 'target_success': 0.95, 'demonstrations': '',
                    'prefill': '', 'film': False,
                    'resume': '', 'simulator': 'pybullet', 'robots': 1}}
    assert isinstance(node(graph, 'trainer').parameters['time_budget_s'], float)


def test_configuration_files_become_absolute(tmp_path):
    from rl_nodes.core.resources import find_config

    (tmp_path / 'mine.yaml').write_text(find_config('tasks', 'reach').read_text())
    graph = build('train', {'task': 'mine.yaml'}, {}, NOW)
    assert node(graph, 'trainer').parameters['task'] == str(tmp_path / 'mine.yaml')


def test_a_urdf_names_the_robot_whose_configuration_lies_beside_it(tmp_path):
    from rl_nodes.core.resources import find_config, find_urdf

    shipped = find_config('robots', 'arm')
    (tmp_path / 'mine.urdf').write_text(find_urdf('arm.urdf', shipped).read_text())
    with pytest.raises(ConfigError, match='rl_nodes robot init mine.urdf'):
        build('train', {'robot': 'mine.urdf'}, {}, NOW)
    (tmp_path / 'mine.yaml').write_text(shipped.read_text().replace('arm.urdf', 'mine.urdf'))
    graph = build('train', {'robot': 'mine.urdf'}, {}, NOW)
    assert node(graph, 'robot_bridge').parameters['robot'] == str(tmp_path / 'mine.yaml')


def test_a_run_never_mixes_with_an_older_one(tmp_path):
    (tmp_path / 'old').mkdir()
    build('train', {'run_dir': 'old'}, {}, NOW)
    (tmp_path / 'old' / 'policy.onnx').write_bytes(b'')
    with pytest.raises(ConfigError, match='not empty'):
        build('train', {'run_dir': 'old'}, {}, NOW)
    graph = build('train', {'run_dir': 'old', 'resume': 'old'}, {}, NOW)
    assert node(graph, 'trainer').parameters['resume'] == str(tmp_path / 'old')


def test_resuming_what_is_not_there():
    with pytest.raises(GraphError, match='no such run directory'):
        build('train', {'resume': 'nowhere'}, {}, NOW)


# --- deploy -----------------------------------------------------------------------------------

def test_deploy_takes_robot_and_task_from_the_policy(policy):
    graph = build('deploy', {'policy': 'run/policy.onnx'}, {}, NOW)
    assert [spec.name for spec in graph.nodes] == [
        'robot_bridge', 'safety_monitor', 'reward_computer', 'experience_recorder',
        'policy_server', 'evaluator']
    shared = {'robot': 'arm', 'task': 'reach', 'stepping': 'realtime', 'autostart': True,
              'real_time_factor': 0.0}
    run = Path(policy).parent / 'deploy'
    assert node(graph, 'policy_server').parameters == {
        **shared, 'policy': policy, 'sampling': 'deterministic', 'seed': 1000,
        'robots': 1, 'shadow': '', 'control_path': 'auto', 'fallback': 'none',
        'chunk_blend': 'ensemble', 'batch': False}
    assert node(graph, 'experience_recorder').parameters == {
        **shared, 'directory': f'{run}/episodes', 'record_every': 1,
        'publish_experience': False, 'cameras': False, 'record_images': False,
        'jpeg_quality': 0, 'shadow': False, 'topics': '', 'keep_last_s': 0.0}
    assert node(graph, 'evaluator').parameters == {
        **shared, 'episodes': 20, 'report': f'{run}/report.json', 'robots': 1}
    assert node(graph, 'safety_monitor').parameters['event_directory'] == f'{run}/safety_events'


def test_a_target_return_is_for_policies_that_observe_it(policy, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match='target_return = 30: task reach does not observe'):
        build('deploy', {'policy': policy, 'target_return': '30'}, {}, NOW)
    path = tmp_path / 'told.yaml'
    path.write_text(find_config('tasks', 'reach').read_text().replace(
        'observation: [', 'observation: [return_to_go, ') + 'return_to_go: {target: 20}\n')
    bundle = SimpleNamespace(manifest=SimpleNamespace(
        contract=load_task('arm', str(path)).contract))
    monkeypatch.setattr(PolicyBundle, 'load', lambda path: bundle)
    arguments = {'policy': policy, 'task': str(path)}
    assert 'target_return' not in node(
        build('deploy', arguments, {}, NOW), 'policy_server').parameters
    graph = build('deploy', {**arguments, 'target_return': '-2.5e1'}, {}, NOW)
    for name in ('policy_server', 'experience_recorder'):
        assert node(graph, name).parameters['target_return'] == '-2.5e1'
    with pytest.raises(ConfigError, match='much: expected a finite number'):
        build('deploy', {**arguments, 'target_return': 'much'}, {}, NOW)


def test_a_shadow_is_computed_and_recorded(policy):
    Path(policy).with_name('other.onnx').write_bytes(b'')
    graph = build('deploy', {'policy': policy, 'shadow': 'run/other.onnx',
                             'control_path': 'python'}, {}, NOW)
    server = node(graph, 'policy_server').parameters
    assert (server['shadow'], server['control_path']) == (
        str(Path(policy).with_name('other.onnx')), 'python')
    assert node(graph, 'experience_recorder').parameters['shadow'] is True


def test_who_stops_the_robot_goes_before_who_moves_it(policy):
    graph = build('deploy', {'policy': policy, 'priority': '80'}, {}, NOW)
    assert {spec.name: spec.parameters['priority'] for spec in graph.nodes
            if 'priority' in spec.parameters} == {
        'safety_monitor': 82, 'robot_bridge': 81, 'policy_server': 80}
    assert not any('priority' in spec.parameters for spec in build(
        'deploy', {'policy': policy}, {}, NOW).nodes)
    with pytest.raises(GraphError, match='would leave nothing to the rest'):
        build('deploy', {'policy': policy, 'priority': '80', 'stepping': 'lockstep'}, {}, NOW)
    with pytest.raises(GraphError, match='from 0 to 97'):
        build('deploy', {'policy': policy, 'priority': '98'}, {}, NOW)


def test_every_deployment_has_its_own_folder(policy):
    (Path(policy).parent / 'deploy').mkdir()
    assert build('deploy', {'policy': policy}, {}).run_directory.name == 'deploy'
    (Path(policy).parent / 'deploy' / 'report.json').write_text('{}')
    assert build('deploy', {'policy': policy}, {}).run_directory.name == 'deploy-2'


def test_policy_for_another_robot_is_refused(policy):
    with pytest.raises(ContractError, match='does not fit'):
        build('deploy', {'policy': policy, 'robot': 'cartpole', 'task': 'cartpole_balance'},
              {}, NOW)


@pytest.mark.parametrize(('arguments', 'message'), [
    ({}, 'needs the argument policy'), ({'policy': ''}, 'needs the argument policy'),
    ({'policy': 'nowhere.onnx'}, 'no such file')])
def test_no_policy(arguments, message):
    with pytest.raises(GraphError, match=message):
        build('deploy', arguments, {}, NOW)


def test_damaged_policy_is_refused(tmp_path):
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    with pytest.raises(BundleError):
        build('deploy', {'policy': 'bad.onnx'}, {}, NOW)


# --- gym --------------------------------------------------------------------------------------

def test_gym_has_no_policy_and_needs_its_rewards(tmp_path):
    graph = build('gym', {}, {}, NOW)
    assert [spec.name for spec in graph.nodes] == [
        'robot_bridge', 'safety_monitor', 'reward_computer']
    assert judge(node(graph, 'reward_computer'), -9).shutdown
    assert graph.run_directory == tmp_path / 'runs' / '20260102-030405_reach_gym'
    recorded = build('gym', {'record': 'true', 'stepping': 'realtime', 'seed': '3'}, {}, NOW)
    assert recorded.nodes[-1].parameters['record_every'] == 1
    assert recorded.nodes[-1].parameters['directory'].endswith('_gym/episodes')
    assert {spec.parameters['stepping'] for spec in recorded.nodes} == {'realtime'}
    assert node(recorded, 'robot_bridge').parameters['seed'] == 3


# --- arguments --------------------------------------------------------------------------------

def test_unknown_argument_lists_the_valid_ones():
    with pytest.raises(GraphError) as caught:
        build('train', {'algoritm': 'sac'}, {}, NOW)
    text = str(caught.value)
    assert "did you mean 'algorithm'?" in text
    for argument in GRAPHS['train']:
        assert f'{argument.name} ({argument.default!r})' in text


@pytest.mark.parametrize(('argument', 'value'), [
    ('stepping', 'locksetp'), ('seed', '-1'), ('seed', '1.5'), ('seed', ''), ('seed', '1e3'),
    ('seed', str(2**31)), ('time_budget_s', '0'), ('time_budget_s', 'nan'),
    ('time_budget_s', 'inf'), ('target_success', '1.5'), ('arm_on_start', 'yes'),
    ('namespace', '1st'), ('namespace', 'a b'), ('namespace', 'a//b'), ('run_dir', 'a\nb')])
def test_value_that_is_not_allowed_names_the_argument(argument, value):
    with pytest.raises(GraphError, match=f'{argument}:='):
        build('train', {argument: value}, {}, NOW)


@pytest.mark.parametrize('family', ['robot', 'task', 'algorithm'])
def test_unknown_configuration_lists_what_exists(family):
    with pytest.raises(ConfigError, match=f'unknown {family}.*available'):
        build('train', {family: 'nothing_like_it'}, {}, NOW)


@pytest.mark.parametrize(('given', 'namespace'), [
    ('', '/'), ('/', '/'), ('arm1', '/arm1'), ('/lab/arm_1/', '/lab/arm_1')])
def test_namespace_is_normalised(given, namespace):
    assert build('train', {'namespace': given}, {}, NOW).namespace == namespace


def test_unknown_graph():
    with pytest.raises(GraphError, match="did you mean 'train'"):
        build('tarin', {}, {}, NOW)


@pytest.mark.parametrize('name', GRAPHS)
def test_help_documents_every_argument(name):
    text = help_text(name)
    for argument in GRAPHS[name]:
        assert f'  {argument.name}  (' in text
        assert argument.description in text


@pytest.mark.parametrize('name', GRAPHS)
def test_defaults_are_allowed_values(name):
    given = {argument.name: 'x' for argument in GRAPHS[name] if argument.default is None}
    assert len(resolve(name, given)) == len(GRAPHS[name])


@pytest.mark.parametrize('backend', ['servo_bus', 'ros2_control'])
def test_a_physical_robot_is_never_armed_at_start(backend, policy):
    given = {'policy': policy, 'backend': backend}
    graph = build('deploy', given, {}, NOW)
    assert node(graph, 'safety_monitor').parameters['arm_on_start'] is False
    assert node(graph, 'safety_monitor').parameters['backend'] == backend
    with pytest.raises(GraphError, match='only a person'):
        build('deploy', given | {'arm_on_start': 'true'}, {}, NOW)
    with pytest.raises(GraphError, match='does not wait'):
        build('deploy', given | {'stepping': 'lockstep'}, {}, NOW)
    with pytest.raises(GraphError, match='backend:='):
        build('train', {'backend': backend}, {}, NOW)


# --- several robots ---------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['train', 'deploy'])
def test_robots_beside_each_other_share_policy_server_and_last_node(name, policy):
    given = {'policy': policy} if name == 'deploy' else {}
    graph = build(name, given | {'robots': '3', 'namespace': 'lab', 'seed': '5'}, {}, NOW)
    own = ['robot_bridge', 'safety_monitor', 'reward_computer', 'experience_recorder']
    shared = ['policy_server', 'trainer' if name == 'train' else 'evaluator']
    assert [spec.path for spec in graph.nodes] == [
        *(f'robot_{number}/{node}' for number in (1, 2, 3) for node in own), *shared]
    assert len({spec.path for spec in graph.nodes}) == len(graph.nodes)
    for spec in graph.nodes:
        assert (spec.parameters.get('robots') == 3) == (spec.name in shared)
        space = spec.full_namespace(graph.namespace)
        assert space == ('/lab' if spec.name in shared else f'/lab/{spec.namespace}')
        assert spec.remappings(graph.namespace) == (
            [] if spec.name in shared else [('/clock', f'{space}/clock')])
    bridges = [spec for spec in graph.nodes if spec.name == 'robot_bridge']
    assert len({spec.parameters['seed'] for spec in bridges}) == 3
    assert bridges[0].parameters['seed'] == 5
    recorders = [spec for spec in graph.nodes if spec.name == 'experience_recorder']
    assert len({spec.parameters['directory'] for spec in recorders}) == 3


@pytest.mark.parametrize('count', ['0', '17', '-1', 'two', '1.5'])
def test_a_number_of_robots_that_is_none(count):
    with pytest.raises(GraphError, match='argument robots:='):
        build('train', {'robots': count}, {}, NOW)


def test_only_several_robots_are_answered_together(policy):
    graph = build('deploy', {'policy': policy, 'robots': '3', 'batch': 'true'}, {}, NOW)
    assert node(graph, 'policy_server').parameters['batch'] is True
    with pytest.raises(GraphError, match='batch:=true with robots:=1'):
        build('deploy', {'policy': policy, 'batch': 'true'}, {}, NOW)


def test_a_physical_robot_is_alone_in_its_graph(policy):
    with pytest.raises(GraphError, match='a physical robot is one'):
        build('deploy', {'policy': policy, 'robots': '2', 'backend': 'servo_bus'}, {}, NOW)


# --- consequences -----------------------------------------------------------------------------

@pytest.mark.parametrize(('name', 'returncode', 'shutdown', 'exit_code'), [
    ('robot_bridge', 0, True, 1), ('robot_bridge', 3, True, 3), ('robot_bridge', -9, True, 137),
    ('safety_monitor', 0, True, 1), ('safety_monitor', -11, True, 139),
    ('policy_server', 5, True, 5), ('policy_server', 0, True, 1),
    ('trainer', 0, True, 0), ('trainer', 1, False, 0), ('trainer', -9, False, 0),
    ('trainer', 2, True, 2), ('experience_recorder', 1, False, 0),
    ('experience_recorder', 0, False, 0), ('experience_recorder', 2, True, 2),
    ('reward_computer', -9, False, 0), ('reward_computer', 2, True, 2)])
def test_what_the_end_of_a_node_means_in_training(name, returncode, shutdown, exit_code):
    spec = node(build('train', {}, {}, NOW), name)
    verdict = judge(spec, returncode)
    assert (verdict.shutdown, verdict.exit_code) == (shutdown, exit_code)
    assert name in verdict.message
    assert ('CONTROL GOES ON' in verdict.message) == (not shutdown)


@pytest.mark.parametrize(('returncode', 'exit_code'), [(0, 0), (1, 1), (2, 2), (-9, 137)])
def test_the_end_of_the_evaluator_ends_the_deployment(policy, returncode, exit_code):
    spec = node(build('deploy', {'policy': policy}, {}, NOW), 'evaluator')
    verdict = judge(spec, returncode)
    assert (verdict.shutdown, verdict.exit_code) == (True, exit_code)


def test_return_codes_in_words():
    assert describe_returncode(3) == 'exit code 3'
    assert describe_returncode(-9) == 'killed by SIGKILL'
    assert describe_returncode(-99) == 'killed by signal 99'


@pytest.mark.parametrize(('returncode', 'proper'), [
    (0, True), (-2, True), (130, True), (-15, True), (143, True), (1, False), (-9, False),
    (-6, False)])
def test_proper_answers_to_a_stop(returncode, proper):
    assert stopped_on_request(returncode) == proper


def test_spec_defaults_go_on():
    assert not judge(NodeSpec('a', 'a', {}), 1).shutdown


@pytest.mark.parametrize(('arguments', 'words'), [
    ({'channel': 'wify'}, "did you mean 'wifi'"), ({'channel': 'wifi'}, 'stepping:=realtime'),
    ({'real_time_factor': '0.05'}, 'from 0.1 to 10'), ({'real_time_factor': '11'}, 'to 10')])
def test_pace_and_channel_are_refused_before_anything_starts(arguments, words):
    with pytest.raises(RlNodesError, match=words):
        build('train', arguments, {}, NOW)
