# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime answers what the graph says, keeps its buffers, and lets nothing non-finite pass."""

from collections.abc import Callable
import subprocess
import sys
import warnings

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference.bundle import GoldenVector, Manifest, PolicyBundle
from rl_nodes.inference.runtime import OnnxSession, PolicyRuntime

OBS, ACT = 5, 2
Craft = Callable[..., PolicyBundle]
Seal = Callable[[bytes, Manifest], PolicyBundle]


def observations(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, OBS)).astype(np.float32)


def test_act_equals_the_matrix_product(contract: Contract, craft: Craft) -> None:
    weight = np.arange(OBS * ACT, dtype=np.float32).reshape(OBS, ACT)
    runtime = PolicyRuntime(craft(contract, weight=weight))
    for observation in observations(50):
        np.testing.assert_allclose(runtime.act(observation), observation @ weight, atol=1e-5)


def test_same_observation_same_bits(bundle: PolicyBundle) -> None:
    runtime, again = PolicyRuntime(bundle), PolicyRuntime(bundle)
    rows = observations(50)
    first = [runtime.act(row).tobytes() for row in rows]
    assert first == [runtime.act(row).tobytes() for row in rows]
    assert first == [again.act(row).tobytes() for row in rows]


def test_buffer_is_reused_and_read_only(bundle: PolicyBundle) -> None:
    runtime = PolicyRuntime(bundle)
    first, second = observations(2)
    action = runtime.act(first)
    before = action.copy()
    assert action.shape == (ACT,) and action.dtype == np.float32 and not action.flags.writeable
    with pytest.raises(ValueError, match='read-only'):
        action[0] = 0.0
    assert np.shares_memory(action, runtime.act(second))
    assert (action != before).all()


def test_caller_may_change_its_observation_afterwards(bundle: PolicyBundle) -> None:
    runtime = PolicyRuntime(bundle)
    row = observations(1)[0]
    action = runtime.act(row).copy()
    row[:] = np.nan
    assert np.isfinite(action).all()
    assert not np.isnan(runtime.act(observations(1)[0])).any()


def test_strided_and_read_only_observation(bundle: PolicyBundle) -> None:
    runtime = PolicyRuntime(bundle)
    table = np.zeros((OBS, 3), np.float32)
    table[:, 1] = observations(1)[0]
    column = table[:, 1]
    column.flags.writeable = False
    assert (runtime.act(column).copy() == runtime.act(observations(1)[0])).all()


@pytest.mark.parametrize(('observation', 'reason'), [
    (np.zeros(OBS + 1, np.float32), r'got float32\[6\], expected float32\[5\]'),
    (np.zeros((1, OBS), np.float32), r'got float32\[1, 5\]'),
    (np.zeros(OBS, np.float64), r'got float64\[5\]'),
    (np.array([0, np.nan, 0, 0, 0], np.float32), 'not finite: o1 = nan'),
    (np.array([0, 0, 0, 0, np.inf], np.float32), 'not finite: o4 = inf'),
    (np.array([-np.inf, 0, 0, 0, np.inf], np.float32), 'not finite: o0 = -inf, o4 = inf'),
])
def test_bad_observation(bundle: PolicyBundle, observation: np.ndarray, reason: str) -> None:
    runtime = PolicyRuntime(bundle)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for call in (runtime.act, lambda o: runtime.sample(o, np.random.default_rng(0))):
            with pytest.raises(SpecError, match=reason):
                call(observation)


def test_huge_finite_observation_passes_the_input_check(bundle: PolicyBundle) -> None:
    # Its square overflows; only the long check can tell that it is finite.
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        action = PolicyRuntime(bundle).act(np.full(OBS, 3e38, np.float32))
    assert np.isfinite(action).all()


def test_output_that_is_not_finite(contract: Contract, craft: Craft) -> None:
    runtime = PolicyRuntime(craft(contract, weight=np.full((OBS, ACT), 1e38, np.float32) / OBS))
    with pytest.raises(SpecError, match='action: not finite: shoulder = inf, elbow = inf'):
        runtime.act(np.full(OBS, 1e3, np.float32))
    assert np.isfinite(runtime.act(np.ones(OBS, np.float32))).all()


def test_nan_weights_do_not_load(contract: Contract, craft: Craft, seal: Seal) -> None:
    def poison(model: onnx.ModelProto) -> None:
        weight = np.full((OBS, ACT), np.nan, np.float32)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, 'weight'))

    with pytest.raises(BundleError, match='golden vector 0: action: not finite'):
        PolicyRuntime(craft(contract, poison))


def test_forged_golden_vector(bundle: PolicyBundle, seal: Seal) -> None:
    true = bundle.manifest.golden[0]
    off = GoldenVector(true.observation, (true.action[0] + 5e-5, true.action[1]))
    forged = seal(bundle.onnx, msgspec.structs.replace(bundle.manifest, golden=(off,)))
    with pytest.raises(BundleError, match='to golden vector 0 the model answers'):
        PolicyRuntime(forged)


def test_other_weights_under_a_right_hash(bundle: PolicyBundle, seal: Seal) -> None:
    model = onnx.load_model_from_string(bundle.onnx)
    for tensor in model.graph.initializer:
        if tensor.name == 'action_mean.weight':
            value = numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    with pytest.raises(BundleError, match='to golden vector 0 the model answers'):
        PolicyRuntime(seal(model.SerializeToString(), bundle.manifest))


def test_sample_has_the_squashed_gaussian_distribution(bundle: PolicyBundle) -> None:
    runtime = PolicyRuntime(bundle)
    row = observations(1)[0]
    session = OnnxSession(bundle.onnx, bundle.manifest.contract)
    session.observation[:] = row
    session.run()
    rng = np.random.default_rng(0)
    draws = np.array([runtime.sample(row, rng).copy() for _ in range(4000)])
    low, high = bundle.manifest.contract.action.bounds()
    assert (draws >= low).all() and (draws <= high).all()
    gaussian = np.arctanh((2 * (draws - low) / (high - low) - 1).clip(-0.999999, 0.999999))
    mean, std = session.outputs['action_mean'], session.outputs['action_std']
    np.testing.assert_allclose(gaussian.mean(0), mean, atol=5 * std.max() / np.sqrt(4000))
    np.testing.assert_allclose(gaussian.std(0), std, rtol=0.08)


def test_sample_is_reproducible_and_centred_on_act(bundle: PolicyBundle) -> None:
    runtime = PolicyRuntime(bundle)
    row = observations(1)[0]
    first = runtime.sample(row, np.random.default_rng(7)).copy()
    again = runtime.sample(row, np.random.default_rng(7))
    assert (first == again).all() and not again.flags.writeable

    class Silent(np.random.Generator):
        def standard_normal(self, *args: object, out: np.ndarray, **kwargs: object) -> np.ndarray:
            out[:] = 0.0
            return out

    centre = runtime.sample(row, Silent(np.random.PCG64())).copy()
    np.testing.assert_allclose(centre, runtime.act(row), atol=1e-6)


def test_deterministic_policy_has_nothing_to_sample(deterministic: PolicyBundle) -> None:
    with pytest.raises(SpecError, match='deterministic sampling'):
        PolicyRuntime(deterministic).sample(observations(1)[0], np.random.default_rng(0))


def test_not_a_model(bundle: PolicyBundle) -> None:
    with pytest.raises(BundleError, match='ONNX Runtime refuses the model'):
        OnnxSession(b'nonsense', bundle.manifest.contract)
    with pytest.raises(BundleError, match='threads = 0'):
        PolicyRuntime(bundle, threads=0)


def test_only_the_cpu_provider(bundle: PolicyBundle) -> None:
    session = OnnxSession(bundle.onnx, bundle.manifest.contract)
    assert session._session.get_providers() == ['CPUExecutionProvider']


def test_runtime_never_imports_torch() -> None:
    code = ('import rl_nodes.inference.runtime, sys\n'
            'sys.exit(any(m in sys.modules for m in ("torch", "onnx", "rclpy")))')
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
