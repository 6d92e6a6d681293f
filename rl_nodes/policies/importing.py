# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
``rl_nodes import``: another trainer's ONNX file becomes a policy for a robot doing a task.

Names, sizes, operators and answers are checked. What no file says is the order and the units that
its trainer used, so the report lists what the network will be given and how it is understood.
"""

from collections.abc import Sequence
from datetime import datetime, UTC
import hashlib
from pathlib import Path
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, UNSET
from msgspec.structs import replace
import numpy as np
from rl_nodes.core.errors import BundleError, ConfigError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.adoption import (
    adopt,
    Adoption,
    Normaliser,
    pictures_of,
    read_normaliser,
)
from rl_nodes.inference.bundle import (
    check_graph_of,
    GoldenVector,
    Manifest,
    MAX_ONNX_BYTES,
    Origin,
    PolicyBundle,
    read_bounded,
)
from rl_nodes.inference.graph_edit import set_metadata
from rl_nodes.inference.memory import SEQUENCE
from rl_nodes.inference.probes import random_observations
from rl_nodes.inference.runtime import answers_of, OnnxSession, session_answers
from rl_nodes.inference.trial import PolicyTrial
from rl_nodes.tasks import load_task
from rl_nodes.tasks.actions import ActionMap
from rl_nodes.tasks.base import Task

PARITY_ATOL = 1e-4  # as of PolicyExporter: of actions within [-1, 1]
UNIT_SLACK = 1e-4   # a tanh of 1.0000001 is rounding, a mean of 1.7 is not
GOLDEN_VECTORS = 4
HOME = 'home'


class ImportOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Arguments of ``rl_nodes import model.onnx``.

    :param robot: name in config/robots or path to a YAML or URDF file
    :param task: name in config/tasks or path to a YAML file; its observation, in its order and
        units, is what the network must have been trained on
    :param output: .onnx file to write, its manifest goes beside it; <robot>_<task>.onnx where
        left out
    :param observation: name of the network's input; may be left out where it has only one
    :param action: name of the network's output; may be left out where it has only one
    :param states: what a recurrent network remembers, as in h_in=h_out,c_in=c_out: what it answers
        as h_out is its h_in at the next step; found by such names where left out
    :param pictures: which input takes the picture of which camera, as in image=wrist; it is float
        (batch, 3, H, W) in [0, 1] or uint8 (batch, H, W, 3), red, green, blue
    :param actions: unit (the outputs lie in [-1, 1], as behind a tanh), clip (they are clipped to
        [-1, 1], as Gaussian means are by most trainers) or robot (scale · output + offset is a
        position, velocity or effort in SI units, of a joint each)
    :param scale: for actions:=robot; a number, or one per joint as in 0.25,0.25,0.5
    :param offset: for actions:=robot; a number, one per joint, or home for the home position
    :param normalisation: .npz file with mean and var or std of the observation, and epsilon and
        clip where the trainer has them; none where the network normalises by itself
    :param name: of the policy, <robot>_<task> where left out
    :param version: of the policy
    :param algorithm: that trained it, as in ppo
    :param trainer: what trained it, as in "stable-baselines3 2.9.2"
    """

    robot: str
    task: str
    output: str = ''
    observation: str = ''
    action: str = ''
    states: str = ''
    pictures: str = ''
    actions: Literal['unit', 'clip', 'robot'] = 'unit'
    scale: str = '1'
    offset: str = '0'
    normalisation: str = ''
    name: str = ''
    version: Annotated[int, Meta(ge=0)] = 1
    algorithm: str = 'imported'
    trainer: str = ''

    def __post_init__(self) -> None:
        if self.actions != 'robot' and (self.scale, self.offset) != ('1', '0'):
            raise ValueError(f'scale and offset belong to actions:=robot, this is {self.actions}')


def import_policy(source: Path, options: ImportOptions) -> tuple[Path, str]:
    """
    Write the policy made of an ONNX file.

    :return: (the file written, a report for people).
    :raises RlNodesError: says what does not fit, what was expected and what exists.
    """
    task = load_task(options.robot, options.task)
    label = options.name or re.sub(r'[^A-Za-z0-9_.-]', '_', f'{task.robot.name}_{task.name}')
    path = Path(options.output or f'{label}.onnx')
    if path.suffix != '.onnx':
        raise ConfigError(f'output:={path}: expected the name of a .onnx file')
    if path.exists():
        raise ConfigError(f'{path} exists; name another file by output:=... or move it aside')
    content = read_bounded(source, MAX_ONNX_BYTES, 'the model', 'give the path of a .onnx file')
    contract = task.contract
    normaliser = read_normaliser(Path(options.normalisation), contract.observation) \
        if options.normalisation else None
    gain, bias = _mapping(options, task)
    try:
        model, adoption = adopt(content, contract, Adoption(
            options.observation, options.action, normaliser, gain, bias,
            clip=options.actions != 'unit',
            cameras=_pairs('pictures', options.pictures, 'an input and the camera that it sees, '
                           'as in image=wrist'),
            states=_pairs('states', options.states, 'an input and the output that it is given at '
                          'the next step, as in h_in=h_out,c_in=c_out')))
    except BundleError as error:
        raise BundleError(f'{source}: {error}') from None
    manifest = Manifest(
        name=label, version=options.version, sha256='', size=0,
        opset=model.opset_import[0].version, contract=contract, algorithm=options.algorithm,
        sampling='deterministic', training_commit='', training_updates=0, evaluation=None,
        data={}, golden=(), created=datetime.now(UTC).isoformat(timespec='seconds'),
        memory_layout=adoption.memory or UNSET,
        origin=Origin(source.name, hashlib.sha256(content).hexdigest(), options.trainer,
                      tuple(_changes(options, normaliser, gain, bias))))
    set_metadata(model, manifest.metadata())
    bundle = _proven(content, model.SerializeToString(), manifest, adoption, options)
    PolicyTrial().admit(bundle)
    return bundle.save(path), _report(source, path, bundle, task)


def _pairs(argument: str, text: str, meaning: str) -> dict[str, str]:
    """Return the pairs in a text as ``h_in=h_out,c_in=c_out``, each first part once."""
    pairs = [[name.strip() for name in pair.split('=')] for pair in text.split(',') if text]
    if not all(len(pair) == 2 and all(pair) for pair in pairs) \
            or len({pair[0] for pair in pairs}) != len(pairs):
        raise ConfigError(f'{argument}:={text}: expected pairs of {meaning}')
    return dict(pairs)


def _mapping(options: ImportOptions, task: Task) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Return (gain, bias) of action = gain · output + bias, shapes (A,) or ()."""
    if options.actions != 'robot':
        return 1.0, 0.0
    actions = task.action_map
    if not isinstance(actions, ActionMap):
        raise ConfigError(f'actions:=robot needs actions that mean one joint each, task '
                          f'{task.name} has {task.contract.action_kind}; let the network answer '
                          f'{", ".join(task.contract.action.elements)} in [-1, 1]')
    scale = _numbers('scale', options.scale, task)
    if not (scale != 0).all():
        raise ConfigError(f'scale:={options.scale}: 0 would leave nothing of the action')
    offset = task.robot.home[task.robot.commanded] if options.offset == HOME \
        else _numbers('offset', options.offset, task)
    # command = home + action · size, or without home where targets are relative: tasks/actions.py.
    return scale / actions.size, (offset - actions.home) / actions.size


def _numbers(name: str, text: str, task: Task) -> np.ndarray:
    count = len(task.contract.action.elements)
    try:
        numbers = np.array([float(part) for part in text.split(',')])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) not in (1, count) or not np.isfinite(numbers).all():
        raise ConfigError(f'{name}:={text}: expected a number, or {count} of them with commas in '
                          f'the order {", ".join(task.contract.action.elements)}'
                          f'{", or home" if name == "offset" else ""}')
    return np.broadcast_to(numbers, (count,))


def _proven(content: bytes, onnx_bytes: bytes, manifest: Manifest, adoption: Adoption,
            options: ImportOptions) -> PolicyBundle:
    """Return the policy once it answers as the network does with everything around it."""
    observations = random_observations(manifest.contract.observation)
    draft = PolicyBundle.sealed(onnx_bytes, manifest)
    check_graph_of(draft, draft.label)  # before anything of it runs
    given = observations if adoption.normaliser is None else adoption.normaliser(observations)
    outputs = answers_of(content, adoption.observation, adoption.action, given, adoption.memory,
                         pictures_of(manifest.contract, adoption.cameras))
    expected = adoption.expected(outputs)
    greatest = float(np.abs(expected).max())
    if not np.isfinite(expected).all():
        raise BundleError('the network answers random observations with values that are not '
                          'finite; is it the right file, with the right normalisation?')
    if options.actions == 'unit' and greatest > 1.0 + UNIT_SLACK:
        raise BundleError(
            f'the network answers up to {greatest:.3g} to random observations, so its outputs are '
            'not actions in [-1, 1]; say actions:=clip where its trainer clips them, or '
            'actions:=robot where they are joint values')
    answers = session_answers(OnnxSession(
        onnx_bytes, manifest.contract, states=adoption.memory), observations)['action']
    difference = float(np.abs(answers - expected).max())
    if not difference <= PARITY_ATOL:
        raise BundleError(f'the policy answers otherwise than the network by up to '
                          f'{difference:.3g} (allowed {PARITY_ATOL:g}); export the network with a '
                          'newer opset and fixed shapes')
    return PolicyBundle.sealed(onnx_bytes, _with_golden(manifest, observations, answers))


def _with_golden(manifest: Manifest, observations: np.ndarray, answers: np.ndarray) -> Manifest:
    picked = np.arange(SEQUENCE) if manifest.memory else \
        np.linspace(0, len(observations) - 1, GOLDEN_VECTORS).astype(int)
    return replace(manifest, golden=tuple(
        GoldenVector(tuple(observations[i].tolist()), tuple(answers[i].tolist()),
                     int(i) if manifest.contract.pictures else UNSET)
        for i in picked))


def _changes(options: ImportOptions, normaliser: Normaliser | None, gain: np.ndarray | float,
             bias: np.ndarray | float) -> list[str]:
    """Return what was put around the network, in words."""
    changes = []
    if normaliser is not None:
        path = Path(options.normalisation)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        changes.append(f'observation normalised by {path.name} (SHA-256 {digest})')
    if options.actions == 'robot':
        changes.append(f'action = {_rounded(gain)} · output + {_rounded(bias)}, from scale '
                       f'{options.scale} and offset {options.offset} in units of the robot')
    if options.actions != 'unit':
        changes.append('action clipped to [-1, 1]')
    return changes


def _rounded(values: np.ndarray | float) -> str:
    numbers = np.atleast_1d(values)
    return f'{numbers[0]:.6g}' if np.all(numbers == numbers[0]) else '[' + ', '.join(
        f'{number:.6g}' for number in numbers) + ']'


def _report(source: Path, path: Path, bundle: PolicyBundle, task: Task) -> str:
    """Return what was assumed, for whoever knows how the network was trained."""
    contract = task.contract
    lines = [f'{path}: policy {bundle.label} for robot {contract.robot} doing {contract.task}, '
             f'made of {source}', '',
             'The network is given, in this order and these units:',
             *table(contract.observation), '',
             'and what it answers is taken, in this order, as:',
             *table(contract.action, action_meanings(task))]
    if contract.pictures:
        lines += ['', 'It sees, red, green and blue from the upper left on:',
                  *(f'  {picture}' for picture in contract.pictures)]
    if bundle.manifest.memory:
        lines += ['', 'It remembers, from zeros at the start of every episode:',
                  *(f'  {tensor}' for tensor in bundle.manifest.memory)]
    origin = bundle.manifest.origin
    if isinstance(origin, Origin) and origin.changes:
        lines += ['', 'Put around it:', *(f'  {change}' for change in origin.changes)]
    return '\n'.join([
        *lines, '', 'Its shapes fit and it runs; whether its trainer used this order and these '
        'units', 'no file can tell: compare the lists. Then try it in simulation first:',
        f'  rl_nodes launch deploy policy:={path}'])


def table(spec: ArraySpec, meanings: Sequence[str] = ()) -> list[str]:
    """
    Return lines for people: number, name, unit, range and what it means.

    :param meanings: one per element, or none.
    """
    width = max(len(name) for name in spec.elements)
    rows = []
    for i, (name, unit, low, high) in enumerate(zip(
            spec.elements, spec.units, spec.low, spec.high)):
        bounds = ['-inf' if low is None else f'{low:g}', 'inf' if high is None else f'{high:g}']
        row = f'  {i:>3}  {name:<{width}}  {unit:<7} [{", ".join(bounds)}]'
        rows.append(f'{row}  {meanings[i]}' if meanings else row)
    return rows


def action_meanings(task: Task) -> list[str]:
    """Return what an action of 1 does, per element; empty where it is no joint's business."""
    actions = task.action_map
    if not isinstance(actions, ActionMap):
        return []
    mode = task.robot.config.control_mode
    words = {'position': 'away from home', 'velocity': 'as velocity', 'effort': 'as effort'}[mode]
    if actions.relative:
        words = 'away from where it is'
    return [f'1 = {size:.4g} {_unit(joint.unit, mode)} {words}'
            for size, joint in zip(actions.size, task.contract.commanded)]


def _unit(unit: str, mode: str) -> str:
    effort = 'N·m' if unit == 'rad' else 'N'
    return {'position': unit, 'velocity': f'{unit}/s', 'effort': effort}[mode]
