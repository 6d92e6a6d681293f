# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""An episode that a fault has cut is void in the data too, from the bridge to the file."""

from pathlib import Path
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rl_nodes.backends import make_robot
from rl_nodes.core.errors import BackendError
from rl_nodes.core.types import JointCommand, Outcome
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import robot_bridge
from rl_nodes.nodes.experience_recorder import ExperienceRecorder
from rl_nodes.nodes.lifecycle import SUCCESS


class Exploding:
    """A simulated robot that explodes in its third step."""

    def __init__(self, *arguments) -> None:
        self._robot, self._steps = make_robot(*arguments), 0

    def __getattr__(self, name):
        return getattr(self._robot, name)

    def step(self) -> None:
        self._steps += 1
        self._robot.step()

    def read(self):
        if self._steps == 3:
            self._steps += 1
            raise BackendError('joint positions are not finite')
        return self._robot.read()


@pytest.fixture(autouse=True)
def context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.mark.parametrize('stepping', ['lockstep', 'realtime'])
def test_an_exploded_simulation_voids_its_episode_in_the_file(
        stepping: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robot_bridge, 'make_robot', Exploding)
    given = [Parameter('stepping', value=stepping)]
    bridge = robot_bridge.RobotBridge('bridge', parameter_overrides=given)
    recorder = ExperienceRecorder('recorder', parameter_overrides=[
        *given, Parameter('directory', value=str(tmp_path))])
    executor = SingleThreadedExecutor()
    for node in (recorder, bridge):
        executor.add_node(node)
        assert node.trigger_configure() == SUCCESS
    assert recorder.trigger_activate() == SUCCESS

    def until(condition) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.02)

    def recorded() -> int:
        return recorder._log._current.id.number if recorder._log._current else 0

    until(lambda: bridge.count_subscribers('joint_states') and
          bridge.count_subscribers('robot/status') and bridge.count_subscribers('goal'))
    assert bridge.trigger_activate() == SUCCESS
    outlet, mode = bridge._outlet, bridge._mode
    names = bridge.task.robot.command_names
    if stepping == 'lockstep':
        for _ in range(12):  # the third step explodes, the rest is of episode 2
            state = outlet.state
            mode.arrive(names, JointCommand(state.stamp_ns, 'test@1', state.position))
            mode.reward(state.stamp_ns, Outcome(0.0, {}, False, False, False))
    until(lambda: recorded() == 2 and len(list(tmp_path.glob('*.mcap'))) == 1)
    for node in (bridge, recorder):
        assert node.trigger_shutdown() == SUCCESS
        node.destroy_node()
    executor.shutdown()
    first, second = (read_episode(path).metadata for path in sorted(tmp_path.glob('*.mcap')))
    assert (first['reason'], first['void']) == ('void', 'joint positions are not finite')
    assert (second['reason'], second['void']) == ('shutdown', '')
