# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which graphs take a guard, and which guards they refuse."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, RlNodesError
from rl_nodes.graph import build
from rl_nodes.safety.distribution import fit
from rl_nodes.safety.guard_file import Calibrated, GuardFile
from rl_nodes.tasks import load_task


def monitor(graph):
    return next(spec for spec in graph.nodes if spec.name == 'safety_monitor').parameters


def write_guard(path, verdict):
    """Write a guard for arm and reach."""
    contract = load_task('arm', 'reach').contract
    Path(path).write_bytes(GuardFile(
        robot='arm', task='reach', contract=contract.fingerprint(), verdict=verdict,
        distribution=fit(np.random.default_rng(0).normal(
            size=(400, 2 * len(contract.observation.elements)))),
        calibration=Calibrated(1.0, 0.05, 40), fitted_episodes=20, policies=(), data={},
        created='2026-01-01T00:00:00').sealed().to_json())


def test_a_guard_is_for_the_monitor_and_has_to_be_there(policy):
    given = {'policy': policy, 'guard': 'guard.json'}
    with pytest.raises(ConfigError, match='guard.json cannot be read'):
        build('deploy', given, {})
    write_guard('guard.json', 'stop')
    graph = build('deploy', given, {})
    assert monitor(graph)['guard'] == str(Path('guard.json').resolve())
    assert 'guard' not in monitor(build('deploy', {'policy': policy}, {}))


@pytest.mark.parametrize(('name', 'verdict', 'more'), [
    ('deploy', 'stop', {'backend': 'servo_bus'}), ('deploy', 'stop', {'robots': '2'}),
    ('deploy', 'hold', {'shadow': 'run/policy.onnx'}), ('deploy', 'stop', {'teleop': 'joy'}),
    ('record', 'stop', {'input': 'joy'}), ('record', 'hold', {
        'input': 'joy', 'backend': 'servo_bus'}),
    ('train', 'hold', {}), ('train', 'hold', {'robots': '2'}), ('gym', 'stop', {}),
    ('gym', 'hold', {'backend': 'servo_bus', 'stepping': 'realtime'})])
def test_a_guard_watches_whatever_a_policy_moves(policy, name, verdict, more):
    write_guard('guard.json', verdict)
    given = {'policy': policy} if name in ('deploy', 'record') else {}
    graph = build(name, {'guard': 'guard.json', **given, **more}, {})
    monitors = [spec for spec in graph.nodes if spec.name == 'safety_monitor']
    assert len(monitors) == int(more.get('robots', 1))
    assert {spec.parameters['guard'] for spec in monitors} == {str(Path('guard.json').resolve())}
    assert graph.arguments['guard'] == str(Path('guard.json').resolve())


@pytest.mark.parametrize(('name', 'given', 'message'), [
    ('train', {}, 'training would stand still.*verdict:=hold'),
    ('train', {'robot': 'panda', 'task': 'reach_panda'}, 'made for arm doing reach'),
    ('record', {}, 'a guard knows what a policy does'),
    ('record', {'input': 'joy'}, 'without policy:='),
    ('replay', {'episode': 'x.mcap'}, "replay has no argument 'guard'")])
def test_a_guard_that_makes_no_sense_is_refused(name, given, message):
    write_guard('guard.json', 'stop')
    with pytest.raises(RlNodesError, match=message):
        build(name, {'guard': 'guard.json', **given}, {})
