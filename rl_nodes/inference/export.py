# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Turn a torch module into a policy bundle, and prove that both answer the same.

torch's exporter takes seconds, so it runs once: it gives a template graph in which every parameter
and buffer is a named initialiser. Later exports only write the present values into the template.
Whether that caught everything is not assumed but measured: each bundle is compared with the module
on random and on recorded observations, and the template is made anew where they differ. A module
with a memory is compared over sequences that begin with zeros.
"""

from collections.abc import Iterator, Mapping
import contextlib
from datetime import datetime, UTC
import logging
from typing import Any
import warnings

import msgspec
import numpy as np
import onnx
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference import graph_check, graph_edit
from rl_nodes.inference.bundle import check, GoldenVector, Manifest, PolicyBundle, Sampling
from rl_nodes.inference.chunking import ChunkLayout
from rl_nodes.inference.memory import Layout, problem_of, SEQUENCE
from rl_nodes.inference.probes import probe_pictures, random_observations
from rl_nodes.inference.runtime import OnnxSession, session_answers
import torch
from torch import nn

OPSET = 20
# Greatest difference between torch and ONNX Runtime, both in float32: relative, and absolute as a
# part of half the action's range (of 1 where an action is unbounded). Rounding in a network of
# width 256 stays below a tenth of it; a stale normaliser or weight does not.
PARITY_RTOL = 1e-4
PARITY_ATOL = 1e-4
PARITY_TIES = 0.01  # of the observations may be so near to a tie that rounding decides
RECORDED_OBSERVATIONS = 256
GOLDEN_VECTORS = 4

_OUTPUTS = ('action', 'action_mean', 'action_std')
_log = logging.getLogger(__name__)


class PolicyExporter:
    """
    Exports one module again and again while it learns.

    Not for use while another thread changes the module: give it a copy then.

    :param module: ``forward(observation (B, O))`` returns ``action`` (B, A), with chunks
        (B, H, A), or the three of ``(action, action_mean, action_std)``, in the contract's units
        and float32; normaliser and action scaling included. It is evaluated in ``eval()`` mode.
        With a memory, ``forward(observation (1, O), *states)`` returns these and the new states.
        Where the contract has pictures, they come between the observation and the states, (B, H,
        W, 3), uint8.
    :param contract: what the policy relies on.
    :param name: name of the policy.
    :param algorithm: what trains it, as in ``sac``.
    :param sampling: ``squashed_gaussian`` promises action = tanh(action_mean) scaled to the
        contract's bounds, ``gaussian`` action = action_mean clipped to them.
    :param training_commit: revision of the training code; empty where unknown.
    :param chunk: where an answer is the actions of several periods; needs deterministic sampling.
    :param noise_correlation: of the exploration noise from one step to the next.
    :param memory: state tensors of a module that has them, in the order of ``forward()``.
    :raises BundleError: state tensors that no policy may have.
    """

    def __init__(self, module: nn.Module, contract: Contract, name: str, algorithm: str,
                 sampling: Sampling, training_commit: str = '',
                 chunk: ChunkLayout | None = None, noise_correlation: float = 0.0,
                 memory: Layout = ()) -> None:
        problem = problem_of(memory, graph_check.NAMES) if memory else None
        if problem:
            raise BundleError(f'{name}: {problem}')
        self._contract = contract
        self._name = name
        self._algorithm = algorithm
        self._sampling: Sampling = sampling
        self._commit = training_commit
        self._chunk = chunk
        self._noise_correlation = noise_correlation or msgspec.UNSET
        self._memory = memory
        rows = () if chunk is None else (chunk.horizon,)
        self._action_shape = (*rows, *contract.action.shape)
        self._template: onnx.ModelProto | None = None

    def export(self, module: nn.Module, version: int, training_updates: int,
               recorded_observations: np.ndarray | None = None,
               evaluation: dict[str, Any] | None = None,
               data: dict[str, str] | None = None) -> PolicyBundle:
        """
        Return ``module`` as a bundle that has been checked and compared with it.

        :param module: the module given at construction, or another one of the same layout.
        :param version: grows with every export.
        :param training_updates: learner updates behind this version.
        :param recorded_observations: what the policy really sees, shape (N, O); at most 256 of
            them, evenly spread, are compared; none is needed.
        :param evaluation: metric -> value.
        :param data: name -> SHA-256 of each dataset used.
        :raises BundleError: weights that are not finite, answers that differ from torch's, or
            a graph that no bundle may contain.
        :raises SpecError: recorded observations of the wrong shape, or not finite.
        """
        module = getattr(module, '_orig_mod', module)  # what torch.compile wraps
        observations, recorded = self._observations(recorded_observations)
        _require_finite(module, self._name)
        manifest = Manifest(
            name=self._name, version=version, sha256='', size=0, opset=OPSET,
            contract=self._contract, algorithm=self._algorithm, sampling=self._sampling,
            training_commit=self._commit, training_updates=training_updates,
            evaluation=evaluation, data=data or {}, golden=(),
            chunk_layout=msgspec.UNSET if self._chunk is None else self._chunk,
            noise_correlation=self._noise_correlation,
            memory_layout=self._memory or msgspec.UNSET,
            created=datetime.now(UTC).isoformat(timespec='seconds'))
        with _evaluating(module):
            expected = self._torch_answers(module, observations)
            onnx_bytes, answers, differences = self._converted(
                module, manifest.metadata(), observations, expected)
        best = np.argsort(differences, kind='stable')
        chosen = [*best[best < recorded][:GOLDEN_VECTORS // 2], *best[best >= recorded]]
        golden = list(range(SEQUENCE)) if self._memory else chosen[:GOLDEN_VECTORS]
        bundle = PolicyBundle.sealed(onnx_bytes, msgspec.structs.replace(manifest, golden=tuple(
            GoldenVector(tuple(observations[i].tolist()),
                         tuple(answers['action'][i].ravel().tolist()),
                         int(i) if self._contract.pictures else msgspec.UNSET)
            for i in golden)))
        check(bundle)
        return bundle

    def _converted(self, module: nn.Module, metadata: dict[str, str], observations: np.ndarray,
                   expected: dict[str, np.ndarray]) -> tuple[bytes, dict[str, Any], np.ndarray]:
        """Return (ONNX bytes, its answers, differences (N,)), from the template if it serves."""
        if self._template is not None:
            try:
                onnx_bytes = _refreshed(self._template, module, metadata)
                return onnx_bytes, *self._compared(onnx_bytes, observations, expected)
            except BundleError as error:
                _log.warning('%s: exporting anew, the template no longer serves: %s',
                             self._name, error)
        self._template = _template(module, tuple(expected), self._contract, self._memory)
        onnx_bytes = _refreshed(self._template, module, metadata)
        return onnx_bytes, *self._compared(onnx_bytes, observations, expected)

    def _compared(self, onnx_bytes: bytes, observations: np.ndarray,
                  expected: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return (ONNX Runtime's answers, differences (N,))."""
        answers = session_answers(OnnxSession(
            onnx_bytes, self._contract, action_shape=self._action_shape, states=self._memory),
            observations)
        return answers, self._parity(expected, answers)

    def _observations(self, recorded: np.ndarray | None) -> tuple[np.ndarray, int]:
        """Return (observations (N, O), how many of them, the first ones, are recorded)."""
        spec = self._contract.observation
        random = random_observations(spec)
        if recorded is None or len(recorded) == 0:
            return random, 0
        rows = np.asarray(recorded)
        if rows.ndim != 2 or rows.shape[1:] != spec.shape or not np.isfinite(rows).all():
            raise SpecError(f'recorded observations are {rows.dtype}{list(rows.shape)}, expected '
                            f'finite values of shape [N, {spec.shape[0]}]; pass one row per step')
        picked = np.linspace(0, len(rows) - 1, min(len(rows), RECORDED_OBSERVATIONS)).astype(int)
        return np.concatenate([rows[picked].astype(np.float32), random]), len(picked)

    def _torch_answers(self, module: nn.Module, observations: np.ndarray) -> dict[str, np.ndarray]:
        rows = torch.from_numpy(observations).to(_device(module))
        with torch.no_grad():
            outputs = self._split(module(rows))[0] \
                if not (self._memory or self._contract.pictures) else [
                    torch.cat(column) for column in zip(*self._steps(module, rows))]
        answers = {name: output.cpu().numpy() for name, output in zip(_OUTPUTS, outputs)}
        shape = (len(observations), *self._action_shape)
        for name, output in answers.items():
            dtype = self._contract.action.dtype
            if output.shape != shape or output.dtype != dtype:
                raise BundleError(f'{self._name}: {name} is {output.dtype}{list(output.shape)}, '
                                  f'expected {dtype}{list(shape)}; change what forward() returns')
            if not np.isfinite(output).all():
                raise BundleError(f'{self._name}: {name} is not finite for a finite observation; '
                                  'the training has diverged, go back to an earlier checkpoint')
        return answers

    def _steps(self, module: nn.Module, rows: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Yield the outputs of one observation after the other, shapes (1, A)."""
        zeros = [torch.zeros(tensor.shape, device=rows.device) for tensor in self._memory]
        states = zeros
        for step, row in enumerate(rows):
            if step % SEQUENCE == 0:
                states = zeros
            pictures = [torch.from_numpy(picture[np.newaxis].copy()).to(rows.device)
                        for picture in probe_pictures(self._contract.pictures, step)]
            outputs, states = self._split(module(row[None], *pictures, *states))
            for tensor, state in zip(self._memory, states):
                if tuple(state.shape) != tensor.shape or state.dtype != torch.float32 \
                        or not torch.isfinite(state).all():
                    raise BundleError(
                        f'{self._name}: {tensor.output} is {state.dtype}{list(state.shape)}, '
                        f'expected finite float32{list(tensor.shape)}; change what forward() '
                        'returns')
            yield outputs

    def _split(self, answer: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return (outputs, new states) of what forward() has returned."""
        values = list(answer) if isinstance(answer, (tuple, list)) else [answer]
        count = len(values) - len(self._memory)
        needed = (1, 3) if self._sampling == 'deterministic' else (3,)
        if count not in needed or not all(isinstance(o, torch.Tensor) for o in values):
            states = f' and {len(self._memory)} states' if self._memory else ''
            raise BundleError(f'{self._name}: forward() returned {len(values)} values, expected '
                              f'{" or ".join(map(str, needed))} tensors{states} for '
                              f'{self._sampling} sampling: action, or (action, action_mean, '
                              'action_std)')
        return values[:count], values[count:]

    def _parity(self, expected: dict[str, np.ndarray], answers: dict[str, Any]) -> np.ndarray:
        """Return the greatest difference of ``action`` per observation, (N,), parts of range."""
        if self._contract.action_choices == 'discrete':
            return self._choices_parity(expected['action'], answers['action'])
        low, high = self._contract.action.bounds()
        half = (high - low) / 2
        scale = np.where(np.isfinite(half) & (half > 0), half, 1.0)
        for name, wanted in expected.items():
            atol = PARITY_ATOL * (scale if name == 'action' else 1.0)
            excess = np.abs(answers[name] - wanted) - (atol + PARITY_RTOL * np.abs(wanted))
            if not (excess <= 0).all():
                raise BundleError(
                    f'{self._name}: torch and ONNX Runtime differ in {name} by up to '
                    f'{np.abs(answers[name] - wanted).max():.3g} (allowed {PARITY_ATOL:g} of half '
                    'the range); keep every value that changes in a parameter or buffer')
        if self._sampling != 'deterministic':
            mean, gaussian = expected['action_mean'], self._sampling == 'gaussian'
            promised = np.clip(mean, low, high) if gaussian else \
                (low + high) / 2 + half * np.tanh(mean)
            if not (np.abs(promised - expected['action']) <= PARITY_ATOL * scale * 10).all():
                form = 'action_mean clipped' if gaussian else 'tanh(action_mean) scaled'
                raise BundleError(f"{self._name}: action is not {form} to the contract's bounds, "
                                  'so sampling would not match; make it so')
        difference: np.ndarray = np.abs(answers['action'] - expected['action']) / scale
        return difference.reshape(len(difference), -1).max(1)

    def _choices_parity(self, expected: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Return 1 where two choices differ, (N,); rounding may decide between equals."""
        differ: np.ndarray = (expected != answers).any(1)
        if differ.sum() > PARITY_TIES * len(differ):
            raise BundleError(f'{self._name}: torch and ONNX Runtime choose another action for '
                              f'{differ.sum()} of {len(differ)} observations; keep every value '
                              'that changes in a parameter or buffer')
        return differ.astype(np.float32)


def _template(module: nn.Module, outputs: tuple[str, ...], contract: Contract,
              memory: Layout) -> onnx.ModelProto:
    """Return torch's export of ``module`` for one observation, tidied; takes seconds."""
    zeros = {'observation': torch.zeros((1, *contract.observation.shape))}
    zeros |= {picture.input: torch.zeros((1, *picture.shape), dtype=torch.uint8)
              for picture in contract.pictures}
    zeros |= {tensor.input: torch.zeros(tensor.shape) for tensor in memory}
    example = tuple(value.to(_device(module)) for value in zeros.values())
    names = [*outputs, *(tensor.output for tensor in memory)]
    with _quiet():
        try:
            program = torch.onnx.export(
                module, example, dynamo=True, optimize=False, verbose=False,
                input_names=list(zeros), output_names=names, opset_version=OPSET)
        except (ImportError, torch.onnx.OnnxExporterError) as error:
            raise BundleError(f'torch cannot export this module to ONNX: {error}; check that onnx '
                              'and onnxscript are installed and that forward() does not branch on '
                              'values') from error
    if program is None:
        raise BundleError('torch.onnx.export returned nothing, expected a program; install the '
                          'tested version of torch')
    model: onnx.ModelProto = program.model_proto
    found = [value.name for value in model.graph.output]
    if found != names:
        raise BundleError(f'the exported graph has outputs {found}, expected {names}; '
                          'forward() must not return one tensor twice')
    if memory:  # torch asks for the shapes of a recurrent layer's results while running
        graph_edit.settle_shapes(model)
    graph_edit.fold(model, _state(module))
    graph_edit.strip(model)
    return model


def _refreshed(template: onnx.ModelProto, module: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """Return the template's bytes with the module's present values."""
    misfits = graph_edit.refresh(template, _state(module))
    if misfits:
        raise BundleError(f'type or shape changed: {", ".join(misfits)}; export anew')
    graph_edit.set_metadata(template, metadata)
    onnx_bytes: bytes = template.SerializeToString()
    return onnx_bytes


def _state(module: nn.Module) -> dict[str, np.ndarray]:
    """Return every parameter and buffer, tied ones and those outside the state_dict too."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False)]}


def _require_finite(module: nn.Module, name: str) -> None:
    # With numpy: torch would wake all its threads for each small tensor.
    bad = [key for key, tensor in module.state_dict().items()
           if isinstance(tensor, torch.Tensor) and not np.isfinite(tensor.cpu().numpy()).all()]
    if bad:
        raise BundleError(f'{name}: not finite: {", ".join(bad[:4])}; the training has diverged, '
                          'go back to an earlier checkpoint')


def _device(module: nn.Module) -> torch.device:
    tensor = next(module.parameters(), None)
    return torch.device('cpu') if tensor is None else tensor.device


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module into ``eval()`` mode and give every part its own mode back."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks about its own internals off the terminal."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
