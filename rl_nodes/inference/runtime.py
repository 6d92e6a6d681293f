# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Run a policy on ONNX Runtime: preallocated, single-threaded, checked before its first action.

One call copies the observation into a buffer that the session is bound to, runs, and hands out the
buffer that the session wrote into. Neither memory nor threads are created on the way.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference.bundle import PolicyBundle

GOLDEN_ATOL = 1e-5
GOLDEN_RTOL = 1e-5
PROVIDERS = ['CPUExecutionProvider']

_WARM_UP_RUNS = 20
# Where each vector may start [float32]: cache lines of 64 bytes.
_ALIGNMENT = 16
_FLOAT32 = np.dtype('float32')
_isfinite = np.isfinite
# ONNX Runtime's errors have no common base besides Exception.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, *(
    kind for kind in vars(_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)))


class OnnxSession:
    """
    A model on the CPU with its input and outputs bound to fixed buffers.

    ``run()`` computes ``outputs``, name -> (A,), from ``observation``, (O,), in place. All of them
    are parts of ``memory``, which one look can therefore find to be finite.

    :param onnx_bytes: the model; input ``observation`` (1, O), outputs (1, A), float32.
    :param contract: gives O and A.
    :param threads: threads inside one operator.
    :raises BundleError: ONNX Runtime does not take the model.
    """

    def __init__(self, onnx_bytes: bytes, contract: Contract, threads: int = 1) -> None:
        if threads < 1:
            raise BundleError(f'threads = {threads}, expected 1 or more')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Spinning workers would take a core from the control loop between two ticks.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.add_session_config_entry('session.inter_op.allow_spinning', '0')
        options.log_severity_level = 4  # errors arrive as exceptions
        try:
            self._session = onnxruntime.InferenceSession(onnx_bytes, options, providers=PROVIDERS)
        except _RUNTIME_ERRORS as error:
            raise BundleError(f'ONNX Runtime refuses the model: {error}; export the policy '
                              'again') from error
        if self._session.get_providers() != PROVIDERS:
            raise BundleError(f'ONNX Runtime would run on {self._session.get_providers()}, '
                              f'expected {PROVIDERS}; install the CPU build of onnxruntime')
        names = [output.name for output in self._session.get_outputs()]
        sizes = [*contract.observation.shape, *contract.action.shape * len(names)]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)])
        self.memory = np.zeros(starts[-1], np.float32)
        self.observation, *rest = (self.memory[start:start + size]
                                   for start, size in zip(starts, sizes))
        self.outputs = dict(zip(names, rest))
        self._binding = self._session.io_binding()
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(row[np.newaxis])
                        for row in (self.observation, *rest)]
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

    Not for use by two threads at once: the buffers are shared by all calls.

    :param bundle: an accepted bundle, see :func:`rl_nodes.inference.bundle.check`.
    :param threads: threads inside one operator; 1 is fastest for networks of this size.
    :raises BundleError: the model does not run, or does not give its golden answers.
    """

    def __init__(self, bundle: PolicyBundle, threads: int = 1) -> None:
        self.bundle = bundle
        self.contract = bundle.manifest.contract
        self._observation_spec = self.contract.observation
        self._session = OnnxSession(bundle.onnx, self.contract, threads)
        self._run = self._session.run
        self._shape = self._observation_spec.shape
        self._input = self._session.observation
        missing = {'action'} - set(self._session.outputs)
        if bundle.manifest.sampling == 'squashed_gaussian':
            missing = {'action', 'action_mean', 'action_std'} - set(self._session.outputs)
        if missing:
            raise BundleError(f'{bundle.label}: the model has no output {sorted(missing)}; export '
                              'the policy again')
        self._action = _read_only(self._session.outputs['action'])
        self._mean = self._session.outputs.get('action_mean', self._action)
        self._std = self._session.outputs.get('action_std')
        low, high = self.contract.action.bounds()
        self._centre, self._half_range = (high + low) / 2, (high - low) / 2
        self._sample = np.zeros_like(self._action)
        self._sample_view = _read_only(self._sample)
        self._memory = self._session.memory
        self._finite = np.ones(self._memory.shape, np.bool_)
        self._all_finite = self._finite.tobytes()
        self._check_golden()
        for _ in range(_WARM_UP_RUNS):
            self._run()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """
        Return the deterministic action.

        :param observation: shape (O,), float32, finite.
        :return: shape (A,), float32, read-only; the next call overwrites it, copy it to keep it.
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

    def sample(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Return an action drawn for exploration.

        u ~ N(action_mean, action_std²), action = low + (tanh(u) + 1) / 2 · (high - low).

        :param observation: shape (O,), float32, finite.
        :param rng: where the noise comes from; A normal numbers are taken from it.
        :return: shape (A,), float32, read-only; the next call overwrites it.
        :raises SpecError: as :meth:`act`; or the policy is deterministic.
        """
        if self.bundle.manifest.sampling != 'squashed_gaussian' or self._std is None:
            raise SpecError(f'{self.bundle.label} has deterministic sampling, no distribution to '
                            'draw from; call act() and add the exploration noise of its learner')
        self.act(observation)
        sample = self._sample
        rng.standard_normal(out=sample, dtype=np.float32)
        sample *= self._std
        sample += self._mean
        np.tanh(sample, out=sample)
        sample *= self._half_range
        sample += self._centre
        return self._sample_view

    def _explain_not_finite(self) -> None:
        self._observation_spec.validate(self._input)
        self.contract.action.validate(self._action)
        bad = [name for name, output in self._session.outputs.items()
               if not np.isfinite(output).all()]
        raise SpecError(f'{", ".join(bad)}: not finite for a finite observation; use another '
                        'policy, this one is broken')

    def _check_golden(self) -> None:
        """Refuse a model that answers otherwise than when it was exported."""
        for i, vector in enumerate(self.bundle.manifest.golden):
            try:
                action = self.act(np.array(vector.observation, np.float32))
            except SpecError as error:
                raise BundleError(f'{self.bundle.label}: golden vector {i}: {error}; export the '
                                  'policy again') from None
            expected = np.array(vector.action, np.float32)
            if action.shape != expected.shape or \
                    not np.allclose(action, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL):
                raise BundleError(
                    f'{self.bundle.label}: to golden vector {i} the model answers '
                    f'{np.array2string(action, precision=6)}, the manifest says '
                    f'{np.array2string(expected, precision=6)} (within {GOLDEN_ATOL}): file and '
                    'manifest do not belong together; export the policy again')


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
