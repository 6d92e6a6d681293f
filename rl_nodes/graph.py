# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which nodes make each graph, and what happens when one of them ends.

Pure data and pure functions without ROS. ``runner.py`` runs a :class:`Graph` as processes,
``launch_description.py`` turns the same graph into launch_ros actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, UTC
import os
from pathlib import Path
import re
import signal
from typing import Literal

from rl_nodes.backends import HARDWARE, installed_backends
from rl_nodes.core import ros_environment
from rl_nodes.core.channel import load_channel
from rl_nodes.core.config import read_yaml
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, GraphError
from rl_nodes.core.fleet import robot_namespaces, topic_in
from rl_nodes.core.resources import find_config
from rl_nodes.core.returns import target_of
from rl_nodes.core.robot import load_robot
from rl_nodes.graph_arguments import GRAPHS, resolve, text, Value

__all__ = ['GRAPHS', 'Graph', 'NodeSpec', 'Verdict', 'build', 'describe_returncode', 'judge',
           'stopped_on_request']

REFUSED_TO_START = 2  # exit status of a node whose configuration is wrong
SEED_STRIDE = 10_000    # between the seeds of robots beside each other
FIRST = {'policy_server': 0, 'robot_bridge': 1, 'safety_monitor': 2}  # added to priority:=...
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class NodeSpec:
    """
    One node, one process.

    :param executable: module in ``rl_nodes.nodes`` and console script.
    :param name: node name.
    :param parameters: ROS parameters with their Python types.
    :param namespace: relative to the graph's; empty unless the graph has several robots.
    :param on_success: when it exits with 0: ``shutdown`` ends the graph because the work is
        done, ``fail`` ends it because this node must never end, ``continue`` goes on.
    :param on_failure: when it exits otherwise; exit status 2 always ends the graph.
    """

    executable: str
    name: str
    parameters: dict[str, Value]
    on_success: Literal['continue', 'shutdown', 'fail'] = 'continue'
    on_failure: Literal['continue', 'shutdown'] = 'continue'
    namespace: str = ''

    @property
    def path(self) -> str:
        """Return the name that tells this node from all others of the graph."""
        return topic_in(self.namespace, self.name)

    def remappings(self, graph_namespace: str) -> list[tuple[str, str]]:
        """
        Return (from, to) of each topic that has another name here.

        Simulated robots beside each other have a time each, as each waits for its own commands.

        :param graph_namespace: ``/`` or ``/name``.
        """
        return [('/clock', f'{self.full_namespace(graph_namespace)}/clock')] \
            if self.namespace else []

    def full_namespace(self, graph_namespace: str) -> str:
        """Return the absolute namespace of this node."""
        return '/' + '/'.join(part for part in (graph_namespace.strip('/'), self.namespace)
                              if part)


@dataclass(frozen=True)
class Graph:
    """
    A graph ready to run.

    :param name: as in ``train``, see ``GRAPHS``.
    :param arguments: every argument with the value in force.
    :param namespace: ``/`` or ``/name``.
    :param domain_id: ROS domain.
    :param run_directory: where everything of this run is written; not made yet.
    :param nodes: in the order they are started.
    """

    name: str
    arguments: dict[str, Value]
    namespace: str
    domain_id: int
    run_directory: Path
    nodes: tuple[NodeSpec, ...]

    @property
    def description(self) -> str:
        """Return the command line that starts this graph."""
        given = ' '.join(f'{key}:={text(value)}' for key, value in self.arguments.items()
                         if value != '')
        return f'rl_nodes launch {self.name} {given}'


@dataclass(frozen=True)
class Verdict:
    """
    What follows from the end of a node.

    :param shutdown: the whole graph ends.
    :param exit_code: the graph's exit status if it does.
    :param message: for people, names the node.
    """

    shutdown: bool
    exit_code: int
    message: str


def judge(spec: NodeSpec, returncode: int) -> Verdict:
    """
    Return what follows when a node ends although nobody stopped the graph.

    :param returncode: as subprocess gives it: negative is the signal that ended the node.
    """
    if returncode == 0:
        if spec.on_success == 'shutdown':
            return Verdict(True, 0, f'{spec.path} has finished: shutting down')
        if spec.on_success == 'fail':
            return Verdict(True, 1, f'{spec.path} ended (exit code 0) although the graph needs '
                                    'it: shutting everything down')
        return Verdict(False, 0, f'{spec.path} ended (exit code 0): CONTROL GOES ON WITHOUT IT')
    how = describe_returncode(returncode)
    if returncode == REFUSED_TO_START:
        return Verdict(True, REFUSED_TO_START, f'{spec.path} refused to start ({how}): shutting '
                                               'everything down')
    if spec.on_failure == 'shutdown':
        code = returncode if returncode > 0 else 128 - returncode
        return Verdict(True, code, f'{spec.path} died ({how}): shutting everything down')
    return Verdict(False, 0, f'{spec.path} DIED ({how}): CONTROL GOES ON WITHOUT IT')


def describe_returncode(returncode: int) -> str:
    """Return ``exit code 3`` or ``killed by SIGSEGV``."""
    if returncode >= 0:
        return f'exit code {returncode}'
    try:
        return f'killed by {signal.Signals(-returncode).name}'
    except ValueError:
        return f'killed by signal {-returncode}'


def stopped_on_request(returncode: int) -> bool:
    """Return whether this exit status is a proper answer to a stop signal."""
    by_signal = [-number for number in STOPPING_SIGNALS]
    by_shell_convention = [128 + number for number in STOPPING_SIGNALS]
    return returncode in (0, *by_signal, *by_shell_convention)


# --- Building -------------------------------------------------------------------------------

def build(name: str, arguments: Mapping[str, str], environ: Mapping[str, str] | None = None,
          now: datetime | None = None) -> Graph:
    """
    Return a graph whose every argument, file and contract has been checked.

    :param name: as in ``train``, see ``GRAPHS``.
    :param arguments: arguments as text; those left out take their defaults.
    :param environ: environment variables; None for those of this process.
    :param now: the time that names a run; None for the present.
    :raises GraphError: wrong argument or environment.
    :raises ConfigError: no such robot, task or algorithm, or a wrong configuration file.
    :raises BundleError: the policy is missing or damaged.
    :raises ContractError: the policy was made for another robot or task.
    """
    values = resolve(name, arguments)
    domain_id = ros_environment.check(os.environ if environ is None else environ)
    namespace = _namespace(str(values['namespace']))
    makers = {'train': _train, 'deploy': _deploy, 'gym': _gym, 'record': _record,
              'replay': _replay}
    run_directory, nodes = makers[name](values, now or datetime.now(UTC))
    return Graph(name, values | {'run_dir': str(run_directory)}, namespace, domain_id,
                 run_directory, tuple(nodes))


def _train(values: dict[str, Value], now: datetime) -> tuple[Path, list[NodeSpec]]:
    robot, task = _reference('robots', values['robot']), _reference('tasks', values['task'])
    algorithm = _reference('train', values['algorithm'])
    contract = _contract(robot, task)
    read_yaml(find_config('train', algorithm))
    label = f'{now:%Y%m%d-%H%M%S}_{Path(task).stem}_{Path(algorithm).stem}'
    run = _absolute(str(values['run_dir']) or f'runs/{label}')
    given = {}
    for name, what in (('resume', 'run directory'), ('demonstrations', 'file or folder'),
                       ('prefill', 'file or folder')):
        given[name] = str(_absolute(str(values[name]))) if values[name] else ''
        if given[name] and not Path(given[name]).exists():
            raise GraphError(f'{name}:={values[name]}: no such {what}')
    if str(run) != given['resume']:
        _require_unused(run)
    values |= {'robot': robot, 'task': task, 'algorithm': algorithm, **given,
               'channel': _channel(values), 'guard': _guard(values, contract, stops=False)}
    nodes = _common(values, run, {'policy': '', 'sampling': 'stochastic'}, record_every=20,
                    publish_experience=True)
    return run, [*nodes, _node(values, 'trainer', {
        'algorithm': algorithm, 'run_dir': str(run), 'seed': values['seed'], **given,
        'time_budget_s': values['time_budget_s'], 'film': values['film'],
        'target_success': values['target_success'], 'simulator': values['backend'],
        'robots': values['robots']}, 'shutdown', 'continue')]


def _deploy(values: dict[str, Value], now: datetime) -> tuple[Path, list[NodeSpec]]:
    from rl_nodes.inference.bundle import PolicyBundle

    policy = _absolute(str(values['policy']))
    if not policy.is_file():
        raise GraphError(f'policy:={values["policy"]}: no such file; give the path of a .onnx '
                         'file that a training run has written')
    theirs: Contract = PolicyBundle.load(policy).manifest.contract
    if theirs.action_choices == 'discrete':
        raise GraphError(f'policy:={values["policy"]} chooses one of several actions by its '
                         'number; robots here take continuous commands. Deploy a policy that was '
                         'trained on a task of config/tasks')
    robot = _reference('robots', values['robot'] or theirs.robot)
    task = _reference('tasks', values['task'] or theirs.task)
    ours = _contract(robot, task)
    ours.require(theirs, f'robot {Path(robot).stem} with task {Path(task).stem}',
                 f'policy {policy.name}')
    if values['target_return']:
        target_of(str(values['target_return']), ours)
    run = _absolute(str(values['run_dir'])) if values['run_dir'] else _unused(
        policy.parent / 'deploy')
    _require_unused(run)
    shadow = _policy_for(ours, 'shadow', str(values['shadow']))
    values['cameras'] = values['cameras'] or bool(ours.pictures)
    values |= {'robot': robot, 'task': task, 'policy': str(policy), 'channel': _channel(values),
               'shadow': shadow, 'guard': _guard(values, ours)}
    own = values if values['teleop'] == 'none' else values | {
        'sources': 'policy+teleop', 'operator': values['teleop']}
    nodes = _common(own, run, {
        'policy': str(policy), 'sampling': 'deterministic', 'shadow': shadow,
        'control_path': values['control_path'], 'fallback': values['fallback'],
        'chunk_blend': values['chunk_blend'], 'batch': values['batch']},
        record_every=1, publish_experience=False)
    if values['teleop'] != 'none':
        nodes += _teleop(own, str(values['teleop']), {})
    return run, [*nodes, _node(values, 'evaluator', {
        'episodes': values['episodes'], 'report': str(run / 'report.json'),
        'robots': values['robots']}, 'shutdown', 'shutdown')]


def _common(values: dict[str, Value], run: Path, server: dict[str, Value], record_every: int,
            publish_experience: bool) -> list[NodeSpec]:
    """Return the control nodes: drivers first, policy last, so that nothing moves unwatched."""
    nodes = []
    for index, namespace in enumerate(robot_namespaces(int(values['robots']))):
        own = values | {'seed': int(values['seed']) + SEED_STRIDE * index}
        if not publish_experience:  # a learner explores: what stops it is its daily bread
            own |= _events(run, namespace)
        nodes += [
            replace(spec, namespace=namespace) for spec in (
                *_watched_robot(own, recorded=True),
                _node(own, 'reward_computer', {}, 'continue', 'continue'),
                _recorder(own, run, record_every, publish_experience, namespace),
                *_cameras(own))]
    return [*nodes, _node(values, 'policy_server', {
        **server, 'seed': values['seed'], 'robots': values['robots']}, 'fail', 'shutdown')]


def _gym(values: dict[str, Value], now: datetime) -> tuple[Path, list[NodeSpec]]:
    """Return a graph without a policy server: a Gymnasium client (``RosEnv``) acts in it."""
    robot, task = _reference('robots', values['robot']), _reference('tasks', values['task'])
    contract = _contract(robot, task)
    run = _absolute(str(values['run_dir']) or f'runs/{now:%Y%m%d-%H%M%S}_{Path(task).stem}_gym')
    _require_unused(run)
    values |= {'robot': robot, 'task': task, 'channel': _channel(values),
               'guard': _guard(values, contract)}
    # No step ends without its reward, so this graph does not go on without the reward computer.
    own = values | (_events(run) if values['record'] else {})
    nodes = [*_watched_robot(own, bool(values['record'])),
             _node(values, 'reward_computer', {}, 'fail', 'shutdown')]
    if values['record']:
        nodes.append(_recorder(values, run, record_every=1, publish_experience=False))
    return run, [*nodes, *_cameras(values)]


def _record(values: dict[str, Value], now: datetime) -> tuple[Path, list[NodeSpec]]:
    """Return a graph in which somebody demonstrates a task."""
    robot, task = _reference('robots', values['robot']), _reference('tasks', values['task'])
    contract = _contract(robot, task)
    run = _absolute(str(values['run_dir']) or f'runs/{now:%Y%m%d-%H%M%S}_{Path(task).stem}_record')
    _require_unused(run)
    for key in ('policy', 'expert'):
        values[key] = _policy_for(contract, key, str(values[key]))
    values |= {'robot': robot, 'task': task, 'channel': _channel(values),
               'operator': values['operator'] or values['input'],
               'guard': _guard(values, contract),
               'cameras': values['cameras'] or bool(values['policy'] and contract.pictures)}
    own = values | _events(run) | {'sources': 'policy+teleop' if values['policy'] else 'teleop'}
    nodes = [*_watched_robot(own, recorded=True),
             _node(values, 'reward_computer', {}, 'fail', 'shutdown'),
             _recorder(own, run, record_every=1, publish_experience=False),
             *_cameras(values)]
    if values['policy']:
        nodes.append(_node(values, 'policy_server', {
            'policy': values['policy'], 'sampling': 'deterministic', 'seed': values['seed'],
            'robots': 1}, 'fail', 'shutdown'))
    return run, [*nodes, *_teleop(values, str(values['input']), {
        'policy': values['expert'], 'mapping': values['mapping'], 'curated': True,
        'noise': values['noise'], 'seed': values['seed']}),
        _node(values, 'record_session', {
            'episodes': values['episodes'], 'directory': str(run / 'episodes'),
            'report': str(run / 'report.json'),
            'unattended': values['input'] == 'scripted'}, 'shutdown', 'shutdown')]


def _replay(values: dict[str, Value], now: datetime) -> tuple[Path, list[NodeSpec]]:
    """Return a graph without rewards, so that no end of an episode interrupts the recording."""
    from rl_nodes.data.reader import read_episode

    episode = _absolute(str(values['episode']))
    theirs: Contract = read_episode(episode).contract
    robot = _reference('robots', values['robot'] or theirs.robot)
    task = _reference('tasks', values['task'] or theirs.task)
    _contract(robot, task).require(theirs, f'robot {Path(robot).stem} with task '
                                   f'{Path(task).stem}', f'episode {episode.name}')
    run = _absolute(str(values['run_dir']) or f'runs/{now:%Y%m%d-%H%M%S}_{Path(task).stem}_replay')
    _require_unused(run)
    values |= {'robot': robot, 'task': task, 'episode': str(episode)}
    own = values | _events(run) | {'stepping': 'realtime', 'seed': 0, 'sources': 'teleop'}
    values['channel'] = own['channel'] = _channel(own)
    return run, [*_watched_robot(own, recorded=False), _node(own, 'teleop', {
        'input': 'replay', 'episode': str(episode), 'ramp': values['ramp'],
        'operator': episode.stem}, 'shutdown', 'shutdown')]


def _teleop(values: dict[str, Value], kind: str, parameters: dict[str, Value]) -> list[NodeSpec]:
    """Return the teleop node and, for a person at this terminal, the keyboard."""
    nodes = [_node(values, 'teleop', {
        'input': 'scripted' if kind == 'scripted' else 'joy',
        'operator': values.get('operator', kind), **parameters}, 'fail', 'shutdown')]
    if kind == 'keyboard':
        try:
            terminal = os.ttyname(0)
        except OSError:
            raise GraphError('keyboard: this is no terminal whose keys can be read; start it in '
                             'one, not through a pipe') from None
        nodes.append(_node(values, 'keyboard', {'terminal': terminal}, 'continue', 'continue'))
    return nodes


def _policy_for(contract: Contract, key: str, given: str) -> str:
    """Return the absolute path of a policy that fits, or ``''`` where none is given."""
    from rl_nodes.inference.bundle import PolicyBundle

    if not given:
        return ''
    path = _absolute(given)
    if not path.is_file():
        raise GraphError(f'{key}:={given}: no such file; give the path of a .onnx file that a '
                         'training run has written')
    contract.require(PolicyBundle.load(path).manifest.contract,
                     f'robot {contract.robot} with task {contract.task}', f'{key} {path.name}')
    return str(path)


def _guard(values: dict[str, Value], contract: Contract, stops: bool = True) -> str:
    """Return the path of a guard that fits, or ``''``; ``stops`` says whether it may stop."""
    from rl_nodes.safety.guard_file import read_guard

    if not values['guard']:
        return ''
    path = _absolute(str(values['guard']))
    if read_guard(path, contract).verdict == 'stop' and not stops:
        raise GraphError(f'guard:={values["guard"]} stops the robot until a person clears that: '
                         'training would stand still; calibrate one with verdict:=hold')
    return str(path)


def _watched_robot(values: dict[str, Value], recorded: bool) -> list[NodeSpec]:
    bridge = {key: values[key] for key in ('backend', 'seed', 'channel')}
    monitor = {key: values[key] for key in ('arm_on_start', 'backend')} | {
        key: values[key] for key in ('sources', 'event_directory', 'guard') if values.get(key)}
    return [_node(values, 'robot_bridge', {**bridge, 'recorded': recorded}, 'fail', 'shutdown'),
            _node(values, 'safety_monitor', monitor, 'fail', 'shutdown')]


def _events(run: Path, namespace: str = '') -> dict[str, Value]:
    """Return where a safety monitor keeps what it saw around its interventions."""
    return {'event_directory': str(run / 'safety_events' / namespace)}


def _recorder(values: dict[str, Value], run: Path, record_every: int,
              publish_experience: bool, namespace: str = '') -> NodeSpec:
    return _node(values, 'experience_recorder', {
        'directory': str(run / 'episodes' / namespace), 'record_every': record_every,
        'publish_experience': publish_experience, 'cameras': values['cameras'],
        'record_images': values['record_images'] != 'false', 'shadow': bool(values.get('shadow')),
        'jpeg_quality': values['jpeg_quality'] if values['record_images'] == 'compressed' else 0,
        'topics': values['topics'], 'keep_last_s': values['keep_last_s'],
        **_curation(values)}, 'continue', 'continue')


def _curation(values: dict[str, Value]) -> dict[str, Value]:
    """Return what the recorder is to know of people and of which episodes are kept."""
    if 'sources' not in values:
        return {}
    found = {key: values[key] for key in ('sources', 'operator', 'seed', 'keep') if key in values}
    return found | ({'most_episodes': values['episodes']} if 'keep' in values else {})


def _cameras(values: dict[str, Value]) -> list[NodeSpec]:
    """Return the node that draws what the robot's cameras see, where that is asked for."""
    if not values['cameras']:
        return []
    if not load_robot(str(values['robot'])).config.cameras:
        raise GraphError(f'cameras:=true: robot {values["robot"]} has no cameras; list them under '
                         'cameras in its YAML file, see docs/cameras.md')
    if values['backend'] in HARDWARE:
        return []  # their drivers are not ours to start
    if 'pybullet' not in installed_backends():
        raise GraphError('cameras:=true: cameras are drawn by the package pybullet, which is not '
                         'installed; install it with: pip install "rl_nodes[pybullet]"')
    return [_node(values, 'camera', {}, 'continue', 'continue')]


def _node(values: dict[str, Value], name: str, parameters: dict[str, Value],
          on_success: Literal['continue', 'shutdown', 'fail'],
          on_failure: Literal['continue', 'shutdown']) -> NodeSpec:
    shared = {key: values[key] for key in ('robot', 'task', 'stepping', 'real_time_factor')} | {
        key: values[key] for key in ('target_return',) if values.get(key)}
    if name in ('policy_server', 'experience_recorder') and values['backend'] in HARDWARE:
        shared['camera_drivers'] = values['cameras']
    if values.get('priority') and name in FIRST:
        shared['priority'] = int(values['priority']) + FIRST[name]
    return NodeSpec(name, name, {**shared, 'autostart': True, **parameters},
                    on_success, on_failure)


def _channel(values: dict[str, Value]) -> str:
    """Return the channel's reference; ConfigError or GraphError where it cannot be used."""
    reference = _reference('channels', values['channel'])
    if values['stepping'] == 'lockstep' and not load_channel(reference).ideal:
        raise GraphError(f'channel:={values["channel"]} needs stepping:=realtime; in lockstep the '
                         'robot waits for every message')
    if 0 < float(values['real_time_factor']) < 0.1:
        raise GraphError(f'argument real_time_factor:={values["real_time_factor"]}: expected 0 or '
                         'a number from 0.1 to 10')
    return reference


def _contract(robot: str, task: str) -> Contract:
    """Return the contract of a robot doing a task; reads and checks both files."""
    from rl_nodes.tasks import load_task

    return load_task(robot, task).contract


def _reference(family: str, value: Value) -> str:
    """Return a shipped configuration's name as it is, and a file's path made absolute."""
    path = find_config(family, str(value))
    return str(path) if str(value).endswith(('.yaml', '.yml', '.urdf')) else str(value)


def _namespace(given: str) -> str:
    parts = given.strip('/').split('/') if given.strip('/') else []
    for part in parts:
        if not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', part):
            raise GraphError(f'argument namespace:={given}: expected names of letters, digits and '
                             'underscores, not starting with a digit, separated by "/"')
    return '/' + '/'.join(parts)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _require_unused(run: Path) -> None:
    if _holds_something(run):
        raise ConfigError(f'run_dir:={run} exists and is not empty; a run never mixes with an '
                          'older one. Choose another directory or move that one aside.')


def _unused(folder: Path) -> Path:
    """Return ``folder``, or ``folder-2``, ``folder-3`` ... where it is in use."""
    candidate, number = folder, 1
    while _holds_something(candidate):
        number += 1
        candidate = folder.with_name(f'{folder.name}-{number}')
    return candidate
