# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Scripts in a person's place, one per type of task, so that everything runs without a person.

Each sees whole states, also what the task hides from its policy (velocities, other objects).
Commands are in the robot's control mode, shape (A,). Walking has no script here: a gait good
enough to demonstrate is what the task teaches, so a policy has to be given instead.
"""

from collections.abc import Callable
from dataclasses import replace
import math
from typing import Any, Protocol
import xml.etree.ElementTree as ElementTree

import numpy as np
from rl_nodes.control.cartesian import TipVelocity
from rl_nodes.control.controllers import make_controller
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.kinematics import Chain
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.rotations import rotation_from_quaternion, rotation_from_rpy
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.tasks.base import Task
from rl_nodes.tasks.cartpole_balance import CartpoleBalance
from rl_nodes.tasks.cartpole_swingup import CartpoleSwingup
from rl_nodes.tasks.navigate import Navigate
from rl_nodes.tasks.push import Push
from rl_nodes.tasks.quadruped_stand import QuadrupedStand
from rl_nodes.tasks.reach import Reach


class Expert(Protocol):
    """Does a task."""

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the command for a state, shape (A,), float64."""


class ReachExpert:
    """
    Straight to the goal at a speed that falls with the distance, in a posture as near to home.

    Without the posture the joints that the tool does not need would wander, further with each
    error, and a policy that learns from it would follow them where nobody has shown anything.
    """

    gain = 6.0      # of the tool [1/s]
    posture = 2.0   # of the joints [1/s]

    def __init__(self, task: Reach) -> None:
        self._task, self._tip = task, TipVelocity(task.robot, task.robot.chain)

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        gap = goal.position - self._task.tool(state)
        rest = self.posture * (self._task.robot.home - state.position)[self._task.robot.commanded]
        return _step(self._task, state, self._tip.joints(state.position, self.gain * gap, rest))


class PushExpert:
    """Around the object to the place behind it, then through it towards the goal."""

    gain = 8.0          # [1/s]
    height_m = 0.05     # of the tool while it pushes
    aside_m = 0.1       # from the object, on the way around it

    def __init__(self, task: Push) -> None:
        self._task, self._tip = task, TipVelocity(task.robot, task.robot.chain)

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        tool, place = self._task.tool(state), state.object_poses[0, :2]
        gap = goal.position[:2] - place
        distance = float(np.linalg.norm(gap))
        along = gap / max(distance, 1e-6)
        across = np.array([-along[1], along[0]])
        seen = tool[:2] - place
        behind, off = float(seen @ along), float(seen @ across)
        standoff = self._task.standoff_m
        if distance < 0.006:
            target = place - (standoff + 0.02) * along
        elif behind > -0.6 * standoff or abs(off) > 0.02:  # not behind it: go around
            side = math.copysign(1.0, off) if abs(off) > 1e-3 else 1.0
            wide = behind > -0.8 * standoff
            target = place - (standoff + 0.015) * along + (self.aside_m * side * across if wide
                                                           else 0.0)
        else:
            target = place + min(distance, 0.06) * along - standoff * along
        velocity = self.gain * np.array([*(target - tool[:2]), self.height_m - tool[2]])
        return _step(self._task, state, self._tip.joints(state.position, velocity))


class BalanceExpert:
    """The robot's LQR."""

    def __init__(self, task: Task) -> None:
        self._lqr = make_controller('lqr', task.robot)

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        return self._lqr.command(state)


class SwingupExpert:
    """
    Pumps energy into the pole, and leaves it to the robot's LQR near the top.

    K. J. Åström and K. Furuta 2000, Swinging up a pendulum by energy control. With q the pole's
    angle, 0 upright, w its frequency and E = (dq / w)² / 2 + cos q - 1 its energy, 0 upright at
    rest, the cart is pushed by gain · E · dq cos q, and gently back to the middle.
    """

    gain = 0.3                          # [s]
    back, damping = 0.4, 0.1            # share of the effort limit per m and per m/s
    catch_rad, catch_rad_s = 0.35, 3.0

    def __init__(self, task: CartpoleSwingup) -> None:
        robot = task.robot
        self._lqr, self._cart, self._pole = make_controller('lqr', robot), task.cart, task.pole
        self._frequency = _pole_frequency(robot, robot.joint_names[task.pole])
        self._most = float(robot.limits('effort')[0])

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        x, dx = float(state.position[self._cart]), float(state.velocity[self._cart])
        q = math.remainder(float(state.position[self._pole]), 2 * math.pi)
        dq = float(state.velocity[self._pole])
        if abs(q) < self.catch_rad and abs(dq) < self.catch_rad_s:
            near = state.position.copy()
            near[self._pole] = q
            return self._lqr.command(replace(state, position=near))
        energy = (dq / self._frequency) ** 2 / 2 + math.cos(q) - 1.0
        share = self.gain * energy * dq * math.cos(q) - self.back * x - self.damping * dx
        return np.array([self._most * min(1.0, max(-1.0, share))])


class NavigateExpert:
    """
    Towards the goal, along the nearest direction that is free.

    Obstacles are the circles that the task lays around them when it places them.
    """

    clear_m = 0.3       # from the middle of the robot to an obstacle
    ahead_m = 1.2
    directions = 72

    def __init__(self, task: Navigate) -> None:
        self._task = task
        self._turns = np.array(sorted(np.linspace(-math.pi, math.pi, self.directions,
                                                  endpoint=False), key=abs))

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        base = state.floating
        forward = rotation_from_quaternion(base.orientation)[:2, 0]
        heading = math.atan2(forward[1], forward[0])
        gap = (goal.position - base.position)[:2]
        distance = math.hypot(*gap.tolist())
        bearing = self._free(state, math.atan2(gap[1], gap[0]), distance)
        turn = math.remainder(bearing - heading, 2 * math.pi)
        forward_share = max(0.0, math.cos(turn)) ** 3 * min(1.0, 2.5 * distance)
        if distance < 0.05:
            forward_share = turn = 0.0
        action = np.array([forward_share, max(-1.0, min(1.0, 1.5 * turn))], np.float32)
        return self._task.command(state, action)

    def _free(self, state: RobotState, bearing: float, distance: float) -> float:
        """Return the direction nearest to a bearing in which the way is free [rad]."""
        if not self._task.objects:
            return bearing
        centers = state.object_poses[:, :2] - state.floating.position[:2]
        near = self._task.radii + self.clear_m
        near = np.minimum(near, np.linalg.norm(centers, axis=1) - 0.01)  # already that near
        reach = min(distance, self.ahead_m)
        for turn in self._turns:
            angle = bearing + turn
            way = np.array([math.cos(angle), math.sin(angle)])
            along = np.clip(centers @ way, 0.0, reach)
            if (np.linalg.norm(centers - along[:, None] * way, axis=1) >= near).all():
                return angle
        return bearing


class StandExpert:
    """Feet where they stand at home, the body above them as commanded."""

    rounds = 15

    def __init__(self, task: QuadrupedStand) -> None:
        robot = task.robot
        if robot.gait is None:
            raise ConfigError(f'robot {robot.name} has no gait section, which names its feet')
        self._robot, self._home_m = robot, float(robot.home_base.position[2])
        self._feet = [Chain(robot.urdf, robot.config.base_link, foot, robot.joint_names)
                      for foot in robot.config.gait.feet]
        self._legs = [TipVelocity(robot, chain) for chain in self._feet]
        self._stand = [chain.tip_position(robot.home) for chain in self._feet]

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        roll, pitch, height = goal.position.tolist()
        body = rotation_from_rpy(np.array([roll, pitch, 0.0]))
        position = self._robot.home.copy()
        for chain, leg, stand in zip(self._feet, self._legs, self._stand, strict=True):
            wanted = body.T @ (stand + np.array([0.0, 0.0, self._home_m - height]))
            for _ in range(self.rounds):
                gap = wanted - chain.tip_position(position)
                if float(np.linalg.norm(gap)) < 1e-4:
                    break
                position[self._robot.commanded] += leg.joints(position, gap)
        return position[self._robot.commanded]


_EXPERTS: dict[type[Task], Callable[[Any], Expert]] = {
    Reach: ReachExpert, Push: PushExpert, CartpoleBalance: BalanceExpert,
    CartpoleSwingup: SwingupExpert, Navigate: NavigateExpert, QuadrupedStand: StandExpert}


def make_expert(task: Task) -> Expert:
    """
    Return what does a task in a person's place.

    :raises ConfigError: there is nothing for this task, or the robot lacks what it needs.
    """
    maker = _EXPERTS.get(type(task))
    if maker is None:
        raise ConfigError(f'task {task.name}: no script does it well enough to learn from; give a '
                          'policy that does, with expert:=FILE.onnx. There are scripts for '
                          f'{", ".join(sorted(kind.__name__.lower() for kind in _EXPERTS))}')
    return Demonstrable(task, maker(task))


class Demonstrable:
    """
    What another expert wants, cut to what a policy of the task could do as well.

    :param expert: the other.
    """

    def __init__(self, task: Task, expert: Expert) -> None:
        self._task, self._expert = task, expert

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """See the base class."""
        wanted = self._expert.command(state, goal)
        return self._task.command(state, self._task.to_action(state, wanted))


def _step(task: Task, state: RobotState, velocity: np.ndarray) -> np.ndarray:
    """Return the command for one period at a velocity of the commanded joints, shape (A,)."""
    if task.robot.config.control_mode == 'position':
        return state.position[task.robot.commanded] + velocity / task.robot.config.rate_hz
    if task.robot.config.control_mode == 'velocity':
        return velocity
    raise ConfigError(f'robot {task.robot.name} is in control mode effort; this needs position or '
                      'velocity')


def _pole_frequency(robot: RobotModel, joint: str) -> float:
    """Return the frequency at which the link of a joint swings when it hangs freely [rad/s]."""
    link = robot.urdf.joints[joint].child
    inertial = ElementTree.fromstring(robot.urdf.text).find(  # noqa: S314 - parsed before
        f"link[@name='{link}']/inertial")
    if inertial is None:
        raise ConfigError(f'robot {robot.name}: link {link} has no inertial section')
    mass = float(inertial.find('mass').get('value'))
    center = np.array([float(part) for part in inertial.find('origin').get('xyz').split()])
    length = float(np.linalg.norm(center))
    about = float(inertial.find('inertia').get('iyy')) + mass * length ** 2
    return math.sqrt(mass * 9.81 * length / about)
