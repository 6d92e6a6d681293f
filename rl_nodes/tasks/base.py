# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A task: what is observed, what an action does, what is rewarded, when an episode ends.

Tasks are pure; what an observation has to remember is kept by the observers that they make. The
simulator's environment, the robot bridge, the policy server, the recorder and the reward computer
all use the same object, so they cannot drift apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar

from msgspec import Meta, Struct, UNSET
import numpy as np
from rl_nodes.core.cameras import CameraMount
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.objects import ObjectConfig
from rl_nodes.core.pictures import find_sights, MOST_PICTURES, PictureSpec, Sight
from rl_nodes.core.returns import RETURN_TO_GO, ReturnToGo
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import EpisodeId, Goal, Outcome, RobotState, Start
from rl_nodes.core.variation import Variation
from rl_nodes.rewards.composite import WeightedSum
from rl_nodes.tasks.actions import ActionConfig, make_action_map
from rl_nodes.tasks.curriculum import at_difficulty, check_curriculum, Easy
from rl_nodes.tasks.object_signals import object_signals
from rl_nodes.tasks.observer import History, Observer, RememberingObserver
from rl_nodes.tasks.randomisation import Randomisation, Randomiser
from rl_nodes.tasks.signals import (
    LAST_ACTION,
    last_action_signal,
    ObservationLayout,
    RANDOMISATION,
    randomisation_signal,
    return_to_go_signal,
    SIGNALS,
    View,
)
from rl_nodes.tasks.success import Classified, SuccessConfig, SuccessJudge

NOTHING = np.zeros(0, np.float32)

Frames = Annotated[int, Meta(ge=1, le=100)]
Judge = Callable[[RobotState, np.ndarray, RobotState, Goal], Outcome]


class TaskConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What every ``config/tasks/<task>.yaml`` holds; each task type adds its own keys.

    :param type: which task, see ``tasks/__init__.py``.
    :param episode_s: time limit of an episode; reaching it truncates, it does not terminate.
    :param observation: signals in order, see ``tasks/signals.py``.
    :param history: newest frames in an observation, of all its signals or by name of signal.
    :param return_to_go: target and unit of the signal of that name, where it is observed.
    :param privileged: signals that only a critic or a teacher sees, while training in simulation.
    :param pictures: that a policy sees besides, one of each camera.
    :param action: see ``tasks/actions.py``.
    :param reward: weight per reward term.
    :param objects: what is in the robot's world beside the ground.
    :param randomisation: what varies from episode to episode, see ``tasks/randomisation.py``.
    :param success_classifier: network that says which states are success, see ``success.py``.
    :param curriculum: ranges that the start is drawn from at difficulty 0, by dotted key.
    :param record_topics: names and regular expressions of topics that are recorded besides.
    """

    type: str
    episode_s: Annotated[float, Meta(gt=0)]
    observation: Annotated[tuple[str, ...], Meta(min_length=1)]
    action: ActionConfig
    reward: dict[str, float]
    history: Frames | dict[str, Frames] = 1
    return_to_go: ReturnToGo | None = None
    privileged: tuple[str, ...] = ()
    pictures: Annotated[tuple[PictureSpec, ...], Meta(max_length=MOST_PICTURES)] = ()
    objects: tuple[ObjectConfig, ...] = ()
    randomisation: Randomisation | None = None
    success_classifier: SuccessConfig | None = None
    curriculum: dict[str, Easy] = {}
    record_topics: tuple[str, ...] = ()


class Task(ABC):
    """
    One robot doing one task.

    :param name: name of the task's configuration.
    :param config: its record.
    :param robot: the robot that does it.
    :raises ConfigError: robot and task do not fit.
    :ivar term_names: reward terms, those of a success classifier last.
    :ivar success: its section; None where no classifier says what success is.
    :ivar target_return: what an episode is to earn, of the signal ``return_to_go``; None where it
        is not observed. Observers that were made before do not notice a change.
    """

    config_type: ClassVar[type[TaskConfig]]
    term_names: tuple[str, ...]  # in the order of ``terms``; the first tells most
    needs_tool: ClassVar[bool] = False
    goal_frame: ClassVar[str] = 'base_link'  # that goals are given in
    start_ranges: ClassVar[tuple[str, ...]] = ()  # keys that a curriculum may speak of

    def __init__(self, name: str, config: TaskConfig, robot: RobotModel) -> None:
        self.name = name
        self.robot = robot
        self.record_topics = (*robot.config.record_topics, *config.record_topics)
        check_curriculum(config.curriculum, config, self.start_ranges)
        self._full, self._easier = config, (1.0, self)
        self._randomiser = Randomiser(config.randomisation, robot) \
            if config.randomisation or config.curriculum else None
        self.objects = config.objects
        names = [entry.name for entry in config.objects]
        if len(set(names)) != len(names):
            raise ConfigError(f'objects: a name is given twice: {", ".join(names)}')
        self.action_map = make_action_map(config.action, robot)
        self.target_return = config.return_to_go.target if config.return_to_go else None
        frame = self._frame_layout(config)
        self.history = History(frame, config.history)
        self._privileged = (self._privileged_layout(config.privileged)
                            if config.privileged else None)
        self.sights = find_sights(config.pictures, robot.config.cameras, robot.config.rate_hz)
        self.success = config.success_classifier
        if self.success is not None:
            self.term_names = (*self.term_names, *Classified.term_names)
        self._reward = WeightedSum(config.reward, self.term_names)
        self._derives_tool = self.needs_tool or frame.needs_tool or (
            self._privileged is not None and self._privileged.needs_tool)
        self._latest: tuple[RobotState | None, np.ndarray] = (None, np.zeros(3))
        self.period_ns = period_ns(robot.config.rate_hz)
        self.episode_steps = max(1, round(config.episode_s * robot.config.rate_hz))
        self.contract = Contract(
            robot.name, name, robot.config.rate_hz, robot.config.control_mode, robot.joints,
            self.history.spec, self.action_map.spec, self.action_map.kind, self._geometry(frame),
            UNSET if self._privileged is None else self._privileged.spec,
            config.pictures or UNSET)

    def episode(self, rng: np.random.Generator, difficulty: float = 1.0) -> Start:
        """
        Return how the next episode starts and what is different in it; draws from ``rng`` only.

        :param difficulty: from 0 to 1, the task itself; below, ranges lie nearer to their values
            in the section ``curriculum``, randomised ones nearer to their nominal value.
        """
        if self._randomiser is None:
            return self.start(rng)
        if self._easier[0] != difficulty:
            self._easier = (difficulty, self if difficulty == 1.0 else type(self)(
                self.name, at_difficulty(self._full, self._full.curriculum, difficulty),
                self.robot))
        return replace(self._easier[1].start(rng),
                       variation=self._randomiser.draw(rng, difficulty))

    @property
    def variation_names(self) -> tuple[str, ...]:
        """Return the names in ``Variation.values``; empty where episodes do not vary."""
        return self._randomiser.names if self._randomiser else ()

    @property
    def disturbs(self) -> bool:
        """Return whether commands or measurements are disturbed, see ``disturbed_robot.py``."""
        return self._randomiser is not None and self._randomiser.disturbs

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

    def observer(self) -> Observer:
        """Return what turns the states of one robot into observations, from any state on."""
        if not self.history.remembers:
            return Observer(self.history.layout, self.tool)
        return RememberingObserver(self.history, self.tool, self.to_action,
                                   len(self.action_map.spec.elements), self.period_ns,
                                   self.target_return)

    def _frame_layout(self, config: TaskConfig) -> ObservationLayout:
        """Return the layout of what is observed of one state."""
        known = SIGNALS | object_signals(config.objects) | {
            LAST_ACTION: last_action_signal(self.action_map.spec)}
        if config.return_to_go is not None:
            known |= {RETURN_TO_GO: return_to_go_signal(config.return_to_go.scale)}
        if (RETURN_TO_GO in known) != (RETURN_TO_GO in config.observation):
            found = 'section' if RETURN_TO_GO in known else 'signal'
            raise ConfigError('return_to_go: expected a signal of this name in observation and a '
                              f'section of this name with its target; there is only the {found}')
        return ObservationLayout(config.observation, self.robot, known)

    def _privileged_layout(self, names: tuple[str, ...]) -> ObservationLayout:
        """Return the layout of signals that only a critic or a teacher sees."""
        drawn = tuple(name for name in self.variation_names if name != 'seed')
        extra = {RANDOMISATION: randomisation_signal(drawn)} if drawn else {}
        return ObservationLayout(
            names, self.robot, SIGNALS | object_signals(self.objects) | extra, 'privileged')

    def privileged(self, state: RobotState, goal: Goal,
                   variation: Variation | None) -> np.ndarray:
        """
        Return what only a critic or a teacher sees, shape (P,), float32; P = 0 for nothing.

        :param state: the true one, as the simulator knows it.
        :param variation: of the state's episode.
        """
        if self._privileged is None:
            return NOTHING
        values = {} if variation is None else variation.values
        return self._privileged.assemble(View(state, goal, self.tool(state), values=values))

    def command(self, state: RobotState, action: np.ndarray) -> np.ndarray:
        """Return the command that an action means, shape (A,), float64."""
        return self.action_map.command(state, action)

    def to_action(self, state: RobotState, command: np.ndarray) -> np.ndarray:
        """Return the action that a command amounts to, shape (A,), float32."""
        return self.action_map.action(state, command)

    def hold_command(self, state: RobotState) -> np.ndarray:
        """Return the command that keeps the robot where it is, shape (A,), float64."""
        return self.action_map.hold(state)

    def judge(self) -> Judge:
        """
        Return what says what each step of one robot earned, from any state on.

        It takes what :meth:`evaluate` takes, and asks the success classifier where there is one.

        :raises BundleError: the classifier is damaged, or something else.
        :raises ContractError: it was made for something else.
        """
        return self.evaluate if self.success is None else SuccessJudge(self, self.success)

    def evaluate(self, before: RobotState, command: np.ndarray, after: RobotState,
                 goal: Goal, classified: Classified | None = None) -> Outcome:
        """
        Return what one step earned and whether it ended the episode; see :meth:`judge`.

        :param before: state that the command answered.
        :param command: the command really executed, shape (A,).
        :param after: the state one period later, of the same episode.
        :param classified: what the task's success classifier says of that state.
        """
        step = self.step_of(after)
        terms = self.terms(before, self.to_action(before, command), after, goal)
        terminated, success = self.failed(after, goal), self.succeeded(after, goal, step)
        if classified is not None and self.success is not None:
            terms |= classified.terms()
            terminated |= self.success.ends_episode and classified.success
            if self.success.success == 'classifier':
                success = classified.success
        return Outcome(self._reward.total(terms), terms, terminated,
                       step >= self.episode_steps and not terminated, success)

    def first_outcome(self) -> Outcome:
        """Return the outcome of an episode's first state, which nothing has led to."""
        return Outcome(0.0, dict.fromkeys(self.term_names, 0.0), False, False, False)

    def step_of(self, state: RobotState) -> int:
        """Return how many periods lie between the episode's start and a state."""
        since = state.stamp_ns - EpisodeId.parse(state.episode).start_ns
        return round(since / self.period_ns)

    def _geometry(self, frame: ObservationLayout) -> str:
        """Return the fingerprints of what observations are derived by, one after another."""
        mounts = [CameraMount(sight.camera, self.robot.urdf, self.robot.joint_names)
                  for sight in self.sights]
        return self.robot.geometry(self._derives_tool, frame.needs_ranges, frame.needs_imu) \
            + ''.join(mount.fingerprint() for mount in mounts)

    def pictured_at(self, state: RobotState, sight: Sight) -> int:
        """
        Return the stamp [ns] of the picture that goes with a state where the robot waits for it.

        It is of the episode's first state or a whole number of strides later: of the newest such
        state that is not after this one.
        """
        return state.stamp_ns - self.step_of(state) % sight.stride * self.period_ns

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
    def state_parts(self) -> tuple[str, ...]:
        """Return what a state has beside its joints: fields of :class:`RobotState`."""
        there = {'base': self.robot.config.floating_base, 'objects': bool(self.objects),
                 'ranges': self.robot.config.range_sensor is not None,
                 'imu': self.robot.config.imu is not None,
                 'wrench': self.robot.config.force_torque is not None}
        return tuple(part for part, has in there.items() if has)

    @property
    def episode_s(self) -> float:
        """Return the time limit of an episode [s]."""
        return self.episode_steps * self.period_ns / NS
