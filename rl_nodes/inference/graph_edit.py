# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Edit an exported ONNX graph: replace weights and metadata, drop what is not needed to run it.

The exporter's whole optimiser is not used. It folds parameters and normaliser statistics into new
constants, which a later refresh could not find, and it drops an added epsilon such as 1e-8 as if
it were zero, after which a constant observation element divides zero by zero. Only its constant
folding is, with the statistics out of its reach; ONNX Runtime folds the rest when it loads the
model.
"""

from collections.abc import Collection, Mapping
import copy
import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnxscript import optimizer

MAX_FILLED = 1 << 16  # elements of a constant that an operator fills


def fold(model: onnx.ModelProto, state: Collection[str]) -> None:
    """
    Fold what is constant, in place, and turn sequences (from ``chunk``, ``split``) into tensors.

    :param state: initialisers that may change and are left alone.
    """
    changing = _taken(model.graph.initializer, state)
    # To the folder an input is something that it cannot know.
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in changing)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    _taken(model.graph.input, {tensor.name for tensor in changing})
    model.graph.initializer.extend(changing)


def settle_shapes(model: onnx.ModelProto) -> None:
    """
    Turn shapes that are asked for while running into constants, in place, where they are fixed.

    Exporters write ``ones_like(x)`` as the operators Shape and ConstantOfShape; no policy may have
    the latter, and the optimiser's folding leaves both alone.
    """
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        tensor = value.type.tensor_type
        if tensor.HasField('shape') and all(dim.HasField('dim_value')
                                            for dim in tensor.shape.dim):
            sizes[value.name] = [dim.dim_value for dim in tensor.shape.dim]
    kept = []
    for node in model.graph.node:
        known = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == 'Shape' and node.input[0] in sizes:
            fixed = np.array(sizes[node.input[0]][known.get('start', 0):known.get('end')],
                             np.int64)
        elif node.op_type == 'ConstantOfShape' and \
                math.prod(sizes.get(node.output[0], [MAX_FILLED + 1])) <= MAX_FILLED:
            fill = numpy_helper.to_array(known['value']) if 'value' in known \
                else np.zeros(1, np.float32)
            fixed = np.broadcast_to(fill, sizes[node.output[0]])
        else:
            kept.append(copy.deepcopy(node))
            continue
        model.graph.initializer.append(numpy_helper.from_array(
            np.ascontiguousarray(fixed), node.output[0]))
    model.graph.ClearField('node')
    model.graph.node.extend(kept)


def _taken(entries: Any, names: Collection[str]) -> list[Any]:
    """Remove the entries with these names from a repeated field and return them."""
    taken = [copy.deepcopy(entry) for entry in entries if entry.name in names]
    kept = [copy.deepcopy(entry) for entry in entries if entry.name not in names]
    del entries[:]
    entries.extend(kept)
    return taken


def strip(model: onnx.ModelProto) -> None:
    """Remove doc strings, exporter notes (they hold source paths) and inferred shapes."""
    graph = model.graph
    model.ClearField('doc_string')
    model.ClearField('metadata_props')
    graph.ClearField('value_info')
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField('doc_string')
        part.ClearField('metadata_props')


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Make ``metadata_props`` exactly ``metadata``, in place."""
    model.ClearField('metadata_props')
    helper.set_model_props(model, dict(metadata))


def refresh(model: onnx.ModelProto, state: Mapping[str, np.ndarray]) -> list[str]:
    """
    Replace the value of every initialiser that ``state`` names, in place.

    :param state: parameter or buffer name -> value.
    :return: names whose type or shape is no longer the initialiser's; empty where all is well.
    """
    misfits = []
    for tensor in model.graph.initializer:
        value = state.get(tensor.name)
        if value is None:
            continue
        if tuple(tensor.dims) != value.shape or \
                helper.tensor_dtype_to_np_dtype(tensor.data_type) != value.dtype:
            misfits.append(tensor.name)
            continue
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return misfits
