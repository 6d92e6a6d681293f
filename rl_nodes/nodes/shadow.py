# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A candidate policy that is asked what it would do, and never does it.

A state's turn comes once the command that really answered it has been heard, in a thread of its
own. The candidate observes what the policy in force observes: its last action is the one that was
sent.
"""

from collections import deque
from collections.abc import Iterable
from functools import partial
from queue import SimpleQueue
import threading
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.core.errors import BundleError, RewardMissingError, SpecError
from rl_nodes.core.fleet import topic_in
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.timing import LatencyWindow, NS, steady_ns, summary_ms
from rl_nodes.core.types import Goal, JointCommand, RobotState
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.joint_state import deserialize
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState

LAG_S = 1.0  # a shadow that falls back further than this is dropped
WAITING = 64  # states and commands kept that belong to none of the other kind yet
SENT, GOAL, REWARD = 'policy/joint_command', 'goal', 'reward'


class Watched:
    """
    One robot: its states, goals and commands, in whatever order they come.

    :param task: that it does.
    """

    def __init__(self, task: Task) -> None:
        self._goal_frame, self._mode = task.goal_frame, task.robot.config.control_mode
        self._reader = StateReader(task)
        self._goals = GoalBook()
        self._states: deque[RobotState] = deque(maxlen=WAITING)
        self._sent: deque[JointCommand] = deque(maxlen=WAITING)
        self._done = 0
        self.observer = task.observer()
        self.topics: dict[str, type] = {
            GOAL: PoseStamped, SENT: JointState, **self._reader.topics,
            **({REWARD: JointState} if self.observer.needs_rewards else {})}

    def take(self, topic: str, data: bytes) -> None:
        """Take a serialized message; SpecError where it is not what its topic promises."""
        msg = deserialize(data, self.topics[topic])
        if topic == GOAL:
            self._goals.add(conversions.msg_to_goal(msg, self._goal_frame))
        elif topic == REWARD:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
            self.observer.rewarded(stamp, episode, outcome.total)
        elif topic == SENT:
            self._sent.append(conversions.msg_to_command(msg, self._mode)[1])
        else:
            state = self._reader.read(topic, msg)
            if state is not None:
                self._states.append(state)

    def ready(self) -> tuple[RobotState, Goal, JointCommand] | None:
        """Return the next state that was answered, its goal and the command, or None."""
        while self._sent:
            command = self._sent[0]
            while self._states and self._states[0].stamp_ns < command.stamp_ns:
                self._states.popleft()
            if not self._states:
                return None
            if self._states[0].stamp_ns == command.stamp_ns > self._done:
                goal = self._goals.of(self._states[0])
                if goal is None or self.observer.awaits(self._states[0]):
                    return None
                self._done = command.stamp_ns
                self._sent.popleft()
                return self._states[0], goal, command
            self._sent.popleft()  # its state never came, or has had its turn
        return None


class Shadow:
    """
    Publishes ``policy/shadow_command`` and compares it with what was sent.

    :param node: makes the entities; its task is done by the robots.
    :param namespaces: of the robots, relative to the node's.
    :param policy: the candidate; nobody else may use it.
    """

    def __init__(self, node: TaskNode, namespaces: Iterable[str], policy: PolicyRuntime) -> None:
        self._node = node
        # A task of its own: the policy in force uses the node's in another thread.
        self._task = load_task(node.parameters.robot, node.parameters.task)
        self._task.period_ns = node.task.period_ns
        self._task.target_return = node.task.target_return
        self._names = self._task.robot.command_names
        self._mode = self._task.robot.config.control_mode
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._robots, self._publishers = [], []
        for index, name in enumerate(namespaces):
            self._publishers.append(node.publish_on(
                JointState, topic_in(name, 'policy/shadow_command'), qos.STREAM))
            self._robots.append(Watched(self._task))
            for topic, kind in self._robots[-1].topics.items():
                profile = {GOAL: qos.EPISODE, REWARD: qos.STREAM}.get(topic, qos.SENSOR)
                node.subscribe(kind, topic_in(name, topic), partial(self._on, index, topic),
                               profile, raw=True)
        self.use(policy)
        self._thread = threading.Thread(target=self._run, name='shadow', daemon=True)
        self._thread.start()

    def use(self, policy: PolicyRuntime) -> None:
        """
        Take another candidate, also after one was dropped; from any thread.

        :raises SpecError: it answers with chunks.
        """
        if policy.bundle.manifest.chunk is not None:
            raise SpecError(f'shadow {policy.bundle.label} answers with chunks; a shadow answers '
                            'each state with one action')
        self._inference, self._mean, self._greatest = (LatencyWindow() for _ in range(3))
        self._actors = [SingleActor(policy, None) for _ in self._robots]
        self._label, self._dropped = policy.bundle.label, ''

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join(timeout=2.0)

    def details(self) -> dict[str, Any]:
        """Return the candidate, how it compares in units of the command, and its latency."""
        found: dict[str, Any] = {'shadow': self._label,
                                 'shadow_dropped': self._dropped}
        if self._mean.count:
            found |= {'shadow_difference_mean': round(float(self._mean.values().mean()), 6),
                      'shadow_difference_max': round(float(self._greatest.values().max()), 6)}
        latency = summary_ms(self._inference.values(), self._inference.count)
        return found | {f'shadow_{name}': value for name, value in latency.items()}

    def _on(self, index: int, topic: str, data: bytes) -> None:
        self._queue.put((index, topic, data, steady_ns()))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            index, topic, data, arrived_ns = item
            behind_s = (steady_ns() - arrived_ns) / NS
            if behind_s > LAG_S and not self._dropped:
                self._drop(f'it is {behind_s:.1f} s behind; it is too slow for this robot')
            robot = self._robots[index]
            try:
                robot.take(topic, data)
            except SpecError:
                continue  # whoever answers in earnest counts and reports it
            while (ready := robot.ready()) is not None:
                if not self._dropped:  # another candidate may follow
                    self._compute(index, *ready)

    def _compute(self, index: int, state: RobotState, goal: Goal, sent: JointCommand) -> None:
        """Publish what the candidate would do in a state, and compare."""
        observer = self._robots[index].observer
        begun = steady_ns()
        try:
            actor = self._actors[index]  # another candidate may follow meanwhile
            action = actor.act(observer.observe(state, goal), state)
        except RewardMissingError:
            return  # nobody knows what it would see
        except (SpecError, BundleError) as error:
            self._drop(str(error))
            return
        self._inference.add((steady_ns() - begun) / NS)
        wanted = JointCommand(state.stamp_ns, actor.label, self._task.command(state, action))
        self._publishers[index].publish(
            conversions.command_to_msg(wanted, self._names, self._mode))
        observer.acted(state, sent.value)
        if sent.value.shape == wanted.value.shape:
            difference = np.abs(wanted.value - sent.value)
            self._mean.add(float(difference.mean()))
            self._greatest.add(float(difference.max()))

    def _drop(self, why: str) -> None:
        self._dropped = why
        self._node.get_logger().error(f'shadow {self._label} dropped: {why}')
