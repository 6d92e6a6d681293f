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
    'hardware_cameras': Argument(
        'cameras', 'false', "draw what the simulated robot's cameras see, in a process of its "
        "own, or hear the drivers of a physical robot's, which you start, on the topics that its "
        'YAML names; mark recorded episodes in which a camera has stalled. True by itself where '
        'a policy that is deployed observes pictures.', 'boolean', ('true', 'false')),
    'record_images': Argument(
        'record_images', 'false', 'keep the pictures with the recorded episodes, as they come '
        'or, those in colour, compressed unless a driver has done it; needs cameras:=true.',
        choices=('false', 'true', 'compressed')),
    'jpeg_quality': Argument(
        'jpeg_quality', '90', 'of pictures that record_images:=compressed keeps.', 'integer',
        low=1, high=95),
    'guard': Argument(
        'guard', '', 'stops or holds the robot where what it observes is far from the recorded '
        'episodes that went well: the .json file that rl_nodes safety calibrate makes of these.'),
    'priority': Argument(
        'priority', '0', 'of SCHED_FIFO, for what must answer in time: the policy server has this '
        'one, the robot bridge one more, the safety monitor two; 0 for the usual scheduling. '
        'Needs stepping:=realtime and the right to it, see docs/realtime.md.', 'integer',
        high=97),
    'topics': Argument(
        'topics', '', 'further topics to keep with recorded episodes, beside those that the YAML '
        'of robot and task lists as record_topics: names and regular expressions separated by '
        'spaces, or all.'),
    'keep_last_s': Argument(
        'keep_last_s', '0', 'write the last seconds of everything that the recorder hears to '
        'episodes/events at every stop of the safety monitor and when experience_recorder/'
        'save_event is called; 0 for never.', 'number', high=600),
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
    _BOTH['guard'],
    _BOTH['cameras'],
    _BOTH['record_images'],
    _BOTH['jpeg_quality'],
    _BOTH['topics'],
    _BOTH['keep_last_s'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where everything of this run is written; empty for '
             'runs/<UTC time>_<task>_<algorithm>.'),
    Argument('time_budget_s', '300', 'train for at most this long [s].', 'number', low=1),
    Argument('target_success', '0.95', 'stop early at this evaluated success rate.', 'number',
             high=1),
    Argument('demonstrations', '', 'recorded episodes to learn from besides: a .mcap file, a '
             'folder of them, or the .npz file that rl_nodes dataset export makes of them.'),
    Argument('prefill', '', 'recorded episodes that the replay buffer begins with and newer ones '
             'replace in time; given as demonstrations are.'),
    Argument('film', 'false', 'leave rollout.gif, one episode of the best policy in the '
             'simulator, when training ends.', 'boolean', ('true', 'false')),
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
    Argument('batch', 'false', 'answer the states of several robots that have come in one run of '
             'the policy; for large networks, see docs/policy_server.md.', 'boolean'),
    Argument('teleop', 'none', 'who may take over while the policy runs, for as long as the '
             'deadman is held: a person with a gamepad (joy) or at this terminal (keyboard).',
             choices=('none', 'joy', 'keyboard')),
    Argument('robot', '', "robot; empty for the one in the policy's manifest."),
    Argument('task', '', "task; empty for the one in the policy's manifest."),
    Argument('target_return', '', 'what an episode is to earn, of a policy that observes '
             'return_to_go; empty for what the task says.'),
    _BOTH['hardware'],
    _stepping('realtime'),
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    _BOTH['priority'],
    _BOTH['robots'],
    Argument('episodes', '20', 'number of episodes to evaluate; 0 goes on until Ctrl-C.',
             'integer', high=10**6),
    Argument('seed', '1000', 'seed of the resets.', 'integer', high=2**31 - 1),
    _BOTH['guard'],
    _BOTH['hardware_cameras'],
    _BOTH['record_images'],
    _BOTH['jpeg_quality'],
    _BOTH['topics'],
    _BOTH['keep_last_s'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where report and episodes are written; empty for a new folder '
             'named deploy beside the policy.'),
    _BOTH['arm_on_start'],
)

_TELEOP_INPUTS = ('joy', 'keyboard')

_RECORD = (
    Argument('robot', 'arm', 'robot: a name in config/robots, a path to a .yaml file, or to a '
             '.urdf file with one beside it (rl_nodes robot init makes it).'),
    Argument('task', 'reach', 'task: a name in config/tasks or a path to a .yaml file.'),
    Argument('input', 'scripted', 'who demonstrates: joy, a person with a gamepad (ros2 run joy '
             'joy_node); keyboard, a person at this terminal; scripted, a script that does the '
             'task.', choices=('scripted', *_TELEOP_INPUTS)),
    Argument('operator', '', 'who demonstrates, kept with every episode; empty for the input.'),
    Argument('expert', '', "with input:=scripted, a policy that demonstrates in the script's "
             'place: a .onnx file.'),
    Argument('noise', '0.4', 'with input:=scripted in simulation, how much the commands are '
             'perturbed, as a share of them: a policy learns to come back from where errors '
             'lead. What is learned is what the script intended.', 'number', high=2),
    Argument('policy', '', 'a policy that acts until a person takes over, for corrections to '
             'learn from: a .onnx file; needs input:=joy or keyboard.'),
    Argument('mapping', 'auto', 'what a person moves: the joints, the tool (cartesian), or the '
             "elements of the task's action; auto takes what fits the robot.",
             choices=('auto', 'joint', 'cartesian', 'action')),
    Argument('episodes', '20', 'number of episodes to keep; 0 goes on until Ctrl-C.', 'integer',
             high=10**6),
    Argument('keep', 'successes', 'which episodes are kept: successes, and what a person saves; '
             'or all in which somebody demonstrated.', choices=('successes', 'demonstrated')),
    _BOTH['hardware'],
    Argument('stepping', '', 'lockstep: the simulation waits for every command, for '
             'input:=scripted only; realtime: it never waits. Empty for what fits the input.',
             choices=('', 'lockstep', 'realtime')),
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    _BOTH['priority'],
    Argument('seed', '0', 'seed of the resets.', 'integer', high=2**31 - 1),
    _BOTH['guard'],
    _BOTH['hardware_cameras'],
    _BOTH['record_images'],
    _BOTH['jpeg_quality'],
    _BOTH['topics'],
    _BOTH['keep_last_s'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where report and episodes are written; empty for '
             'runs/<UTC time>_<task>_record.'),
    _BOTH['arm_on_start'],
)

_REPLAY = (
    Argument('episode', None, 'recorded episode whose executed commands are repeated (.mcap).'),
    Argument('ramp', 'true', 'go to where the recording begins first, at the home_speed of the '
             'robot; false refuses unless the robot is there.', 'boolean', ('true', 'false')),
    Argument('robot', '', 'robot; empty for the one in the recording.'),
    Argument('task', '', 'task; empty for the one in the recording.'),
    _BOTH['hardware'],
    _BOTH['real_time_factor'],
    _BOTH['channel'],
    _BOTH['priority'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where the log is written; empty for runs/<UTC time>_<task>_replay.'),
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
    _BOTH['priority'],
    Argument('seed', '0', 'seed of the resets until the client gives one.', 'integer',
             high=2**31 - 1),
    Argument('record', 'false', 'keep every episode as a file.', 'boolean', ('true', 'false')),
    _BOTH['guard'],
    _BOTH['hardware_cameras'],
    _BOTH['record_images'],
    _BOTH['jpeg_quality'],
    _BOTH['topics'],
    _BOTH['keep_last_s'],
    _BOTH['namespace'],
    Argument('run_dir', '', 'where log and episodes are written; empty for '
             'runs/<UTC time>_<task>_gym.'),
    _BOTH['arm_on_start'],
)

GRAPHS: dict[str, tuple[Argument, ...]] = {
    'train': _TRAIN, 'deploy': _DEPLOY, 'gym': _GYM, 'record': _RECORD, 'replay': _REPLAY}

SUMMARIES = {
    'train': 'Train a policy on a task with the running graph of nodes.',
    'deploy': 'Run a trained policy and report how well it does.',
    'record': 'Record demonstrations of a task by a person or a script.',
    'replay': 'Repeat the commands of a recorded episode, through the safety monitor.',
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
    if name == 'record':
        _settle_recording(values)
    if values.get('teleop', 'none') != 'none' and values['robots'] != 1:
        raise GraphError(f'teleop:={values["teleop"]} with robots:={values["robots"]}: a person '
                         'moves one robot at a time')
    if values.get('batch') and values['robots'] == 1:
        raise GraphError('batch:=true with robots:=1: there is nothing to answer together; set '
                         'robots:=2 or more, or leave it out')
    backend = values.get('backend')
    if backend in HARDWARE:
        if values.get('stepping') == 'lockstep':
            raise GraphError(f'stepping:=lockstep with backend:={backend}: a physical robot does '
                             'not wait; use stepping:=realtime')
        if values.get('robots', 1) != 1:
            raise GraphError(
                f'robots:={values["robots"]} with backend:={backend}: a physical robot is one; '
                'run a graph of its own, with a namespace of its own, for each')
        if values.get('cameras') and not values.get('record', True):
            raise GraphError(f'cameras:=true with backend:={backend} needs record:=true: nothing '
                             'is drawn, and it is the recorder that watches these cameras')
        if given.get('arm_on_start') == 'true':
            raise GraphError(
                f'arm_on_start:=true with backend:={backend}: only a person may allow a physical '
                'robot to move, by the service safety_monitor/clear_stop')
        values['arm_on_start'] = False
    if values.get('record_images', 'false') != 'false':
        _require_pictures(values)
    if values.get('priority') and values.get('stepping') == 'lockstep':
        raise GraphError(f'priority:={values["priority"]} with stepping:=lockstep: a simulation '
                         'as fast as possible would leave nothing to the rest of the machine; use '
                         'stepping:=realtime')
    for key in ('topics', 'keep_last_s'):
        if values.get(key) and not values.get('record', True):
            raise GraphError(f'{key}:={values[key]} needs record:=true; without it no episode is '
                             'recorded')
    return values


def _settle_recording(values: dict[str, Value]) -> None:
    """Fill in the stepping and refuse what does not go together."""
    scripted, physical = values['input'] == 'scripted', values['backend'] in HARDWARE
    if not values['stepping']:
        values['stepping'] = 'lockstep' if scripted and not physical else 'realtime'
    if values['stepping'] == 'lockstep' and not scripted:
        raise GraphError(f'stepping:=lockstep with input:={values["input"]}: a simulation that '
                         'does not keep real time is too fast for a person; use '
                         'stepping:=realtime')
    if not scripted or physical:
        values['noise'] = 0.0
    if values['expert'] and not scripted:
        raise GraphError(f'expert:={values["expert"]} with input:={values["input"]}: an expert '
                         'belongs to input:=scripted')
    if values['policy'] and scripted:
        raise GraphError(f'policy:={values["policy"]} with input:=scripted: a script does not '
                         'take over; for a policy that demonstrates use expert:=...')
    if values['guard'] and not values['policy']:
        raise GraphError(f'guard:={values["guard"]} without policy:=...: a guard knows what a '
                         'policy does, and here somebody shows what none has done')


def _require_pictures(values: Mapping[str, Value]) -> None:
    for name, without in (('cameras', 'there is no picture to keep'),
                          ('record', 'no episode is recorded')):
        if not values.get(name, True):
            raise GraphError(f'record_images:={values["record_images"]} needs {name}:=true; '
                             f'without it {without}')


def text(value: Value) -> str:
    """Return an argument's value as it is written on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
