# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the C++ control tick must know of a robot doing a task, as plain data.

The tick computes the same numbers as ``tasks/signals.py``, ``tasks/observer.py`` and
``tasks/actions.py``; a test compares the two for every signal and kind of action.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from rl_nodes.core.errors import ConfigError
from rl_nodes.tasks.actions import ActionMap
from rl_nodes.tasks.base import Task
from rl_nodes.tasks.planar_action import PlanarActionMap
from rl_nodes.tasks.residual import ResidualActionMap
from rl_nodes.tasks.signals import NEAREST


class Source(IntEnum):
    """Where an element of a frame comes from; the numbers are those of ``controller.hpp``."""

    POSITION = 0
    VELOCITY = 1
    SIN = 2
    COS = 3
    TOOL = 4
    GOAL = 5
    GOAL_OFFSET = 6
    GRAVITY = 7
    BASE_POSITION = 8
    BASE_LINEAR = 9
    BASE_ANGULAR = 10
    RANGE = 11
    OBJECT = 12
    LAST_ACTION = 13
    PLANAR_GOAL = 14
    OBJECT_FROM_TOOL = 15
    OBJECT_FROM_GOAL = 16
    LOG_RANGE = 17
    PHASE = 18
    IMU = 19
    WRENCH = 20


TOPICS = {'joint_states': 0, 'goal': 1, 'odom': 2, 'scan': 3, 'objects': 4,
          'imu': 5, 'wrench': 6}
_FIELDS = {'position': 0, 'velocity': 1, 'effort': 2}
_OF_THE_TOOL = (Source.TOOL, Source.GOAL_OFFSET, Source.OBJECT_FROM_TOOL)
_Elements = list[tuple[Source, int]]


def _each(source: Source, count: int) -> Callable[[Task], _Elements]:
    return lambda task: [(source, index) for index in range(count)]


def _joints(source: Source, wanted: Callable[[Any], bool]) -> Callable[[Task], _Elements]:
    return lambda task: [(source, index) for index, joint in enumerate(task.robot.joints)
                          if wanted(joint)]


def _objects(source: Source) -> Callable[[Task], _Elements]:
    """Return what finds the positions of the objects in their poses of seven values each."""
    return lambda task: [(source, 7 * number + axis) for number in range(len(task.objects))
                         for axis in range(3)]


def _bounded(joint: Any) -> bool:
    return joint.lower is not None and joint.upper is not None


def _rays(task: Task) -> int:
    sensor = task.robot.config.range_sensor
    return 0 if sensor is None else sensor.rays


def _endless(joint: Any) -> bool:
    return joint.unit == 'rad' and not _bounded(joint)


_SIGNALS: dict[str, Callable[[Task], _Elements]] = {
    'joint_position': _joints(Source.POSITION, lambda joint: True),
    'joint_velocity': _joints(Source.VELOCITY, lambda joint: True),
    'bounded_joint_position': _joints(Source.POSITION, _bounded),
    'joint_angle_sincos': lambda task: [
        *_joints(Source.SIN, _endless)(task), *_joints(Source.COS, _endless)(task)],
    'tool_position': _each(Source.TOOL, 3),
    'goal_position': _each(Source.GOAL, 3),
    'goal_offset': _each(Source.GOAL_OFFSET, 3),
    'projected_gravity': _each(Source.GRAVITY, 3),
    'base_linear_velocity': _each(Source.BASE_LINEAR, 3),
    'base_angular_velocity': _each(Source.BASE_ANGULAR, 3),
    'base_height': lambda task: [(Source.BASE_POSITION, 2)],
    'command': _each(Source.GOAL, 3),
    'posture': _each(Source.GOAL, 3),
    'phase': _each(Source.PHASE, 2),
    'planar_goal': _each(Source.PLANAR_GOAL, 3),
    'planar_velocity': lambda task: [(Source.BASE_LINEAR, 0), (Source.BASE_ANGULAR, 2)],
    'ranges': lambda task: [(Source.RANGE, index) for index in range(_rays(task))],
    'log_ranges': lambda task: [(Source.LOG_RANGE, index) for index in range(_rays(task))],
    'last_action': lambda task: [
        (Source.LAST_ACTION, index) for index in range(len(task.action_map.spec.elements))],
    'imu_angular_velocity': lambda task: [(Source.IMU, 4 + axis) for axis in range(3)],
    'imu_linear_acceleration': lambda task: [(Source.IMU, 7 + axis) for axis in range(3)],
    'wrench_force': _each(Source.WRENCH, 3),
    'wrench_torque': lambda task: [(Source.WRENCH, 3 + axis) for axis in range(3)],
    'object_position': _objects(Source.OBJECT),
    'object_from_tool': _objects(Source.OBJECT_FROM_TOOL),
    'object_from_goal': _objects(Source.OBJECT_FROM_GOAL),
}


def plan_of(task: Task) -> dict[str, Any]:
    """
    Return the plan of a task's control tick, see ``Plan`` in ``controller.hpp``.

    :raises ConfigError: names the signal or the kind of action that only Python computes.
    """
    robot, history, action = task.robot, task.history, task.action_map
    frame: _Elements = []
    for name, _ in history.layout.places:
        if name not in _SIGNALS:
            raise ConfigError(f'the signal {name!r} is computed in Python only')
        frame += _SIGNALS[name](task)
    parts = task.state_parts
    uses_tool = any(source in _OF_THE_TOOL for source, _ in frame)
    chain, tip = robot.chain.numbers() if uses_tool and robot.chain else ([], (0.0, 0.0, 0.0))
    return {
        'joints': list(robot.joint_names), 'commanded': list(robot.command_names),
        'command_index': robot.commanded.tolist(),
        'field': _FIELDS[robot.config.control_mode], **_action(action),
        'frame': [(int(source), index) for source, index in frame],
        'places': history.places.tolist(), 'depth': history.depth,
        'actions': [index for part in history.actions for index in range(part.start, part.stop)],
        'period_ns': task.period_ns, 'chain': chain, 'tip': tip, 'base': 'base' in parts,
        'ranges': _rays(task) if 'ranges' in parts else 0,
        'objects': len(task.objects) if 'objects' in parts else 0,
        'imu': 'imu' in parts, 'wrench': 'wrench' in parts,
        'cycle_ns': 1 if robot.gait is None else robot.gait.cycle_ns, 'nearest': NEAREST}


def _action(action: ActionMap | PlanarActionMap | ResidualActionMap) -> dict[str, Any]:
    if isinstance(action, ResidualActionMap):
        raise ConfigError('actions are added to a controller')
    turn = action.turn.tolist() if isinstance(action, PlanarActionMap) else []
    origin = [] if turn else action.home.tolist()
    return {'relative': not turn and action.relative, 'origin': origin,
            'size': action.size.tolist(), 'turn': turn}
