# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the guards of a safety monitor see and ask.

Observations are made by the same observer as everywhere, of states joined from all their topics
and goals; see ``safety/guard.py`` for what comes of them.
"""

from functools import partial
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from rl_nodes.core.errors import SpecError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import TaskNode
from rl_nodes.nodes.state_topics import JOINTS, StateReader
from rl_nodes.safety.guard import DistributionGuard, Eye, Guard, RiskGuard
from rl_nodes.safety.guard_file import read_guard, Risk
from sensor_msgs.msg import JointState

LOCKSTEP_BOUND_S = 5.0
BOUND_PERIODS = 0.5  # of a control period, in which a risk must be known


class GuardWatch:
    """
    Makes the guards of a file and lets them see.

    :param node: the safety monitor; the topics are its own.
    :param path: file of the guard.
    :raises ConfigError: it cannot be read, or was made for something else.
    :raises BundleError: its risk network is not acceptable.
    :raises ContractError: its risk network was made for something else.
    :ivar guards: to be asked by the supervisor.
    """

    def __init__(self, node: TaskNode, path: str) -> None:
        self._node, self._task = node, node.task
        contract, safety = node.task.contract, node.task.robot.config.safety
        eye = Eye(safety.command_timeout_s)
        file = read_guard(path, contract)
        distribution = DistributionGuard(file, contract.observation.elements, eye,
                                         node.task.period_ns)
        self._distribution = distribution
        self.guards: tuple[Guard, ...] = (distribution,)
        self._scores: dict[str, DistributionGuard | RiskGuard] = {'score': distribution}
        self._bounded = None
        if isinstance(file.risk, Risk):
            risk = RiskGuard(file.risk, file.verdict, self._risk_of(Path(path), file.risk), eye)
            self.guards = (distribution, risk)
            self._scores['risk'] = risk
        self._goals, self._reader = GoalBook(), StateReader(node.task)
        self._observer = node.task.observer()
        self._complete: RobotState | None = None
        self._waiting: RobotState | None = None  # its goal or a reward has not come yet
        self._dropped = 0
        node.subscribe(PoseStamped, 'goal', self._on_goal, qos.EPISODE)
        for topic, kind in self._reader.topics.items():
            if topic != JOINTS:
                node.subscribe(kind, topic, partial(self._on_part, topic), qos.SENSOR)
        if self._observer.needs_rewards:
            node.subscribe(JointState, 'reward', self._on_reward, qos.STREAM)

    def close(self) -> None:
        """Let go of the risk network's thread."""
        if self._bounded is not None:
            self._bounded.close()

    def joints(self, msg: JointState) -> None:
        """Take the joints of a state, which the monitor has heard."""
        self._on_part(JOINTS, msg)

    def wanted(self, command: JointCommand) -> None:
        """Take a command as it was wanted, which may be part of what is observed next."""
        state = self._complete
        if state is not None and state.stamp_ns == command.stamp_ns \
                and len(command.value) == len(self._task.robot.command_names):
            self._observer.acted(state, command.value)

    def details(self) -> dict[str, Any]:
        """Return the newest scores and how many messages were of no use."""
        scores = {f'guard_{name}': float(f'{guard.score:.4g}')
                  for name, guard in self._scores.items()}
        return {**scores, 'guard_dropped': self._dropped}

    def _on_goal(self, msg: PoseStamped) -> None:
        try:
            self._goals.add(conversions.msg_to_goal(msg, self._task.goal_frame))
        except SpecError as error:
            self._drop(error)
            return
        self._look_again()

    def _on_reward(self, msg: JointState) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self._drop(error)
            return
        self._observer.rewarded(stamp, episode, outcome.total)
        self._look_again()

    def _look_again(self) -> None:
        if self._waiting is not None:
            self._see(self._waiting)

    def _on_part(self, topic: str, msg: Any) -> None:
        try:
            state = self._reader.read(topic, msg)
        except SpecError as error:
            self._drop(error)
            return
        if state is not None:
            self._see(state)

    def _see(self, state: RobotState) -> None:
        """Observe a complete state once its goal is there, and what was earned before it."""
        goal, self._waiting = self._goals.of(state), None
        if goal is None or self._observer.awaits(state):
            self._waiting = state
            return
        try:
            observation = self._observer.observe(state, goal)
        except SpecError as error:
            self._drop(error)
            return
        self._complete = state
        self._distribution.see(state, observation)

    def _drop(self, error: SpecError) -> None:
        self._dropped += 1
        self._node.get_logger().warning(f'not observed: {error}', throttle_duration_sec=1.0)

    def _risk_of(self, path: Path, risk: Risk) -> Any:
        """Return the network as a function of (observation, state, command)."""
        # Imported late: a monitor without a network needs no ONNX Runtime.
        from rl_nodes.inference.risk import Bounded, load_risk
        from rl_nodes.inference.runtime import PolicyRuntime

        bundle = load_risk(path.with_name(risk.file), risk.sha256, self._task.contract)
        bounded = self._bounded = Bounded(
            PolicyRuntime(bundle).act, LOCKSTEP_BOUND_S if self._node.lockstep
            else BOUND_PERIODS * self._task.period_ns / NS)
        task, size = self._task, len(self._task.contract.observation.elements)

        def ask(observation: np.ndarray, state: RobotState, command: np.ndarray) -> float:
            # Not reused: one that is late may still be read.
            asked = np.empty(size + len(command), np.float32)
            asked[:size], asked[size:] = observation, task.to_action(state, command)
            return float(bounded(asked)[0])
        return ask
