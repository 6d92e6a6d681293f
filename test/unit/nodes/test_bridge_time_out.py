# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The bridge, which looks once a period, holds before its time-out is over and not before that."""

from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand
from rl_nodes.nodes.bridge import mode
from rl_nodes.nodes.bridge.physical import Physical
from rl_nodes.tasks import load_task

TIMEOUT_S, PERIOD_S = 0.15, 0.02  # of the shipped arm


@pytest.mark.parametrize(('age_s', 'fresh'), [
    (0.0, True), (TIMEOUT_S - PERIOD_S - 1e-3, True), (TIMEOUT_S - PERIOD_S + 1e-3, False),
    (TIMEOUT_S, False)])
def test_a_command_has_to_last_until_the_next_period(monkeypatch: pytest.MonkeyPatch,
                                                     age_s: float, fresh: bool) -> None:
    now = 10 * NS
    monkeypatch.setattr(mode, 'steady_ns', lambda: now)
    node = SimpleNamespace(task=load_task('arm', 'reach'), every=lambda *_: None)
    bridge = Physical(node, SimpleNamespace(), SimpleNamespace(), SimpleNamespace())
    command = JointCommand(1, 'p@1', np.zeros(6))
    mode.Mode._take(bridge, command)
    now += round(age_s * NS)
    assert bridge._fresh() is (command if fresh else None)
