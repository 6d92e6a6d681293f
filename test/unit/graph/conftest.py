# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A policy whose content nobody looks at, in a folder without anything else."""

from types import SimpleNamespace

import pytest
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.tasks import load_task


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Return the path of a policy for arm and reach."""
    contract = load_task('arm', 'reach').contract
    bundle = SimpleNamespace(manifest=SimpleNamespace(contract=contract))
    monkeypatch.setattr(PolicyBundle, 'load', lambda path: bundle)
    path = tmp_path / 'run' / 'policy.onnx'
    path.parent.mkdir()
    path.write_bytes(b'')
    return str(path)
