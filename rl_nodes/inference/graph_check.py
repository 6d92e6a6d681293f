# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What an ONNX graph may contain to be a policy.

Acceptance is by list: anything not known to be harmless is refused. ``onnx`` is imported when the
first graph is checked, not with this module, so that a node which checks nothing does not pay.
"""

import math
from typing import Any

import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.inference.memory import Layout

MAX_ONNX_BYTES = 64 * 1024**2
# All intermediate values of one run together; 16 Mi float32 are 64 MiB.
MAX_ELEMENTS = 16 * 1024**2
MAX_NODES = 10_000
OPSETS = range(17, 24)
_OUTPUTS = ('action', 'action_mean', 'action_std')
NAMES = ('observation', *_OUTPUTS)

# Pure functions of their inputs, without subgraphs, state, randomness or files. How much memory a
# result takes is bounded by its static shape, see _check_sizes.
OPERATORS = frozenset("""
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat
    Constant Conv Cos Div Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements
    Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish
    Identity InstanceNormalization LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul Max MaxPool Mean Min Mish Mul Neg Not Or PRelu Pad Pow RNN Reciprocal
    ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Round Selu Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze
    Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Trilu Unsqueeze Where
""".split())


def check_graph(onnx_bytes: bytes, contract: Contract, sampling: str,
                metadata: dict[str, str], opset: int, action_shape: tuple[int, ...],
                memory: Layout = ()) -> None:
    """
    Refuse an ONNX file that is not an acceptable policy for ``contract``.

    :param onnx_bytes: the whole file.
    :param sampling: any but ``deterministic`` asks for ``action_mean`` and ``action_std`` too.
    :param metadata: what its ``metadata_props`` must say; further keys are allowed.
    :param opset: operator set that the manifest names.
    :param action_shape: of an answer, (A,) or (H, A).
    :param memory: its state tensors.
    :raises BundleError: says what is wrong and what to do.
    """
    if len(onnx_bytes) > MAX_ONNX_BYTES:
        raise BundleError(f'{len(onnx_bytes)} bytes, at most {MAX_ONNX_BYTES} are accepted; '
                          'export a smaller network')
    model = parse(onnx_bytes)
    _check_opset(model, opset)
    _check_metadata(model, metadata)
    _check_interface(model.graph, contract, sampling, action_shape, memory)
    _check_nodes(model)
    check_tensors(model.graph, len(onnx_bytes))
    _check_sizes(model)


def parse(onnx_bytes: bytes) -> Any:
    """Return the model in some bytes; BundleError where they are no ONNX file."""
    # Imported late: 60 to 100 ms that a node without a policy need not spend.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
    import onnx
    try:
        return onnx.ModelProto.FromString(onnx_bytes)
    except DecodeError as error:
        raise BundleError(f'not an ONNX file: {error}; export the policy again') from None


def _check_opset(model: Any, opset: int) -> None:
    domains = {entry.domain or 'ai.onnx': entry.version for entry in model.opset_import}
    if set(domains) != {'ai.onnx'}:
        raise BundleError(f'uses the operator domains {sorted(domains)}, only the standard one '
                          '(ai.onnx) is accepted; express the network with standard operators')
    found = domains['ai.onnx']
    if found != opset or found not in OPSETS:
        raise BundleError(f'has opset {found} (the manifest says {opset}), accepted are '
                          f'{OPSETS[0]} to {OPSETS[-1]}; export the policy again')
    if model.functions or model.training_info:
        raise BundleError('contains model-local functions or training information, which a policy '
                          'must not; inline them when exporting')


def _check_metadata(model: Any, expected: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for entry in model.metadata_props:
        if entry.key in found:
            raise BundleError(f'its metadata has the key {entry.key!r} twice; export it again')
        found[entry.key] = entry.value
    for key, value in expected.items():
        if found.get(key) != value:
            raise BundleError(f'its metadata says {key} = {found.get(key)!r}, the manifest says '
                              f'{value!r}: the two do not belong together; export it again')


def _check_interface(graph: Any, contract: Contract, sampling: str,
                     action_shape: tuple[int, ...], memory: Layout) -> None:
    gaussian = sampling != 'deterministic'
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    states = {name: tensor for tensor in memory for name in (tensor.input, tensor.output)}
    pictures = {picture.input: picture for picture in contract.pictures}
    taken = ['observation', *pictures, *(tensor.input for tensor in memory)]
    given = {tensor.output for tensor in memory}
    needed = {*_OUTPUTS} if gaussian else {'action'}
    if sorted(inputs) != sorted(taken) or len(set(outputs)) != len(outputs) \
            or not needed | given <= set(outputs) <= {*_OUTPUTS} | given:
        raise BundleError(f'has inputs {inputs} and outputs {outputs}, expected '
                          f'{", ".join(taken)} -> {sorted(needed | given)} for {sampling} '
                          f'sampling{"" if memory else " without a memory"}; export it with these '
                          'names')
    for value in [*graph.input, *graph.output]:
        if value.name in states:
            _check_state(value, states[value.name].shape)
        elif value.name in pictures:
            _check_value(value, 'uint8', pictures[value.name].shape)
        elif value.name == 'observation':
            _check_value(value, contract.observation.dtype, contract.observation.shape)
        else:
            _check_value(value, contract.action.dtype, action_shape)
    low, high = contract.action.bounds()
    if gaussian and not np.isfinite([low, high]).all():
        raise BundleError('samples within bounds, which it needs bounds, but the contract has '
                          'actions without bounds; set low and high of every action')


def signature(value: Any) -> tuple[str, list[int | str]]:
    """Return (numpy name of the type, shape) of a graph's input or output; names where free."""
    from onnx import helper
    tensor = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField('dim_value') else dim.dim_param or '?'
             for dim in tensor.shape.dim]
    try:
        return str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape
    except KeyError:
        return f'type {tensor.elem_type}', shape


def _check_value(value: Any, wanted: str, expected: tuple[int, ...]) -> None:
    dtype, shape = signature(value)
    if shape != [1, *expected] or dtype != wanted:
        raise BundleError(f'{value.name} is {dtype}{shape}, the contract says '
                          f'{wanted}{[1, *expected]}: the policy was made for another robot '
                          'or task; use one that fits')


def _check_state(value: Any, expected: tuple[int, ...]) -> None:
    dtype, shape = signature(value)
    if shape != [*expected] or dtype != 'float32':
        raise BundleError(f'the state tensor {value.name} is {dtype}{shape}, the manifest says '
                          f'float32{[*expected]} of what is read and what is written; export it '
                          'with fixed shapes that are the same')


def _check_nodes(model: Any) -> None:
    from onnx import AttributeProto
    nodes = model.graph.node
    if len(nodes) > MAX_NODES:
        raise BundleError(f'has {len(nodes)} nodes, at most {MAX_NODES} are accepted; export a '
                          'smaller network')
    simple = {AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.INT, AttributeProto.INTS,
              AttributeProto.STRING, AttributeProto.STRINGS, AttributeProto.TENSOR}
    for node in nodes:
        if node.domain not in ('', 'ai.onnx'):
            raise BundleError(f'uses the operator {node.domain}.{node.op_type}, only the standard '
                              'domain is accepted; express the network with standard operators')
        if node.op_type not in OPERATORS:
            raise BundleError(f'uses the operator {node.op_type}, which is not on the list of '
                              'accepted ones (no control flow, no randomness, no sizes decided '
                              'while running); express the network without it')
        for attribute in node.attribute:
            if attribute.type not in simple or attribute.ref_attr_name:
                raise BundleError(f'{node.op_type} has the attribute {attribute.name!r} of a kind '
                                  'that is not accepted (a subgraph, a sparse tensor or a '
                                  'reference); export the network without it')


def check_tensors(graph: Any, size: int) -> None:
    """
    Refuse weights that lie elsewhere, claim more than there is, or are no numbers.

    :param size: of the file [bytes].
    """
    from onnx import TensorProto
    if graph.sparse_initializer:
        raise BundleError('has sparse weights, which are not accepted; export them dense')
    numeric = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32,
               TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL}
    constants = [attribute.t for node in graph.node for attribute in node.attribute
                 if attribute.type == attribute.TENSOR]
    for tensor in [*graph.initializer, *constants]:
        if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
            raise BundleError(f'keeps {tensor.name!r} in another file; a policy is one file, '
                              'export it with its weights inside, as by '
                              'torch.onnx.export(..., external_data=False)')
        if tensor.data_type not in numeric or tensor.HasField('segment'):
            raise BundleError(f'{tensor.name!r} is a tensor of type {tensor.data_type} that is '
                              'not accepted; use float32')
        # Every stored element takes at least one byte of the file.
        if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > size:
            raise BundleError(f'{tensor.name!r} claims the shape {list(tensor.dims)}, more than '
                              'the file holds; export the policy again')


def _check_sizes(model: Any) -> None:
    """Refuse a graph whose results are not all of a static, bounded size."""
    from onnx import checker, shape_inference
    try:
        checker.check_model(model)
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True,
                                                data_prop=True)
    except (checker.ValidationError, shape_inference.InferenceError, ValueError,
            RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise BundleError(f'its graph is not consistent: {reason[0] if reason else "no reason"}; '
                          'export the policy again') from None
    graph = inferred.graph
    elements = {}
    for value in [*graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField('shape') and all(dim.HasField('dim_value') for dim in dims):
            elements[value.name] = math.prod(dim.dim_value for dim in dims)
    for node in graph.node:
        for name in filter(None, node.output):
            if name not in elements:
                raise BundleError(f'the size of {name!r}, a result of {node.op_type}, is not '
                                  'known before running; export with fixed shapes')
    total = sum(elements.values())
    if total > MAX_ELEMENTS:
        raise BundleError(f'one run would fill {total} elements, at most {MAX_ELEMENTS} are '
                          'accepted; export a smaller network')
