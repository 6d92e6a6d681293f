# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a policy that knows nothing does to a robot, with the safety monitor and without it.

The simulated environment gets the monitor's supervisor in place of its gate, with everything that
belongs to it: it starts STOPPED, latches, and is cleared as a person would once the cause is gone.
Or nothing is put there. What reaches the robot is kept and judged afterwards by the oracle of the
tests, which shares no code with the core, and by the height of the links above the table.
"""

from collections import Counter
from pathlib import Path
import sys
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.nodes.safety_monitor import LOCKSTEP
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.limits import Trace
from rl_nodes.safety.supervisor import Mode, Supervisor
from rl_nodes.safety.verdict import Level

sys.path.insert(0, str(Path(__file__).parents[1] / 'unit' / 'safety'))

from oracle import EPS, link_poses, moved, Oracle, surface_points  # noqa: E402

BLOCK = 5000     # commands that are judged at a time
HELD = (5, 40)   # steps for which a random policy keeps to an action, so that it gets somewhere
WANDERERS = {'arm': 'reach', 'quadruped': 'quadruped_walk'}  # robots with a task
SPACING_M = 0.02  # of the points on a link's surface
made: list['WatchedEnv'] = []  # by this module's environments, for whoever trains in them


class Monitored:
    """Stands where the environment has its gate."""

    def __init__(self, robot: Any) -> None:
        self._supervisor = Supervisor(robot, LOCKSTEP)
        self._names = robot.command_names
        self.trace = self._supervisor._gate.trace
        self.stops = 0

    def judge(self, command: np.ndarray, state: RobotState) -> Judgement:
        supervisor, now = self._supervisor, state.stamp_ns
        if supervisor.mode == Mode.STOPPED:
            supervisor.clear(now)
        moving = supervisor.mode != Mode.STOPPED
        supervisor.observe(state, now)
        verdict = supervisor.judge(
            self._names, JointCommand(now, 'random@1', command), now, now)
        self.stops += moving and supervisor.mode == Mode.STOPPED
        return Judgement(verdict.level, verdict.check, verdict.reason, verdict.allowed)

    def executed(self, command: np.ndarray, state: RobotState) -> None:
        """Do nothing: the supervisor knows."""


class Open:
    """The same, but everything passes."""

    def __init__(self) -> None:
        self.trace, self.stops = Trace(), 0

    def judge(self, command: np.ndarray, state: RobotState) -> Judgement:
        return Judgement(Level.PASS, '', '', command)

    def executed(self, command: np.ndarray, state: RobotState) -> None:
        """Do nothing."""


class Witness:
    """
    Judges what reached a robot, some thousands of commands at a time.

    :param robot: whose limits count.
    :ivar found: violations by name.
    """

    def __init__(self, robot: RobotModel) -> None:
        self._robot, self._oracle = robot, Oracle(robot)
        geometry = robot.config.safety.geometry
        self._above = {} if geometry is None else {
            link: surface_points(robot, link, SPACING_M)
            for zone in geometry.zones if zone.name == 'table' for link in zone.links}
        self._kept: list[tuple[np.ndarray, ...]] = []
        self.found: Counter[str] = Counter()

    def see(self, state: RobotState, wanted: np.ndarray, given: np.ndarray | None) -> None:
        """Take what the robot was given, None for nothing, in place of what was wanted."""
        self._kept.append((state.position, state.velocity, np.array(wanted), np.full_like(
            wanted, np.nan) if given is None else np.array(given)))
        if len(self._kept) == BLOCK:
            self.count()

    def count(self) -> Counter[str]:
        """Judge what has been kept; return all violations so far by name."""
        if self._kept:
            q, dq, wanted, given = (np.array(values) for values in zip(*self._kept))
            self._kept.clear()
            self.found.update(self._oracle.violations(q, dq, wanted, given))
            if below := self._into_the_table(q, given):
                self.found['into the table'] += below
        return self.found

    def _into_the_table(self, q: np.ndarray, given: np.ndarray) -> int:
        """Count commands that lead a link into the table, or deeper into it."""
        passed = ~np.isnan(given).all(axis=1)
        here, there = q[passed], q[passed].copy()
        there[:, self._oracle.index] = given[passed]
        bad = np.zeros(len(here), bool)
        before, after = (link_poses(self._robot, poses) for poses in (here, there))
        for link, points in self._above.items():
            lowest = [moved(poses[link], points)[:, :, 2].min(axis=1)
                      for poses in (before, after)]
            bad |= (lowest[1] < -EPS) & (lowest[1] < lowest[0] - EPS)
        return int(bad.sum())


class WatchedEnv(SimEnv):
    """
    The simulated environment with an eye on what reaches the robot.

    :param monitored: whether the supervisor is there.
    :ivar witness: of all that is commanded.
    :ivar steps: taken so far.
    """

    def __init__(self, robot: str, task: str, monitored: bool = True) -> None:
        super().__init__(robot, task)
        self._gate = Monitored(self.task.robot) if monitored else Open()
        self.witness = Witness(self.task.robot)
        self.steps = 0
        made.append(self)

    @property
    def stops(self) -> int:
        return self._gate.stops

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        judge = self._gate.judge

        def witnessed(command: np.ndarray, before: RobotState) -> Judgement:
            judged = judge(command, before)
            self.witness.see(before, command, judged.allowed)
            return judged
        self._gate.judge = witnessed
        try:
            result = super().step(action)
        finally:
            self._gate.judge = judge
        self.steps += 1
        return result


class Run(NamedTuple):
    """What a run showed: violations by name, stops of the monitor."""

    found: Counter[str]
    stops: int


def wander(robot: str, task: str, steps: int, monitored: bool, seed: int = 0) -> Run:
    """Let a random policy act for so many steps."""
    env, rng = WatchedEnv(robot, task, monitored), np.random.default_rng(seed)
    env.reset(seed=seed)
    left = 0
    for _ in range(steps):
        if left == 0:
            left = int(rng.integers(*HELD))
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        left -= 1
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    found, stops = env.witness.count(), env.stops
    env.close()
    return Run(found, stops)


for robot_name, task_name in WANDERERS.items():  # for whoever learns without a monitor
    gymnasium.register(f'rl_nodes/open_{robot_name}-v0', entry_point=WatchedEnv, kwargs={
        'robot': robot_name, 'task': task_name, 'monitored': False})
