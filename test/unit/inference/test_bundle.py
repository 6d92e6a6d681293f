# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles survive the disk and nothing damaged, forged or dangerous is accepted."""

from collections.abc import Callable
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.inference.bundle import (
    check,
    Manifest,
    manifest_path,
    MAX_ONNX_BYTES,
    PolicyBundle,
)

OBS = 5
MUTANTS = 2000
Craft = Callable[..., PolicyBundle]
Seal = Callable[[bytes, Manifest], PolicyBundle]


def test_disk_round_trip(bundle: PolicyBundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / 'policies')
    assert path.name == 'reach.onnx'
    assert sorted(p.name for p in path.parent.iterdir()) == ['reach.manifest.json', 'reach.onnx']
    assert PolicyBundle.load(path) == bundle
    renamed = bundle.save(tmp_path / 'best.onnx')
    assert PolicyBundle.load(renamed).label == 'reach@3'


def test_topic_round_trip(bundle: PolicyBundle) -> None:
    assert PolicyBundle.from_parts(bundle.onnx, bundle.manifest_json()) == bundle


def test_any_onnx_tool_shows_the_metadata(bundle: PolicyBundle) -> None:
    model = onnx.load_model_from_string(bundle.onnx)
    assert {p.key: p.value for p in model.metadata_props} == {
        'name': 'reach', 'version': '3', 'rate_hz': '50.0', 'algorithm': 'sac',
        'contract_fingerprint': bundle.manifest.contract.fingerprint(),
        'training_commit': 'abc123', 'sampling': 'squashed_gaussian'}


def test_no_source_path_is_in_the_file(bundle: PolicyBundle) -> None:
    assert b'.py' not in bundle.onnx and b'File ' not in bundle.onnx
    assert b'namespace' not in bundle.onnx


def test_no_mutant_of_the_onnx_file_is_loaded(bundle: PolicyBundle) -> None:
    rng = np.random.default_rng(0)
    manifest_json = bundle.manifest_json()
    loaded = 0
    for i in range(MUTANTS):
        mutant = bytearray(bundle.onnx)
        if i % 2:
            del mutant[rng.integers(len(mutant)):]
        else:
            mutant[rng.integers(len(mutant))] ^= 1 << rng.integers(8)
        try:
            PolicyBundle.from_parts(bytes(mutant), manifest_json)
            loaded += 1
        except BundleError:
            pass
    assert loaded == 0


def test_no_mutant_of_the_manifest_says_anything_else(bundle: PolicyBundle) -> None:
    rng = np.random.default_rng(1)
    text = bundle.manifest_json().encode()
    for i in range(MUTANTS):
        mutant = bytearray(text)
        if i % 2:
            del mutant[rng.integers(len(mutant) - 2):]
        else:
            mutant[rng.integers(len(mutant))] ^= 1 << rng.integers(8)
        try:
            loaded = PolicyBundle.from_parts(bundle.onnx, bytes(mutant))
        except BundleError:
            continue
        assert loaded == bundle  # as 1e-05 written 1E-05


@pytest.mark.parametrize('missing', ['onnx', 'manifest'])
def test_missing_file(bundle: PolicyBundle, tmp_path: Path, missing: str) -> None:
    path = bundle.save(tmp_path)
    (path if missing == 'onnx' else manifest_path(path)).unlink()
    with pytest.raises(BundleError, match=r'cannot be read: No such file.*beside it'):
        PolicyBundle.load(path)


def test_old_manifest_beside_new_file(bundle: PolicyBundle, deterministic: PolicyBundle,
                                      tmp_path: Path) -> None:
    path = bundle.save(tmp_path / 'a.onnx')
    shutil.copy(deterministic.save(tmp_path / 'b.onnx'), path)
    with pytest.raises(BundleError, match='truncated or of another version'):
        PolicyBundle.load(path)


def test_huge_file_is_not_read(tmp_path: Path, bundle: PolicyBundle) -> None:
    path = bundle.save(tmp_path)
    os.truncate(path, MAX_ONNX_BYTES + 1)
    with pytest.raises(BundleError, match=f'more than {MAX_ONNX_BYTES} bytes'):
        PolicyBundle.load(path)


KILLED = """
import os, sys
from rl_nodes.inference import bundle
found, (old, new) = [], map(bundle.PolicyBundle.load, sys.argv[1:3])
while not found or found[-1] != 'whole':
    old.save(sys.argv[3])
    if not (child := os.fork()):
        bundle.check, left = lambda policy: None, len(found)

        def count(frame, event, argument):
            global left
            if frame.f_code.co_filename == bundle.__file__:  # a system call a line, at most
                left -= 1
                if left < 0:
                    os._exit(9)
            return count

        sys.settrace(count)
        new.save(sys.argv[3])
        os._exit(0)
    killed = os.waitpid(child, 0)[1]
    label = bundle.PolicyBundle.load(sys.argv[3]).label
    found.append(label if killed else 'whole')
print(*found)
"""


def test_wherever_a_save_is_killed_a_whole_policy_is_found(
        bundle: PolicyBundle, deterministic: PolicyBundle, tmp_path: Path) -> None:
    paths = [policy.save(tmp_path / name) for policy, name in (
        (bundle, 'a.onnx'), (deterministic, 'b.onnx'))]
    done = subprocess.run([sys.executable, '-c', KILLED, *paths, tmp_path / 'c.onnx'], text=True,
                          capture_output=True)
    assert not done.returncode, done.stderr
    *labels, whole = done.stdout.split()
    assert whole == 'whole' and PolicyBundle.load(tmp_path / 'c.onnx') == deterministic
    exchanged = labels.index(deterministic.label)
    assert set(labels[:exchanged]) == {bundle.label} and exchanged > 15
    assert set(labels[exchanged:]) == {deterministic.label} and len(labels) > exchanged + 10


def test_a_policy_that_is_exchanged_while_it_is_read(
        bundle: PolicyBundle, deterministic: PolicyBundle, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = bundle.save(tmp_path / 'p.onnx'), Path.open

    def read_late(file: Path, *arguments: str) -> object:
        if file.suffix == '.json':
            monkeypatch.setattr(Path, 'open', read)
            deterministic.save(path)
        return read(file, *arguments)

    monkeypatch.setattr(Path, 'open', read_late)
    assert PolicyBundle.load(path) == deterministic


def test_the_next_manifest_counts_for_its_own_file_only(
        bundle: PolicyBundle, deterministic: PolicyBundle, tmp_path: Path) -> None:
    path, other = bundle.save(tmp_path / 'a.onnx'), deterministic.save(tmp_path / 'b.onnx')
    following = manifest_path(path).with_name('a.manifest.json.next')
    following.write_bytes(manifest_path(other).read_bytes())
    assert PolicyBundle.load(path) == bundle
    path.write_bytes(bundle.onnx[:-1])
    with pytest.raises(BundleError, match='truncated or of another version'):
        PolicyBundle.load(path)
    manifest_path(path).unlink()
    path.write_bytes(deterministic.onnx)
    assert PolicyBundle.load(path) == deterministic  # as where a first save was cut short


def test_failed_write_keeps_the_old_policy(bundle: PolicyBundle, deterministic: PolicyBundle,
                                           tmp_path: Path) -> None:
    path = deterministic.save(tmp_path / 'p.onnx')
    code = (
        'import resource, signal, sys\n'
        'from rl_nodes.core.errors import BundleError\n'
        'from rl_nodes.inference.bundle import PolicyBundle\n'
        'bundle = PolicyBundle.load(sys.argv[1])\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
        'try:\n    bundle.save(sys.argv[2])\n'
        'except BundleError as error:\n'
        '    sys.exit(7 if "cannot be written" in str(error) else 1)')
    big = bundle.save(tmp_path / 'big.onnx')
    done = subprocess.run([sys.executable, '-c', code, str(big), str(path)], check=False)
    assert done.returncode == 7
    assert PolicyBundle.load(path) == deterministic
    assert not list(tmp_path.glob('.*.tmp'))


@pytest.mark.parametrize(('fields', 'reason'), [
    ({'name': 'other'}, 'metadata says name'),
    ({'version': 4}, 'metadata says version'),
    ({'algorithm': 'td3'}, 'metadata says algorithm'),
    ({'training_commit': 'f00'}, 'metadata says training_commit'),
    ({'sampling': 'deterministic'}, 'metadata says sampling'),
    ({'opset': 21}, 'has opset 20 .the manifest says 21.'),
    ({'name': '../evil'}, 'has the name'),
    ({'version': -1}, 'has version -1'),
    ({'created': 'yesterday'}, "created at 'yesterday'"),
    ({'created': '2026-01-01T00:00:00+02:00'}, 'expected a UTC time'),
    ({'golden': ()}, 'no golden vectors'),
    ({'format_version': 2}, 'has format 2'),
])
def test_forged_manifest(bundle: PolicyBundle, seal: Seal, fields: dict, reason: str) -> None:
    forged = seal(bundle.onnx, msgspec.structs.replace(bundle.manifest, **fields))
    with pytest.raises(BundleError, match=reason):
        check(forged)


def test_forged_contract(bundle: PolicyBundle, seal: Seal) -> None:
    faster = msgspec.structs.replace(bundle.manifest.contract, rate_hz=500.0)
    with pytest.raises(BundleError, match='metadata says contract_fingerprint'):
        check(seal(bundle.onnx, msgspec.structs.replace(bundle.manifest, contract=faster)))


def test_edited_manifest(bundle: PolicyBundle) -> None:
    text = bundle.manifest_json().replace('"return": 1.5', '"return": 9.5')
    assert text != bundle.manifest_json()
    with pytest.raises(BundleError, match='damaged or was edited'):
        PolicyBundle.from_parts(bundle.onnx, text)


@pytest.mark.parametrize('text', ['', '{}', 'null', '[' * 100000, '{"name": NaN}', '\udcff'])
def test_no_manifest_at_all(bundle: PolicyBundle, text: str) -> None:
    with pytest.raises(BundleError, match='its manifest is damaged'):
        PolicyBundle.from_parts(bundle.onnx, text.encode(errors='surrogateescape'))


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = 'obs'


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0] = 'actions'


def wider_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = OBS + 1


def free_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = 'batch'


def double_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info('weight', TensorProto.FLOAT, [OBS, 2]))


def external_data(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = 'location', 'weights.bin'
    weight.ClearField('raw_data')


def memory_address(model: onnx.ModelProto) -> None:
    external_data(model)
    model.graph.initializer[0].external_data[0].value = '*/_ORT_MEM_ADDR_/*'


def insert(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    kept = onnx.NodeProto.FromString(model.graph.node[0].SerializeToString())
    del model.graph.node[:]
    model.graph.node.extend([*nodes, kept])


def endless_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node('Identity', ['on'], ['still_on'])], 'body',
        [helper.make_tensor_value_info('i', TensorProto.INT64, []),
         helper.make_tensor_value_info('on', TensorProto.BOOL, [])],
        [helper.make_tensor_value_info('still_on', TensorProto.BOOL, [])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), 'yes'))
    insert(model, helper.make_node('Loop', ['', 'yes'], [], body=body))


def branch(model: onnx.ModelProto) -> None:
    side = helper.make_graph([helper.make_node('Identity', ['observation'], ['same'])], 'side', [],
                             [helper.make_tensor_value_info('same', TensorProto.FLOAT, [1, OBS])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), 'yes'))
    insert(model, helper.make_node('If', ['yes'], ['x'], then_branch=side, else_branch=side))


def hidden_subgraph(model: onnx.ModelProto) -> None:
    branch(model)
    model.graph.node[0].op_type = 'Identity'


def custom_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid('ai.onnx.contrib', 1))
    insert(model, helper.make_node('PyOp', ['observation'], ['x'], domain='ai.onnx.contrib'))


def undeclared_domain(model: onnx.ModelProto) -> None:
    insert(model, helper.make_node('Gelu', ['observation'], ['x'], domain='com.microsoft'))


def local_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function(
        '', 'F', ['a'], ['b'], [helper.make_node('Identity', ['a'], ['b'])],
        [helper.make_opsetid('', 20)]))


def memory_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**31]), 'n'))
    insert(model, helper.make_node('ConstantOfShape', ['n'], ['x']))


def expand_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, OBS]), 'n'))
    insert(model, helper.make_node('Expand', ['observation', 'n'], ['x']),
           helper.make_node('Tile', ['x', 'twos'], ['y']))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**10, 1]), 'twos'))


def outer_product_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones((9000, 1), np.float32), 'c'))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 9000), np.float32), 'r'))
    insert(model, helper.make_node('MatMul', ['c', 'r'], ['x']))


def claimed_shape(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(TensorProto(name='x', data_type=TensorProto.FLOAT, dims=[2**40]))


def unknown_size(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), 'zero'))
    insert(model, helper.make_node('ArgMax', ['observation'], ['i'], axis=1, keepdims=0),
           helper.make_node('Expand', ['zero', 'i'], ['x']))


def random_numbers(model: onnx.ModelProto) -> None:
    insert(model, helper.make_node('RandomNormal', [], ['x'], shape=[3]))


def ancient(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 8


def duplicate_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key='name', value='crafted')


def disconnected(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = 'nowhere'


@pytest.mark.parametrize(('change', 'reason'), [
    (rename_input, r"inputs \['obs'\]"), (rename_output, r"outputs \['actions'\]"),
    (wider_input, r'observation is float32\[1, 6\]'), (free_batch, r"observation .*'batch'"),
    (double_output, r'action is float64'), (second_input, r"inputs \['observation', 'weight'\]"),
    (external_data, 'in another file'), (memory_address, 'in another file'),
    (endless_loop, 'operator Loop'), (branch, 'operator If'), (hidden_subgraph, 'a subgraph'),
    (custom_domain, 'operator domains'), (undeclared_domain, 'operator com.microsoft.Gelu'),
    (local_function, 'model-local functions'), (memory_bomb, 'operator ConstantOfShape'),
    (expand_bomb, 'elements, at most'), (outer_product_bomb, 'elements, at most'),
    (claimed_shape, 'claims the shape'), (unknown_size, 'not known before running'),
    (random_numbers, 'operator RandomNormal'), (ancient, 'opset 8'),
    (duplicate_metadata, "key 'name' twice"), (disconnected, 'not consistent'),
])
def test_crafted_graph(contract: Contract, craft: Craft,
                       change: Callable[[onnx.ModelProto], None], reason: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bad = craft(contract, change)
    with pytest.raises(BundleError, match=reason):
        PolicyBundle.from_parts(bad.onnx, bad.manifest_json())
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 50.0


def test_crafted_graph_unchanged_is_accepted(contract: Contract, craft: Craft) -> None:
    check(craft(contract))


def test_hard_link_to_external_data(contract: Contract, craft: Craft, tmp_path: Path) -> None:
    # ONNX Runtime follows hard links, so the refusal must not depend on where the data lies.
    secret = tmp_path / 'secret'
    secret.write_bytes(np.ones((OBS, 2), np.float32).tobytes())
    bad = craft(contract, external_data)
    (tmp_path / 'p.onnx').write_bytes(bad.onnx)
    (tmp_path / 'p.manifest.json').write_text(bad.manifest_json())
    os.link(secret, tmp_path / 'weights.bin')
    with pytest.raises(BundleError, match='in another file'):
        PolicyBundle.load(tmp_path / 'p.onnx')


def test_gaussian_needs_bounds_and_outputs(bundle: PolicyBundle, contract: Contract,
                                           craft: Craft, seal: Seal) -> None:
    unbounded = msgspec.structs.replace(
        contract, action=msgspec.structs.replace(contract.action, high=(None, 1.0)))
    manifest = msgspec.structs.replace(bundle.manifest, contract=unbounded)

    def retitle(model: onnx.ModelProto) -> bytes:
        helper.set_model_props(model, manifest.metadata())
        return model.SerializeToString()

    onnx_bytes = retitle(onnx.load_model_from_string(bundle.onnx))
    with pytest.raises(BundleError, match='needs bounds'):
        check(seal(onnx_bytes, manifest))
    crafted = craft(contract)
    gaussian = msgspec.structs.replace(crafted.manifest, sampling='squashed_gaussian')
    model = onnx.load_model_from_string(crafted.onnx)
    helper.set_model_props(model, gaussian.metadata())
    with pytest.raises(BundleError, match='action_std'):
        check(seal(model.SerializeToString(), gaussian))


def test_bundle_module_is_light() -> None:
    code = ('import rl_nodes.inference.bundle, sys\n'
            'sys.exit(any(m in sys.modules for m in ("torch", "onnx", "onnxruntime")))')
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
