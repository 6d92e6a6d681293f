# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a shadow makes of states, goals and commands in any order, and when it is late."""

from collections.abc import Callable
import itertools
from pathlib import Path
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import Goal, JointCommand, Outcome, RobotState
from rl_nodes.nodes import conversions, shadow
from rl_nodes.tasks import load_task

TASK = load_task('arm', 'reach')
START = 1_000
GOAL = Goal(START, np.array([0.2, 0.1, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))
SIZE = len(TASK.contract.action.elements)


def messages(stamp: int) -> dict[str, bytes]:
    state = RobotState(stamp, f'1@{START}', np.zeros(6), np.zeros(6), np.zeros(6))
    command = JointCommand(stamp, 'p@1', np.zeros(SIZE))
    return {
        'joint_states': conversions.state_to_msg(state, TASK.robot.joint_names),
        'goal': serialize_message(conversions.goal_to_msg(GOAL, TASK.goal_frame)),
        'policy/joint_command': conversions.command_to_msg(
            command, TASK.robot.command_names, TASK.robot.config.control_mode)}


@pytest.mark.parametrize('order', list(itertools.permutations(messages(START))))
def test_a_state_has_its_turn_once_when_all_is_there(order: tuple[str, ...]) -> None:
    robot, given = shadow.Watched(TASK), messages(START)
    for topic in order:
        assert robot.ready() is None
        robot.take(topic, given[topic])
    state, goal, command = robot.ready()
    assert (state.stamp_ns, goal.stamp_ns, command.stamp_ns) == (START,) * 3
    for topic in order:
        robot.take(topic, given[topic])
    assert robot.ready() is None


def test_a_command_whose_state_never_came_holds_up_no_other() -> None:
    robot = shadow.Watched(TASK)
    robot.take('goal', messages(START)['goal'])
    for stamp in (START, START + 1, START + 2):
        given = messages(stamp)
        if stamp != START:
            robot.take('joint_states', given['joint_states'])
        if stamp != START + 1:
            robot.take('policy/joint_command', given['policy/joint_command'])
    assert robot.ready()[2].stamp_ns == START + 2
    assert robot.ready() is None


def test_a_state_waits_for_the_reward_that_is_observed(tmp_path: Path) -> None:
    path = tmp_path / 'told.yaml'
    path.write_text(find_config('tasks', 'reach').read_text().replace(
        'observation: [', 'observation: [return_to_go, ') + 'return_to_go: {target: 20}\n')
    task = load_task('arm', str(path))
    robot = shadow.Watched(task)
    for topic, data in messages(START).items():
        robot.take(topic, data)
    state, goal, _ = robot.ready()
    assert robot.observer.observe(state, goal)[0] == 20
    for topic, data in messages(START + task.period_ns).items():
        robot.take(topic, data)
    assert robot.ready() is None
    for stamp in (START, START, START + task.period_ns):
        robot.take('reward', conversions.outcome_to_msg(
            stamp, f'1@{START}', Outcome(3.0, {}, False, False, False)))
    state, goal, _ = robot.ready()
    assert robot.observer.observe(state, goal)[0] == 20 - 3


class _Node:
    """A node whose subscriptions are called by hand."""

    def __init__(self) -> None:
        self.parameters = SimpleNamespace(robot='arm', task='reach')
        self.task = TASK
        self.callbacks: dict[str, Callable[[bytes], None]] = {}
        self.sent: list[bytes] = []
        self.errors: list[str] = []

    def publish_on(self, *_: Any) -> Any:
        return SimpleNamespace(publish=self.sent.append)

    def subscribe(self, kind: type, topic: str, callback: Any, *_: Any, **__: Any) -> None:
        self.callbacks[topic] = callback

    def get_logger(self) -> Any:
        return SimpleNamespace(error=self.errors.append)


def test_a_shadow_that_is_too_slow_is_dropped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(0, 10**8)  # each look at the clock is 0.1 s after the one before
    monkeypatch.setattr(shadow, 'steady_ns', lambda: next(now))
    node = _Node()
    gate = threading.Event()

    def act(_observation: np.ndarray, _memory: None) -> np.ndarray:
        gate.wait(10.0)
        return np.zeros(SIZE, np.float32)

    policy = SimpleNamespace(act=act, memory=lambda: None, bundle=SimpleNamespace(
        label='slow@1', manifest=SimpleNamespace(chunk=None)))
    watching = shadow.Shadow(node, [''], policy)  # type: ignore[arg-type]  # a stand-in
    for stamp in range(START, START + 40):
        for topic, data in messages(stamp).items():
            node.callbacks[topic](data)
    gate.set()
    watching.close()
    assert 'too slow' in watching.details()['shadow_dropped']
    assert len(node.errors) == 1
    assert 'shadow slow@1 dropped' in node.errors[0]
    assert len(node.sent) <= 1
    watching.use(policy)
    assert watching.details() == {'shadow': 'slow@1', 'shadow_dropped': '', 'shadow_count': 0}
