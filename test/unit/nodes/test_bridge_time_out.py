# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The bridge holds before its time-out is over and not before that, and after every stop."""

from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.core.timing import NS
from rl_nodes.core.types import JointCommand
from rl_nodes.nodes.bridge import mode
from rl_nodes.nodes.bridge.physical import Physical
from rl_nodes.nodes.bridge.realtime import RealTime
from rl_nodes.nodes.hardware_session import Phase
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


@pytest.mark.parametrize('kind', [RealTime, Physical])
@pytest.mark.parametrize(('source', 'goes_on'), [
    ('monitor', False), ('monitor/hold', True), ('p@1', True), ('monitors', True)])
def test_a_stop_that_is_refused_still_ends_what_went_before(kind: type[mode.Mode], source: str,
                                                            goes_on: bool) -> None:
    """Its stamp is that of a state, which may be old where states come late."""
    task, now = load_task('arm', 'reach'), NS
    warned: list[str] = []
    node = SimpleNamespace(
        task=task, every=lambda *_: None,
        get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=now)),
        get_logger=lambda: SimpleNamespace(warning=lambda text, **_: warned.append(text)))
    outlet = SimpleNamespace(state=SimpleNamespace(episode='1@0'), answered=lambda _: None)
    bridge = object.__new__(kind)
    mode.Mode.__init__(bridge, node, outlet, SimpleNamespace())
    bridge._session, bridge._link = SimpleNamespace(phase=Phase.RUNNING), None
    names = task.robot.command_names
    bridge.arrive(names, JointCommand(now, 'p@1', task.robot.home))
    assert bridge._fresh() is not None
    bridge.arrive(names, JointCommand(now - NS // 2, source, task.robot.home))
    assert 'a newer one came first' in warned[0]
    assert (bridge._fresh() is not None) == goes_on
    if kind is Physical:
        assert (bridge._permit_at is not None) == goes_on
