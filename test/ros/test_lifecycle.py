# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The guards of ``nodes/lifecycle.py``, in process.

Upstream rclpy (ros2/rclpy#1209) lets a wrong transition, a callback's None and an exception end
the node; a rename of its private methods would disarm the guard, and these tests would fail.
"""

from collections.abc import Callable
import random
import time
from types import SimpleNamespace

from harness import override, START_S
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rl_nodes.core.errors import ConfigError
from rl_nodes.nodes import qos, robot_bridge, safety_monitor
from rl_nodes.nodes.lifecycle import ERROR, FAILURE, ManagedNode, OK, SUCCESS, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.spin import NodeSpinner
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4

pytestmark = pytest.mark.usefixtures('ros')


class Moody(ManagedNode[NodeParameters]):
    """Does in ``configure`` what it is told."""

    mood = 'good'

    def configure(self) -> None:
        if self.mood == 'refuse':
            raise ConfigError('no such thing; do that')
        if self.mood == 'raise':
            raise RuntimeError('a defect')


class Wordless(ManagedNode[NodeParameters]):
    """Overrides a transition and forgets to return."""

    def on_configure(self, state):
        return None


def state_of(node: ManagedNode) -> str:
    return node._state_machine.current_state[1]


def test_transitions_that_are_not_valid_now_are_refused_and_the_node_lives() -> None:
    node = Moody('moody')
    for transition in (ACTIVATE, DEACTIVATE, CLEANUP, 99, Transition.TRANSITION_CALLBACK_SUCCESS):
        assert node._LifecycleNodeMixin__change_state(transition) == ERROR
        assert state_of(node) == 'unconfigured'
    for _ in range(3):
        assert node.trigger_configure() == SUCCESS
        assert node._LifecycleNodeMixin__change_state(CONFIGURE) == ERROR
        assert node.trigger_activate() == SUCCESS
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()


@pytest.mark.parametrize('count', [1000, pytest.param(10_000, marks=[
    pytest.mark.soak, pytest.mark.timeout(0)])])
def test_whatever_transitions_are_asked_for_the_state_is_a_legal_one(count: int) -> None:
    """F1: also where what they call refuses or raises in between."""
    node, rng = Moody('moody'), random.Random(0)
    seen = set()
    for _ in range(count):
        node.mood = rng.choice(['good', 'good', 'good', 'refuse', 'raise'])
        node._LifecycleNodeMixin__change_state(
            rng.choice([CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, 99, 0, 10, 30, 60]))
        seen.add(state_of(node))
        assert node.active == (state_of(node) == 'active')
    assert seen == {'unconfigured', 'inactive', 'active'}
    node.destroy_node()


def test_wrong_transitions_by_service_leave_the_process_alive() -> None:
    node = Moody('moody')
    spinner = NodeSpinner(node)
    peer = rclpy.create_node('peer')
    client = peer.create_client(ChangeState, 'moody/change_state')
    for transition, accepted in ((ACTIVATE, False), (99, False), (CONFIGURE, True),
                                 (CONFIGURE, False), (ACTIVATE, True), (DEACTIVATE, True)):
        future = client.call_async(
            ChangeState.Request(transition=Transition(id=transition)))
        for _ in range(600):
            spinner.once(0.01)
            rclpy.spin_once(peer, timeout_sec=0.0)
            if future.done():
                break
        assert future.done(), f'no answer to transition {transition}'
        assert future.result().success is accepted
    assert state_of(node) == 'inactive'
    spinner.shutdown()
    peer.destroy_node()
    node.destroy_node()


class Busy(ManagedNode[NodeParameters]):
    """Writes down what it is told, in the order in which it looks at it."""

    def configure(self) -> None:
        self.told: list[str] = []
        self.subscribe(Bool, 'words', lambda _: self.told.append('message'), qos.STREAM)
        self.serve(Trigger, 'stop', lambda _: (not self.told.append('stop'), ''))


def test_a_request_goes_before_messages_that_came_before_it() -> None:
    node, peer = Busy('busy'), rclpy.create_node('peer')
    node.trigger_configure()
    node.trigger_activate()
    spinner = NodeSpinner(node)
    client = peer.create_client(Trigger, 'busy/stop')
    words = peer.create_publisher(Bool, 'words', qos.STREAM)
    assert client.wait_for_service(START_S)
    for _ in range(600):
        if words.get_subscription_count():
            break
        spinner.once(0.05)
    while node.told.count('message') < 1:  # discovery is not over where one only is counted
        words.publish(Bool())
        spinner.once(0.05)
    while spinner.once(0.05):
        pass
    node.told.clear()
    for _ in range(5):
        words.publish(Bool())
    client.call_async(Trigger.Request())
    deadline = time.monotonic() + START_S
    while not spinner._watch.called and time.monotonic() < deadline:
        time.sleep(0.001)
    spinner.once(0.0)
    assert node.told[0] == 'stop'
    spinner.shutdown()
    peer.destroy_node()
    node.destroy_node()


def test_refusal_says_why_and_leaves_nothing_behind() -> None:
    node = Moody('moody')
    node.mood = 'refuse'
    before = (len(node._subscriptions), len(node._publishers), len(node._timers))
    assert node.trigger_configure() == FAILURE
    assert node.refusal == 'no such thing; do that'
    assert state_of(node) == 'unconfigured'
    assert (len(node._subscriptions), len(node._publishers), len(node._timers)) == before
    node.mood = 'good'
    assert node.trigger_configure() == SUCCESS
    node.destroy_node()


@pytest.mark.parametrize('kind', [Moody, Wordless])
def test_exception_or_none_in_a_transition_is_an_error_and_can_be_repeated(kind) -> None:
    node = kind('moody')
    node.mood = 'raise'
    for _ in range(2):
        assert node.trigger_configure() == ERROR
        assert state_of(node) == 'unconfigured'
    node.destroy_node()


def test_exception_in_a_callback_is_a_fault_and_not_the_end_of_spin() -> None:
    node = Moody('moody')
    node.trigger_configure()
    node.trigger_activate()

    def burst() -> None:
        raise ValueError('a defect')
    node._guarded(burst)()
    assert node.exit_code == 1
    node.destroy_node()


def test_callbacks_are_deaf_while_inactive() -> None:
    node, calls = Moody('moody'), []
    guarded = node._guarded(lambda: calls.append(1))
    node.trigger_configure()
    guarded()
    node.trigger_activate()
    guarded()
    node.trigger_deactivate()
    guarded()
    assert calls == [1]
    node.destroy_node()


@pytest.mark.parametrize(('values', 'message'), [
    ({'tsk': 'reach'}, "unknown parameter 'tsk'.*did you mean 'task'"),
    ({'stepping': 'fast'}, "stepping = 'fast'; allowed: lockstep, realtime"),
    ({'seed': -1}, 'seed'),
    ({'seed': 'one'}, 'seed'),
    ({'patience_s': float('nan')}, 'patience_s'),
])
def test_wrong_parameters_are_refused_with_the_name(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f'(?s){message}'):
        robot_bridge.RobotBridge('bridge', parameter_overrides=override(**values))


def test_parameters_are_described_ranged_and_read_only_but_for_the_seed() -> None:
    node = robot_bridge.RobotBridge('bridge')
    descriptor = node.describe_parameter('seed')
    assert 'episode starts' in descriptor.description
    assert descriptor.integer_range[0].from_value == 0
    assert not node.set_parameters(override(seed=-3))[0].successful
    assert node.set_parameters(override(seed=3))[0].successful
    assert node.describe_parameter('backend').read_only
    assert not node.set_parameters(override(backend='mujoco'))[0].successful
    for name in ('robot', 'task', 'stepping', 'autostart', 'backend', 'patience_s'):
        assert node.describe_parameter(name).description, f'{name} has no description'
    node.destroy_node()


@pytest.mark.parametrize(('values', 'message'), [
    ({'robot': 'arn'}, "unknown robot 'arn'"),
    ({'task': 'raech'}, "did you mean 'reach'"),
    ({'robot': 'cartpole'}, 'needs a robot with a tool_link'),
])
def test_wrong_robot_or_task_is_refused_when_configuring(values: dict, message: str) -> None:
    node = safety_monitor.SafetyMonitor('monitor', parameter_overrides=override(**values))
    assert node.trigger_configure() == FAILURE
    assert message in node.refusal
    node.destroy_node()


def test_bridge_can_be_cleaned_up_and_configured_again() -> None:
    node = robot_bridge.RobotBridge('bridge', parameter_overrides=override(stepping='lockstep'))
    for _ in range(3):
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    node.destroy_node()


def test_other_types_and_namesakes_are_named_once_and_shown_while_they_last() -> None:
    """E4, A16: ROS 2 itself is silent about both."""
    node = Moody('moody')
    node.trigger_configure()
    node.trigger_activate()
    node.subscribe(JointState, 'joint_states', lambda _: None, qos.SENSOR)
    said = []
    node.get_logger = lambda: SimpleNamespace(warning=said.append)
    with Context() as context:
        other = Node('moody', namespace='/elsewhere', context=context)
        other.create_publisher(Bool, '/joint_states', 1)
        twin = Node('moody', context=context)
        shown = until_shown(node, lambda message: 'neither' in message and 'both' in message)
        assert ('/joint_states is std_msgs/msg/Bool for /elsewhere/moody and '
                'sensor_msgs/msg/JointState here: neither hears the other') in shown.message
        assert '/moody is also the name of another node' in shown.message
        assert shown.level == WARN
        node._each_second()
        assert len(said) == 2, said
        twin.destroy_node()
        other.destroy_node()
        assert until_shown(node, lambda message: message == 'running').level == OK
    node.destroy_node()


def until_shown(node: ManagedNode, wanted: Callable[[str], bool]) -> SimpleNamespace:
    """Let a node look around until its diagnostics say what is wanted."""
    deadline = time.monotonic() + START_S
    while True:
        node._each_second()
        status = node.publish_health().status[0]
        level = int.from_bytes(status.level, 'little')
        if wanted(status.message):
            return SimpleNamespace(message=status.message, level=level)
        assert time.monotonic() < deadline, status.message
        time.sleep(0.02)
