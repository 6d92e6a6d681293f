# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The C++ control tick against the Python one, bit by bit, and under messages of every kind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import sys
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'ros'))

from harness import make_bundle, make_recurrent_bundle, sensing
from rclpy.serialization import deserialize_message, serialize_message
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.resources import share_directory
from rl_nodes.core.types import BaseState, Goal, JointCommand, RobotState
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.bundle import GoldenVector, PolicyBundle
from rl_nodes.inference.memory import StateTensor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.realtime import onnxruntime_library
from rl_nodes.realtime.plan import plan_of, TOPICS
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from rl_nodes.tasks.object_signals import object_signals
from rl_nodes.tasks.residual import ResidualActionMap
from rl_nodes.tasks.signals import LAST_ACTION, SIGNALS
from sensor_msgs.msg import JointState

native = pytest.importorskip('rl_nodes.realtime._control', reason='there is no C++ compiler')

PERIOD = 20_000_000


def native_policy(bundle: PolicyBundle) -> Any:
    contract = bundle.manifest.contract
    return native.Policy(str(onnxruntime_library()), bundle.onnx,
                         len(contract.observation.elements), len(contract.action.elements),
                         bundle.label, 1, [(state.input, state.output, state.shape)
                                           for state in bundle.manifest.memory])


def serialized(msg: Any) -> bytes:
    """Return the bytes of a message; our own encoders give bytes already."""
    return msg if isinstance(msg, bytes) else serialize_message(msg)


class Pair:
    """A C++ controller and what the Python path computes for the same robot, task and policy."""

    def __init__(self, robot: str, task: str, make: Callable[..., PolicyBundle] = make_bundle
                 ) -> None:
        self.task: Task = load_task(robot, task)
        self.observer = self.task.observer()
        self.controller = native.Controller(plan_of(self.task))
        self.use(make(self.task.contract, gain=3.0))

    def use(self, bundle: PolicyBundle) -> None:
        """Let a policy act, here and there."""
        self.bundle = bundle
        self.actor = SingleActor(PolicyRuntime(bundle), None)
        self.controller.use(native_policy(bundle))

    def feed(self, topic: str, msg: Any) -> bytes | None:
        return self.controller.feed(TOPICS[topic], serialized(msg))

    def goal(self, stamp: int, position: np.ndarray) -> Goal:
        goal = Goal(stamp, position, np.array([0.0, 0.0, 0.0, 1.0]))
        self.feed('goal', conversions.goal_to_msg(goal, 'base_link'))
        return goal

    def state(self, rng: np.random.Generator, stamp: int, episode: str) -> RobotState:
        count, robot = len(self.task.robot.joints), self.task.robot.config
        parts: dict[str, Any] = {}
        if robot.floating_base:
            turn = rng.standard_normal(4)
            parts['base'] = BaseState(rng.standard_normal(3), turn / np.linalg.norm(turn),
                                      rng.standard_normal(3), rng.standard_normal(3))
        if self.task.objects:
            parts['objects'] = rng.standard_normal((len(self.task.objects), 7))
        if robot.range_sensor is not None:
            sensor = robot.range_sensor
            parts['ranges'] = rng.uniform(sensor.min_m, sensor.max_m, sensor.rays).astype(
                np.float32).astype(np.float64)
        if robot.imu is not None:
            turn = rng.standard_normal(4)
            parts['imu'] = np.concatenate([turn / np.linalg.norm(turn), rng.standard_normal(6)])
        if robot.force_torque is not None:
            parts['wrench'] = rng.standard_normal(6)
        return RobotState(stamp, episode, rng.standard_normal(count), rng.standard_normal(count),
                          np.zeros(count), **parts)

    def publish(self, state: RobotState) -> bytes | None:
        """Feed every part of a state as its own message, joints last; return the answer."""
        if state.base is not None:
            assert self.feed('odom', conversions.base_to_odom(state.stamp_ns, state.base)) is None
        if state.objects is not None:
            frame = (conversions.ODOM if self.task.robot.config.floating_base
                     else conversions.BASE_LINK)
            assert self.feed('objects', conversions.objects_to_msg(
                state.stamp_ns, state.objects, frame)) is None
        if state.ranges is not None:
            assert self.feed('scan', conversions.ranges_to_scan(
                state.stamp_ns, state.ranges, self.task.robot.config.range_sensor)) is None
        if state.imu is not None:
            assert self.feed('imu', conversions.imu_to_msg(
                state.stamp_ns, state.imu, 'tool')) is None
        if state.wrench is not None:
            assert self.feed('wrench', conversions.wrench_to_msg(
                state.stamp_ns, state.wrench, 'wrist')) is None
        return self.feed('joint_states',
                         conversions.state_to_msg(state, self.task.robot.joint_names))

    def expect(self, state: RobotState, goal: Goal, answer: bytes | None) -> None:
        """Compare an answer and the observation behind it with the Python path's."""
        observation = self.observer.observe(state, goal)
        command = self.task.command(state, self.actor.act(observation, state))
        self.observer.acted(state, command)
        np.testing.assert_array_equal(
            np.array(self.controller.observation, np.float32), observation)
        assert answer is not None, self.controller.refusal
        assert answer == serialized(conversions.command_to_msg(
            JointCommand(state.stamp_ns, self.bundle.label, command),
            self.task.robot.command_names, self.task.robot.config.control_mode))


def tasks() -> list[tuple[str, str]]:
    """Return (robot, task) of all that is shipped, fits our own robots and is computed in C++."""
    robots = ('arm', 'cartpole', 'quadruped', 'rover')
    found = []
    for path in sorted((share_directory() / 'config' / 'tasks').glob('*.yaml')):
        for robot in robots:
            try:
                task = load_task(robot, path.stem)
            except Exception:
                continue
            if isinstance(task.action_map, ResidualActionMap):
                continue
            found.append((robot, path.stem))
            break
    return found


@pytest.mark.parametrize('change', [
    {'origin': []}, {'size': [1.0]}, {'turn': [1.0]}, {'command_index': [99] * 6},
    {'places': [99]}, {'actions': [-1]}, {'depth': 0}, {'period_ns': 0}, {'cycle_ns': 0},
    {'ranges': -1}])
def test_a_plan_that_does_not_fit_itself_is_refused(change: dict[str, object]) -> None:
    plan = plan_of(load_task('arm', 'reach'))
    native.Controller(plan)
    with pytest.raises(ValueError, match='does not fit itself'):
        native.Controller(plan | change)


def test_actions_that_are_added_to_a_controller_have_no_plan() -> None:
    with pytest.raises(ConfigError, match='added to a controller'):
        plan_of(load_task('cartpole', 'cartpole_balance_residual'))


@pytest.fixture
def pair() -> Pair:
    return Pair('arm', 'reach')


@pytest.mark.parametrize(('robot', 'task', 'make'), [
    *((*names, make_bundle) for names in tasks()), ('arm', 'reach', make_recurrent_bundle),
    ('cartpole', 'cartpole_swingup_partial', make_recurrent_bundle),
    ('arm', 'sensing', make_bundle)])
def test_it_answers_like_the_python_path_bit_by_bit(
        robot: str, task: str, make: Callable[..., PolicyBundle], tmp_path: Path) -> None:
    """Over episodes, with states that never came, and with states that came twice."""
    pair = Pair(*(sensing(tmp_path) if task == 'sensing' else (robot, task)), make)
    rng = np.random.default_rng(0)
    assert list(StateReader(pair.task).topics)[0] == 'joint_states'
    stamp = 10**18 + 7
    for number in range(1, 4):
        start = stamp
        goal = pair.goal(stamp, rng.standard_normal(3))
        for _ in range(40):
            state = pair.state(rng, stamp, f'{number}@{start}')
            pair.expect(state, goal, pair.publish(state))
            if rng.uniform() < 0.1:
                again = pair.feed('joint_states', conversions.state_to_msg(
                    state, pair.task.robot.joint_names))
                assert deserialize_message(again, JointState).header.stamp \
                    == conversions.ns_to_stamp(stamp)
            stamp += PERIOD * int(rng.choice([1, 1, 1, 2, 5]))
    assert pair.controller.refused == [0, 0, 0, 0]


@pytest.mark.parametrize('missing', ['imu', 'wrench'])
def test_a_state_waits_for_what_its_sensors_measure(tmp_path: Path, missing: str) -> None:
    pair = Pair(*sensing(tmp_path))
    rng = np.random.default_rng(9)
    stamp = 10**18
    goal = pair.goal(stamp, np.zeros(3))
    state = pair.state(rng, stamp, f'1@{stamp}')
    assert pair.publish(replace(state, **{missing: None})) is None
    spoilt = {'imu': lambda value: conversions.imu_to_msg(stamp, value, 'tool'),
              'wrench': lambda value: conversions.wrench_to_msg(stamp, value, 'wrist')}[missing]
    values = getattr(state, missing)
    assert pair.feed(missing, spoilt(np.full(len(values), np.nan))) is None
    assert pair.controller.refused == [0, 1, 0, 0]
    if missing == 'imu':
        unmeasured = spoilt(values)
        unmeasured.linear_acceleration_covariance[0] = -1.0
        assert pair.feed('imu', unmeasured) is None
        assert pair.controller.refused == [1, 1, 0, 0]
    pair.expect(state, goal, pair.feed(missing, spoilt(values)))


def test_every_signal_is_computed_in_cpp() -> None:
    """One that is not makes its tasks fall back to Python, which must be a decision."""
    from rl_nodes.realtime.plan import _SIGNALS

    assert set(_SIGNALS) == {*SIGNALS, *object_signals(()), LAST_ACTION}


def test_joints_are_found_by_name(pair: Pair) -> None:
    rng = np.random.default_rng(1)
    stamp = 10**18
    goal = pair.goal(stamp, np.array([0.2, 0.1, 0.3]))
    state = pair.state(rng, stamp, f'1@{stamp}')
    msg = deserialize_message(
        conversions.state_to_msg(state, pair.task.robot.joint_names), JointState)
    order = rng.permutation(len(msg.name))
    msg.name = [*(msg.name[i] for i in order), 'another']
    for field in ('position', 'velocity'):
        values = getattr(msg, field)
        setattr(msg, field, [*(values[i] for i in order), 9.0])
    pair.expect(state, goal, pair.feed('joint_states', msg))


def test_a_goal_may_come_after_its_state(pair: Pair) -> None:
    stamp = 10**18
    state = pair.state(np.random.default_rng(2), stamp, f'1@{stamp}')
    pair.goal(stamp - 1, np.zeros(3))  # of an earlier episode
    assert pair.publish(state) is None
    goal = Goal(stamp, np.array([0.3, 0.0, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))
    pair.expect(state, goal, pair.feed('goal', conversions.goal_to_msg(goal, 'base_link')))


def spoil(msg: JointState, how: str) -> JointState:
    if how == 'nan':
        msg.position[2] = float('nan')
    elif how == 'infinite':
        msg.velocity[0] = float('inf')
    elif how == 'missing':
        msg.name = msg.name[:-1]
        msg.position, msg.velocity = msg.position[:-1], msg.velocity[:-1]
    elif how == 'twice':
        msg.name[1] = msg.name[0]
    elif how == 'extra and twice':
        msg.name = [*msg.name, msg.name[0]]
        msg.position, msg.velocity = [*msg.position, 0.0], [*msg.velocity, 0.0]
    elif how == 'short':
        msg.velocity = msg.velocity[:-1]
    elif how == 'episode':
        msg.header.frame_id = 'base_link'
    elif how == 'thousands':
        msg.name = [*msg.name, *(f'j{i}' for i in range(5000))]
    return msg


@pytest.mark.parametrize('how', ['nan', 'infinite', 'missing', 'twice', 'extra and twice', 'short',
                                 'episode', 'thousands'])
def test_a_bad_state_is_dropped_with_the_reason_and_the_next_one_answered(
        pair: Pair, how: str) -> None:
    rng = np.random.default_rng(3)
    stamp = 10**18
    goal = pair.goal(stamp, np.zeros(3))
    good = pair.state(rng, stamp, f'1@{stamp}')
    msg = deserialize_message(
        conversions.state_to_msg(good, pair.task.robot.joint_names), JointState)
    assert pair.feed('joint_states', spoil(msg, how)) is None
    assert sum(pair.controller.refused) == 1
    assert 'joint_states' in pair.controller.refusal
    pair.expect(good, goal, pair.publish(good))


def test_damaged_messages_never_crash_and_never_make_a_bad_command(pair: Pair) -> None:
    """20,000 messages cut short, with flipped bits, or of noise, to every topic."""
    rng = np.random.default_rng(4)
    stamp = 10**18
    goal = conversions.goal_to_msg(Goal(stamp, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])),
                                   'base_link')
    state = conversions.state_to_msg(pair.state(rng, stamp, f'1@{stamp}'),
                                     pair.task.robot.joint_names)
    sources = {'goal': serialized(goal), 'joint_states': serialized(state)}
    low, high = (pair.task.robot.limits(side) for side in ('lower', 'upper'))
    reach = pair.task.robot.limits('velocity') / pair.task.robot.config.rate_hz
    for index in range(20_000):
        topic = ('goal', 'joint_states')[index % 2]
        data = bytearray(sources[topic])
        kind = rng.integers(3)
        if kind == 0:
            data = data[:rng.integers(len(data))]
        elif kind == 1:
            for _ in range(rng.integers(1, 5)):
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        else:
            data[4:] = rng.bytes(len(data) - 4)
        answer = pair.controller.feed(TOPICS[topic], bytes(data))
        if answer is not None:
            msg = deserialize_message(answer, JointState)
            assert tuple(msg.name) == pair.task.robot.command_names
            assert np.isfinite(msg.position).all()
    assert pair.controller.refused[0] > 5000
    assert (reach < high - low).all()


def test_a_policy_that_answers_nan_is_not_obeyed(pair: Pair) -> None:
    """Finite in, not finite out: nothing is said, it is counted, and the next policy acts."""
    count, actions = (len(spec.elements) for spec in (
        pair.task.contract.observation, pair.task.contract.action))
    node = [onnx.helper.make_node('MatMul', ['observation', 'zeros'], ['nothing']),
            onnx.helper.make_node('Sub', ['nothing', 'one'], ['negative']),
            onnx.helper.make_node('Sqrt', ['negative'], ['action'])]
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(onnx.helper.make_graph(
        node, 'nan', [value('observation', kind, [1, count])],
        [value('action', kind, [1, actions])],
        [onnx.numpy_helper.from_array(np.zeros((count, actions), np.float32), 'zeros'),
         onnx.numpy_helper.from_array(np.ones(1, np.float32), 'one')]),
        opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
    pair.controller.use(native.Policy(str(onnxruntime_library()), model.SerializeToString(), count,
                                      actions, 'nan@1', 1, []))
    stamp = 10**18
    goal = pair.goal(stamp, np.zeros(3))
    state = pair.state(np.random.default_rng(5), stamp, f'1@{stamp}')
    assert pair.publish(state) is None
    assert pair.controller.refused[3] == 1
    pair.controller.use(native_policy(pair.bundle))
    pair.expect(state, goal, pair.publish(state))


def test_a_memory_begins_with_zeros_in_each_episode_and_after_each_swap() -> None:
    pair = Pair('arm', 'reach', make_recurrent_bundle)
    rng = np.random.default_rng(6)
    stamp = 10**18
    answers = []
    pattern = pair.state(rng, 0, '1@0')
    for number in (1, 2):
        start = stamp
        goal = pair.goal(stamp, np.full(3, 0.2))
        for step in range(30):
            if number == 2 and step == 15:
                pair.use(pair.bundle)
            state = RobotState(stamp, f'{number}@{start}', pattern.position, pattern.velocity,
                               pattern.effort)
            answers.append(pair.publish(state))
            pair.expect(state, goal, answers[-1])
            stamp += PERIOD
    commands = [tuple(deserialize_message(answer, JointState).position) for answer in answers]
    assert commands[:15] == commands[30:45] == commands[45:]
    assert len(set(commands[:15])) == 15, 'the same state is answered otherwise each time'


def test_a_state_that_is_late_is_not_shown_to_a_policy_that_remembers() -> None:
    pair = Pair('arm', 'reach', make_recurrent_bundle)
    rng = np.random.default_rng(7)
    stamp = 10**18
    goal = pair.goal(stamp, np.zeros(3))
    for step in (0, 1, 4):
        state = pair.state(rng, stamp + step * PERIOD, f'1@{stamp}')
        pair.expect(state, goal, pair.publish(state))
    assert pair.publish(pair.state(rng, stamp + 2 * PERIOD, f'1@{stamp}')) is None
    assert pair.controller.refused == [0, 0, 1, 0]
    state = pair.state(rng, stamp + 5 * PERIOD, f'1@{stamp}')
    pair.expect(state, goal, pair.publish(state))


def doubling(task: Task) -> PolicyBundle:
    """Return a policy whose memory is 2^n - 1 after n states: infinite after 128."""
    contract = task.contract
    count, actions = (len(spec.elements) for spec in (contract.observation, contract.action))
    nodes = [onnx.helper.make_node('Add', ['n_in', 'n_in'], ['twice']),
             onnx.helper.make_node('Add', ['twice', 'one'], ['n_out']),
             onnx.helper.make_node('MatMul', ['observation', 'zeros'], ['action'])]
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(onnx.helper.make_graph(
        nodes, 'doubling', [value('observation', kind, [1, count]), value('n_in', kind, [3])],
        [value('action', kind, [1, actions]), value('n_out', kind, [3])],
        [onnx.numpy_helper.from_array(np.zeros((count, actions), np.float32), 'zeros'),
         onnx.numpy_helper.from_array(np.ones(1, np.float32), 'one')]),
        opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
    manifest = make_recurrent_bundle(contract).manifest
    return PolicyBundle(model.SerializeToString(), msgspec.structs.replace(
        manifest, memory_layout=(StateTensor('n_in', 'n_out', (3,)),), golden=tuple(
            GoldenVector(vector.observation, (0.0,) * actions) for vector in manifest.golden)))


def test_a_memory_that_is_not_finite_after_many_states_is_refused_until_the_episode_ends() -> None:
    pair = Pair('arm', 'reach')
    pair.use(doubling(pair.task))
    rng = np.random.default_rng(8)
    stamp = 10**18
    start, goal = stamp, pair.goal(stamp, np.zeros(3))
    for step in range(132):
        state = pair.state(rng, stamp, f'1@{start}')
        answer = pair.publish(state)
        if step < 127:  # 2^127 - 1 is finite as float32, 2^128 - 1 is not
            pair.expect(state, goal, answer)
        else:
            assert answer is None
            with pytest.raises(SpecError, match='memory would not be finite'):
                pair.actor.act(pair.observer.observe(state, goal), state)
        stamp += PERIOD
    assert pair.controller.refused == [0, 0, 0, 5]
    state, goal = pair.state(rng, stamp, f'2@{stamp}'), pair.goal(stamp, np.zeros(3))
    pair.expect(state, goal, pair.publish(state))


@pytest.mark.parametrize('model', [b'', b'not a model', None])
def test_a_model_that_is_none_is_refused(pair: Pair, model: bytes | None) -> None:
    damaged = pair.bundle.onnx[:200] if model is None else model
    with pytest.raises(RuntimeError, match='ONNX Runtime'):
        native.Policy(str(onnxruntime_library()), damaged, 3, 3, 'x@1', 1, [])
