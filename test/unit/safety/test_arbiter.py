# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One source at a time, the deadman, and no jump at a change."""

import numpy as np
import pytest
from rl_nodes.core.origin import operator_source, Origin, origin_of
from rl_nodes.core.robot import load_robot
from rl_nodes.core.timing import NS, period_ns
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.safety.sources import Arbiter, Fade, FADE_S, Offer, POLICY, TELEOP

ARM, CART = load_robot('arm'), load_robot('cartpole')
PERIOD = period_ns(ARM.config.rate_hz)


def state(step, position=None, robot=ARM):
    zeros = np.zeros(len(robot.joints))
    return RobotState(step * PERIOD, '1@0', zeros if position is None else position, zeros, zeros)


def offer(source, step, value=0.0):
    return Offer(ARM.command_names, JointCommand(step * PERIOD, source, np.full(6, value)))


def policy(step):
    return offer('p@1', step)


def person(step, engaged=True):
    return offer(operator_source('anna', engaged), step)


def arbiter(sources='policy+teleop'):
    return Arbiter(ARM, 0.1, sources)


def test_a_held_deadman_goes_before_a_policy_and_its_release_gives_back():
    found = arbiter()
    assert found.choose(POLICY, policy(1), 0, False) is not None
    assert found.choose(TELEOP, person(1, False), 0, False) is None
    taken = person(2)
    assert found.choose(TELEOP, taken, 0, False) is taken
    assert found.acting == TELEOP
    assert found.choose(POLICY, policy(2), 0, False) is None
    kept = policy(3)
    assert found.choose(POLICY, kept, 0, False) is None
    assert found.choose(TELEOP, person(3, False), 0, False) is kept  # lockstep waits
    assert (found.acting, found.handovers, found.overridden) == (POLICY, 2, 2)
    assert found.choose(POLICY, policy(4), 0, False) is not None


def test_a_state_that_one_source_has_answered_is_not_answered_by_the_other():
    found = arbiter()
    found.choose(POLICY, policy(5), 0, False)
    assert found.choose(TELEOP, person(5), 0, False) is None
    assert found.acting == TELEOP  # the policy is silenced at once
    assert found.choose(TELEOP, person(6), 0, False) is not None
    assert found.choose(POLICY, policy(6), 0, False) is None
    assert found.choose(TELEOP, person(6, False), 0, False) is None
    assert found.choose(POLICY, policy(7), 0, False) is not None


def test_a_device_that_falls_silent_is_not_a_released_one():
    found = arbiter()
    found.choose(TELEOP, person(1), 0, False)
    assert found.choose(POLICY, policy(50), NS, False) is None  # so the supervisor sees silence
    assert found.choose(POLICY, policy(51), NS, True) is not None  # it stands
    assert found.acting == POLICY
    found.choose(TELEOP, person(52), NS, True)
    assert found.choose(POLICY, policy(53), NS, True) is None  # it is held while stopped


def test_standing_by_counts_only_where_no_policy_is_expected():
    assert arbiter().choose(TELEOP, person(1, False), 0, False) is None
    alone = arbiter('teleop')
    assert (alone.sources, alone.acting) == (('teleop',), 'teleop')
    assert alone.choose(TELEOP, person(1, False), 0, False) is not None


@pytest.mark.parametrize('robot', [ARM, CART])
def test_a_change_of_source_bounds_the_change_of_what_is_asked_for(robot):
    limit = robot.limits('effort' if robot is CART else 'velocity')
    unit = 1.0 if robot is CART else PERIOD / NS
    fade, q, asked = Fade(robot), np.zeros(len(robot.joints)), []
    for step in range(1, 60):
        share = 1.0 if step < 10 else -1.0
        if step == 10:
            fade.begin()
        now = state(step, q, robot)
        origin = 0.0 if robot is CART else q[robot.commanded]
        wanted = JointCommand(now.stamp_ns, 'x', origin + share * limit * unit)
        shaped = fade.shaped(wanted, now).value
        asked.append((shaped - origin) / unit)
        fade.executed(shaped, now)
        q = q.copy()
        q[robot.commanded] += 0.0 if robot is CART else shaped - origin
    change = np.abs(np.diff(asked, axis=0))
    assert (change <= limit / FADE_S * PERIOD / NS * (1 + 1e-9)).all()
    np.testing.assert_allclose(asked[8], limit)
    np.testing.assert_allclose(asked[-1], -limit)
    assert fade.limited == round(2 * FADE_S * NS / PERIOD) - 1


def test_a_hundred_changes_mid_motion_never_jump():
    rng, found, q = np.random.default_rng(0), arbiter(), np.zeros(6)
    limit, before, acting = ARM.limits('velocity'), np.zeros(6), POLICY
    wishes, jumps = {POLICY: np.zeros(6), TELEOP: np.zeros(6)}, []
    for step in range(1, 4000):
        if step % 40 == 0:
            acting = TELEOP if acting == POLICY else POLICY
            wishes[acting] = rng.uniform(-1, 1, 6) * limit
        now = state(step, q)
        engaged = acting == TELEOP
        asked = {source: JointCommand(
            now.stamp_ns, 'p@1' if source == POLICY else operator_source('anna', engaged),
            q + wish * PERIOD / NS) for source, wish in wishes.items()}
        for source in (TELEOP, POLICY):
            chosen = found.choose(source, Offer(ARM.command_names, asked[source]), 0, False)
            if chosen is None or chosen.command.stamp_ns != now.stamp_ns:
                continue
            value = found.shaped(chosen.command, now).value
            found.executed(value, now)
            speed = (value - q) / (PERIOD / NS)
            jumps.append(np.abs(speed - before).max() / limit.max())
            before, q = speed, q + speed * PERIOD / NS
            break
    assert found.handovers >= 98
    assert len(jumps) > 3800
    assert max(jumps) <= PERIOD / NS / FADE_S * (1 + 1e-6)


def test_what_is_unusable_reaches_the_supervisor_as_it_came():
    fade = Fade(ARM)
    fade.begin()
    for value in (np.full(6, np.nan), np.zeros(3)):
        wanted = JointCommand(PERIOD, 'x', value)
        assert fade.shaped(wanted, state(1)) is wanted


@pytest.mark.parametrize(('source', 'wanted', 'origin'), [
    ('teleop:anna', ['teleop:anna'], Origin.DEMONSTRATION),
    ('teleop:anna', ['p@3', 'teleop:anna'], Origin.INTERVENTION),
    ('teleop', ['teleop'], Origin.DEMONSTRATION), ('teleop', ['teleops@3'], Origin.INTERVENTION),
    ('teleop:anna/standby', ['teleop:anna/standby'], Origin.NOBODY),
    ('p@3', ['p@3', 'teleop:anna/standby'], Origin.AUTONOMOUS),
    ('controller:lqr#1', ['controller:lqr#1'], Origin.AUTONOMOUS),
    ('replay:episode_1', ['replay:episode_1'], Origin.AUTONOMOUS),
    ('monitor', ['p@3'], Origin.NOBODY), ('monitor/brake', [], Origin.NOBODY)])
def test_origins(source, wanted, origin):
    assert origin_of(source, wanted) == origin


@pytest.mark.parametrize('sources', ['teleop', 'policy+teleop'])
def test_a_deadman_is_held_while_engaged_commands_come(sources):
    found = arbiter(sources)
    assert not found.held(0)
    found.choose(TELEOP, person(1), 5 * NS, True)
    assert found.held(5 * NS + NS // 10)
    assert not found.held(5 * NS + NS // 10 + 1), 'silence is no held deadman'
    found.choose(TELEOP, person(2), 6 * NS, True)
    found.choose(TELEOP, person(3, False), 6 * NS, True)
    assert not found.held(6 * NS), 'let go of'


def test_the_only_source_is_always_taken():
    offered = policy(1)
    found = arbiter('policy')
    assert found.choose(POLICY, offered, 0, False) is offered
    assert not found.held(0)


def test_a_hand_over_after_nothing_and_after_a_pause_begins_at_rest():
    found, far = Fade(ARM), np.full(6, 0.01)
    shaped = []
    for step in (1, 40):
        found.begin()
        shaped.append(found.shaped(JointCommand(step * PERIOD, 'p@1', far), state(step)).value)
        found.executed(far, state(step))
    assert (shaped[0] < far).all()
    np.testing.assert_array_equal(*shaped)


def test_what_is_counted():
    found = arbiter()
    found.choose(POLICY, policy(1), 0, False)
    found.choose(TELEOP, person(2), 0, False)
    found.choose(POLICY, policy(3), 0, False)
    assert found.counts() == {'handovers': 1, 'handover_limited': 0, 'policy_overridden': 1}


def test_a_command_with_one_value_that_is_not_finite_is_left_to_the_supervisor():
    found, value = Fade(ARM), np.full(6, 1.0)
    value[2] = np.nan
    found.begin()
    command = JointCommand(PERIOD, 'p@1', value)
    assert found.shaped(command, state(1)) is command


def test_neither_a_second_command_for_a_state_nor_a_lost_one_adds_to_the_change():
    found, far = Fade(ARM), np.full(6, 0.02)
    found.begin()

    def asked(step):
        value = found.shaped(JointCommand(step * PERIOD, 'p@1', far), state(step)).value
        found.executed(value, state(step))
        return value
    first = asked(1)
    period_s = PERIOD / NS  # a quarter of a second from standing to full speed
    np.testing.assert_allclose(first, ARM.limits('velocity') * period_s / 0.25 * period_s)
    np.testing.assert_allclose(asked(1), first)
    np.testing.assert_allclose(asked(4), 2 * first)
    np.testing.assert_allclose(asked(5), 3 * first)


def test_a_source_that_never_comes_near_is_followed_after_twice_the_time():
    found = Fade(ARM)
    found.begin()
    limited = []
    for step in range(1, 60):
        wanted = JointCommand(step * PERIOD, 'p@1', np.full(6, 0.02 * (-1) ** step))
        shaped = found.shaped(wanted, state(step))
        limited.append(shaped is not wanted)
        found.executed(shaped.value, state(step))
    steps = round(2 * FADE_S * NS / PERIOD) + 1
    assert limited == [True] * steps + [False] * (59 - steps)
