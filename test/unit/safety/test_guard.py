# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Guards: they can only be stricter, and what they cannot compute is an alarm."""

import itertools

from limited_robots import make_robot, make_state
import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import JointCommand
from rl_nodes.safety.conformal import threshold
from rl_nodes.safety.gate import Gate, Judgement
from rl_nodes.safety.guard import (
    Calibrated,
    Distribution,
    DistributionGuard,
    Eye,
    fit,
    FORMAT_VERSION,
    GuardFile,
    LEAST_DEVIATION,
    parse_guard,
    Risk,
    RiskGuard,
    Score,
    tightened,
)
from rl_nodes.safety.limits import Finding
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level
from rl_nodes.tasks import load_task

ARM = make_robot('arm')
CONTRACT = load_task('arm', 'reach').contract
SIZE = len(CONTRACT.observation.elements)
STATE = make_state(ARM, period=10)
NETWORK = Risk('policy.guard.risk.onnx', 'a' * 64, 1.0, Calibrated(0.4, 0.05, 30))
NUMBERS = [0.0, 0.3, 0.5, -1.0, 1e308, np.nan, np.inf, -np.inf]


def guard_file(limit: float = 5.0, verdict: str = 'stop', **changes) -> GuardFile:
    observations = np.random.default_rng(0).normal(size=(200, SIZE))
    values = {
        'robot': 'arm', 'task': 'reach', 'contract': CONTRACT.fingerprint(), 'verdict': verdict,
        'distribution': fit(observations), 'calibration': Calibrated(limit, 0.05, 40),
        'fitted_episodes': 20, 'policies': ('p@1',), 'data': {}, 'created': '2026-01-01T00:00:00'}
    return GuardFile(**{**values, **changes}).sealed()


def eye(observation=None, stamp_ns: int = STATE.stamp_ns, patience_s: float = 0.15) -> Eye:
    found = Eye(patience_s)
    if observation is not None:
        found.see(stamp_ns, np.asarray(observation, np.float32))
    return found


def distribution_guard(observation, verdict: str = 'stop') -> DistributionGuard:
    return DistributionGuard(guard_file(verdict=verdict), CONTRACT.observation.elements,
                             eye(observation))


def judged(level: Level) -> Judgement:
    allowed = None if level >= Level.HOLD else ARM.home
    return Judgement(level, 'velocity', 'asks for much', allowed)


class Says:
    """A guard that says what it is told to."""

    name = 'says'

    def __init__(self, level: Level | None) -> None:
        self.level, self.seen = level, None

    def check(self, judged, command, state, moving):
        self.seen = (judged.level, command, moving)
        return None if self.level is None else Finding(self.level, 'so it says', None)


# --- Only stricter ----------------------------------------------------------------------------

@pytest.mark.parametrize(('before', 'says'), list(
    itertools.product(Level, [None, *Level])))
def test_a_guard_makes_a_judgement_graver_or_leaves_it(before: Level, says: Level | None) -> None:
    first, guard = judged(before), Says(says)
    after = tightened(first, guard, ARM.home + 1.0, STATE, True)
    assert after.level >= before
    if says is None or says <= max(before, Level.CLAMP):
        assert after is first
    else:
        assert after == Judgement(says, 'says', 'so it says', None)
    if before == Level.STOP:
        assert guard.seen is None, 'the command may be no numbers'
    else:
        asked = ARM.home if before < Level.HOLD else ARM.home + 1.0
        np.testing.assert_array_equal(guard.seen[1], asked)


@pytest.mark.parametrize('verdict', ['hold', 'stop'])
def test_no_score_whatever_lets_more_through(verdict: str) -> None:
    """Commands, observations and risks all over the place, with and without guards."""
    rng = np.random.default_rng(3)
    gate, counts = Gate(ARM), dict.fromkeys(Level, 0)
    for _ in range(2000):
        command = ARM.home + rng.normal(size=6) * rng.choice([0.0, 0.01, 1.0, 1e300])
        if rng.random() < 0.1:
            command[rng.integers(6)] = rng.choice(NUMBERS)
        observation = rng.normal(size=SIZE) * rng.choice([0.5, 10.0, 1e30])
        observation = observation.clip(-1e38, 1e38)
        if rng.random() < 0.3:
            observation[rng.integers(SIZE)] = rng.choice([0.0, 1e38, np.nan, np.inf, -np.inf])
        risk = rng.choice(NUMBERS)
        seen = eye(observation if rng.random() < 0.9 else None)
        file = FILES[verdict]
        without = gate.judge(command, STATE)
        after = without
        for guard in (DistributionGuard(file, CONTRACT.observation.elements, seen),
                      RiskGuard(NETWORK, verdict, lambda *_: risk, seen)):
            after = tightened(after, guard, command, STATE, True)
        assert after.level >= without.level
        assert after is without or after.allowed is None
        if not risk <= NETWORK.calibration.threshold or not np.isfinite(
                observation.astype(np.float32)).all():
            assert after.level >= Level.HOLD
        counts[after.level] += 1
    assert counts[Level.PASS]
    assert counts[Level.CLAMP]
    assert counts[Level.STOP]


FILES = {verdict: guard_file(verdict=verdict) for verdict in ('hold', 'stop')}


def test_a_supervisor_latches_what_a_guard_says_and_clears_it_once_it_has_gone() -> None:
    said = Says(Level.STOP)
    supervisor = Supervisor(ARM, Timeouts(0.1, 0.1, 0.02, 0.0), guards=(said,))

    def judge():
        return supervisor.judge(ARM.command_names, JointCommand(STATE.stamp_ns, 'p@1', ARM.home),
                                STATE.stamp_ns, 0)
    supervisor.observe(STATE, 0)
    assert judge().level == Level.STOP
    assert said.seen[2] is False
    assert 'the cause persists: so it says' in supervisor.clear(0)
    said.level = None
    judge()
    assert supervisor.clear(0) == ''
    assert judge().level == Level.PASS
    assert said.seen[2] is True
    said.level = Level.HOLD
    verdict = judge()
    assert (verdict.level, verdict.check, verdict.by) == (Level.HOLD, 'says', 'hold')
    said.level = Level.STOP
    assert judge().check == 'says'
    assert supervisor.mode == Mode.STOPPED
    assert supervisor.counts['stop/says'] == 1


# --- Distribution -----------------------------------------------------------------------------

def test_scores_are_mahalanobis_distances() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    rows = rng.normal(size=(20_000, 4)) @ mix.T + [1.0, -2.0, 3.0, 0.0]
    score = Score(fit(rows))
    expected = np.sqrt(np.einsum('ni,ij,nj->n', rows - rows.mean(0), np.linalg.inv(
        np.cov(rows.T)), rows - rows.mean(0)))
    found = score.of_all(rows)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    np.testing.assert_allclose([score(row) for row in rows[:100]], found[:100], rtol=1e-12)


def test_few_rows_are_shrunk_and_elements_that_depend_on_others_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 3))
    rows = np.column_stack([rows, rows[:, 0] + rows[:, 1], np.full(len(rows), 2.0)])
    found = fit(rows)
    assert found.deviation[4] == LEAST_DEVIATION
    assert np.isfinite(found.whitening).all()
    score = Score(found)
    assert score.of_all(rows).max() < 10.0
    assert score(rows[0] + [0, 0, 0, 0, 0.1]) > 50.0, 'it never varied'
    assert score(rows[0] + [0, 0, 0, 1.0, 0]) > 10.0, 'no longer the sum'
    few = Score(fit(rng.normal(size=(8, 30))))
    assert np.isfinite(few.of_all(rng.normal(size=(50, 30)))).all()
    alike = fit(np.zeros((2, 3)))
    np.testing.assert_allclose(np.diag(alike.whitening), 1.0)


def test_alarms_come_as_often_as_calibrated_and_at_a_shift() -> None:
    """Episodes with a mean of their own each, so that their steps are no independent draws."""
    rng = np.random.default_rng(5)

    def episodes(count: int) -> np.ndarray:
        return rng.normal(size=(count, 1, 6)) + rng.normal(size=(count, 40, 6))
    alarms, repeats = [], 300
    for _ in range(repeats):
        score = Score(fit(episodes(20).reshape(-1, 6)))
        limit = threshold(np.array([score.of_all(one).max() for one in episodes(30)]), 0.1)
        alarms += [float(score.of_all(one).max() > limit) for one in episodes(5)]
        shifted = episodes(1)[0] + [8.0, 0, 0, 0, 0, 0]
        assert score.of_all(shifted).max() > limit
    deviation = np.sqrt(0.1 * 0.9 / repeats)  # no less than the five of one calibration allow
    assert np.mean(alarms) < 0.1 + 4 * deviation
    assert np.mean(alarms) > 0.1 - 1 / 31 - 4 * deviation


def test_what_stands_out_is_named() -> None:
    observation = np.zeros(SIZE)
    observation[3] = 100.0
    finding = distribution_guard(observation).check(judged(Level.PASS), ARM.home, STATE, True)
    assert finding.level == Level.STOP
    assert CONTRACT.observation.elements[3] in finding.reason
    assert 'the threshold is 5' in finding.reason
    assert distribution_guard(np.zeros(SIZE)).check(judged(Level.PASS), ARM.home, STATE,
                                                    True) is None
    assert distribution_guard(observation, 'hold').check(
        judged(Level.PASS), ARM.home, STATE, True).level == Level.HOLD


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_is_an_alarm(bad: float) -> None:
    observation = np.zeros(SIZE)
    observation[0] = bad
    finding = distribution_guard(observation).check(judged(Level.PASS), ARM.home, STATE, True)
    assert (finding.level, finding.reason) == (Level.STOP, 'what is observed is not finite')


@pytest.mark.parametrize(('late_ms', 'there'), [(-1, False), (0, True), (150, True),
                                                (151, False)])
def test_an_observation_counts_for_states_that_follow_it_closely(late_ms: int,
                                                                 there: bool) -> None:
    seen = eye(np.zeros(SIZE), STATE.stamp_ns - late_ms * 1_000_000)
    for guard in (DistributionGuard(guard_file(), CONTRACT.observation.elements, seen),
                  RiskGuard(NETWORK, 'stop', lambda *_: 0.0, seen)):
        finding = guard.check(judged(Level.PASS), ARM.home, STATE, True)
        assert (finding is None) == there
        assert there or (finding.level == Level.HOLD and 'nothing is observed' in finding.reason)


# --- Risk -------------------------------------------------------------------------------------

@pytest.mark.parametrize(('risk', 'level'), [
    (0.0, None), (0.4, None), (0.4001, Level.STOP), (1.0, Level.STOP), (np.nan, Level.STOP),
    (np.inf, Level.STOP)])
def test_a_risk_above_the_threshold_is_an_alarm(risk: float, level: Level | None) -> None:
    asked = []
    guard = RiskGuard(NETWORK, 'stop', lambda *given: asked.append(given) or risk,
                      eye(np.ones(SIZE)))
    finding = guard.check(judged(Level.PASS), ARM.home, STATE, True)
    assert (None if finding is None else finding.level) == level
    observation, state, command = asked[0]
    assert (observation[0], state, command is ARM.home or command.tolist()) == (
        1.0, STATE, command is ARM.home or ARM.home.tolist())


@pytest.mark.parametrize(('error', 'level'), [
    (TimeoutError('5 ms'), Level.HOLD), (RuntimeError('it broke'), Level.STOP),
    (ValueError('it broke'), Level.STOP), (ZeroDivisionError('it broke'), Level.STOP)])
def test_a_network_that_fails_is_an_alarm(error: Exception, level: Level) -> None:
    def ask(*_):
        raise error
    finding = RiskGuard(NETWORK, 'stop', ask, eye(np.ones(SIZE))).check(
        judged(Level.PASS), ARM.home, STATE, True)
    assert finding.level == level
    assert str(error) in finding.reason


# --- The file ---------------------------------------------------------------------------------

@pytest.mark.parametrize('risk', [msgspec.UNSET, NETWORK])
def test_a_guard_is_read_as_it_was_written(risk) -> None:
    file = guard_file(risk=risk)
    assert parse_guard(file.to_json(), CONTRACT, 'guard.json') == file


@pytest.mark.parametrize(('content', 'words'), [
    (b'{}', 'no guard'), (b'\xff\x00', 'no guard'), (b'[' * 100_000, 'no guard'),
    (guard_file(format_version=FORMAT_VERSION + 1).to_json(), 'format 2, expected 1'),
    (msgspec.structs.replace(guard_file(), verdict='hold').to_json(), 'edited'),
    (guard_file(contract='0' * 64, robot='panda').to_json(), 'made for panda doing reach'),
    (guard_file(distribution=fit(np.random.default_rng(0).normal(size=(50, 3)))).to_json(),
     f'not one of {SIZE} finite elements'),
    (guard_file(distribution=Distribution((0.0,) * SIZE, (0.0,) * SIZE, ((1.0,) * SIZE,) * SIZE)
                ).to_json(), 'deviations above 0')])
def test_a_guard_that_is_not_right_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse_guard(content, CONTRACT, 'guard.json')
    assert 'rl_nodes safety calibrate' in str(error.value)


def test_no_flipped_bit_is_met_later() -> None:
    content = guard_file().to_json()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content) - 1, 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(ConfigError):
            parse_guard(bytes(damaged), CONTRACT, 'guard.json')
