# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Put another trainer's network into the form that every policy here has.

Around the network, whose inside is left alone, come: one observation (1, O) in the contract's
order and units, normalisation where the trainer keeps its statistics elsewhere, pictures as the
network takes them, and the way from what the network says to actions in [-1, 1].
"""

from collections.abc import Mapping
import copy
from dataclasses import dataclass, field, replace
import io
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference, TensorProto, version_converter
from rl_nodes.core.config import suggestion
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.core.pictures import PictureSpec
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference import graph_edit
from rl_nodes.inference.bundle import read_bounded
from rl_nodes.inference.graph_check import check_tensors, NAMES, OPSETS, parse, signature
from rl_nodes.inference.memory import Layout, problem_of, StateTensor

OPSET = 20  # that older graphs are converted to
MAX_STATISTICS_BYTES = 16 * 1024**2
PREFIX = 'network/'
_STATISTICS = ('mean', 'var', 'std', 'epsilon', 'clip')
_NUMBERS = ('float32', 'float64', 'float16')


@dataclass(frozen=True)
class Normaliser:
    """
    normalised = (observation - mean) / std, kept within ±clip.

    :param mean: shape (O,).
    :param std: shape (O,), positive.
    :param clip: infinite for no limit.
    """

    mean: np.ndarray
    std: np.ndarray
    clip: float = np.inf

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return normalised observations, shape (N, O)."""
        normalised: np.ndarray = ((observations - self.mean) / self.std).clip(
            -self.clip, self.clip)
        return normalised


@dataclass(frozen=True)
class Adoption:
    """
    What is put around a network.

    :param observation: its input that takes the observation; empty where it has only one.
    :param action: its output that becomes the action; empty where it has only one.
    :param normaliser: of the observation; None where the network normalises by itself.
    :param gain: action = gain · output + bias, shape (A,) or ().
    :param bias: see ``gain``.
    :param clip: keep actions within [-1, 1].
    :param cameras: its input -> the camera whose picture it takes.
    :param states: its input -> its output of each state tensor; where none are named, inputs and
        outputs called ``<name>_in`` and ``<name>_out`` are such.
    :param memory: these with their shapes, once the network has been looked at.
    """

    observation: str = ''
    action: str = ''
    normaliser: Normaliser | None = None
    gain: np.ndarray | float = 1.0
    bias: np.ndarray | float = 0.0
    clip: bool = False
    cameras: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    memory: Layout = ()

    def expected(self, outputs: np.ndarray) -> np.ndarray:
        """Return the actions that a network's outputs (N, A) mean."""
        actions = outputs * self.gain + self.bias
        return np.clip(actions, -1.0, 1.0) if self.clip else actions


def read_normaliser(path: Path, spec: ArraySpec) -> Normaliser:
    """
    Return the statistics in an ``.npz`` file: ``mean``, ``var`` or ``std``, ``epsilon``, ``clip``.

    :param spec: of the observation.
    :raises BundleError: unreadable, other arrays, another size, or values that make no sense.
    """
    content = read_bounded(path, MAX_STATISTICS_BYTES, 'the normalisation',
                           'write it with numpy.savez(file, mean=..., var=...)')
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_STATISTICS_BYTES:
                raise ValueError(f'more than {MAX_STATISTICS_BYTES} bytes')
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name], np.float64) for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError, TypeError) as error:
        raise BundleError(f'{path}: no readable .npz file: {error}; write it with '
                          'numpy.savez(file, mean=..., var=...)') from None
    for name in found:
        if name not in _STATISTICS:
            raise BundleError(f'{path} holds {name!r}{suggestion(name, _STATISTICS)}; expected '
                              'mean, var or std, and optionally epsilon and clip')
    if 'mean' not in found or ('var' in found) == ('std' in found):
        raise BundleError(f'{path} holds {", ".join(found) or "nothing"}; expected mean and '
                          'either var or std')
    variance = found['var'] if 'var' in found else found['std']**2
    std = np.sqrt(variance + found.get('epsilon', 0.0))
    for name, values in (('mean', found['mean']), ('the deviation', std)):
        if values.shape != spec.shape:
            raise BundleError(f'{path}: {name} has the shape {list(values.shape)}, the task '
                              f'observes {spec.shape[0]} values: {_listed(spec)}')
        if not np.isfinite(values).all():
            raise BundleError(f'{path}: {name} is not finite everywhere')
    clip = found.get('clip', np.array(np.inf))
    if not (std > 0).all() or clip.shape != () or not clip > 0:
        zero = [spec.elements[i] for i in np.flatnonzero(~(std > 0))]
        raise BundleError(f'{path}: expected a positive deviation of each element and a positive '
                          f'clip; got clip {clip} and none for {", ".join(zero) or "no element"}; '
                          'give an epsilon, as in 1e-8')
    return Normaliser(found['mean'], std, float(clip))


def adopt(onnx_bytes: bytes, contract: Contract, adoption: Adoption
          ) -> tuple[onnx.ModelProto, Adoption]:
    """
    Return (the network as a policy, still without metadata; the adoption with both names).

    :param onnx_bytes: at most ``MAX_ONNX_BYTES``.
    :raises BundleError: no such input or output, another size, or a graph that cannot be had.
    """
    model = parse(onnx_bytes)
    check_tensors(model.graph, len(onnx_bytes))
    _refuse_foreign(model, contract)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = list(model.graph.output)
    states = _states(adoption.states, inputs, outputs)
    pictures = pictures_of(contract, adoption.cameras)
    _require_pictures(pictures, {value.name: value for value in inputs})
    known = {*states, *pictures}
    source = _chosen('input', 'observation', adoption.observation,
                     [value for value in inputs if value.name not in known])
    others = [value for value in inputs if value is not source and value.name not in known]
    if others:
        raise BundleError(f'the network asks for {_described(others)} besides {source.name}; only '
                          'networks that answer an observation, pictures, and states of their '
                          'own, can be imported. Where it is a state, name the output that it is '
                          f'given at the next step: states:={others[0].name}=output')
    output = _chosen('output', 'action', adoption.action,
                     [value for value in outputs if value.name not in states.values()])
    _require_size(source, contract.observation, 'the task observes')
    model = _with_known_outputs(model, source, output, states, pictures)
    values = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    _require_size(values[output.name], contract.action, 'the robot is moved by')
    memory = _memory(states, values)
    if model.opset_import[0].version < OPSETS[0]:
        try:
            model = version_converter.convert_version(model, OPSET)
        except (RuntimeError, ValueError) as error:
            raise BundleError(f'opset {model.opset_import[0].version} cannot be converted to '
                              f'{OPSET}: {error}; export the network with opset {OPSETS[0]} to '
                              f'{OPSETS[-1]}') from None
    named = replace(adoption, observation=source.name, action=output.name, memory=memory)
    return _surrounded(model, contract, named), named


def _refuse_foreign(model: Any, contract: Contract) -> None:
    """Refuse what the graph itself says about operators or the order of joints."""
    domains = sorted({entry.domain for entry in model.opset_import} - {'', 'ai.onnx'})
    if domains or not model.opset_import:
        raise BundleError(f'uses the operator domains {domains}, only the standard one (ai.onnx) '
                          'is accepted; export the network with standard operators')
    notes = {entry.key: entry.value for entry in model.metadata_props}
    joints = [name.strip() for name in notes.get('joint_names', '').split(',') if name.strip()]
    ours = list(contract.action.elements)
    if joints and joints != ours:
        raise BundleError(f'its metadata names the joints {", ".join(joints)}; the robot is '
                          f'commanded in the order {", ".join(ours)}: train or export it in this '
                          'order')


def _chosen(what: str, argument: str, wanted: str, values: list[Any]) -> Any:
    """Return the graph's input or output that was asked for, or its only one."""
    names = [value.name for value in values]
    if wanted and wanted not in names:
        raise BundleError(f'has no {what} {wanted!r}{suggestion(wanted, names)}; it has '
                          f'{_described(values)}')
    if not wanted and len(values) != 1:
        raise BundleError(f'has the {what}s {_described(values) or "none"}; say which one is the '
                          f'{argument}: {argument}:={names[0] if names else "name"}')
    return values[names.index(wanted) if wanted else 0]


def _states(wanted: Mapping[str, str], inputs: list[Any], outputs: list[Any]) -> dict[str, str]:
    """Return input -> output of the state tensors: those asked for, else those named so."""
    sources, targets = ([value.name for value in values] for values in (inputs, outputs))
    for names, known, what in ((wanted, sources, 'input'), (wanted.values(), targets, 'output')):
        for name in names:
            if name not in known:
                raise BundleError(f'has no {what} {name!r}{suggestion(name, known)} for a state; '
                                  f'it has {_described(inputs)} -> {_described(outputs)}')
    found = {name: f'{name.removesuffix("_in")}_out' for name in sources if name.endswith('_in')}
    return dict(wanted) or {name: after for name, after in found.items() if after in targets}


def _memory(states: Mapping[str, str], values: Mapping[str, Any]) -> Layout:
    """Return the state tensors with their shapes; BundleError where they cannot be such."""
    for before, after in states.items():
        (kind, shape), (other, written) = signature(values[before]), signature(values[after])
        if shape != written or kind != other or kind not in _NUMBERS \
                or not all(isinstance(size, int) and size > 0 for size in shape):
            raise BundleError(f'{_described([values[before]])} and {_described([values[after]])} '
                              'are not one state before and after a step; expected numbers of one '
                              'fixed shape')
    memory = tuple(StateTensor(before, after, tuple(map(int, signature(values[before])[1])))
                   for before, after in states.items())
    problem = problem_of(memory, NAMES) if memory else None
    if problem:
        raise BundleError(problem)
    return memory


def pictures_of(contract: Contract, cameras: Mapping[str, str]) -> dict[str, PictureSpec]:
    """
    Return the picture that each of some inputs takes, in the order of the contract.

    :param cameras: input -> camera.
    :raises BundleError: not every picture of the task has one input.
    """
    wanted = {picture.camera: picture for picture in contract.pictures}
    for camera in cameras.values():
        if camera not in wanted:
            raise BundleError(f'pictures: task {contract.task} observes no camera {camera!r}'
                              f'{suggestion(camera, wanted)}; it observes '
                              f'{", ".join(wanted) or "none"}')
    inputs = {camera: name for name, camera in cameras.items()}
    missing = [camera for camera in wanted if camera not in inputs]
    if missing or len(inputs) != len(cameras):
        raise BundleError(f'task {contract.task} observes a picture of {" and of ".join(wanted)}; '
                          'say which input of the network takes which, each once: pictures:='
                          + ','.join(f'input={camera}' for camera in wanted))
    return {inputs[camera]: picture for camera, picture in wanted.items()}


def _require_pictures(pictures: Mapping[str, PictureSpec], inputs: Mapping[str, Any]) -> None:
    """Refuse inputs that take no pictures of these sizes in a form that is known."""
    for name, picture in pictures.items():
        if name not in inputs:
            raise BundleError(f'has no input {name!r}{suggestion(name, inputs)} for a picture; it '
                              f'has {_described(list(inputs.values()))}')
        dtype, shape = signature(inputs[name])
        height, width, channels = picture.shape
        wanted = {'uint8': [1, height, width, channels]}.get(
            dtype, [1, channels, height, width] if dtype in _NUMBERS else [])
        if len(shape) != len(wanted) or not wanted or any(
                isinstance(size, int) and size != known for size, known in zip(shape, wanted)):
            raise BundleError(
                f'{_described([inputs[name]])} takes no picture of camera {picture.camera}: '
                f'expected uint8[batch, {height}, {width}, {channels}] (0 to 255) or '
                f'float32[batch, {channels}, {height}, {width}] (0 to 1), red, green, blue; width '
                "and height are in the task's YAML file")


def _with_known_outputs(model: Any, source: Any, output: Any, states: Mapping[str, str],
                        pictures: Mapping[str, PictureSpec]) -> Any:
    """Return the model for one observation at a time, with the shapes its outputs then have."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in pictures:
            height, width, channels = pictures[value.name].shape
            whole = signature(value)[0] == 'uint8'
            sizes = (height, width, channels) if whole else (channels, height, width)
            for dim, size in zip(dims, (1, *sizes)):
                dim.dim_value = size
        free = [dim for dim in dims if not dim.HasField('dim_value')]
        for dim in free if value.name in states else \
                dims[:1] if value.name == source.name and len(dims) == 2 else ():
            dim.dim_value = 1
    wanted = {output.name, *states.values()}
    declared = {}
    for value in model.graph.output:
        if value.name in wanted:
            declared[value.name] = copy.deepcopy(value.type)
            value.type.tensor_type.ClearField('shape')
    try:
        model = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise BundleError(f'its graph is not consistent: {error}; export the network '
                          'again') from None
    for value in model.graph.output:
        if value.name in wanted and not value.type.tensor_type.HasField('shape'):
            value.type.CopyFrom(declared[value.name])
    return model


def _require_size(value: Any, spec: ArraySpec, who: str) -> None:
    dtype, shape = signature(value)
    free = shape[:1] if len(shape) == 2 else []
    if shape[len(free):] != list(spec.shape) or dtype not in _NUMBERS \
            or any(isinstance(size, int) and size != 1 for size in free):
        raise BundleError(f'{_described([value])} does not fit: {who} {spec.shape[0]} values, so '
                          f'expected float32[batch, {spec.shape[0]}], float32[1, {spec.shape[0]}] '
                          f'or float32[{spec.shape[0]}]: {_listed(spec)}')


def _surrounded(model: Any, contract: Contract, adoption: Adoption) -> onnx.ModelProto:
    """Return the network with everything before and behind it, folded and tidied."""
    values = {value.name: signature(value)
              for value in [*model.graph.input, *model.graph.output]}
    onnx.compose.add_prefix(model, PREFIX, inplace=True)
    graph = _Around(model.graph)
    source, output = PREFIX + adoption.observation, PREFIX + adoption.action
    pictures = pictures_of(contract, adoption.cameras)
    taken = {source, *(PREFIX + name for name in
                       (*pictures, *(tensor.input for tensor in adoption.memory)))}
    kept = [copy.deepcopy(value) for value in graph.proto.input if value.name not in taken]
    observed = 'observation'
    if adoption.normaliser is not None:
        observed = graph.node('Sub', observed, adoption.normaliser.mean)
        observed = graph.node('Div', observed, adoption.normaliser.std)
        if np.isfinite(adoption.normaliser.clip):
            observed = graph.node('Clip', observed, -adoption.normaliser.clip,
                                  adoption.normaliser.clip)
    dtype, shape = values[adoption.observation]
    observed = graph.shaped(observed, shape)
    graph.node('Cast', observed, result=source, to=_type_of(dtype))
    for name, picture in pictures.items():
        graph.picture(picture, PREFIX + name, values[name][0])
    for tensor in adoption.memory:
        graph.node('Cast', tensor.input, result=PREFIX + tensor.input,
                   to=_type_of(values[tensor.input][0]))
    before, graph.nodes = graph.nodes, []
    said = graph.node('Cast', output, to=TensorProto.FLOAT)
    said = graph.node('Reshape', said, np.array([1, *contract.action.shape]))
    if np.any(adoption.gain != 1.0) or np.any(adoption.bias != 0.0):
        said = graph.node('Add', graph.node('Mul', said, adoption.gain), adoption.bias)
    if adoption.clip:
        said = graph.node('Clip', said, -1.0, 1.0)
    graph.node('Identity', said, result='action')
    for tensor in adoption.memory:
        graph.node('Cast', PREFIX + tensor.output, result=tensor.output, to=TensorProto.FLOAT)
    inner = list(graph.proto.node)
    for name in ('node', 'input', 'output', 'value_info'):
        graph.proto.ClearField(name)
    graph.proto.node.extend([*before, *inner, *graph.nodes])
    graph.proto.input.extend(kept)
    graph.proto.input.extend(
        helper.make_tensor_value_info(picture.input, TensorProto.UINT8, (1, *picture.shape))
        for picture in pictures.values())
    for entries, name, width, states in (
            (graph.proto.input, 'observation', contract.observation.shape,
             [(tensor.input, tensor.shape) for tensor in adoption.memory]),
            (graph.proto.output, 'action', contract.action.shape,
             [(tensor.output, tensor.shape) for tensor in adoption.memory])):
        entries.extend(helper.make_tensor_value_info(called, TensorProto.FLOAT, shape)
                       for called, shape in [(name, (1, *width)), *states])
    model.ir_version = max(model.ir_version, 8)
    model.ClearField('producer_name')
    _tidy(model)
    return model


def _tidy(model: onnx.ModelProto) -> None:
    # Weights that old exporters list as inputs are none: nobody feeds them.
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    try:
        graph_edit.settle_shapes(model)
        graph_edit.fold(model, ())
    except Exception as error:  # whatever the optimiser makes of a graph that nobody has checked
        raise BundleError(f'its graph cannot be read: {error}; export the network again') from None
    graph_edit.strip(model)


class _Around:
    """Makes nodes and constants with names of their own."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.proto = proto
        self.nodes: list[onnx.NodeProto] = []
        self._made = 0

    def node(self, operator: str, source: str, *constants: np.ndarray | float,
             result: str = '', **attributes: Any) -> str:
        """Append a node and return the name of its result."""
        inputs = [source]
        for value in constants:
            array = np.asarray(value)
            if array.dtype.kind != 'i':
                array = array.astype(np.float32)
            inputs.append(self._name('constant'))
            self.proto.initializer.append(numpy_helper.from_array(array, inputs[-1]))
        result = result or self._name(operator.lower())
        self.nodes.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    def shaped(self, source: str, shape: list[int | str]) -> str:
        """Return the name of a value with as many dimensions as a network's input has."""
        return source if len(shape) == 2 else self.node('Reshape', source, np.array([-1]))

    def picture(self, picture: PictureSpec, result: str, dtype: str) -> None:
        """Append what makes a network's input of a picture."""
        if dtype == 'uint8':
            self.node('Identity', picture.input, result=result)
            return
        numbers = self.node('Cast', picture.input, to=TensorProto.FLOAT)
        planes = self.node('Transpose', self.node('Div', numbers, 255.0), perm=[0, 3, 1, 2])
        self.node('Cast', planes, result=result, to=_type_of(dtype))

    def _name(self, what: str) -> str:
        self._made += 1
        return f'adopted/{what}_{self._made}'


def _type_of(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _described(values: list[Any]) -> str:
    """Return inputs or outputs for people, as in ``obs float32[batch, 15]``."""
    return ', '.join(f'{value.name} {dtype}[{", ".join(map(str, shape))}]'
                     for value in values for dtype, shape in (signature(value),))


def _listed(spec: ArraySpec) -> str:
    return ', '.join(spec.elements)
