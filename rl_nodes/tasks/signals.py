# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What an observation can be made of.

A signal is a named piece of the observation vector. A task's YAML lists signals in order; this
module knows how many elements each has, their names, units and bounds, and how to compute them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import Goal, RobotState

Bounds = tuple[float | None, float | None]


class View(NamedTuple):
    """What signals are computed from: a state, its goal and the tool position derived from it."""

    state: RobotState
    goal: Goal
    tool: np.ndarray


class Signal(NamedTuple):
    """
    One kind of signal.

    :param elements: (element name, unit, (low, high)) of each element for a robot.
    :param compute: the elements' values, float64.
    :param needs_tool: whether the robot must have a ``tool_link``.
    """

    elements: Callable[[RobotModel], list[tuple[str, str, Bounds]]]
    compute: Callable[[View], np.ndarray]
    needs_tool: bool = False


def _per_joint(unit: str, bounds: Callable[..., Bounds]) -> Callable:
    return lambda robot: [(joint.name, unit.replace('q', joint.unit), bounds(joint))
                          for joint in robot.joints]


def _point(unit: str) -> Callable:
    return lambda robot: [(axis, unit, (None, None)) for axis in 'xyz']


SIGNALS: dict[str, Signal] = {
    'joint_position': Signal(
        _per_joint('q', lambda joint: (joint.lower, joint.upper)),
        lambda view: view.state.position),
    'joint_velocity': Signal(
        _per_joint('q/s', lambda joint: (-joint.velocity, joint.velocity)),
        lambda view: view.state.velocity),
    'tool_position': Signal(_point('m'), lambda view: view.tool, needs_tool=True),
    'goal_position': Signal(_point('m'), lambda view: view.goal.position),
    'goal_offset': Signal(
        _point('m'), lambda view: view.goal.position - view.tool, needs_tool=True),
}


class ObservationLayout:
    """
    The observation vector of a robot doing a task.

    :param names: signals in order.
    :param robot: whose joints and frames they speak of.
    :raises ConfigError: an unknown signal, or one that the robot cannot give.
    """

    def __init__(self, names: tuple[str, ...], robot: RobotModel) -> None:
        rows: list[tuple[str, str, Bounds]] = []
        self._parts: list[tuple[slice, Callable[[View], np.ndarray]]] = []
        for name in names:
            if name not in SIGNALS:
                raise ConfigError(f'observation: unknown signal {name!r}'
                                  f'{suggestion(name, SIGNALS)}; signals: {", ".join(SIGNALS)}')
            signal = SIGNALS[name]
            if signal.needs_tool and robot.chain is None:
                raise ConfigError(f'observation: {name} needs a robot with a tool_link; '
                                  f'{robot.name} has none')
            elements = signal.elements(robot)
            self._parts.append((slice(len(rows), len(rows) + len(elements)), signal.compute))
            rows += [(f'{name}/{element}', unit, bounds) for element, unit, bounds in elements]
        self.needs_tool = any(SIGNALS[name].needs_tool for name in names)
        self.spec = ArraySpec(
            'observation', tuple(row[0] for row in rows), tuple(row[1] for row in rows),
            tuple(row[2][0] for row in rows), tuple(row[2][1] for row in rows))

    def assemble(self, view: View) -> np.ndarray:
        """Return the observation, shape (O,), float32."""
        vector = np.empty(self.spec.shape, np.float32)
        for part, compute in self._parts:
            vector[part] = compute(view)
        return vector
