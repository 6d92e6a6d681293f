# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The documented arguments of every graph, and the one way to read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rl_nodes.backends import BACKENDS, HARDWARE
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import GraphError

Value = str | bool | int | float


@dataclass(frozen=True)
class Argument:
    """
    One launch argument, written ``name:=value``.

    :param name: what stands left of ``:=``.
    :param default: value as text; None where the argument is required.
    :param description: one sentence for ``--help``.
    :param kind: how the text is read.
    :param choices: the only values allowed; empty where any is.
    :param low: least value of a number.
    :param high: greatest value of a number.
    """

    name: str
    default: str | None
    description: str
    kind: Literal['text', 'integer', 'number', 'boolean'] = 'text'
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = float('inf')

    def parse(self, text: str) -> Value:
        """Return the value in ``text``; GraphError says what is allowed."""
        if self.choices and text not in self.choices:
            raise GraphError(f'argument {self.name}:={text}{suggestion(text, self.choices)}; '
                             f'allowed: {", ".join(self.choices)}')
        if self.kind == 'text':
            if '\0' in text or not text.isprintable():
                raise GraphError(f'argument {self.name}:={text!r} holds unprintable characters')
            return text
        if self.kind == 'boolean':
            return text == 'true'
        try:
            value = int(text) if self.kind == 'integer' else float(text)
            accepted = self.low <= value <= self.high  # false for NaN
        except ValueError:
            accepted = False
        if not accepted or value == float('inf'):
            what = 'a whole number' if self.kind == 'integer' else 'a number'
            limit = f'at least {self.low}' if self.high == float('inf') else (
                f'from {self.low} to {self.high}')
            raise GraphError(f'argument {self.name}:={text}: expected {what} {limit}')
        return value


_BOTH = {
    'backend': Argument('backend', BACKENDS[0], 'what moves: the simulator or driver to use.',
                        choices=BACKENDS),
    'hardware': Argument(
        'backend', BACKENDS[0], 'what moves: a simulator, or the physical robot by its section '
        'servo_bus or ros2_control in config/robots; that needs stepping:=realtime.',
        choices=(*BACKENDS, *HARDWARE)),
    'namespace': Argument('namespace', '', 'ROS namespace of all nodes.'),
    'real_time_factor': Argument(
        'real_time_factor', '0', 'simulated seconds per second, 0.1 to 10; 0: as fast as possible '
        'in lockstep, 1 in real time. Time-outs stay wall time.', 'number', high=10),
    'channel': Argument(
        'channel', 'ideal', 'delays and losses between a simulated robot and the rest, in real '
        'time: a name in config/channels or a path to a .yaml file.'),
    'robots': Argument(
        'robots', '1', 'simulated robots beside each other, each with its own bridge, safety '
        'monitor, rewards and recorder in the namespace robot_<number>; one policy server, one '
        'trainer or evaluator for all.', 'integer', low=1, high=16),
    'cameras': Argument(
        'cameras', 'false', "draw what the simulated robot's cameras see, in a process of its "
        'own, and mark recorded episodes in which a camera has stalled; true by itself where a '
        'policy that is deployed observes pictures.', 'boolean',
        ('true', 'false')),
    'record_images': Argument(
        'record_images', 'false', 'keep the pictures with the recorded episodes; needs '
        'cameras:=true.', 'boolean', ('true', 'false')),
    'arm_on_start': Argument(
        'arm_on_start', 'true', 'clear the safety stop once at the start; simulation only. On a '
        'physical robot it is false and cannot be set: a person calls clear_stop.',
        'boolean', ('true', 'false')),
}


def _stepping(default: str) -> Argument:
    return Argument(
        'stepping', default, 'lockstep: the simulation waits for every command, so runs repeat '
        'exactly; realtime: it never waits.', choices=('lockstep', 'realtime'))


_TRAIN = (
    Argument('robot', 'arm', 'robot: a name in config/robots, a path to a .yaml file, or to a '
             '.urdf file with one beside it (rl_nodes robot init makes it).'),
    Argument('task', 'reach', 'task: a name in config/tasks or a path to a .yaml file.'),
    Argument('algorithm', 'sac', 'learner: a name in config/train or a path to a .yaml file.'),
    _BOTH['backend'],
    _stepping('lockstep'),
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    _BOTH['robots'],
    Argument('seed', '0', 'seed of the learner, the exploration and the resets.', 'integer',
             high=2**31 - 1),
    _BOTH['cameras'],
    _BOTH['record_images'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where everything of this run is written; empty for '
             'runs/<UTC time>_<task>_<algorithm>.'),
    Argument('time_budget_s', '300', 'train for at most this long [s].', 'number', low=1),
    Argument('target_success', '0.95', 'stop early at this evaluated success rate.', 'number',
             high=1),
    Argument('demonstrations', '', 'recorded episodes to learn from besides: a .mcap file, a '
             'folder of them, or the .npz file that rl_nodes transitions makes of them.'),
    Argument('resume', '', 'run directory to go on from.'),
    _BOTH['arm_on_start'],
)

_DEPLOY = (
    Argument('policy', None, 'policy to run: a .onnx file with its manifest beside it.'),
    Argument('fallback', 'none', 'controller that answers where the policy fails or has no '
             'action; none for silence, in which the safety monitor stops the robot. See '
             'docs/deployment.md.', choices=('none', 'hold', 'pd', 'lqr')),
    Argument('chunk_blend', 'ensemble', 'how a policy that answers with several actions goes over '
             'from one answer to the next.', choices=('ensemble', 'crossfade')),
    Argument('shadow', '', 'another policy, which is asked what it would do in each state, '
             'compared and recorded, and never moves the robot: a .onnx file.'),
    Argument('control_path', 'auto', 'what answers the states: cpp is fastest, auto takes it '
             'where it can be had.', choices=('auto', 'cpp', 'python')),
    Argument('robot', '', "robot; empty for the one in the policy's manifest."),
    Argument('task', '', "task; empty for the one in the policy's manifest."),
    _BOTH['hardware'],
    _stepping('realtime'),
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    _BOTH['robots'],
    Argument('episodes', '20', 'number of episodes to evaluate; 0 goes on until Ctrl-C.',
             'integer', high=10**6),
    Argument('seed', '1000', 'seed of the resets.', 'integer', high=2**31 - 1),
    _BOTH['cameras'],
    _BOTH['record_images'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where report and episodes are written; empty for a new folder '
             'named deploy beside the policy.'),
    _BOTH['arm_on_start'],
)

_GYM = (
    Argument('robot', 'arm', 'robot: a name in config/robots, a path to a .yaml file, or to a '
             '.urdf file with one beside it (rl_nodes robot init makes it).'),
    Argument('task', 'reach', 'task: a name in config/tasks or a path to a .yaml file.'),
    _BOTH['hardware'],
    _stepping('lockstep'),
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    Argument('seed', '0', 'seed of the resets until the client gives one.', 'integer',
             high=2**31 - 1),
    Argument('record', 'false', 'keep every episode as a file.', 'boolean', ('true', 'false')),
    _BOTH['cameras'],
    _BOTH['record_images'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where log and episodes are written; empty for '
             'runs/<UTC time>_<task>_gym.'),
    _BOTH['arm_on_start'],
)

GRAPHS: dict[str, tuple[Argument, ...]] = {'train': _TRAIN, 'deploy': _DEPLOY, 'gym': _GYM}

SUMMARIES = {
    'train': 'Train a policy on a task with the running graph of nodes.',
    'deploy': 'Run a trained policy and report how well it does.',
    'gym': 'Run robot, safety monitor and rewards for a Gymnasium client (rl_nodes/Ros-v0).',
}


def help_text(name: str) -> str:
    """Return the documented arguments of a graph."""
    lines = [SUMMARIES[name], '', f'Arguments of {name} (name:=value):']
    for argument in find_graph(name):
        default = 'required' if argument.default is None else f'default {argument.default!r}'
        choices = f'; one of {", ".join(argument.choices)}' if argument.choices else ''
        lines += [f'  {argument.name}  ({default}{choices})', f'      {argument.description}']
    return '\n'.join(lines)


def find_graph(name: str) -> tuple[Argument, ...]:
    """Return the arguments of a graph; GraphError lists the graphs that exist."""
    if name not in GRAPHS:
        raise GraphError(f'unknown graph {name!r}{suggestion(name, GRAPHS)}; '
                         f'available: {", ".join(GRAPHS)}')
    return GRAPHS[name]


def resolve(name: str, given: Mapping[str, str]) -> dict[str, Value]:
    """
    Return every argument of a graph with its value.

    :param given: arguments as text.
    :raises GraphError: unknown argument, value not allowed, or a required one is missing.
    """
    known = {argument.name: argument for argument in find_graph(name)}
    for key in given:
        if key not in known:
            valid = ', '.join(f'{a.name} ({"required" if a.default is None else repr(a.default)})'
                              for a in known.values())
            raise GraphError(f'{name} has no argument {key!r}{suggestion(key, known)}; '
                             f'valid arguments and defaults: {valid}')
    values: dict[str, Value] = {}
    for key, argument in known.items():
        value = given.get(key, argument.default)
        if value is None or (argument.default is None and not value):
            raise GraphError(f'{name} needs the argument {key}:=... ({argument.description})')
        values[key] = argument.parse(value)
    backend = values.get('backend')
    if backend in HARDWARE:
        if values['stepping'] == 'lockstep':
            raise GraphError(f'stepping:=lockstep with backend:={backend}: a physical robot does '
                             'not wait; use stepping:=realtime')
        if values.get('robots', 1) != 1:
            raise GraphError(
                f'robots:={values["robots"]} with backend:={backend}: a physical robot is one; '
                'run a graph of its own, with a namespace of its own, for each')
        if values['cameras']:
            raise GraphError(f'cameras:=true with backend:={backend}: these cameras are drawn; '
                             'those of a physical robot have drivers of their own')
        if given.get('arm_on_start') == 'true':
            raise GraphError(
                f'arm_on_start:=true with backend:={backend}: only a person may allow a physical '
                'robot to move, by the service safety_monitor/clear_stop')
        values['arm_on_start'] = False
    if values['record_images']:
        _require_pictures(values)
    return values


def _require_pictures(values: Mapping[str, Value]) -> None:
    for name, without in (('cameras', 'there is no picture to keep'),
                          ('record', 'no episode is recorded')):
        if not values.get(name, True):
            raise GraphError(f'record_images:=true needs {name}:=true; without it {without}')


def text(value: Value) -> str:
    """Return an argument's value as it is written on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
