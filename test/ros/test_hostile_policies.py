# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A running policy server is sent what must never act; the old policy answers on, every time."""

from collections.abc import Callable
from functools import cache
import hashlib
from pathlib import Path

from harness import make_bundle, observer
import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.nodes import conversions
from rl_nodes.tasks import load_task
from std_msgs.msg import UInt8MultiArray
from test_control_path import Asker, server, TASK

SLOW_S = 60.0  # a trial may take 10 s of processor time, 30 s in all
Change = Callable[[onnx.ModelProto], None]


@cache
def good() -> PolicyBundle:
    return make_bundle(TASK.contract)


def sealed(onnx_bytes: bytes) -> PolicyBundle:
    """Return what a forger would send: hash, size and digest are right."""
    return PolicyBundle(onnx_bytes, msgspec.structs.replace(
        good().manifest, sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        size=len(onnx_bytes)).sealed())


def forged(change: Change) -> UInt8MultiArray:
    model = onnx.load_model_from_string(good().onnx)
    change(model)
    return conversions.bundle_to_msg(sealed(model.SerializeToString()))


def prepend(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])


def weigh(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def not_a_number(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(
                np.full(list(tensor.dims), np.nan, np.float32), tensor.name))


def other_answers(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(
                numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))


def wrong_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


def no_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = 'obs'


def endless_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node('Identity', ['on'], ['still_on'])], 'body',
        [helper.make_tensor_value_info('i', TensorProto.INT64, []),
         helper.make_tensor_value_info('on', TensorProto.BOOL, [])],
        [helper.make_tensor_value_info('still_on', TensorProto.BOOL, [])])
    prepend(model, helper.make_node('Loop', ['', weigh(model, 'yes', np.array(True))], [],
                                    body=body))


def external_data(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key='location', value='/etc/hostname')
    weight.ClearField('raw_data')


def custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid('ai.onnx.contrib', 1))
    prepend(model, helper.make_node('PyOp', ['observation'], ['x'], domain='ai.onnx.contrib'))


def giant_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(
        name='x', data_type=TensorProto.FLOAT, dims=[2**40]))


def hidden_memory(model: onnx.ModelProto) -> None:
    prepend(
        model, helper.make_node('ReduceSum', ['observation'], ['sum'], keepdims=1),
        helper.make_node('Expand', ['sum', weigh(model, 'n', np.array([200_000, 1]))], ['wide']),
        helper.make_node('Einsum', ['wide'] * 4, ['x'], equation='ia,ja,ib,jb->b'))


def sequence(model: onnx.ModelProto, steps: int, cells: int) -> None:
    """Have recurrent cells go through a long sequence: all results are small, time is not."""
    shape, weight = weigh(model, 'n', np.array([steps, 1, 1])), weigh(
        model, 'w', np.zeros((1, 4, 1), np.float32))
    nodes = [helper.make_node('ReduceSum', ['observation'], ['sum'], keepdims=1),
             helper.make_node('Expand', ['sum', shape], ['x'])]
    nodes += [helper.make_node('LSTM', ['x', weight, weight, '', '', f'h{i}' if i else ''],
                               ['', f'h{i + 1}'], hidden_size=1) for i in range(cells)]
    first = next(node for node in model.graph.node if 'observation' in node.input)
    first.input[list(first.input).index('observation')] = 'seen'
    prepend(model, *nodes, helper.make_node('Squeeze', [f'h{cells}'], ['h']),
            helper.make_node('Add', ['observation', 'h'], ['seen']))


def too_slow(model: onnx.ModelProto) -> None:
    sequence(model, 500_000, 2)


def never_ending(model: onnx.ModelProto) -> None:
    sequence(model, 4_000_000, 500)


def truncated() -> UInt8MultiArray:
    msg = conversions.bundle_to_msg(good())
    msg.data = msg.data[:-10]
    return msg


def one_bit() -> UInt8MultiArray:
    msg = conversions.bundle_to_msg(good())
    msg.data[len(msg.data) // 2] ^= 4
    return msg


def another_robot() -> UInt8MultiArray:
    contract = load_task('quadruped', 'quadruped_stand').contract
    return conversions.bundle_to_msg(make_bundle(contract))


def empty_messages() -> UInt8MultiArray:
    """Return a graph of a million empty nodes: 2 MB, but gigabytes once it is parsed."""
    return conversions.bundle_to_msg(sealed(b'\x3a\x80\x89\x7a' + b'\x0a\x00' * 1_000_000))


HOSTILE: list[tuple[str, Callable[[], UInt8MultiArray], str]] = [
    ('nothing', UInt8MultiArray, 'its manifest is damaged'),
    ('truncated', truncated, 'truncated'), ('one_bit', one_bit, 'SHA-256'),
    ('another_robot', another_robot, 'does not fit robot arm'),
    ('no_file', lambda: conversions.bundle_to_msg(sealed(b'\xff' * 100)), 'not an ONNX file'),
    ('empty_messages', empty_messages, 'parts, the most'),
    *((change.__name__, lambda change=change: forged(change), reason) for change, reason in (
        (not_a_number, 'golden vector 0: action: not finite'),
        (other_answers, 'to golden vector 0 the model answers'),
        (wrong_shape, 'the contract says'), (no_input, "has inputs ['obs']"),
        (endless_loop, 'operator Loop'), (external_data, 'in another file'),
        (custom_operator, 'operator domains'), (giant_weights, 'claims the shape'),
        (hidden_memory, 'llocat'), (too_slow, 'longer than the control period'),
        (never_ending, 'not ready within 10 s')))]


@pytest.mark.parametrize('path', [
    'python', pytest.param('cpp', marks=pytest.mark.slow)])
def test_none_of_them_acts(path: str, tmp_path: Path) -> None:
    policy = make_bundle(TASK.contract, seed=1).save(tmp_path / 'policy.onnx')
    hostile = HOSTILE if path == 'cpp' else HOSTILE[6:-1:3]  # by then only threads differ
    with observer() as seen, server(f'policy:={policy}', f'control_path:={path}') as process:
        asker = Asker(seen)
        asker.connect()
        asker.ask(asker.state())
        for count, (name, make, reason) in enumerate(hostile, 1):
            asker.updates.publish(make())

            def refused(count: int = count) -> bool:
                asker.ask(asker.state())  # answered all the time
                values = seen.values('policy/status')
                return int(values.get('updates_rejected', 0)) >= count

            seen.until(refused, f'a refusal of {name}', SLOW_S)
            assert reason in seen.values('policy/status')['last_rejection'], name
            assert process.poll() is None
        answers = [msg for _, msg in seen.heard['policy/joint_command']]
        assert {msg.header.frame_id for msg in answers} == {'untrained@1'}
        assert all(np.isfinite(msg.position).all() for msg in answers)
        asker.updates.publish(conversions.bundle_to_msg(
            make_bundle(TASK.contract, seed=2, version=2)))
        seen.until(lambda: asker.ask(asker.state()).header.frame_id == 'untrained@2',
                   'the good policy after all the bad ones')
        assert seen.values('policy/status')['updates_rejected'] == str(len(hostile))


def test_a_bad_file_refuses_to_start(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(good().onnx)
    hidden_memory(model)
    bad = sealed(model.SerializeToString())
    path = tmp_path / 'policy.onnx'
    path.write_bytes(bad.onnx)
    path.with_name('policy.manifest.json').write_text(bad.manifest_json())
    with server(f'policy:={path}') as process:
        assert process.wait(30) == 2
    assert 'llocat' in process.output
    assert 'Traceback' not in process.output
