# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Every fault of ``test/faults/faults.py`` once, in a deployment that lives through all of them.

``make faults`` injects them many times and measures the reactions.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
import signal
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'faults'))

from catalogue import FAULTS
from faults import attempt, Fault
from stage import Stage
from violations import wander

LATE_MS = 300.0  # a stalled machine is not a fault of the graph; make faults has the bounds
QUICK = {
    'policy frozen', 'monitor frozen', 'bridge frozen', 'reward computer frozen',
    'states not finite', 'a joint twice', 'states a second old', 'joint names permuted',
    'command NaN', 'command 1e308', 'command of five values', 'command names permuted',
    'old command again', 'command from the future', 'NaN past the monitor', 'wrong transitions',
    'wrong parameters', 'stop by hand: service stop', 'policy with a flipped bit'}


@pytest.fixture(scope='module')
def stage_of(lease_domain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
        Callable[[str], Stage]]:
    """Return the stage of a backend; the one before it ends when another is asked for."""
    running: dict[str, Stage] = {}
    with ExitStack() as stack:
        def stage_of(backend: str) -> Stage:
            if backend not in running:
                running.clear()
                stack.close()
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setenv('ROS_DOMAIN_ID', str(stack.enter_context(lease_domain())))
                running[backend] = stack.enter_context(
                    Stage(tmp_path_factory.mktemp('stage'), backend))
            return running[backend]
        yield stage_of


@pytest.mark.parametrize('fault', [
    pytest.param(fault, id=fault.name.replace(' ', '_'),
                 marks=[] if fault.name in QUICK else pytest.mark.slow)
    for fault in sorted(FAULTS, key=lambda fault: fault.backend)])
def test_what_follows_from_a_fault(stage_of: Callable[[str], Stage], fault: Fault) -> None:
    stage = stage_of(fault.backend)
    outcome = attempt(stage, fault)
    assert outcome.observed == fault.expected
    if fault.bound:
        assert outcome.reaction_ms is not None and outcome.reaction_ms < LATE_MS
    assert not stage.unsafe
    assert stage.restarts == 0, 'motion that nobody had allowed'


def test_every_quick_fault_is_one() -> None:
    assert QUICK <= {fault.name for fault in FAULTS}


@pytest.mark.slow
def test_processes_may_start_in_any_order(stage_of: Callable[[str], Stage]) -> None:
    """E2: whoever comes last, it waits STOPPED until a person clears it, and then moves."""
    stage = stage_of('pybullet')
    for _ in range(3):
        actors = [actor for actor in stage.actors.values() if actor.name != 'evaluator']
        for actor in actors:
            if actor.alive:
                actor.signal(signal.SIGKILL)
        stage.random.shuffle(actors)
        for actor in actors:
            actor.start()
            stage.live(1.0)
        stage.ready()
    assert stage.restarts == 0 and not stage.unsafe


@pytest.mark.parametrize(('robot', 'task', 'steps'), [
    ('arm', 'reach', 3000), ('quadruped', 'quadruped_walk', 1500)])
def test_a_random_policy_breaks_no_limit_under_the_monitor(robot: str, task: str,
                                                           steps: int) -> None:
    """R20: and breaks many without it."""
    assert not wander(robot, task, steps, monitored=True).found
    assert wander(robot, task, steps // 3, monitored=False).found
