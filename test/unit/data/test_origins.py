# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Who wanted a transition, and what was executed in whose place."""

from dataclasses import replace

from assembler_script import PERIOD, play, Script
import numpy as np
import pytest
from rl_nodes.core.origin import labelled, Origin, split_label
from rl_nodes.core.types import JointCommand
from rl_nodes.safety.events import decision_name
from rl_nodes.safety.verdict import Level

PERSON = 'teleop:anna'


def with_sources(executed, wanted):
    """One episode of three steps, in the second of which somebody else is at work."""
    script = Script().episode(1, 0, 3)
    script.messages = [message for message in script.messages if not (
        message[0] == PERIOD and message[2] in ('add_wanted', 'add_executed'))]
    for source in wanted:
        value = np.array([101.5 if source == PERSON else 101.25])
        script.add(PERIOD, 3, 'add_wanted', JointCommand(PERIOD, source, value))
    script.add(PERIOD, 4, 'add_executed', JointCommand(PERIOD, executed, np.array([101.75])))
    return script


@pytest.mark.parametrize(('executed', 'wanted', 'origin', 'asked'), [
    (PERSON, (PERSON,), Origin.DEMONSTRATION, 0.5),
    (PERSON, ('reach@7', PERSON), Origin.INTERVENTION, 0.5),
    (PERSON + '/perturbed', (PERSON, PERSON + '/perturbed'), Origin.DEMONSTRATION, 0.5),
    ('reach@7', ('reach@7', PERSON + '/standby'), Origin.AUTONOMOUS, 0.25),
    (PERSON + '/standby', (PERSON + '/standby',), Origin.NOBODY, 0.25)])
def test_origins_of_transitions(executed, wanted, origin, asked):
    for order in (wanted, wanted[::-1]):
        script = with_sources(executed, order)
        script.messages.sort(key=lambda message: message[:2])
        batch, counts = play(script, flush=True)
        assert counts == {'emitted': 3}
        np.testing.assert_array_equal(batch.origin, [Origin.AUTONOMOUS, origin, Origin.AUTONOMOUS])
        assert batch.wanted[1] == asked  # before any noise
        assert batch.limited[1]


def test_what_another_source_wanted_is_not_taken_for_what_was_executed():
    script = with_sources(PERSON, ('reach@7',))
    script.messages.sort(key=lambda message: message[:2])
    batch, counts = play(script, flush=True)
    assert counts == {'emitted': 2, 'no_command': 1}
    np.testing.assert_array_equal(batch.step, [0, 2])


@pytest.mark.parametrize('level', [level for level in Level if level > Level.PASS])
@pytest.mark.parametrize('source', ['reach@7', 'monitor', 'monitor/brake', 'teleop:a | b'])
def test_what_the_monitor_did_travels_with_the_source(source, level):
    decision = decision_name(level, 'cost/near the table')
    assert split_label(labelled(source, decision)) == (source, decision)
    assert split_label(labelled(source, '')) == (source, '')


def test_what_the_monitor_did_is_a_column():
    script = Script().episode(1, 0, 3, limited=(1,))
    script.messages = [
        (stamp, rank, method, (replace(arguments[0], intervention='clamp/velocity'),)
         if method == 'add_executed' and stamp == PERIOD else arguments)
        for stamp, rank, method, arguments in script.messages]
    batch, _ = play(script, flush=True)
    assert batch.intervention.tolist() == [b'', b'clamp/velocity', b'']
    assert batch.limited.tolist() == [False, True, False]
    assert play(Script())[0].intervention.shape == (0,)
