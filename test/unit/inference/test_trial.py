# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies are tried out elsewhere: what hangs, eats memory or dies does so in another process."""

from collections.abc import Callable
import resource
import sys
import threading
import time

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.inference import structure as structure_module
from rl_nodes.inference import trial
from rl_nodes.inference.bundle import identify, Manifest, MAX_ONNX_BYTES, PolicyBundle
from rl_nodes.inference.probes import random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.structure import structure
from rl_nodes.inference.trial import PolicyTrial

OBS, ACT = 5, 2
Craft = Callable[..., PolicyBundle]
Seal = Callable[[bytes, Manifest], PolicyBundle]


def constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def insert(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    kept = onnx.NodeProto.FromString(model.graph.node[0].SerializeToString())
    del model.graph.node[:]
    model.graph.node.extend([*nodes, kept])


def add_to_observation(model: onnx.ModelProto, nodes: list[onnx.NodeProto], scalar: str) -> None:
    """Let a result of some nodes, of shape (1, 1), have a part in the action."""
    insert(model, *nodes, helper.make_node('Add', ['observation', scalar], ['seen']))
    model.graph.node[-1].input[0] = 'seen'


def long_sequence(model: onnx.ModelProto, steps: int, cells: int) -> None:
    """Compute recurrent cells over a long sequence; all results are small, time is not."""
    shape = constant(model, 'shape', np.array([steps, 1, 1]))
    w = constant(model, 'w', np.ones((1, 4, 1), np.float32))
    nodes = [helper.make_node('ReduceSum', ['observation'], ['sum'], keepdims=1),
             helper.make_node('Expand', ['sum', shape], ['x'])]
    nodes += [helper.make_node('LSTM', ['x', w, w, '', '', f'h{i}' if i else ''],
                               ['', f'h{i + 1}'], hidden_size=1) for i in range(cells)]
    add_to_observation(model, [*nodes, helper.make_node('Squeeze', [f'h{cells}'], ['h'])], 'h')


def hidden_memory(model: onnx.ModelProto) -> None:
    """Have an outer product of 160 GB computed on the way to one number."""
    wide = constant(model, 'wide', np.array([200_000, 1]))
    insert_nodes = [
        helper.make_node('ReduceSum', ['observation'], ['sum'], keepdims=1),
        helper.make_node('Expand', ['sum', wide], ['column']),
        helper.make_node('Einsum', ['column'] * 4, ['all'], equation='ia,ja,ib,jb->b'),
        helper.make_node('Reshape', ['all', constant(model, 'one', np.array([1, 1]))], ['s'])]
    add_to_observation(model, insert_nodes, 's')


# --- structure ----------------------------------------------------------------------------------

def test_structure_is_of_everything_but_weights_and_metadata(contract: Contract, craft: Craft,
                                                            bundle: PolicyBundle) -> None:
    one, other = craft(contract), craft(contract, weight=np.ones((OBS, ACT), np.float32))
    assert one.onnx != other.onnx
    assert structure(one.onnx) == structure(other.onnx) != structure(bundle.onnx)

    def changed(change: Callable[[onnx.ModelProto], None]) -> str:
        return structure(craft(contract, change).onnx)

    def another_operator(model: onnx.ModelProto) -> None:
        insert(model, helper.make_node('Tanh', ['observation'], ['x']))

    def integers(number: int) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            constant(model, 'n', np.array([number]))
        return change

    def renamed(model: onnx.ModelProto) -> None:
        helper.set_model_props(model, {'name': 'x'})

    assert changed(renamed) == structure(one.onnx)
    assert changed(another_operator) != structure(one.onnx)
    assert changed(integers(1)) != changed(integers(2)), 'shapes may hang on them'


def test_a_type_given_twice_hides_nothing() -> None:
    def weight(types: bytes, value: int) -> str:
        tensor = types + b'\x4a\x01' + bytes([value])  # raw_data
        graph = b'\x2a' + bytes([len(tensor)]) + tensor
        return structure(b'\x3a' + bytes([len(graph)]) + graph)

    floats, integers, both = b'\x10\x01', b'\x10\x07', b'\x10\x01\x10\x07'
    assert weight(floats, 1) == weight(floats, 2)
    assert weight(integers, 1) != weight(integers, 2)
    assert weight(both, 1) != weight(both, 2), 'a reader of protobuf takes the last one'


@pytest.mark.parametrize('data', [b'\xff', b'\x3a\xff\xff\xff\xff\x0f', b'\x3b', b'\xff' * 20,
                                  b'\x0d\x00'])
def test_what_is_no_onnx_file_has_no_structure(data: bytes) -> None:
    with pytest.raises(BundleError, match='not an ONNX file'):
        structure(data)


def test_empty_messages_are_not_parsed(contract: Contract, craft: Craft, seal: Seal) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = b'\x0a\x00' * 4_000_000  # nodes of two bytes each, hundreds in memory
    length = len(bomb)
    size = b''
    while length:
        size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
    with pytest.raises(BundleError, match=f'more than {structure_module.MAX_FIELDS} parts'):
        PolicyTrial().admit(seal(b'\x3a' + size + bomb, craft(contract).manifest))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


# --- trial --------------------------------------------------------------------------------------

def test_a_policy_passes_and_the_next_ones_need_no_process(
        exported, bundle: PolicyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    admission = PolicyTrial()
    policy = admission.admit(identify(bundle.onnx, bundle.manifest_json(), 'here'))
    row = random_observations(bundle.manifest.contract.observation)[0]
    assert (policy.act(row) == PolicyRuntime(bundle).act(row)).all()
    monkeypatch.setattr(trial.subprocess, 'Popen', lambda *_, **__: pytest.fail('a process'))
    actor, exporter, _ = exported
    begun = time.perf_counter()
    for version in range(4, 8):
        assert admission.admit(exporter.export(actor, version, version)).bundle.label.endswith(
            str(version))
    assert time.perf_counter() - begun < 5.0


def test_checks_go_on_for_a_known_structure(contract: Contract, craft: Craft) -> None:
    admission = PolicyTrial()
    admission.admit(craft(contract))
    with pytest.raises(BundleError, match='asked a random observation: action: not finite'):
        admission.admit(craft(contract, weight=np.array(
            [[3e38, 3e38]] + [[-1e38, -1e38]] * 3 + [[0, 0]], np.float32)))


def test_slower_than_the_control_period(contract: Contract, craft: Craft) -> None:
    fast = msgspec.structs.replace(contract, rate_hz=1000.0)
    with pytest.raises(BundleError, match='takes longer than the control period of 1 ms'):
        PolicyTrial().admit(craft(fast, lambda model: long_sequence(model, 50_000, 2)))


def test_never_ending(contract: Contract, craft: Craft) -> None:
    begun = time.perf_counter()
    with pytest.raises(BundleError, match='was not ready within 2 s'):
        PolicyTrial(limit_s=2.0).admit(craft(
            contract, lambda model: long_sequence(model, 4_000_000, 500)))
    assert time.perf_counter() - begun < 6.0


def test_memory(contract: Contract, craft: Craft) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bad = craft(contract, hidden_memory)
    with pytest.raises(BundleError, match='llocat|memory'):
        PolicyTrial().admit(bad)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


@pytest.mark.parametrize(('code', 'reason'), [
    ('import os; os.abort()', r'tried it out \(SIGABRT\)'),
    ('import os; os.kill(os.getpid(), 11)', r'tried it out \(SIGSEGV\)'),
    ('raise SystemExit(9)', 'exit status 9'),
    ('import sys; sys.stdout.write("so it is"); sys.exit(3)', '^so it is$'),
    ('import signal, time; signal.alarm(1); time.sleep(60)', 'was not ready within')])
def test_however_the_process_ends_the_policy_is_refused(
        contract: Contract, craft: Craft, monkeypatch: pytest.MonkeyPatch, code: str,
        reason: str) -> None:
    start = trial.subprocess.Popen
    monkeypatch.setattr(trial.subprocess, 'Popen', lambda _command, **kwargs: start(
        [sys.executable, '-c', code], **kwargs))
    admission = PolicyTrial()
    for _ in range(2):  # nor is it known the second time
        with pytest.raises(BundleError, match=reason):
            admission.admit(craft(contract))


def test_close_ends_a_trial(contract: Contract, craft: Craft,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    start, running = trial.subprocess.Popen, threading.Event()

    def stuck(_command: list[str], **kwargs: object):
        process = start([sys.executable, '-c', 'import time; time.sleep(60)'], **kwargs)
        running.set()
        return process

    monkeypatch.setattr(trial.subprocess, 'Popen', stuck)
    admission = PolicyTrial(limit_s=30.0)
    closer = threading.Thread(target=lambda: running.wait(10) and admission.close())
    closer.start()
    with pytest.raises(BundleError, match='SIGKILL'):
        admission.admit(craft(contract))
    closer.join()
    with pytest.raises(BundleError, match='about to end'):
        admission.admit(craft(contract))


def test_too_large_to_be_looked_at(contract: Contract, craft: Craft) -> None:
    manifest = craft(contract).manifest_json()
    with pytest.raises(BundleError, match='are accepted'):
        identify(bytes(MAX_ONNX_BYTES + 1), manifest, 'here')
    with pytest.raises(BundleError, match='are accepted'):
        identify(b'', ' ' * (5 << 20), 'here')
