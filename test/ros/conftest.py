# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes ``harness`` importable; what several tests need: a policy, rclpy in this process."""

from collections.abc import Iterator
from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained policy for the arm's reach task."""
    from harness import make_bundle
    from rl_nodes.tasks import load_task
    return make_bundle(load_task('arm', 'reach').contract, gain=1.0).save(
        tmp_path_factory.mktemp('policy') / 'policy.onnx')


@pytest.fixture
def ros() -> Iterator[None]:
    """Let nodes live in this process."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()
