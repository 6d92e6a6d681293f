# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Frozen records that nodes, environments and learners exchange.

Legend of dimensions: J measured joints, A commanded joints, O observation, N transitions.
Vectors follow the joint order of the robot's configuration. Units are SI (rad or m, rad/s or m/s,
N·m or N); stamps are integer nanoseconds of the clock that the robot's state is stamped with.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.variation import Variation


@dataclass(frozen=True, eq=False)
class BaseState:
    """
    The pose and motion of a floating base, that is of ``base_link`` in the frame ``odom``.

    :param position: of the origin of ``base_link`` in ``odom`` [m], shape (3,), float64.
    :param orientation: of ``base_link`` in ``odom``, unit quaternion (x, y, z, w), float64.
    :param linear_velocity: of that origin, in the axes of ``base_link`` [m/s], shape (3,).
    :param angular_velocity: in the axes of ``base_link`` [rad/s], shape (3,).
    """

    position: np.ndarray
    orientation: np.ndarray
    linear_velocity: np.ndarray
    angular_velocity: np.ndarray

    @classmethod
    def at_rest(cls, position: np.ndarray, orientation: np.ndarray) -> 'BaseState':
        """Return a base that does not move."""
        return cls(position, orientation, np.zeros(3), np.zeros(3))


@dataclass(frozen=True, eq=False)
class Start:
    """
    Where an episode starts.

    :param position: joint positions [rad or m], shape (J,).
    :param goal: position of the goal in its frame, shape (3,); zeros where there is none.
    :param base: of a robot with a floating one; None for the robot's home, at rest.
    :param objects: poses of the task's objects, as in :class:`RobotState`; None without any.
    :param variation: what is different about a simulated robot; None for nothing.
    """

    position: np.ndarray
    goal: np.ndarray
    base: BaseState | None = None
    objects: np.ndarray | None = None
    variation: Variation | None = None


@dataclass(frozen=True, eq=False)
class RobotState:
    """
    One measured state.

    :param stamp_ns: when it was sampled [ns].
    :param episode: id of the episode it belongs to, see :class:`EpisodeId`.
    :param position: joint positions [rad or m], shape (J,), float64.
    :param velocity: joint velocities [rad/s or m/s], shape (J,), float64.
    :param effort: joint efforts [N·m or N], shape (J,), float64; empty where not measured.
    :param base: the floating base; None where the base is fixed.
    :param objects: pose of each of the task's objects: position [m] and unit quaternion
        (x, y, z, w), shape (N, 7), float64, in the frame that does not move: ``base_link`` where
        the base is fixed, ``odom`` where it floats. None where the task has none.
    :param ranges: distances that a planar range sensor measures [m], shape (R,), float64, each
        of them exact as float32. None where the robot has no such sensor.
    :param imu: what an inertial measurement unit measures in the axes of its link, shape (10,),
        float64: orientation of the link in the frame that does not move (unit quaternion x, y, z,
        w), angular velocity [rad/s], specific force [m/s²] (at rest gravity's opposite, in free
        fall zero). None where the robot has none.
    :param wrench: what everything behind a joint exerts on everything before it, at the origin
        and in the axes of the joint's child link, shape (6,), float64: force [N], torque [N·m].
        None where the robot has no such sensor.
    """

    stamp_ns: int
    episode: str
    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray
    base: BaseState | None = None
    objects: np.ndarray | None = None
    ranges: np.ndarray | None = None
    imu: np.ndarray | None = None
    wrench: np.ndarray | None = None

    @property
    def floating(self) -> BaseState:
        """
        Return the floating base.

        :raises SpecError: the state has none.
        """
        if self.base is None:
            raise SpecError(f'the state stamped {self.stamp_ns} has no floating base; it is '
                            'joined from odom and joint_states, or read from a simulator')
        return self.base

    @property
    def object_poses(self) -> np.ndarray:
        """
        Return the poses of the task's objects, shape (N, 7).

        :raises SpecError: the state has none.
        """
        if self.objects is None:
            raise SpecError(f'the state stamped {self.stamp_ns} has no objects; they are joined '
                            'from objects and joint_states, or read from a simulator')
        return self.objects

    @property
    def scan(self) -> np.ndarray:
        """
        Return what the range sensor measures [m], shape (R,).

        :raises SpecError: the state has none.
        """
        if self.ranges is None:
            raise SpecError(f'the state stamped {self.stamp_ns} has no ranges; they are joined '
                            'from scan and joint_states, or read from a simulator')
        return self.ranges

    @property
    def inertial(self) -> np.ndarray:
        """
        Return what the inertial measurement unit measures, shape (10,).

        :raises SpecError: the state has none.
        """
        if self.imu is None:
            raise SpecError(f'the state stamped {self.stamp_ns} has no imu; it is joined from imu '
                            'and joint_states, or read from a simulator')
        return self.imu

    @property
    def exerted(self) -> np.ndarray:
        """
        Return what the force-torque sensor measures, shape (6,).

        :raises SpecError: the state has none.
        """
        if self.wrench is None:
            raise SpecError(f'the state stamped {self.stamp_ns} has no wrench; it is joined from '
                            'wrench and joint_states, or read from a simulator')
        return self.wrench


@dataclass(frozen=True, eq=False)
class JointCommand:
    """
    One command to the robot, wanted (before the safety monitor) or executed (after it).

    :param stamp_ns: stamp of the state that caused it [ns].
    :param source: who wants it, see ``core/origin.py``.
    :param value: position, velocity or effort targets by the robot's control mode, shape (A,).
    :param intervention: ``<level>/<check>`` of the safety monitor's decision by which an executed
        command is not as it was wanted; empty where there was none.
    """

    stamp_ns: int
    source: str
    value: np.ndarray
    intervention: str = ''


@dataclass(frozen=True, eq=False)
class Goal:
    """
    A task's goal, in the task's ``goal_frame``: ``base_link`` unless it says otherwise.

    :param stamp_ns: stamp of the first state for which it holds [ns].
    :param position: [m], shape (3,).
    :param orientation: unit quaternion (x, y, z, w).
    """

    stamp_ns: int
    position: np.ndarray
    orientation: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """
    What the task says of one step.

    :param total: weighted sum of the terms, the reward.
    :param terms: every term by name, unweighted, in the term's own unit.
    :param terminated: the task ended the episode; the next state has no value.
    :param truncated: a limit outside the task ended it; the next state still has a value.
    :param success: the success criterion holds in the state after the step.
    """

    total: float
    terms: dict[str, float]
    terminated: bool
    truncated: bool
    success: bool


@dataclass(frozen=True)
class EpisodeId:
    """
    The name of an episode as it travels in messages: ``<number>@<start stamp in ns>``.

    The start stamp is part of the name so that whoever sees a state knows which goal belongs to
    it (the newest one stamped at or after the start), in whatever order the messages arrive.
    """

    number: int  # from 1; 0 is the intermission between the episodes of a physical robot
    start_ns: int

    @property
    def intermission(self) -> bool:
        """Return whether nothing is to be scored, recorded or learned."""
        return self.number == 0

    def __str__(self) -> str:
        return f'{self.number}@{self.start_ns}'

    @classmethod
    @lru_cache(maxsize=16)  # asked for every state, changes once an episode
    def parse(cls, text: str) -> 'EpisodeId':
        """Return the id in ``text``; ValueError where it is none."""
        number, at, start = text.partition('@')
        if not at:
            raise ValueError(f'episode id {text!r} is not <number>@<start ns>')
        return cls(int(number), int(start))


@dataclass(frozen=True, eq=False)
class TransitionBatch:
    """
    N transitions, one row each; what the recorder sends to the trainer.

    ``action`` is the action really executed, after the safety monitor; ``wanted`` is what the
    policy asked for. Learners use ``action``. ``terminated`` and ``truncated`` stay apart: only a
    terminated step has no future. ``next_observation`` is the true last observation of an episode,
    never the first of the next one.
    """

    observation: np.ndarray        # (N, O) float32
    action: np.ndarray             # (N, A) float32, in the contract's action space
    wanted: np.ndarray             # (N, A) float32
    reward: np.ndarray             # (N,) float32
    next_observation: np.ndarray   # (N, O) float32
    terminated: np.ndarray         # (N,) bool
    truncated: np.ndarray          # (N,) bool
    success: np.ndarray            # (N,) bool
    limited: np.ndarray            # (N,) bool: the monitor changed the command
    policy_version: np.ndarray     # (N,) int64; -1 where no policy acted
    episode: np.ndarray            # (N,) int64 episode number
    step: np.ndarray               # (N,) int64, 0 is the first step of an episode
    privileged: np.ndarray | None = None       # (N, P) float32; None where the task has none
    next_privileged: np.ndarray | None = None  # (N, P) float32
    origin: np.ndarray | None = None  # (N,) int64, see core/origin.py; None where nobody noted it
    # (N,) bytes, ``<level>/<check>`` of what the monitor did or nothing; None as above
    intervention: np.ndarray | None = None
    cost: np.ndarray | None = None    # (N,) float32, what each step costs; None where nobody asks

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f'columns differ in length: {lengths}')
        if ('privileged' in lengths) != ('next_privileged' in lengths):
            raise ValueError('privileged and next_privileged come together or not at all')

    def __len__(self) -> int:
        return len(self.reward)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns that there are, by name."""
        return {name: column for name, column in vars(self).items() if column is not None}

    @classmethod
    def concatenate(cls, batches: list['TransitionBatch']) -> 'TransitionBatch':
        """Return all rows of at least one batch, in order; all have the same columns."""
        if len(batches) == 1:
            return batches[0]
        return cls(**{name: np.concatenate([getattr(batch, name) for batch in batches])
                      for name in batches[0].columns()})
