# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Guards: they can only be stricter, and what they cannot compute is an alarm."""

from dataclasses import replace
import itertools
from pathlib import Path

from limited_robots import make_robot, make_state
import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import JointCommand
from rl_nodes.safety.conformal import threshold
from rl_nodes.safety.distribution import (
    Distribution,
    fit,
    greatest,
    LEAST_DEVIATION,
    pairs,
    Score,
    WEIGHT,
)
from rl_nodes.safety.gate import Gate, Judgement
from rl_nodes.safety.guard import DistributionGuard, Eye, RiskGuard, tightened
from rl_nodes.safety.guard_file import (
    Calibrated,
    FORMAT_VERSION,
    GuardFile,
    MAX_GUARD_BYTES,
    parse_guard,
    read_guard,
    Risk,
)
from rl_nodes.safety.limits import Finding
from rl_nodes.safety.supervisor import Mode, Supervisor, Timeouts
from rl_nodes.safety.verdict import Level
from rl_nodes.tasks import load_task

ARM = make_robot('arm')
CONTRACT = load_task('arm', 'reach').contract
SIZE = len(CONTRACT.observation.elements)
STATE = make_state(ARM, period=10)
PERIOD = 20_000_000
NETWORK = Risk('policy.guard.risk.onnx', 'a' * 64, 1.0, Calibrated(0.4, 0.05, 30))
ZEROS = (0.0,) * 2 * SIZE, (0.0,) * 2 * SIZE, ((1.0,) * 2 * SIZE,) * 2 * SIZE
NUMBERS = [0.0, 0.3, 0.5, -1.0, 1e308, np.nan, np.inf, -np.inf]


def guard_file(limit: float = 5.0, verdict: str = 'stop', **changes) -> GuardFile:
    observations = np.random.default_rng(0).normal(size=(400, 2 * SIZE))
    values = {
        'robot': 'arm', 'task': 'reach', 'contract': CONTRACT.fingerprint(), 'verdict': verdict,
        'distribution': fit(observations), 'calibration': Calibrated(limit, 0.05, 40),
        'fitted_episodes': 20, 'policies': ('p@1',), 'data': {}, 'created': '2026-01-01T00:00:00'}
    return GuardFile(**{**values, **changes}).sealed()


FILES = {verdict: guard_file(verdict=verdict) for verdict in ('hold', 'stop')}


def eye(observation=None, stamp_ns: int = STATE.stamp_ns, patience_s: float = 0.15) -> Eye:
    found = Eye(patience_s)
    if observation is not None:
        found.see(stamp_ns, np.asarray(observation, np.float32))
    return found


def distribution_guard(*observations, verdict: str = 'stop') -> DistributionGuard:
    """Return a guard that has seen observations, the last of which is of STATE."""
    guard = DistributionGuard(FILES[verdict], CONTRACT.observation.elements, Eye(0.15), PERIOD)
    for age, observation in zip(reversed(range(len(observations))), observations):
        guard.see(replace(STATE, stamp_ns=STATE.stamp_ns - age * PERIOD),
                  np.asarray(observation, np.float32))
    return guard


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
        shown = [observation] * 3 if rng.random() < 0.9 else []
        seen = eye(observation if shown else None)
        without = gate.judge(command, STATE)
        after = without
        for guard in (distribution_guard(*shown, verdict=verdict),
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


def test_between_episodes_guards_are_not_asked() -> None:
    """A physical robot goes home then, which no recorded episode has."""
    said = Says(Level.STOP)
    supervisor = Supervisor(ARM, Timeouts(0.1, 0.1, 0.02, 0.0), guards=(said,))
    for episode, level in (('0@0', Level.PASS), ('1@0', Level.STOP)):
        supervisor.observe(replace(STATE, episode=episode), 0)
        supervisor.judge(ARM.command_names, JointCommand(STATE.stamp_ns, 'p@1', ARM.home),
                         STATE.stamp_ns, 0)
        supervisor.clear(0)
        verdict = supervisor.judge(ARM.command_names, JointCommand(
            STATE.stamp_ns, 'p@1', ARM.home), STATE.stamp_ns, 0)
        assert verdict.level == level
        assert (said.seen is None) == (episode == '0@0')


# --- Distribution -----------------------------------------------------------------------------

def distances(distribution: Distribution, rows: np.ndarray) -> np.ndarray:
    """Return d of eq. (1) of pairs (N, P): an episode of two states weighs it by WEIGHT."""
    half = rows.shape[1] // 2
    return np.array([greatest(distribution, np.stack([row[half:], row[:half]]), np.arange(2))
                     for row in rows]) / np.sqrt(WEIGHT)


def test_scores_are_mahalanobis_distances() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    rows = rng.normal(size=(20_000, 4)) @ mix.T + [1.0, -2.0, 3.0, 0.0]
    expected = np.sqrt(np.einsum('ni,ij,nj->n', rows - rows.mean(0), np.linalg.inv(
        np.cov(rows.T)), rows - rows.mean(0)))
    np.testing.assert_allclose(distances(fit(rows), rows[:500]), expected[:500], rtol=0.02)


def test_pairs_are_of_neighbouring_periods() -> None:
    observations, steps = np.arange(10.0).reshape(5, 2), np.array([0, 1, 2, 4, 5])
    np.testing.assert_array_equal(pairs(observations, steps), [
        [2, 3, 0, 1], [4, 5, 2, 3], [8, 9, 6, 7]])


def test_few_rows_are_shrunk_and_elements_that_depend_on_others_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 4))
    rows = np.column_stack([rows, rows[:, 0] + rows[:, 1], np.full(len(rows), 2.0)])
    found = fit(rows)
    assert found.deviation[5] == LEAST_DEVIATION
    assert np.isfinite(found.whitening).all()
    assert distances(found, rows[:1000]).max() < 10.0
    assert distances(found, rows[:1] + [0, 0, 0, 0, 0, 0.1])[0] > 50.0, 'it never varied'
    assert distances(found, rows[:1] + [0, 0, 0, 0, 1.0, 0])[0] > 10.0, 'no longer the sum'
    few = fit(rng.normal(size=(8, 30)))
    whitening = np.array(few.whitening)  # shrinking leaves correlations, whose diagonal is 1
    np.testing.assert_allclose(np.diag(np.linalg.inv(whitening.T @ whitening)), 1.0)
    assert np.isfinite(distances(few, rng.normal(size=(50, 30)))).all()
    np.testing.assert_allclose(np.diag(fit(np.zeros((2, 4))).whitening), 1.0)


@pytest.mark.parametrize(('seed', 'count', 'mixed', 'low', 'high'), [
    (3, 40, True, 0.01, 0.9), (5, 100, False, 1.05, 1.9)])
def test_how_much_is_shrunk_is_what_ledoit_and_wolf_say(seed: int, count: int, mixed: bool,
                                                        low: float, high: float) -> None:
    """Their lemma 3.2 to 3.4, sample by sample: s is b² / d², and at most 1."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 5))
    if mixed:
        rows = rows @ rng.normal(size=(5, 5)) + 4.0
    z = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    sample = sum(np.outer(one, one) for one in z) / len(z)
    apart = np.linalg.norm(sample - np.eye(5)) ** 2
    error = sum(np.linalg.norm(np.outer(one, one) - sample) ** 2 for one in z) / len(z) ** 2
    assert low < error / apart < high
    share = min(error / apart, 1.0)
    found = np.array(fit(rows).whitening)
    np.testing.assert_allclose(np.linalg.inv(found.T @ found),
                               (1 - share) * sample + share * np.eye(5), atol=1e-9)


def test_a_gap_is_no_step_and_the_furthest_element_is_told_from_its_own_mean() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 4)) + [5.0, -7.0, 5.0, -7.0]
    distribution = fit(rows)
    odd = np.array([[5.0, -7.0], [5.0, -3.0]])
    assert greatest(distribution, odd, np.array([0, 1])) > 0.0
    assert greatest(distribution, odd, np.array([0, 2])) == 0.0
    score = Score(distribution, 1)
    for stamp, observation in enumerate(odd):
        score.update(stamp, '', observation)
    element, deviations = score.furthest()
    assert element == 1
    assert deviations == pytest.approx(4.0, rel=0.1)


def test_scores_are_averaged_within_an_episode_and_start_anew_with_the_next() -> None:
    distribution = fit(np.random.default_rng(0).normal(size=(5000, 4)))
    score, far = Score(distribution, PERIOD), np.full(2, 30.0)
    assert score.update(0, 'a', far) == 0.0, 'nothing to compare with'
    first = score.update(PERIOD, 'a', far)
    assert score.update(PERIOD, 'a', np.zeros(2)) == first, 'the same state again'
    second = score.update(2 * PERIOD, 'a', far)
    d2 = first ** 2 / WEIGHT
    assert second ** 2 == pytest.approx(WEIGHT * d2 + (1 - WEIGHT) * WEIGHT * d2)
    assert score.update(9 * PERIOD // 2, 'a', np.zeros(2)) == second, 'after a gap'
    assert score.update(4 * PERIOD, 'a', np.zeros(2)) == second, 'backwards'
    assert score.update(5 * PERIOD, 'a', np.zeros(2)) < second
    assert score.update(6 * PERIOD, 'b', far) == 0.0
    assert score.update(7 * PERIOD, 'b', far) == pytest.approx(first)


def test_a_score_recovers_from_what_is_not_finite() -> None:
    score = Score(fit(np.random.default_rng(0).normal(size=(5000, 4))), PERIOD)
    for stamp, value in enumerate([0.0, 0.0, np.nan]):
        score.update(stamp * PERIOD, 'a', np.full(2, value))
    assert np.isnan(score.value)
    assert np.isnan(score.update(3 * PERIOD, 'a', np.zeros(2))), 'half of the pair'
    assert score.update(4 * PERIOD, 'a', np.zeros(2)) < 3.0


def test_alarms_come_as_often_as_calibrated_and_at_a_shift() -> None:
    """Episodes with a mean of their own each, so that their steps are no independent draws."""
    rng = np.random.default_rng(5)
    steps = np.arange(20)

    def episodes(count: int) -> np.ndarray:
        return rng.normal(size=(count, 1, 3)) + rng.normal(size=(count, 20, 3))
    alarms, repeats = [], 150
    for _ in range(repeats):
        distribution = fit(np.concatenate([pairs(one, steps) for one in episodes(20)]))
        limit = threshold(np.array([greatest(distribution, one, steps)
                                    for one in episodes(30)]), 0.1)
        alarms += [float(greatest(distribution, one, steps) > limit) for one in episodes(5)]
        assert greatest(distribution, episodes(1)[0] + [12.0, 0, 0], steps) > limit
    deviation = np.sqrt(0.1 * 0.9 / repeats)  # no less than the five of one calibration allow
    assert np.mean(alarms) < 0.1 + 3 * deviation
    assert np.mean(alarms) > 0.1 - 1 / 31 - 3 * deviation


def test_what_stands_out_is_named() -> None:
    calm, odd = np.zeros(SIZE), np.zeros(SIZE)
    odd[3] = 100.0
    for shown in ((calm, odd), (odd, calm), (odd, odd)):
        guard = distribution_guard(*shown)
        finding = guard.check(judged(Level.PASS), ARM.home, STATE, True)
        assert finding.level == Level.STOP
        assert f'is {guard.score:.3g} away' in finding.reason
        assert f'{CONTRACT.observation.elements[3]} is ' in finding.reason
        assert 'the threshold is 5' in finding.reason
    assert distribution_guard(calm, calm).check(judged(Level.PASS), ARM.home, STATE, True) is None
    assert distribution_guard(calm, odd, verdict='hold').check(
        judged(Level.PASS), ARM.home, STATE, True).level == Level.HOLD


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_is_an_alarm(bad: float) -> None:
    observation = np.zeros(SIZE)
    observation[0] = bad
    finding = distribution_guard(np.zeros(SIZE), observation).check(
        judged(Level.PASS), ARM.home, STATE, True)
    assert (finding.level, finding.reason) == (Level.STOP, 'what is observed is not finite')


@pytest.mark.parametrize(('late_ms', 'there'), [(-1, False), (0, True), (150, True),
                                                (151, False)])
def test_an_observation_counts_for_states_that_follow_it_closely(late_ms: int,
                                                                 there: bool) -> None:
    state = replace(STATE, stamp_ns=STATE.stamp_ns + late_ms * 1_000_000)
    for guard in (distribution_guard(np.zeros(SIZE)),
                  RiskGuard(NETWORK, 'stop', lambda *_: 0.0, eye(np.zeros(SIZE)))):
        finding = guard.check(judged(Level.PASS), ARM.home, state, True)
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


def test_a_guard_is_read_from_its_file_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / 'guard.json'
    with pytest.raises(ConfigError, match=r'guard\.json cannot be read: No such file'):
        read_guard(path, CONTRACT)
    path.write_bytes(FILES['hold'].to_json())
    assert read_guard(path, CONTRACT) == FILES['hold']
    path.write_bytes(bytes(MAX_GUARD_BYTES + 1))
    with pytest.raises(ConfigError, match=f'more than {MAX_GUARD_BYTES} bytes'):
        read_guard(path, CONTRACT)


@pytest.mark.parametrize(('content', 'words'), [
    (b'{}', 'no guard'), (b'\xff\x00', 'no guard'), (b'[' * 100_000, 'no guard'),
    (guard_file(format_version=FORMAT_VERSION + 1).to_json(), 'format 2, expected 1'),
    (msgspec.structs.replace(guard_file(), verdict='hold').to_json(), 'edited'),
    (guard_file(contract='0' * 64, robot='panda').to_json(), 'made for panda doing reach'),
    (guard_file(distribution=fit(np.random.default_rng(0).normal(size=(50, 3)))).to_json(),
     f'not one of {2 * SIZE} finite elements'),
    (guard_file(distribution=Distribution(*ZEROS)
                ).to_json(), 'deviations above 0')])
def test_a_guard_that_is_not_right_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse_guard(content, CONTRACT, 'guard.json')
    assert 'rl_nodes safety calibrate' in str(error.value)


def test_no_flipped_bit_is_met_later() -> None:
    file = guard_file()
    content, rng, refused = file.to_json(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(content) - 1, 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        try:
            assert parse_guard(bytes(damaged), CONTRACT, 'guard.json') == file, '1E-5 is 1e-5'
        except ConfigError:
            refused += 1
    assert refused > 290
