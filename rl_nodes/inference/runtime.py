# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Run a policy on ONNX Runtime: preallocated, single-threaded, checked before its first action.

One call copies the observation into a buffer that the session is bound to, runs, and hands out the
buffer that the session wrote into. Neither memory nor threads are created on the way.
"""

from collections.abc import Callable, Sequence
from functools import partial
import math
import threading

import msgspec
import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state
from rl_nodes.core.config import suggestion
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, ConfigError, SpecError
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.probes import random_observations

GOLDEN_ATOL = 1e-5
GOLDEN_RTOL = 1e-5
# ONNX Runtime's names by ours. Rounding inputs to TF32 would miss the golden answers.
PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    'cpu': ('CPUExecutionProvider', {}),
    'cuda': ('CUDAExecutionProvider', {'use_tf32': '0'}),
    'tensorrt': ('TensorrtExecutionProvider', {})}

_TIMED_RUNS = 3
# Where each vector may start [float32]: cache lines of 64 bytes.
_ALIGNMENT = 16
_FLOAT32 = np.dtype('float32')
_isfinite = np.isfinite
# ONNX Runtime's errors have no common base besides Exception.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, *(
    kind for kind in vars(_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)))


def check_providers(text: str) -> tuple[str, ...]:
    """
    Return the providers in a text as ``cuda,cpu``, keys of ``PROVIDERS``.

    :raises ConfigError: no such provider, or the installed ONNX Runtime does not have it.
    """
    names = tuple(name.strip() for name in text.split(','))
    there = [name for name, (known, _) in PROVIDERS.items()
             if known in onnxruntime.get_available_providers()]
    for name in names:
        if name not in PROVIDERS:
            raise ConfigError(f'providers = {text}: {name!r} is none'
                              f'{suggestion(name, PROVIDERS)}; allowed: {", ".join(PROVIDERS)}, '
                              'the first that can compute comes first, as in cuda,cpu')
        if name not in there:
            raise ConfigError(f'providers = {text}: the installed ONNX Runtime '
                              f'{onnxruntime.__version__} does not have {name}; it has '
                              f'{", ".join(there)}. The package onnxruntime-gpu has cuda and '
                              'tensorrt, in place of onnxruntime')
    return names


class OnnxSession:
    """
    A model on the CPU with its input and outputs bound to fixed buffers.

    ``run()`` computes ``outputs``, name -> (A,), from ``observation``, (O,), in place; of a policy
    with chunks, (H, A). All float32 ones are parts of ``memory``, which one look can therefore
    find to be finite.

    :param onnx_bytes: the model; input ``observation`` (1, O), float32, outputs (1, A).
    :param contract: gives O and A.
    :param threads: threads inside one operator.
    :param providers: what computes, keys of ``PROVIDERS``, the first that can; see
        :func:`check_providers`.
    :param action_shape: of each output; None for (A,).
    :raises BundleError: ONNX Runtime does not take the model.
    """

    def __init__(self, onnx_bytes: bytes, contract: Contract, threads: int = 1,
                 providers: Sequence[str] = ('cpu',),
                 action_shape: tuple[int, ...] | None = None) -> None:
        if threads < 1:
            raise BundleError(f'threads = {threads}, expected 1 or more')
        self._session = _open(onnx_bytes, threads, providers)
        names = [output.name for output in self._session.get_outputs()]
        shape = contract.action.shape if action_shape is None else action_shape
        sizes = [*contract.observation.shape, *[math.prod(shape)] * len(names)]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)])
        self.memory = np.zeros(starts[-1], np.float32)
        self.observation, *rest = (self.memory[start:start + size]
                                   for start, size in zip(starts, sizes))
        self.outputs = {name: row.reshape(shape) for name, row in zip(names, rest)}
        if contract.action_choices == 'discrete':  # finite as they are
            self.outputs = {name: np.zeros(shape, contract.action.dtype) for name in names}
        self._binding = self._session.io_binding()
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(row[np.newaxis])
                        for row in (self.observation, *self.outputs.values())]
        try:
            self._binding.bind_ortvalue_input('observation', self._values[0])
            for name, value in zip(names, self._values[1:]):
                self._binding.bind_ortvalue_output(name, value)
            self.run = self._bound_run()
            self.run()
        except _RUNTIME_ERRORS as error:
            raise BundleError(f'the model does not run: {error}; export the policy '
                              'again') from error

    def _bound_run(self) -> Callable[[], None]:
        # The public method builds options and looks for captured graphs on every call, 1.2 of 8 µs
        # with this size of network. What it wraps is not promised to stay, hence the alternative.
        inner = getattr(self._session, '_sess', None)
        binding = getattr(self._binding, '_iobinding', None)
        if inner is not None and binding is not None:
            return partial(inner.run_with_iobinding, binding, onnxruntime.RunOptions())
        return partial(self._session.run_with_iobinding, self._binding)


class PolicyRuntime:
    """
    A policy that answers observations.

    Not for use by two threads at once, but for :meth:`answer`: all calls share the buffers.

    :param bundle: an accepted bundle, see :func:`rl_nodes.inference.bundle.check`.
    :param threads: threads inside one operator; 1 is fastest for networks of this size.
    :param providers: as of :class:`OnnxSession`.
    :raises BundleError: the model does not run, takes longer than a control period, does not give
        its golden answers or has none to a finite observation.
    """

    def __init__(self, bundle: PolicyBundle, threads: int = 1,
                 providers: Sequence[str] = ('cpu',)) -> None:
        self.bundle = bundle
        self.contract = bundle.manifest.contract
        self._turn = threading.Lock()
        self._observation_spec = self.contract.observation
        self._session = OnnxSession(bundle.onnx, self.contract, threads, providers,
                                    bundle.manifest.action_shape)
        self._run = self._session.run
        self._shape = self._observation_spec.shape
        self._input = self._session.observation
        missing = {'action'} - set(self._session.outputs)
        if bundle.manifest.sampling != 'deterministic':
            missing = {'action', 'action_mean', 'action_std'} - set(self._session.outputs)
        if missing:
            raise BundleError(f'{bundle.label}: the model has no output {sorted(missing)}; export '
                              'the policy again')
        self._action = _read_only(self._session.outputs['action'])
        self._mean = self._session.outputs.get('action_mean', self._action)
        self._std = self._session.outputs.get('action_std')
        low, high = self.contract.action.bounds()
        self._low, self._high = low, high
        self._centre, self._half_range = (high + low) / 2, (high - low) / 2
        correlation = bundle.manifest.noise_correlation
        self._correlation = np.float32(0.0 if correlation is msgspec.UNSET else correlation)
        self._innovation = np.sqrt(1 - self._correlation ** 2)
        self._sample = np.zeros_like(self._action)
        self._sample_view = _read_only(self._sample)
        self._memory = self._session.memory
        self._finite = np.ones(self._memory.shape, np.bool_)
        self._all_finite = self._finite.tobytes()
        self._check_speed()
        self._check_golden()
        self._check_probes()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """
        Return the deterministic action.

        :param observation: shape (O,), float32, finite.
        :return: shape (A,), of a chunk (H, A), float32, read-only; the next call overwrites it,
            copy it to keep it.
        :raises SpecError: wrong shape or type, or values in or out that are not finite.
        :raises BundleError: the model failed while running.
        """
        if observation.shape != self._shape or observation.dtype is not _FLOAT32:
            self._observation_spec.validate(observation)
        self._input[:] = observation
        try:
            self._run()
        except _RUNTIME_ERRORS as error:
            self._observation_spec.validate(observation)
            raise BundleError(f'{self.bundle.label}: the model failed while running: {error}; use '
                              'another policy') from error
        # One look at input and outputs together, in a third of the time of isfinite(x).all().
        if _isfinite(self._memory, self._finite).tobytes() != self._all_finite:
            self._explain_not_finite()
        return self._action

    def answer(self, observation: np.ndarray) -> np.ndarray:
        """Return a copy of what :meth:`act` returns; for several threads at once."""
        with self._turn:
            return self.act(observation).copy()

    def sample(self, observation: np.ndarray, rng: np.random.Generator,
               noise: np.ndarray | None = None) -> np.ndarray:
        """
        Return an action drawn for exploration.

        u ~ N(action_mean, action_std²); the action is low + (tanh(u) + 1) / 2 · (high - low) of a
        squashed Gaussian, u clipped to the bounds of a Gaussian.

        :param observation: shape (O,), float32, finite.
        :param rng: where the noise comes from; A normal numbers are taken from it.
        :param noise: of the action before, shape (A,), float32, from which correlated noise goes
            on; overwritten. None for white noise.
        :return: shape (A,), float32, read-only; the next call overwrites it.
        :raises SpecError: as :meth:`act`; or the policy is deterministic.
        """
        if self.bundle.manifest.sampling == 'deterministic' or self._std is None:
            raise SpecError(f'{self.bundle.label} has deterministic sampling, no distribution to '
                            'draw from; call act() and add the exploration noise of its learner')
        self.act(observation)
        sample = self._sample
        rng.standard_normal(out=sample, dtype=np.float32)
        if noise is not None:
            sample *= self._innovation
            sample += self._correlation * noise
            noise[:] = sample
        sample *= self._std
        sample += self._mean
        if self.bundle.manifest.sampling == 'gaussian':
            np.clip(sample, self._low, self._high, out=sample)
            return self._sample_view
        np.tanh(sample, out=sample)
        sample *= self._half_range
        sample += self._centre
        return self._sample_view

    def _explain_not_finite(self) -> None:
        self._observation_spec.validate(self._input)
        for row in np.atleast_2d(self._action):
            self.contract.action.validate(row)
        bad = [name for name, output in self._session.outputs.items()
               if not np.isfinite(output).all()]
        raise SpecError(f'{", ".join(bad)}: not finite for a finite observation; use another '
                        'policy, this one is broken')

    def _check_speed(self) -> None:
        """Refuse a model whose fastest of a few runs is slower than what it answers for."""
        rate_hz, chunk = self.contract.rate_hz, self.bundle.manifest.chunk
        best_ns = period = int(NS / rate_hz * (chunk.last if chunk else 1)) if rate_hz else 0
        for _ in range(_TIMED_RUNS if rate_hz else 0):
            begun = steady_ns()
            self._run()
            best_ns = min(best_ns, steady_ns() - begun)
        if rate_hz and best_ns >= period:
            raise BundleError(f'{self.bundle.label}: one run takes longer than the '
                              f'{"chunk" if chunk else "control period"} of {period / 1e6:g} ms '
                              f'({rate_hz:g} Hz) on this machine; use a smaller network')

    def _check_probes(self) -> None:
        """Refuse a model that is not finite all over; this warms it up besides."""
        for observation in random_observations(self._observation_spec):
            try:
                self.act(observation)
            except SpecError as error:
                raise BundleError(f'{self.bundle.label}: asked a random observation: {error}'
                                  ) from None

    def _check_golden(self) -> None:
        """Refuse a model that answers otherwise than when it was exported."""
        for i, vector in enumerate(self.bundle.manifest.golden):
            try:
                action = self.act(np.array(vector.observation, np.float32))
            except SpecError as error:
                raise BundleError(f'{self.bundle.label}: golden vector {i}: {error}; export the '
                                  'policy again') from None
            expected = np.array(vector.action, np.float32).reshape(action.shape)
            if not np.allclose(action, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL):
                raise BundleError(
                    f'{self.bundle.label}: to golden vector {i} the model answers '
                    f'{np.array2string(action, precision=6)}, the manifest says '
                    f'{np.array2string(expected, precision=6)} (within {GOLDEN_ATOL}): file and '
                    'manifest do not belong together; export the policy again')


def answers_of(onnx_bytes: bytes, source: str, output: str,
               observations: np.ndarray) -> np.ndarray:
    """
    Return what any ONNX file with one input that is asked answers, shape (N, A), float64.

    :param source: name of the input, of shape (O,) or (B, O).
    :param output: name of the output.
    :param observations: shape (N, O), asked one by one.
    :raises BundleError: ONNX Runtime does not take or run the model.
    """
    session = _open(onnx_bytes, 1, ('cpu',))
    entry = next(value for value in session.get_inputs() if value.name == source)
    kind = {'tensor(double)': np.float64, 'tensor(float16)': np.float16}.get(entry.type,
                                                                             np.float32)
    shape = (1, -1)[2 - len(entry.shape):]
    try:
        return np.array([session.run([output], {source: row.astype(kind).reshape(shape)})[0]
                         for row in observations], np.float64).reshape(len(observations), -1)
    except _RUNTIME_ERRORS as error:
        raise BundleError(f'the model does not run: {error}; export it again') from error


def _open(onnx_bytes: bytes, threads: int,
          providers: Sequence[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning workers would take a core from the control loop between two ticks.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.inter_op.allow_spinning', '0')
    options.log_severity_level = 4  # errors arrive as exceptions
    wanted = [PROVIDERS[name] for name in providers]
    try:
        session = onnxruntime.InferenceSession(onnx_bytes, options, providers=wanted)
    except _RUNTIME_ERRORS as error:
        raise BundleError(f'ONNX Runtime refuses the model: {error}; export the policy '
                          'again') from error
    # It falls back to the processor without a word where a device or a library is missing.
    found, missing = session.get_providers(), [
        name for name in providers if PROVIDERS[name][0] not in session.get_providers()]
    if missing or found[0] != wanted[0][0]:
        raise BundleError(f'ONNX Runtime would run on {", ".join(found)}, not on '
                          f'{", ".join(providers)} as asked; is the device there, and are the '
                          'libraries that its build of onnxruntime needs?')
    return session


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
