# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A task: what is observed, what an action does, what is rewarded, when an episode ends.

Tasks are pure. The simulator's environment, the robot bridge, the policy server, the recorder and
the reward computer all use the same object, so they cannot drift apart.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import EpisodeId, Goal, Outcome, RobotState, Start
from rl_nodes.rewards.composite import WeightedSum
from rl_nodes.tasks.actions import ActionConfig, ActionMap
from rl_nodes.tasks.signals import ObservationLayout, View


class TaskConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What every ``config/tasks/<task>.yaml`` holds; each task type adds its own keys.

    :param type: which task, see ``tasks/__init__.py``.
    :param episode_s: time limit of an episode; reaching it truncates, it does not terminate.
    :param observation: signals in order, see ``tasks/signals.py``.
    :param action: see ``tasks/actions.py``.
    :param reward: weight per reward term.
    """

    type: str
    episode_s: Annotated[float, Meta(gt=0)]
    observation: Annotated[tuple[str, ...], Meta(min_length=1)]
    action: ActionConfig
    reward: dict[str, float]


class Task(ABC):
    """
    One robot doing one task.

    :param name: name of the task's configuration.
    :param config: its record.
    :param robot: the robot that does it.
    :raises ConfigError: robot and task do not fit.
    """

    config_type: ClassVar[type[TaskConfig]]
    term_names: ClassVar[tuple[str, ...]]  # in the order of ``terms``; the first tells most
    needs_tool: ClassVar[bool] = False

    def __init__(self, name: str, config: TaskConfig, robot: RobotModel) -> None:
        self.name = name
        self.robot = robot
        self._observation = ObservationLayout(config.observation, robot)
        self._action = ActionMap(config.action, robot)
        self._reward = WeightedSum(config.reward, self.term_names)
        self._derives_tool = self.needs_tool or self._observation.needs_tool
        self._latest: tuple[RobotState | None, np.ndarray] = (None, np.zeros(3))
        self.period_ns = period_ns(robot.config.rate_hz)
        self.episode_steps = max(1, round(config.episode_s * robot.config.rate_hz))
        self.contract = Contract(
            robot.name, name, robot.config.rate_hz, robot.config.control_mode, robot.joints,
            self._observation.spec, self._action.spec, config.action.kind,
            robot.chain.fingerprint() if self._derives_tool and robot.chain else '')

    @abstractmethod
    def start(self, rng: np.random.Generator) -> Start:
        """Return a start drawn from the reset distribution."""

    @abstractmethod
    def terms(self, before: RobotState, action: np.ndarray, after: RobotState,
              goal: Goal) -> dict[str, float]:
        """Return every reward term of one step, named as in ``term_names``."""

    @abstractmethod
    def failed(self, state: RobotState, goal: Goal) -> bool:
        """Return whether the state ends the episode for good."""

    @abstractmethod
    def succeeded(self, state: RobotState, goal: Goal, step: int) -> bool:
        """Return whether the success criterion holds ``step`` steps into an episode."""

    def observe(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the observation, shape (O,), float32."""
        return self._observation.assemble(View(state, goal, self.tool(state)))

    def command(self, state: RobotState, action: np.ndarray) -> np.ndarray:
        """Return the command that an action means, shape (A,), float64."""
        return self._action.command(state, action)

    def to_action(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the action that a command amounts to, shape (A,), float32."""
        return self._action.action(state, command)

    def hold_command(self, state: RobotState) -> np.ndarray:
        """Return the command that keeps the robot where it is, shape (A,), float64."""
        return self._action.hold(state)

    def evaluate(self, before: RobotState, command: np.ndarray, after: RobotState,
                 goal: Goal) -> Outcome:
        """
        Return what one step earned and whether it ended the episode.

        :param before: state that the command answered.
        :param command: the command really executed, shape (A,).
        :param after: the state one period later, of the same episode.
        """
        step = self.step_of(after)
        terms = self.terms(before, self.to_action(before, command), after, goal)
        terminated = self.failed(after, goal)
        return Outcome(self._reward.total(terms), terms, terminated,
                       step >= self.episode_steps and not terminated,
                       self.succeeded(after, goal, step))

    def first_outcome(self) -> Outcome:
        """Return the outcome of an episode's first state, which nothing has led to."""
        return Outcome(0.0, dict.fromkeys(self.term_names, 0.0), False, False, False)

    def step_of(self, state: RobotState) -> int:
        """Return how many periods lie between the episode's start and a state."""
        since = state.stamp_ns - EpisodeId.parse(state.episode).start_ns
        return round(since / self.period_ns)

    def tool(self, state: RobotState) -> np.ndarray:
        """Return the tool's position in ``base_link`` [m], shape (3,); zeros where unused."""
        if self._derives_tool and self.robot.chain is not None:
            known, tool = self._latest
            if known is not state:  # observation and reward of one state share the kinematics
                tool = self.robot.chain.tip_position(state.position)
                self._latest = (state, tool)
            return tool
        return self._latest[1]

    @property
    def episode_s(self) -> float:
        """Return the time limit of an episode [s]."""
        return self.episode_steps * self.period_ns / NS
