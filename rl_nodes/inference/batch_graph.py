# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Let a policy's ONNX graph, exported for one observation, answer several at once.

Inputs and outputs get a free batch dimension. Most operators follow; what an exporter has fixed is
the shape that a Reshape asks for. There the dimension that holds the batch is found by comparing
the sizes for one observation with those for several, and left open. Other graphs keep what does
not fit, and do not run or answer otherwise: whoever uses the result must compare, see
``batching.py``.
"""

import math
from typing import Any

import numpy as np
from rl_nodes.core.errors import BundleError
from rl_nodes.inference.graph_check import parse
from rl_nodes.inference.memory import Layout, StateTensor

ROWS = 'robots'
_SEVERAL = 7919  # a prime that no layer is as wide as: a size that has it as a factor is a batch


def batch_axis(tensor: StateTensor) -> int | None:
    """
    Return the axis of a state tensor along which robots can be stacked; None where there is none.

    It is the last one of size 1 before the last of all, as in (layers, 1, hidden) of LSTM and GRU
    and in (1, hidden).
    """
    ones = [axis for axis, size in enumerate(tensor.shape[:-1]) if size == 1]
    return ones[-1] if ones else None


def batched(onnx_bytes: bytes, memory: Layout = ()) -> bytes:
    """
    Return a policy's graph with a batch dimension of any size, and no outputs besides ``action``.

    :param onnx_bytes: of an accepted policy, see ``graph_check.py``: fixed shapes, batch 1.
    :param memory: its state tensors, all of which have a :func:`batch_axis`.
    :raises BundleError: its sizes contradict each other then.
    """
    from onnx import shape_inference
    model = parse(onnx_bytes)
    graph = model.graph
    axes = {name: batch_axis(tensor) for tensor in memory
            for name in (tensor.input, tensor.output)}
    outputs = [value for value in graph.output if value.name == 'action' or value.name in axes]
    del graph.output[:]
    graph.output.extend(outputs)
    one = _sizes(shape_inference.infer_shapes(model, data_prop=True))
    dims = [value.type.tensor_type.shape.dim[axes.get(value.name) or 0]
            for value in [*graph.input, *graph.output]]
    for dim in dims:
        dim.dim_value = _SEVERAL
    loosened = True
    while loosened:  # what follows a Reshape shows its size once that has been loosened
        try:
            several = _sizes(shape_inference.infer_shapes(model, data_prop=True))
        except shape_inference.InferenceError as error:
            raise BundleError(str(error).strip().splitlines()[0]) from None
        loosened = 0 < sum(_loosened(graph, node, one, several) for node in graph.node
                           if node.op_type == 'Reshape')
    for dim in dims:
        dim.dim_param = ROWS
    graph.ClearField('value_info')
    free: bytes = model.SerializeToString()
    return free


def _sizes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's values as far as they are known."""
    graph = model.graph
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in [*graph.input, *graph.value_info, *graph.output]
            if value.type.tensor_type.HasField('shape')
            and all(dim.HasField('dim_value') for dim in value.type.tensor_type.shape.dim)}


def _loosened(graph: Any, node: Any, one: dict[str, tuple[int, ...]],
              several: dict[str, tuple[int, ...]]) -> bool:
    """Leave the batch dimension of a Reshape open where it is fixed; return whether it was."""
    from onnx import numpy_helper
    source, wanted = node.input[:2]
    target = next((numpy_helper.to_array(tensor) for tensor in graph.initializer
                   if tensor.name == wanted), None)
    before, after = one.get(source, ()), several.get(source, ())
    grown = [axis for axis, (size, larger) in enumerate(zip(before, after))
             if larger == size * _SEVERAL]
    if target is None or len(grown) != 1 or (target == -1).any():
        return False
    axis = _batch_in(tuple(int(size) for size in target), before, grown[0])
    if axis is None:
        return False
    opened = np.array(target, np.int64)
    opened[axis] = -1
    node.input[1] = f'{node.output[0]}/{ROWS}'
    graph.initializer.append(numpy_helper.from_array(opened, node.input[1]))
    return True


def _batch_in(target: tuple[int, ...], before: tuple[int, ...], axis: int) -> int | None:
    """
    Return the axis of a target that holds the batch, as far as one can tell.

    :param target: of a Reshape, for one observation.
    :param before: shape that it takes, for one observation.
    :param axis: of this shape that holds the batch, alone or with other dimensions.
    """
    # Elements from one observation to the next, where the batch is the outermost part of its axis
    # and where it is the innermost.
    strides = math.prod(before[axis:]), math.prod(before[axis + 1:])
    inner = [math.prod(target[place + 1:]) for place in range(len(target))]
    alone = [place for place, size in enumerate(target) if size == 1 and inner[place] in strides]
    if alone:
        return axis if axis in alone else alone[0]
    # Joined with others: heads of an attention behind it, steps before it; never with features.
    joined = [*(place for place, size in enumerate(target[:-1])
                if size * inner[place] in strides),
              *(place for place in range(len(target) - 1) if inner[place] in strides)]
    return joined[0] if joined else None
