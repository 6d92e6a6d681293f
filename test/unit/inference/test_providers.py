# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What computes a policy: only what the installed ONNX Runtime has, nothing else in silence."""

import onnxruntime
import pytest
from rl_nodes.core.errors import BundleError, ConfigError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import check_providers, PolicyRuntime


def test_what_is_there_is_taken_in_the_order_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_providers('cpu') == ('cpu',)
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [
        'CUDAExecutionProvider', 'CPUExecutionProvider'])
    assert check_providers('cuda, cpu') == ('cuda', 'cpu')
    with pytest.raises(ConfigError, match='does not have tensorrt; it has cpu, cuda'):
        check_providers('tensorrt,cpu')


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'allowed: cpu, cuda, tensorrt'), ('cdua', "did you mean 'cuda'"),
    ('CPUExecutionProvider', 'allowed: cpu')])
def test_what_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_providers(text)


def test_a_device_that_is_not_there_is_not_replaced_in_silence(bundle: PolicyBundle) -> None:
    with pytest.raises(BundleError, match='would run on CPUExecutionProvider, not on cuda, cpu'):
        PolicyRuntime(bundle, providers=('cuda', 'cpu'))
