# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a robot behind ros2_control, and its joints' names and units to ours and back."""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.backends import section
from rl_nodes.core.config import convert
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel

Positive = Annotated[float, Meta(gt=0)]
KINDS = {'forward_command_controller': 'commands', 'joint_trajectory_controller':
         'joint_trajectory'}  # the topic below the controller's name


class JointMap(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One joint as the controllers have it: ``theirs = sign * gear_ratio * ours + offset``.

    :param name: their name; empty where it is ours.
    :param sign: -1 where theirs grows as ours falls.
    :param gear_ratio: their turns per turn of ours.
    :param offset: theirs where ours is zero [``units``].
    :param units: of an angle there; a sliding joint is always in metres.
    """

    name: str = ''
    sign: Literal[1, -1] = 1
    gear_ratio: Positive = 1.0
    offset: float = 0.0
    units: Literal['rad', 'deg'] = 'rad'


class Ros2ControlConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Section ``ros2_control`` of a robot's YAML file.

    :param controller: type of the controller that takes our commands.
    :param controller_name: its name, which its topics and parameters lie below.
    :param state_topic: joint states from the joint_state_broadcaster.
    :param description_topic: URDF that the controllers run with; their limits are compared with
        ours. Empty to leave that out.
    :param joints: by our names; joints left out have the same name and units there.
    :param connect_timeout_s: for finding and checking all of it.
    :param state_timeout_s: silence of joint states that is a fault.
    """

    controller: Literal['forward_command_controller', 'joint_trajectory_controller']
    controller_name: Annotated[str, Meta(min_length=1)]
    state_topic: Annotated[str, Meta(min_length=1)] = '/joint_state_broadcaster/joint_states'
    description_topic: str = '/robot_description'
    joints: dict[str, JointMap] = {}
    connect_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0
    state_timeout_s: Positive = 0.1

    @property
    def command_topic(self) -> str:
        """Return the topic of the commands."""
        return f'{self.controller_name}/{KINDS[self.controller]}'


class JointMapping:
    """
    All joints of a robot, in its order, in our units and in theirs.

    :param model: the robot.
    :param config: the section.
    :raises ConfigError: a joint that the robot does not have, or a name that occurs twice.
    """

    def __init__(self, model: RobotModel, config: Ros2ControlConfig) -> None:
        unknown = [name for name in config.joints if name not in model.joint_names]
        if unknown:
            raise ConfigError(f'robot {model.name}: ros2_control.joints has '
                              f'{", ".join(unknown)}; joints: {", ".join(model.joint_names)}')
        maps = [config.joints.get(name, JointMap()) for name in model.joint_names]
        self.names = tuple(joint.name or ours for joint, ours in zip(maps, model.joint_names))
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f'robot {model.name}: ros2_control.joints names a joint twice: '
                              f'{", ".join(self.names)}')
        self.commanded = tuple(self.names[i] for i in model.commanded)
        self._index = model.commanded
        self._unit = np.array([math.degrees(1.0) if joint.units == 'deg' else 1.0
                               for joint in maps])
        sliding = [ours for joint, ours, unit in zip(model.joints, model.joint_names, self._unit)
                   if joint.unit == 'm' and unit != 1.0]
        if sliding:
            raise ConfigError(f'robot {model.name}: {", ".join(sliding)} slides; degrees are for '
                              'turning joints')
        self._turn = np.array([joint.sign * joint.gear_ratio for joint in maps])
        self._offset = np.array([joint.offset for joint in maps])

    def position(self, theirs: np.ndarray) -> np.ndarray:
        """Return our positions [rad or m], shape (J,)."""
        return (theirs - self._offset) / self._unit / self._turn

    def velocity(self, theirs: np.ndarray) -> np.ndarray:
        """Return our velocities [rad/s or m/s], shape (J,)."""
        return theirs / self._unit / self._turn

    def effort(self, theirs: np.ndarray) -> np.ndarray:
        """Return our efforts [N·m or N], shape (J,); a gear multiplies them."""
        return theirs * self._turn

    def command(self, ours: np.ndarray) -> np.ndarray:
        """Return their positions of the commanded joints, shape (A,), in our order."""
        i = self._index
        return ours * self._turn[i] * self._unit[i] + self._offset[i]

    def limits(self, index: int, lower: float | None, upper: float | None,
               velocity: float | None) -> tuple[float, float, float]:
        """
        Return their limits (lower, upper, velocity) of a joint in our units.

        :param index: of the joint in our order.
        :param lower: [rad or m], as every URDF has it; None for no limit.
        """
        unit, turn = self._unit[index], self._turn[index]
        offset = self._offset[index] / unit
        ends = sorted((value - offset) / turn
                      for value in (-math.inf if lower is None else lower,
                                    math.inf if upper is None else upper))
        return ends[0], ends[1], math.inf if velocity is None else velocity / abs(turn)


def ros2_control_config(model: RobotModel) -> Ros2ControlConfig:
    """
    Return the section of a robot.

    :raises ConfigError: there is none, it is wrong, or the robot is not in position control.
    """
    config = convert(section(model, 'ros2_control'), Ros2ControlConfig,
                     f'robot {model.name}: ros2_control')
    if model.config.control_mode != 'position':
        raise ConfigError(
            f'robot {model.name}: control_mode is {model.config.control_mode}; ros2_control is '
            'driven by positions only: its controllers keep the last command for ever, and a '
            'last velocity or effort goes on moving the robot when this program dies')
    return config
