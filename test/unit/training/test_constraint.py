# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A limit on costs, from its multiplier alone to whole runs on a problem whose answer is known.

One step per episode, reward -(a - 1)^2, cost a: the best mean action under the multiplier lambda
is 1 - lambda / 2 whatever the noise, so a limit d below 1 needs lambda = 2 (1 - d).
"""

import io
from pathlib import Path

import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
from rl_nodes.algorithms.constraint import Constraint, ConstraintConfig
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
from rl_nodes.runs.record import read_rows
from rl_nodes.training.checkpoint import CheckpointStore
from rl_nodes.training.evaluation import Evaluation
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.limits import Limits, Target
from rl_nodes.training.progress import Progress
from rl_nodes.training.session import Outputs, Session
from rl_nodes.training.settings import load_settings, LoopConfig, make_learner, ScheduleConfig
from rl_nodes.training.sources import contract_of, costs
from test_killed_and_resumed import assert_same

ENV = 'rl_nodes_test/Costly-v0'
LIMIT, MULTIPLIER = 0.4, 1.2
LOOP = """
loop: {{n_envs: {n_envs}, evaluate_every_steps: {every}, evaluate_every_s: 1000.0,
       evaluation_episodes: 1, confirmation_episodes: 1, log_every_s: 0.001}}
"""
SETTINGS = {
    'ppo': """
algorithm: ppo
learner:
  hidden: [16]
  rollout_steps: 32
  batch_size: 64
  epochs: 4
  learning_rate: 0.01
  initial_log_std: -1.5
  discount: 0.9
  normalize_reward: false
  normalize_observation: false
  constraint: {{cost: spent, limit: {limit}, episodes: 100, integral_gain: 0.1,
               proportional_gain: 1.0}}
""",
    'sac': """
algorithm: sac
learner:
  hidden: [32]
  batch_size: 64
  buffer_size: 20000
  learning_starts: 64
  actor_learning_rate: 0.003
  critic_learning_rate: 0.003
  temperature_learning_rate: 0.003
  initial_temperature: 0.1
  normalize_observation: false
  reduced_precision: false
  constraint: {{cost: spent, limit: {limit}, episodes: 64, integral_gain: 0.04,
               proportional_gain: 1.0}}
""",
}


class Costly(gymnasium.Env):
    """See the file's header."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-3.0, 3.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        a = float(action[0])
        return np.zeros(1, np.float32), -(a - 1.0) ** 2, True, False, {'spent': a}


gymnasium.register(ENV, Costly)


def run(folder, algorithm, steps, limit=LIMIT, loop='', **options):
    """Train and return the rows that were logged, and what came of it."""
    file = folder.parent / f'{algorithm}.yaml'
    file.write_text((SETTINGS[algorithm] + LOOP).format(
        limit=limit, n_envs=8, every=10**6).replace('log_every', f'{loop}log_every'))
    result = train(TrainOptions(env=ENV, algorithm=str(file), steps=steps, film=False,
                                run_dir=str(folder), **options), Progress(io.StringIO()))
    return [row for row in read_rows(folder / 'metrics.jsonl') if row['kind'] == 'train'], result


def test_the_multiplier_of_a_perfect_learner_is_the_known_one():
    constraint = Constraint(ConstraintConfig(cost='spent', limit=LIMIT, integral_gain=0.3,
                                             episodes=2))
    cost, episodes = 0.0, 0
    for _ in range(200):
        cost, episodes = cost + 1.0 - constraint.multiplier / 2, episodes + 1
        constraint.update(cost, episodes, 7 * episodes)
    assert constraint.multiplier == pytest.approx(MULTIPLIER)


def test_every_gain_by_hand():
    constraint = Constraint(ConstraintConfig(
        cost='spent', limit=1.0, per='step', episodes=1, integral_gain=0.5,
        proportional_gain=0.25, derivative_gain=2.0, greatest_multiplier=5.0))
    constraint.update(6.0, 1, 2)        # 3 a step: J - d = 2, I = 1
    assert constraint.multiplier == 1.0 + 0.5
    constraint.update(6.0 + 7.0, 2, 4)  # 3.5 a step: J - d = 2.5, I = 2.25, risen by 0.5
    assert constraint.multiplier == 2.25 + 0.625 + 1.0
    constraint.update(6.0 + 7.0 + 100.0, 3, 6)
    assert constraint.multiplier == 5.0
    copy = Constraint(constraint.config)
    copy.load_state_dict(constraint.state_dict())
    for each in constraint, copy:
        each.update(113.0, 4, 8)        # nothing more: J - d = -1, I = 5 - 0.5
        assert each.multiplier == 4.5 - 0.25
        each.update(113.0, 4, 8)
        assert each.multiplier == 4.5 - 0.25


def learn(algorithm, limit, rounds, tmp_path):
    """Return what each round has cost on average, and the multiplier after it."""
    file = tmp_path / f'{algorithm}.yaml'
    file.write_text((SETTINGS[algorithm] + LOOP).format(limit=limit, n_envs=8, every=1))
    env = Costly()
    learner = make_learner(load_settings(str(file)), contract_of(env, 'costly'), 0)
    session = Session(learner, None, None, LoopConfig(), Limits(), Outputs(tmp_path), None)
    count, history = 256 if algorithm == 'ppo' else 16, []
    nothing, yes, no = (np.zeros((count, 1), np.float32), np.ones(count, bool),
                        np.zeros(count, bool))
    for number in range(rounds):
        action = learner.act(nothing)
        a = np.clip(learner.command(action), -3.0, 3.0)[:, 0] if algorithm == 'ppo' \
            else action[:, 0]
        reward = -(a - 1.0) ** 2
        if algorithm == 'ppo':
            rollout = Rollout(nothing[None], action[None], reward[None], yes[None], no[None],
                              yes[None], nothing, nothing[:0], learner.updates, nothing[:, :0],
                              tuple((each, 1, False) for each in reward.tolist()), a[None],
                              tuple(a.tolist()))
            session.take_rollout(rollout)
            learner.update(rollout)
        else:
            index = np.arange(count) + count * number
            session.take(TransitionBatch(nothing, action, action, reward, nothing, yes, no, no,
                                         no, index, index, 0 * index, cost=a))
            if learner.ready():
                for _ in range(2):
                    learner.update()
        history.append((a.mean(), learner.constraint.multiplier))
    return np.array(history)


@pytest.mark.parametrize(('algorithm', 'rounds'), [
    ('ppo', 200), pytest.param('sac', 1000, marks=pytest.mark.slow)])
def test_the_cost_goes_to_the_limit_and_the_multiplier_to_its_known_value(
        tmp_path, algorithm, rounds):
    cost, multiplier = learn(algorithm, LIMIT, rounds, tmp_path)[rounds * 2 // 3:].mean(0)
    assert cost == pytest.approx(LIMIT, abs=0.1)
    assert multiplier == pytest.approx(MULTIPLIER, abs=0.2)


@pytest.mark.parametrize(('algorithm', 'rounds'), [
    ('ppo', 60), pytest.param('sac', 300, marks=pytest.mark.slow)])
def test_without_a_need_for_it_the_multiplier_stays_zero(tmp_path, algorithm, rounds):
    history = learn(algorithm, 2.5, rounds, tmp_path)
    assert not history[:, 1].any()


@pytest.mark.parametrize(('algorithm', 'steps'), [
    ('sac', 480), pytest.param('ppo', 1024, marks=pytest.mark.slow)])
def test_a_resumed_run_goes_on_bit_by_bit(tmp_path, algorithm, steps):
    keep = f'checkpoint_every_steps: {steps // 4}, '
    states = []
    for folder, parts in ((tmp_path / 'whole', (steps,)), (tmp_path / 'two', (steps // 2, steps))):
        for part in parts:
            run(folder, algorithm, part, limit=-1.0, loop=keep, resume=part != parts[0])
        state, _ = CheckpointStore(folder / 'checkpoints').load_newest()
        states.append({name: state[name] for name in ('learner', 'buffer', 'episodes')})
    assert states[0]['learner']['constraint']['multiplier'] > 0.0
    assert_same(*states)


def test_costs_of_steps_that_ended_an_episode_are_those_of_the_old_one():
    info = {'spent': np.array([1.0, 9.0]), '_spent': np.array([True, True]),
            'final_info': {'spent': np.array([0.0, 2.0]), '_spent': np.array([False, True])}}
    assert costs(info, 'spent', 2).tolist() == [1.0, 2.0]
    flags = {'limited': np.array([True, False])}
    assert costs(flags, 'limited', 2).tolist() == [1.0, 0.0]


@pytest.mark.parametrize('info', [
    {'spent': np.array([1.0, 0.0]), '_spent': np.array([True, False])},
    {'spend': np.array([1.0, 0.0])}])
def test_a_step_that_does_not_say_its_cost_is_not_free(info):
    with pytest.raises(TrainingError, match=r'(?s)to cost .spent.*info has spen'):
        costs(info, 'spent', 2)


def test_old_transitions_are_penalised_by_the_present_multiplier(small_sac):
    learner = small_sac(constraint=ConstraintConfig(cost='spent'))
    with pytest.raises(TrainingError, match='column cost'):
        learner.observe(transitions(None))
    learner.observe(transitions(np.full(64, 2.0, np.float32)))
    for multiplier in (0.0, 0.5, 3.0):
        learner.constraint.multiplier = multiplier
        assert set(learner._draw().reward.tolist()) == {1.0 - 2.0 * multiplier}


def transitions(cost):
    """Return 64 steps that each give a reward of 1."""
    zeros, no, numbers = np.zeros((64, 2), np.float32), np.zeros(64, bool), np.arange(64)
    return TransitionBatch(zeros, zeros[:, :1], zeros[:, :1], np.ones(64, np.float32), zeros, no,
                           no, no, no, numbers, numbers, numbers, cost=cost)


def test_the_best_policy_keeps_the_limit_first(small_sac):
    session = Session(small_sac(constraint=ConstraintConfig(cost='spent', limit=2.0)), None, None,
                      ScheduleConfig(), Limits(), Outputs(Path('unused')), None)
    dear, fair, dull = (Evaluation((0,), (total,), (total,), (1,), (), {}, (cost,))
                        for total, cost in ((9.0, 3.0), (5.0, 2.0), (4.0, 0.0)))
    assert sorted((fair, dear, dull), key=session._rank) == [dear, dull, fair]
    target = Target('return', 1.0)
    assert [session._reached(target, each) for each in (dear, fair)] == [False, True]


def test_a_limit_without_a_cost_is_refused():
    settings = load_settings('ppo', {'learner.constraint.limit': '3.0'})
    with pytest.raises(TrainingError, match='learner.constraint.cost'):
        make_learner(settings, None, 0)


def test_dqn_takes_no_constraint():
    with pytest.raises(ConfigError, match='constraint'):
        load_settings('dqn', {'learner.constraint.cost': 'spent'})
