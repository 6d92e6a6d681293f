# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One robot that the policy server serves: what it asks and what it is answered."""

from collections import Counter
from functools import partial
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.control.controllers import Controller
from rl_nodes.core.errors import (
    BundleError,
    NotFiniteError,
    OrderError,
    PictureError,
    RewardMissingError,
    SpecError,
)
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.picture_desk import PictureDesk
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.inference.actors import Cast, ChunkActor, SingleActor
from rl_nodes.inference.batcher import Batcher
from rl_nodes.inference.batching import Answer
from rl_nodes.inference.chunking import Blend
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.alarm import Alarm
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import StateReader
from sensor_msgs.msg import JointState

PATIENCE_NS = NS  # for what belongs to a state, after which the wait is reported


class PolicyClient:
    """
    Answers each state of one robot with the command that the policy in force wants.

    :param node: makes the entities; its task is done by the robot.
    :param namespace: of the robot, relative to the node's.
    :param rng: of the exploration noise; None where the policy acts without.
    :param blend: of policies that answer with chunks of actions.
    :param fallback: answers where no policy does; None for silence.
    :param desk: where the pictures are that go with the states.
    :param batcher: has the states of several robots answered together; None for each by itself.
    :cvar kinds: of durations that are measured: since the stamp of a state when it is here
        (``age``; not in lockstep), until its turn comes, of observing, inferring and encoding, of
        handing the command to the middleware, and all but the age together.
    """

    kinds = ('age', 'queue', 'inference', 'publish', 'total')

    def __init__(self, node: TaskNode, namespace: str, rng: np.random.Generator | None,
                 blend: Blend, fallback: Controller | None, desk: PictureDesk,
                 batcher: Batcher | None = None) -> None:
        self._node = node
        self._task, self._model = node.task, node.task.robot
        self._cast = Cast()
        self._rng, self._blend, self._fallback = rng, blend, fallback
        self._desk, self._batcher = desk, batcher
        self._unanswered, self._stood_in, self._silence = 0, 0, ''
        self._windows = {kind: LatencyWindow() for kind in self.kinds}
        self._goals = GoalBook()
        self._observer = node.task.observer()
        self._waiting: RobotState | None = None
        self._waiting_ns = 0  # since when, steady time
        self._answer: tuple[int, JointState] | None = None
        self._drops: Counter[str] = Counter()
        self._last_drop = ''
        self._commands = node.publish_on(
            JointState, topic_in(namespace, 'policy/joint_command'), qos.STREAM)
        node.subscribe(PoseStamped, topic_in(namespace, 'goal'), self._on_goal, qos.EPISODE)
        self._reader = StateReader(node.task)
        for topic, kind in self._reader.topics.items():
            node.subscribe(kind, topic_in(namespace, topic), partial(self._on_state, topic),
                           qos.SENSOR)
        self._alarm: Alarm | None = None  # when a reward is awaited no longer
        if self._observer.needs_rewards:
            node.subscribe(JointState, topic_in(namespace, 'reward'), self._on_reward, qos.STREAM)
            self._alarm = Alarm(node, self._look_again)
            self._reward_patience_ns = (
                PATIENCE_NS if node.lockstep else self._task.period_ns // 2)

    def use(self, policy: PolicyRuntime) -> None:
        """Let a verified policy take over between two states; from any thread."""
        self._cast.use(
            SingleActor(policy, self._rng, self._desk.look)
            if policy.bundle.manifest.chunk is None
            else ChunkActor(policy, self._task.period_ns, self._blend,
                            overlap=not self._node.lockstep, look=self._desk.look))

    def start(self) -> None:
        """Begin to answer; what was earned while the node was not active is not known."""
        if self._observer.needs_rewards:
            self._observer = self._task.observer()

    def stop(self) -> None:
        """Nothing to end: the node's executor brings no more states."""

    def close(self) -> None:
        """Let the policies go; the node destroys the topics."""
        self._cast.close()

    def latencies(self, kind: str) -> np.ndarray:
        """Return the newest durations [s] of one of the ``kinds``."""
        return self._windows[kind].values()

    @property
    def silence(self) -> str:
        """Return why the newest states were not answered; empty where they were."""
        state = self._waiting
        if state is not None and steady_ns() - self._waiting_ns > PATIENCE_NS:
            return self._desk.awaited(state) or self._silence
        return self._silence

    @property
    def dropped(self) -> int:
        """Return how many messages and states were not answered for a reason."""
        return self._drops.total()

    def details(self) -> dict[str, Any]:
        """Return how many states were answered, how many dropped by reason, and the last one."""
        acting = self._cast.acting
        drops = {f'dropped_{reason}': count for reason, count in sorted(self._drops.items())}
        return {
            'answered': self._windows['total'].count, 'acting': acting.label if acting else '',
            **drops, 'last_drop': self._last_drop, 'unanswered': self._unanswered,
            'fallback_answers': self._stood_in, 'silence': self.silence,
            **self._desk.details(), **(acting.details() if acting else {})}

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg, self._task.goal_frame))
        except SpecError as error:
            self._refuse(error, error.reason)
            return
        self.try_again()

    def try_again(self) -> None:
        """Answer the state that waits for something, if there is one and it has come."""
        if self._waiting is not None:
            self._tick(self._waiting, steady_ns())

    def _on_reward(self, msg: JointState) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self._refuse(error, error.reason)
            return
        self._observer.rewarded(stamp, episode, outcome.total)
        self._look_again()

    def _look_again(self) -> None:
        """Answer the state that waits for a reward, or wait no longer."""
        if self._waiting is not None:
            self._tick(self._waiting, self._waiting_ns)

    def _on_state(self, topic: str, msg: Any) -> None:
        arrived = steady_ns()
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._refuse(error, error.reason)
            return
        if state is None:  # a part of it is on its way
            return
        if self._batcher is not None:
            self._batcher.settle(self._cast)
        if self._answer is not None and self._answer[0] == state.stamp_ns:
            self._commands.publish(self._answer[1])  # asked again: the same answer, same noise
        else:
            self._tick(state, arrived)

    def _tick(self, state: RobotState, arrived_ns: int) -> None:
        """Answer a complete state, now or with those of other robots: observe, infer, command."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.stamp_ns != state.stamp_ns:
            self._waiting_ns = arrived_ns
            if waiting is not None and self._observer.awaits(waiting):
                error = RewardMissingError(f'state {waiting.stamp_ns} was followed by another '
                                           'before all rewards had come that are observed')
                self._refuse(error, error.reason)
        goal = self._goals.of(state)
        if goal is None or self._desk.awaited(state) or self._awaits_reward(state):
            self._waiting = state  # they are still on their way
            return
        begun = steady_ns()
        try:
            observation = self._observer.observe(state, goal)
        except RewardMissingError as error:
            self._refuse(error, error.reason)
            self._send(state, self._instead(state, str(error)), arrived_ns, begun)
            return
        except SpecError as error:
            self._refuse(error, error.reason)
            return
        if self._batcher is not None:
            self._batcher.add(self._cast, observation, state, partial(
                self._conclude, state, observation, arrived_ns, begun))
            return
        try:
            answer = self._cast.act(observation, state)  # a newer policy takes over in here
        except (SpecError, BundleError) as error:
            answer = error
        self._conclude(state, observation, arrived_ns, begun, answer)

    def _conclude(self, state: RobotState, observation: np.ndarray, arrived_ns: int, begun: int,
                  answer: Answer | None) -> None:
        """Make a command of an answer and send it."""
        try:
            command = self._wanted(state, observation, answer)
        except SpecError as error:
            self._refuse(error, error.reason)
            return
        self._send(state, command, arrived_ns, begun)

    def _send(self, state: RobotState, command: JointCommand | None, arrived_ns: int,
              begun: int) -> None:
        """Publish a command, if there is one, and note how long it took."""
        if command is None:
            return
        self._observer.acted(state, command.value)
        msg = conversions.command_to_msg(command, self._model.command_names,
                                         self._model.config.control_mode)
        computed = steady_ns()
        self._commands.publish(msg)
        published = steady_ns()
        self._answer = (state.stamp_ns, msg)
        for kind, ns in (('queue', begun - arrived_ns), ('inference', computed - begun),
                         ('publish', published - computed), ('total', published - arrived_ns)):
            self._windows[kind].add(ns / NS)
        if not self._node.lockstep:
            age_ns = time.time_ns() - state.stamp_ns - (published - arrived_ns)
            self._windows['age'].add(age_ns / NS)

    def _awaits_reward(self, state: RobotState) -> bool:
        """Return whether to wait for what the episode has earned; not for long in real time."""
        if self._alarm is None or not self._observer.awaits(state):
            return False
        until_ns = self._waiting_ns + self._reward_patience_ns
        if steady_ns() >= until_ns:
            return False
        self._alarm.set(until_ns)
        return True

    def _wanted(self, state: RobotState, observation: np.ndarray,
                answer: Answer | None) -> JointCommand | None:
        """
        Return the command of the policy in force, or of what stands in for it.

        :param answer: its action, why it has none, or None where it knows itself.
        :raises OrderError: the state came after a newer one, and the policy remembers.
        """
        acting, why = self._cast.acting, ''
        if isinstance(answer, OrderError):
            raise answer  # not the policy's fault
        if isinstance(answer, PictureError):  # neither is this
            self._refuse(answer, answer.reason)
            why = str(answer)
        elif isinstance(answer, (SpecError, BundleError)):
            finite = np.isfinite(observation).all()
            self._refuse(answer, 'policy' if finite else NotFiniteError.reason)
            why = str(answer)
        elif answer is not None and acting is not None:
            self._silence = ''
            return JointCommand(state.stamp_ns, acting.label, self._task.command(state, answer))
        return self._instead(state, why)

    def _instead(self, state: RobotState, why: str) -> JointCommand | None:
        """
        Return the command of what stands in for the policy.

        :param why: the policy has no action; empty where it knows itself, or there is none.
        """
        acting = self._cast.acting
        silent = bool(why) or acting is not None
        if silent:
            self._silence = why or (acting.silence() if acting is not None else '')
            self._node.get_logger().warning(f'no action: {self._silence}',
                                            throttle_duration_sec=1.0)
        if self._fallback is None:
            self._unanswered += silent
            return None
        self._stood_in += 1
        return JointCommand(state.stamp_ns, f'controller:{self._fallback.label}',
                            self._fallback.command(state))

    def _refuse(self, error: SpecError | BundleError, reason: str) -> None:
        self._drops[reason] += 1
        self._last_drop = str(error)
        self._node.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)
