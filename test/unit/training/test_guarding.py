# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Guards made of episodes: who belongs to which part, what is learned, what is refused."""

import json

import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.origin import Origin
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.inference.risk import load_risk
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.safety.distribution import greatest
from rl_nodes.safety.guard_file import parse_guard, Risk
from rl_nodes.tasks import load_task
from rl_nodes.training.guarding import calibrate, CalibrateOptions
from rl_nodes.training.risk import label, ranked_right

CONTRACT = load_task('arm', 'reach').contract
OBSERVED, DONE = len(CONTRACT.observation.elements), len(CONTRACT.action.elements)
STEPS = 60


def episode(number: int, fails: bool = False, shift: float = 0.0, steps: int = STEPS,
            **columns) -> RecordedEpisode:
    """Return an episode; one that fails drifts off in element 0, pushed by action 0."""
    rng = np.random.default_rng(number)
    observation = rng.normal(size=(steps + 1, OBSERVED)) + shift
    action = rng.uniform(-0.3, 0.3, (steps, DONE))
    if fails:
        drift = np.maximum(0.0, np.arange(steps + 1) - steps + 20) / 4
        observation[:, 0] += drift
        action[:, 0] = np.where(drift[:-1] > 0, 0.9, action[:, 0])
    last = np.arange(steps) == steps - 1
    values = {
        'observation': observation[:-1], 'action': action, 'wanted': action,
        'reward': np.zeros(steps), 'next_observation': observation[1:],
        'terminated': last & fails, 'truncated': last & (not fails),
        'success': np.full(steps, not fails), 'limited': np.zeros(steps, bool),
        'policy_version': np.ones(steps, np.int64), 'episode': np.full(steps, number),
        'step': np.arange(steps), 'origin': np.full(steps, int(Origin.AUTONOMOUS))}
    return RecordedEpisode(
        f'episode_{number}.mcap', TransitionBatch(**{**values, **columns}),
        np.arange(steps),
        {'success': str(not fails).lower(), 'policy_versions': json.dumps(['p@1'])})


def calm(count: int) -> list[RecordedEpisode]:
    return [episode(number) for number in range(count)]


def test_a_guard_is_made_of_episodes_that_went_well(tmp_path) -> None:
    recording = tmp_path / 'episode.mcap'
    recording.write_bytes(b'recorded')
    path, text = calibrate(CalibrateOptions(output=str(tmp_path / 'new' / 'guard.json')),
                           [*calm(50), episode(100, fails=True)], CONTRACT, [recording])
    guard = parse_guard(path.read_bytes(), CONTRACT, 'it')
    assert (guard.fitted_episodes, guard.calibration.episodes) == (25, 25)
    assert guard.calibration.false_alarms == 0.05
    assert guard.policies == ('p@1',)
    assert list(guard.data) == ['episode.mcap']
    assert '25 episodes that went well' in text
    assert 'at most 0.05 of the episodes like these' in text

    def alarmed(one: RecordedEpisode) -> bool:
        return greatest(guard.distribution, one.batch.observation,
                        one.batch.step) > guard.calibration.threshold
    fresh = [alarmed(episode(number)) for number in range(1000, 1200)]
    assert np.mean(fresh) < 0.2, 'in 9 of 10 calibrations of 25 it is below 0.11'
    assert all(alarmed(episode(number, shift=2.0)) for number in range(2000, 2010))
    assert alarmed(episode(100, fails=True))


def test_the_same_episodes_and_seed_give_the_same_guard(tmp_path) -> None:
    found = [parse_guard(calibrate(CalibrateOptions(
        output=str(tmp_path / f'{i}.json'), seed=seed), calm(50), CONTRACT, [])[0].read_bytes(),
        CONTRACT, 'it') for i, seed in enumerate((3, 3, 4))]
    assert found[0].distribution == found[1].distribution != found[2].distribution
    assert found[0].calibration == found[1].calibration


def test_a_risk_network_announces_failures_it_has_not_seen(tmp_path) -> None:
    episodes = [*calm(100), *(episode(500 + i, fails=True) for i in range(30))]
    path, text = calibrate(CalibrateOptions(
        output=str(tmp_path / 'guard.json'), risk=True, false_alarms=0.1, horizon_s=0.2,
        verdict='hold'), episodes, CONTRACT, [])
    guard = parse_guard(path.read_bytes(), CONTRACT, 'it')
    assert isinstance(guard.risk, Risk)
    assert guard.verdict == 'hold'
    assert guard.calibration.false_alarms == guard.risk.calibration.false_alarms == 0.05
    assert 'held out: 9 of 9 failures announced' in text, text
    policy = PolicyRuntime(load_risk(path.with_name(guard.risk.file), guard.risk.sha256,
                                     CONTRACT))
    bad = episode(900, fails=True).batch
    risks = [float(policy.act(np.concatenate([seen, done]).astype(np.float32))[0])
             for seen, done in zip(bad.observation, bad.action)]
    assert max(risks[-5:]) > guard.risk.calibration.threshold
    assert max(risks[:30]) < min(risks[-5:])


@pytest.mark.parametrize(('columns', 'end', 'failed'), [
    ({}, 60, False),
    ({'terminated': np.arange(60) == 59}, 60, False),  # with success
    ({'terminated': np.arange(60) == 59, 'success': np.zeros(60, bool)}, 60, True),
    ({'origin': np.where(np.arange(60) == 30, Origin.NOBODY, Origin.AUTONOMOUS)}, 30, True),
    ({'origin': np.where(np.arange(60) < 40, Origin.AUTONOMOUS, Origin.INTERVENTION)}, 40, True),
    ({'origin': np.where(np.arange(60) < 10, Origin.NOBODY, Origin.AUTONOMOUS)}, 60, False),
    ({'origin': np.full(60, Origin.DEMONSTRATION)}, 60, False),
    ({'origin': None}, 60, False)])
def test_what_counts_as_a_failure(columns, end: int, failed: bool) -> None:
    found = label(episode(0, **columns).batch, 0.9)
    assert (len(found.asked), found.failed) == (end, failed)
    expected = 0.9 ** np.arange(end - 1, -1, -1) if failed else np.zeros(end)
    np.testing.assert_allclose(found.target, expected, rtol=1e-6)


def test_pairs_are_ranked() -> None:
    assert ranked_right(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 1.0
    assert ranked_right(np.array([1.0]), np.array([1.0, 1.0])) == 0.5
    assert ranked_right(np.array([0.0, 2.0]), np.array([1.0, 3.0])) == 0.25


@pytest.mark.parametrize(('options', 'count', 'words'), [
    ({}, 30, 'leaves 15 for the thresholds, and a rate of false alarms of 0.05 .* needs 19'),
    ({'false_alarms': 0.01}, 100, 'needs 99 at least'),
    ({'fit_share': 0.01}, 60, 'record more'),
    ({'risk': True, 'false_alarms': 0.1}, 60, '0 of 60 episodes failed'),
    ({'output': ''}, 60, 'writes where'),
    ({'output': 'guard.yaml'}, 60, r'\.json file')])
def test_what_is_refused(tmp_path, options, count: int, words: str) -> None:
    given = {'output': str(tmp_path / 'guard.json'), **options}
    with pytest.raises(ConfigError, match=words):
        calibrate(CalibrateOptions(**given), calm(count), CONTRACT, [])
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path) -> None:
    there = tmp_path / 'guard.risk.onnx'
    there.write_text('mine')
    with pytest.raises(ConfigError, match=r'guard\.risk\.onnx exists'):
        calibrate(CalibrateOptions(output=str(tmp_path / 'guard.json'), risk=True), calm(50),
                  CONTRACT, [])
    assert there.read_text() == 'mine'
