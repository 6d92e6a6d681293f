# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The price of costs and risks: what is learned from by hand, and a problem whose answer is known.

The problem is that of ``test_constraint.py``: at a fixed price p the best mean action is 1 - p/2.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.algorithms.constraint import ConstraintConfig, Penalty, PenaltyConfig
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import CheckpointError, ConfigError, TrainingError
from rl_nodes.core.resources import find_config, find_urdf
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.envs.vector_env import SimVectorEnv
from rl_nodes.inference.risk import load_risk
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.safety.guard_file import parse_guard
from rl_nodes.tasks import load_task
from rl_nodes.training import experiment, settings
from rl_nodes.training.guarding import calibrate, CalibrateOptions
from rl_nodes.training.settings import load_settings, make_learner
from rl_nodes.training.sources import contract_of
from test_constraint import Costly, run, SETTINGS
from test_guarding import calm, CONTRACT, DONE, episode, OBSERVED

ONES = np.ones(6, np.float32)


@pytest.fixture(scope='module')
def guard(tmp_path_factory):
    """Return the file of a guard with a risk network."""
    folder = tmp_path_factory.mktemp('guard')
    episodes = [*calm(100), *(episode(500 + i, fails=True) for i in range(30))]
    return calibrate(CalibrateOptions(output=str(folder / 'guard.json'), risk=True,
                                      false_alarms=0.1, horizon_s=0.2), episodes, CONTRACT, [])[0]


def risks(guard, batch):
    """Return what the network itself says of the executed actions."""
    file = parse_guard(guard.read_bytes(), CONTRACT, 'it')
    network = PolicyRuntime(load_risk(guard.with_name(file.risk.file), file.risk.sha256, CONTRACT))
    return np.array([network.act(np.concatenate(row).astype(np.float32))[0]
                     for row in zip(batch.observation, batch.action)])


def steps(cost=None):
    """Return six steps towards a failure, each with a reward of 1."""
    batch = episode(900, fails=True).batch
    return TransitionBatch(**{name: column[-6:] if name != 'reward' else ONES
                              for name, column in batch.columns().items() if name != 'origin'},
                           cost=cost)


def learner_of(algorithm, guard, **changes):
    return make_learner(load_settings(algorithm, {
        'learner.penalty.guard': str(guard), 'learner.penalty.risk_coefficient': '4',
        **changes}), CONTRACT, 0)


def test_every_part_by_hand():
    penalty = Penalty(PenaltyConfig(cost='spent', cost_coefficient=0.5, guard='g',
                                    risk_coefficient=3.0), lambda seen, done: seen[:, 0])
    seen = np.array([[0.0], [0.5], [1.0]], np.float32)
    assert penalty.of(seen, seen, np.array([2.0, 4.0, 0.0])).tolist() == [1.0, 3.5, 3.0]
    with pytest.raises(TrainingError, match=r"costs 'spent'.*do not say"):
        penalty.of(seen, seen, None)


def test_stored_rewards_are_less_the_risk_and_those_that_came_stay_raw(guard):
    learner, batch = learner_of('sac', guard), steps()
    assert learner.observe(batch) == 6
    wanted = risks(guard, batch)
    assert wanted.max() > 0.5 > wanted.min()
    np.testing.assert_allclose(learner.buffer.state_dict()['reward'][:, 0], 1 - 4 * wanted,
                               rtol=1e-6)
    assert (batch.reward == 1.0).all()
    assert learner.metrics()['penalty'] == pytest.approx(4 * wanted.mean())


def test_a_rollout_is_learned_from_less_the_risk_of_its_commands(guard):
    learner, batch = learner_of('ppo', guard), steps()
    no = np.zeros((3, 2), bool)
    shaped = batch.action.astype(np.float32).reshape(3, 2, DONE)
    rollout = Rollout(batch.observation.astype(np.float32).reshape(3, 2, OBSERVED), shaped,
                      ONES.reshape(3, 2), no, no, ~no, np.zeros((2, OBSERVED), np.float32),
                      np.zeros((0, OBSERVED), np.float32), 0, np.zeros((2, 0), np.float32))
    commands = learner.command(shaped.reshape(6, DONE))
    wanted = risks(guard, replace(batch, action=commands)).reshape(3, 2)
    np.testing.assert_allclose(learner._penalised(rollout), 1 - 4 * wanted, rtol=1e-6)
    assert (rollout.reward == 1.0).all()


def test_a_step_that_is_not_finite_is_refused_and_others_are_stored(guard):
    learner, batch = learner_of('sac', guard), steps()
    seen = batch.observation.copy()
    seen[2, 0] = np.nan
    batch = replace(batch, observation=seen)
    assert learner.observe(batch) == 5
    assert learner.buffer.refused == 1


def test_a_price_and_a_limit_may_be_of_the_same_cost(small_sac):
    learner = small_sac(constraint=ConstraintConfig(cost='spent', initial_multiplier=2.0))
    learner.penalty = Penalty(PenaltyConfig(cost='spent', cost_coefficient=0.5))
    zeros, no, numbers = np.zeros((64, 2), np.float32), np.zeros(64, bool), np.arange(64)
    learner.observe(TransitionBatch(
        zeros, zeros[:, :1], zeros[:, :1], np.ones(64, np.float32), zeros, no, no, no, no,
        numbers, numbers, numbers, cost=np.full(64, 4.0, np.float32)))
    assert set(learner._draw().reward.tolist()) == {1.0 - 0.5 * 4.0 - 2.0 * 4.0}


@pytest.mark.parametrize(('algorithm', 'count'), [
    ('ppo', 12_000), pytest.param('sac', 4000, marks=pytest.mark.slow)])
def test_the_best_action_at_a_price_is_the_known_one(tmp_path, monkeypatch, algorithm, count):
    text = SETTINGS[algorithm]
    start = text.index('  constraint:')
    monkeypatch.setitem(SETTINGS, algorithm, text[:start]
                        + '  penalty: {{cost: spent, cost_coefficient: 1.2}}\n')
    rows, result = run(tmp_path / 'run', algorithm, count)
    late = [row for row in rows if 'penalty' in row][-5:]
    assert np.mean([row['cost'] for row in late]) == pytest.approx(1 - 1.2 / 2, abs=0.1)
    assert np.mean([row['penalty'] for row in late]) == pytest.approx(1.2 * 0.4, abs=0.12)
    assert result.evaluation.costs[0] == pytest.approx(0.4, abs=0.1)
    assert result.evaluation.mean_return == pytest.approx(-0.36, abs=0.1), 'not less the price'


def test_another_guard_of_the_same_name_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, 'risk_in', lambda guard, contract: lambda seen, done: done[:, 0])
    for digest, goes_on in (('first', False), ('first', True), ('second', True)):
        monkeypatch.setattr(experiment, 'read_guard',
                            lambda path, contract, digest=digest: SimpleNamespace(digest=digest))
        words = {'learner.penalty.guard': 'g.json'}
        if digest == 'second':
            with pytest.raises(CheckpointError, match='guard'):
                run(tmp_path / 'run', 'sac', 160, resume=goes_on, changes=words)
        else:
            run(tmp_path / 'run', 'sac', 160 if goes_on else 80, resume=goes_on, changes=words)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'learner.penalty.guard': 'nowhere.json'}, 'nowhere.json cannot be read'),
    ({'learner.penalty.guard': "''"}, 'coefficient and nothing'),
    ({'learner.penalty.cost': 'a', 'learner.constraint.cost': 'b'}, 'a run has one cost')])
def test_what_is_refused(guard, changes, message):
    with pytest.raises((ConfigError, TrainingError), match=message):
        learner_of('sac', guard, **changes)


def test_a_guard_without_a_risk_network_and_one_of_another_task_are_refused(tmp_path, guard):
    plain, _ = calibrate(CalibrateOptions(output=str(tmp_path / 'plain.json')), calm(50),
                         CONTRACT, [])
    with pytest.raises(ConfigError, match=r'no risk network.*risk:=true'):
        learner_of('sac', plain)
    elsewhere: Contract = contract_of(Costly(), 'costly')
    asked = load_settings('sac', {'learner.penalty.guard': str(guard)})
    with pytest.raises(ConfigError, match='made for arm doing reach'):
        make_learner(asked, elsewhere, 0)


def test_dqn_takes_no_penalty():
    with pytest.raises(ConfigError, match='penalty'):
        load_settings('dqn', {'learner.penalty.cost': 'spent'})


def test_environments_tell_what_the_robots_safety_costs(tmp_path):
    robot = tmp_path / 'arm.yaml'
    source = find_config('robots', 'arm')
    robot.write_text(source.read_text().replace(
        'urdf: arm.urdf', f'urdf: {find_urdf("arm.urdf", source)}').replace(
        '\nsafety:\n', '\nsafety:\n  costs:\n'
        '    - {name: fought, counts: limited, budget_s: 1.0}\n'
        '    - {name: near, counts: near, clearance_m: 5.0, budget_s: 1.0}\n'))
    period_s = 1 / load_task('arm', 'reach').contract.rate_hz
    env = SimEnv(str(robot), 'reach')
    env.reset(seed=0)
    for _ in range(60):  # until a joint is at its limit
        info = env.step(env.action_space.high)[4]
    assert info['limited']
    assert (info['cost/fought'], info['cost/near']) == pytest.approx((period_s, period_s))
    env.close()
    several = SimVectorEnv(2, str(robot), 'reach')
    try:
        several.reset(seed=0)
        info = several.step(np.zeros((2, DONE), np.float32))[4]
        assert info['cost/near'] == pytest.approx([period_s, period_s])
        assert (info['cost/fought'] == 0).all()
    finally:
        several.close()
