# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Run a policy on ONNX Runtime: preallocated, single-threaded, checked before its first action.

One call copies the observation into a buffer that the session is bound to, runs, and hands out the
buffer that the session wrote into. Neither memory nor threads are created on the way.
"""

from collections.abc import Callable, Mapping, Sequence
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
from rl_nodes.core.pictures import PictureSpec
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.memory import Layout, Memory, SEQUENCE
from rl_nodes.inference.probes import probe_pictures, random_observations

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
RUNTIME_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, *(
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
    with chunks, (H, A). All float32 ones are parts of ``values``, which one look can therefore
    find to be finite. What the contract has of ``pictures``, in its order, (H, W, 3), is read as
    well. A model with state tensors is run by a :meth:`memory`.

    :param onnx_bytes: the model; input ``observation`` (1, O), float32, outputs (1, A); inputs
        ``picture_<camera>`` (1, H, W, 3), uint8.
    :param contract: gives O, A and the pictures.
    :param threads: threads inside one operator.
    :param providers: what computes, keys of ``PROVIDERS``, the first that can; see
        :func:`check_providers`.
    :param action_shape: of each output but state tensors; None for (A,).
    :param states: its state tensors.
    :raises BundleError: ONNX Runtime does not take the model.
    """

    def __init__(self, onnx_bytes: bytes, contract: Contract, threads: int = 1,
                 providers: Sequence[str] = ('cpu',),
                 action_shape: tuple[int, ...] | None = None, states: Layout = ()) -> None:
        if threads < 1:
            raise BundleError(f'threads = {threads}, expected 1 or more')
        self._session = open_session(onnx_bytes, threads, providers)
        self._states = states
        remembered = {tensor.output for tensor in states}
        names = [output.name for output in self._session.get_outputs()
                 if output.name not in remembered]
        shape = contract.action.shape if action_shape is None else action_shape
        sizes = [*contract.observation.shape, *[math.prod(shape)] * len(names)]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)])
        self.values = np.zeros(starts[-1], np.float32)
        self.observation, *rest = (self.values[start:start + size]
                                   for start, size in zip(starts, sizes))
        self.outputs = {name: row.reshape(shape) for name, row in zip(names, rest)}
        if contract.action_choices == 'discrete':  # finite as they are
            self.outputs = {name: np.zeros(shape, contract.action.dtype) for name in names}
        self.picture_specs = contract.pictures
        self.pictures = tuple(np.zeros(spec.shape, np.uint8) for spec in contract.pictures)
        seen = {spec.input: row for spec, row in zip(contract.pictures, self.pictures)}
        self._reads = ('observation', *seen)
        self._bound = {name: onnxruntime.OrtValue.ortvalue_from_numpy(row[np.newaxis])
                       for name, row in (('observation', self.observation), *seen.items(),
                                         *self.outputs.items())}
        try:
            if states:
                self.memory().run()
            else:
                self.run = self._bind((), ())
                self.run()
        except RUNTIME_ERRORS as error:
            raise BundleError(f'the model does not run: {error}; export the policy '
                              'again') from error

    def memory(self) -> Memory:
        """Return state tensors of their own that run this model, all zeros."""
        return Memory(self._states, self._bind)

    def _bind(self, before: Sequence[np.ndarray],
              after: Sequence[np.ndarray]) -> Callable[[], None]:
        """Return what runs the model with its state tensors read and written in some arrays."""
        reads = {name: self._bound[name] for name in self._reads}
        writes = {name: self._bound[name] for name in self.outputs}
        for tensor, source, target in zip(self._states, before, after):
            reads[tensor.input] = onnxruntime.OrtValue.ortvalue_from_numpy(source)
            writes[tensor.output] = onnxruntime.OrtValue.ortvalue_from_numpy(target)
        return bind(self._session, reads, writes)


class PolicyRuntime:
    """
    A policy that answers observations.

    Not for use by two threads at once, but for :meth:`answer`: all calls share the buffers. One
    that remembers has a memory of its own, see :meth:`reset`, and gives others to whoever serves
    several robots by it.

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
                                    bundle.manifest.action_shape, bundle.manifest.memory)
        self._own = self.memory()
        self._run = self._session.run if self._own is None else self._own.run
        self._shape = self._observation_spec.shape
        self._input = self._session.observation
        self._picture_specs, self._pictures = (self._session.picture_specs,
                                               self._session.pictures)
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
        self._values = self._session.values
        self._finite = np.ones(self._values.shape, np.bool_)
        self._all_finite = self._finite.tobytes()
        self._check_speed(self._run, 'one run')
        self._check_golden()
        self._check_probes()
        self.reset()

    def memory(self) -> Memory | None:
        """Return a memory for one robot, all zeros; None where the policy remembers nothing."""
        return self._session.memory() if self.bundle.manifest.memory else None

    def reset(self) -> None:
        """Begin an episode: the policy's own memory forgets everything."""
        if self._own is not None:
            self._own.reset()

    def act(self, observation: np.ndarray, memory: Memory | None = None,
            pictures: Sequence[np.ndarray] = ()) -> np.ndarray:
        """
        Return the deterministic action; a memory advances, unless there is none.

        :param observation: shape (O,), float32, finite.
        :param memory: of :meth:`memory`; None for the policy's own.
        :param pictures: those of the contract, in its order, shapes (H, W, 3), uint8; copied.
        :return: shape (A,), of a chunk (H, A), float32, read-only; the next call overwrites it,
            copy it to keep it.
        :raises SpecError: wrong shape or type, or values in or out that are not finite.
        :raises BundleError: the model failed while running.
        """
        if observation.shape != self._shape or observation.dtype is not _FLOAT32:
            self._observation_spec.validate(observation)
        self._input[:] = observation
        if pictures or self._pictures:
            self._show(pictures)
        if memory is None:
            memory = self._own
        try:
            if memory is None:
                self._run()
            else:
                memory.run()
        except RUNTIME_ERRORS as error:
            self._observation_spec.validate(observation)
            raise BundleError(f'{self.bundle.label}: the model failed while running: {error}; use '
                              'another policy') from error
        # One look at input and outputs together, in a third of the time of isfinite(x).all().
        if _isfinite(self._values, self._finite).tobytes() != self._all_finite:
            self._explain_not_finite()
        if memory is not None:
            self._advance(memory)
        return self._action

    def answer(self, observation: np.ndarray, *pictures: np.ndarray) -> np.ndarray:
        """Return a copy of what :meth:`act` returns; for several threads at once."""
        with self._turn:
            return self.act(observation, pictures=pictures).copy()

    def sample(self, observation: np.ndarray, rng: np.random.Generator,
               memory: Memory | None = None, pictures: Sequence[np.ndarray] = (),
               noise: np.ndarray | None = None) -> np.ndarray:
        """
        Return an action drawn for exploration.

        u ~ N(action_mean, action_std²); the action is low + (tanh(u) + 1) / 2 · (high - low) of a
        squashed Gaussian, u clipped to the bounds of a Gaussian.

        :param observation: shape (O,), float32, finite.
        :param rng: where the noise comes from; A normal numbers are taken from it.
        :param memory: as of :meth:`act`.
        :param pictures: as of :meth:`act`.
        :param noise: of the action before, shape (A,), float32, from which correlated noise goes
            on; overwritten. None for white noise.
        :return: shape (A,), float32, read-only; the next call overwrites it.
        :raises SpecError: as :meth:`act`; or the policy is deterministic.
        """
        if self.bundle.manifest.sampling == 'deterministic' or self._std is None:
            raise SpecError(f'{self.bundle.label} has deterministic sampling, no distribution to '
                            'draw from; call act() and add the exploration noise of its learner')
        self.act(observation, memory, pictures)
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

    def _show(self, pictures: Sequence[np.ndarray]) -> None:
        """Copy pictures to where the session reads them; SpecError as by the check of them."""
        self._check_pictures(pictures)
        for buffer, picture in zip(self._pictures, pictures):
            buffer[:] = picture

    def _check_pictures(self, pictures: Sequence[np.ndarray]) -> None:
        """Refuse pictures that are not those of the contract: SpecError."""
        if len(pictures) != len(self._pictures):
            wanted = ', '.join(map(str, self._picture_specs))
            raise SpecError(f'{len(pictures)} pictures came, expected {wanted or "none"}')
        for spec, picture in zip(self._picture_specs, pictures):
            spec.validate(picture)

    @staticmethod
    def _advance(memory: Memory) -> None:
        """Let a memory go on, after a run; SpecError where it would not be finite."""
        if not memory.finite():
            raise SpecError('its memory would not be finite after a finite observation; use '
                            'another policy, this one is broken')
        memory.advance()

    def _explain_not_finite(self) -> None:
        self._observation_spec.validate(self._input)
        self._require_finite(self._action)
        bad = [name for name, output in self._session.outputs.items()
               if not np.isfinite(output).all()]
        raise SpecError(f'{", ".join(bad)}: not finite for a finite observation; use another '
                        'policy, this one is broken')

    def _require_finite(self, action: np.ndarray) -> None:
        """Refuse an action, shape (A,) or (H, A), with the names of what is not finite."""
        for row in np.atleast_2d(action):
            self.contract.action.validate(row)

    def _check_speed(self, run: Callable[[], None], what: str) -> None:
        """Refuse a model whose fastest of a few runs is slower than what it answers for."""
        rate_hz, chunk = self.contract.rate_hz, self.bundle.manifest.chunk
        best_ns = period = int(NS / rate_hz * (chunk.last if chunk else 1)) if rate_hz else 0
        for _ in range(_TIMED_RUNS if rate_hz else 0):
            begun = steady_ns()
            run()
            best_ns = min(best_ns, steady_ns() - begun)
        if rate_hz and best_ns >= period:
            raise BundleError(f'{self.bundle.label}: {what} takes longer than the '
                              f'{"chunk" if chunk else "control period"} of {period / 1e6:g} ms '
                              f'({rate_hz:g} Hz) on this machine; use a smaller network')

    def _check_probes(self) -> None:
        """Refuse a model that is not finite all over; this warms it up besides."""
        self.reset()
        for number, observation in enumerate(random_observations(self._observation_spec)):
            try:
                self.act(observation, pictures=probe_pictures(self._picture_specs, number))
            except SpecError as error:
                raise BundleError(f'{self.bundle.label}: asked a random observation: {error}'
                                  ) from None

    def _check_golden(self) -> None:
        """Refuse a model that answers otherwise than when it was exported."""
        self.reset()
        for i, vector in enumerate(self.bundle.manifest.golden):
            try:
                pictures = probe_pictures(self._picture_specs, vector.pictures) \
                    if isinstance(vector.pictures, int) else ()
                action = self.act(np.array(vector.observation, np.float32), pictures=pictures)
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


def answers_of(onnx_bytes: bytes, source: str, output: str, observations: np.ndarray,
               states: Layout = (), pictures: Mapping[str, PictureSpec] | None = None
               ) -> np.ndarray:
    """
    Return what any ONNX file answers, shape (N, A), float64.

    :param source: name of the input that is asked, of shape (O,) or (B, O).
    :param output: name of the output.
    :param observations: shape (N, O), asked one by one.
    :param states: its state tensors; they begin with zeros every ``SEQUENCE`` observations.
    :param pictures: by name of its other inputs, uint8 (1, H, W, 3) or numbers in [0, 1], (1, 3,
        H, W); it is shown ``probe_pictures``.
    :raises BundleError: ONNX Runtime does not take or run the model.
    """
    session, pictures = open_session(onnx_bytes, 1, ('cpu',)), pictures or {}
    entries = {value.name: value for value in session.get_inputs()}
    kinds = {name: {'tensor(double)': np.float64, 'tensor(float16)': np.float16}.get(
        value.type, np.float32) for name, value in entries.items()}
    whole = {name: entries[name].type == 'tensor(uint8)' for name in pictures}
    shape = (1, -1)[2 - len(entries[source].shape):]
    zeros = {tensor.input: np.zeros(tensor.shape, kinds[tensor.input]) for tensor in states}
    answers, remembered = [], zeros
    try:
        for step, row in enumerate(observations):
            if step % SEQUENCE == 0:
                remembered = zeros
            shown = {
                name: picture[np.newaxis] if whole[name] else
                (picture.transpose(2, 0, 1)[np.newaxis] / np.float32(255)).astype(kinds[name])
                for name, picture in zip(pictures, probe_pictures(pictures.values(), step))}
            answer, *after = session.run(
                [output, *(tensor.output for tensor in states)],
                {source: row.astype(kinds[source]).reshape(shape), **shown, **remembered})
            remembered = dict(zip(zeros, after))
            answers.append(answer)
    except RUNTIME_ERRORS as error:
        raise BundleError(f'the model does not run: {error}; export it again') from error
    return np.array(answers, np.float64).reshape(len(observations), -1)


def session_answers(session: OnnxSession, observations: np.ndarray) -> dict[str, np.ndarray]:
    """
    Return output name -> answers (N, A) or (N, H, A) of a session.

    :param observations: shape (N, O); state tensors and pictures as of :func:`answers_of`.
    """
    memory = session.memory()
    answers = {name: np.empty((len(observations), *output.shape), np.float32)
               for name, output in session.outputs.items()}
    for step, observation in enumerate(observations):
        if step % SEQUENCE == 0:
            memory.reset()
        session.observation[:] = observation
        for buffer, picture in zip(session.pictures, probe_pictures(session.picture_specs, step)):
            buffer[:] = picture
        memory.run()
        memory.advance()
        for name, output in session.outputs.items():
            answers[name][step] = output
    return answers


def bind(session: onnxruntime.InferenceSession, reads: Mapping[str, onnxruntime.OrtValue],
         writes: Mapping[str, onnxruntime.OrtValue]) -> Callable[[], None]:
    """Return what runs a session once, from values by input into values by output."""
    binding = session.io_binding()
    for name, value in reads.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in writes.items():
        binding.bind_ortvalue_output(name, value)
    # The public method builds options and looks for captured graphs on every call, 1.2 of 8 µs
    # with this size of network. What it wraps is not promised to stay, hence the alternative.
    inner = getattr(session, '_sess', None)
    inside = getattr(binding, '_iobinding', None)
    if inner is not None and inside is not None:
        return partial(inner.run_with_iobinding, inside, onnxruntime.RunOptions())
    return partial(session.run_with_iobinding, binding)


def open_session(onnx_bytes: bytes, threads: int,
                 providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """
    Return a session of a model.

    :param providers: as of :class:`OnnxSession`.
    :raises BundleError: ONNX Runtime does not take the model, or would compute elsewhere.
    """
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
    except RUNTIME_ERRORS as error:
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
