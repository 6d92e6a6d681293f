# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The pages of the methods name every metric that is written, and none that never is."""

from unittest.mock import Mock

from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from method_pages import DOCS, never_written, undocumented, written_to
import numpy as np
import pytest
from rl_nodes.algorithms.on_policy import OnPolicyLearner
from rl_nodes.core.origin import Origin
from rl_nodes.core.types import TransitionBatch
from rl_nodes.tasks import load_task
from rl_nodes.training import off_policy, on_policy
from rl_nodes.training.cloning import clone, CloneOptions
from rl_nodes.training.evaluation import evaluate
from rl_nodes.training.fresh_rows import FreshRollouts
from rl_nodes.training.limits import Limits
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.session import Outputs, Session
from rl_nodes.training.settings import make_learner, METHODS, settings_from
from rl_nodes.training.sources import contract_of, EnvSource

METHOD_PAGES = DOCS / 'algorithms'
SMALL = {
    'a2c': {'rollout_steps': 4}, 'ppo': {'rollout_steps': 4, 'epochs': 1},
    'recurrent_ppo': {'rollout_steps': 4, 'epochs': 1, 'memory_size': 4},
    'trpo': {'rollout_steps': 4, 'critic_epochs': 1}, 'reinforce': {'episodes_per_rollout': 1},
    'recurrent_sac': {'memory_size': 4, 'sequence_length': 4, 'burn_in': 2}}
VARIANTS = {'sac': [{'variant': 'v_network'}], 'ppo': [{'variant': 'kl_penalty'}],
            'recurrent_ppo': [{'variant': 'kl_penalty'}],
            'dqn': [{'double': True, 'dueling': True, 'n_step': 3, 'prioritized': True,
                     'categorical': True, 'noisy': 'factorised'}]}
COSTLY = {'constraint': {'cost': 'distance', 'limit': 100.0, 'episodes': 1},
          'penalty': {'cost': 'distance', 'cost_coefficient': 0.1}}


class Names:
    """Stands for the sink of metrics: keeps their names."""

    def __init__(self):
        self.found = set()

    def write(self, kind, step, wall_s, values):
        self.found |= {f'{kind}/{name}' for name in values}

    def write_histograms(self, step, values):
        self.found |= set(values)


@pytest.fixture
def written(point_env, tmp_path, monkeypatch, one_thread):
    """Return a function that trains for some updates and returns the names that were written."""
    monkeypatch.setattr(Session, 'export', lambda session: session)  # exports have their own tests
    monkeypatch.setattr(Session, '_keep_best', lambda session, evaluation, bundle: setattr(
        session, 'best', (evaluation, bundle)))

    class Choices(point_env):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Discrete(3)

        def step(self, action):
            return super().step([action - 1.0])

    class Still:
        def reset(self):
            pass

        def act(self, observation):
            return np.zeros(1)

    def run(method, **changes):
        make = Choices if METHODS[method].actions == ('discrete',) else point_env
        small = {'hidden': [8], 'normalize_observation': False} | SMALL.get(method, {})
        if method in ('sac', 'td3', 'ddpg', 'recurrent_sac', 'dqn'):
            small |= {'batch_size': 8, 'buffer_size': 100, 'learning_starts': 8}
        if method != 'dqn':
            small |= COSTLY
        settings = settings_from({'algorithm': method, 'learner': small | changes, 'loop': {
            'evaluation_episodes': 1, 'confirmation_episodes': 1, 'log_every_s': 1e6,
            'curriculum': {'schedule': 'linear', 'steps': 10}}}, 'here')
        env = make()
        learner = make_learner(settings, contract_of(env, 'point'), 0)
        envs = SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
        is_on_policy = isinstance(learner, OnPolicyLearner)
        source = (RolloutSource if is_on_policy else EnvSource)(
            envs, learner, 0, cost=settings.cost)
        names = Names()
        session = Session(
            learner, source, None, settings.loop, Limits(steps=40),
            Outputs(tmp_path, metrics=names, alarm=pytest.fail),
            lambda bundle, seeds: evaluate(env, Still(), seeds, cost=settings.cost))
        (on_policy if is_on_policy else off_policy).run(session)
        assert learner.updates >= 2
        return names.found
    return run


@pytest.mark.parametrize('method', METHODS)
def test_what_a_method_writes_is_what_its_page_says(written, method):
    found = written(method)
    for variant in VARIANTS.get(method, []):
        found |= written(method, **variant)
    page = METHOD_PAGES / f'{method}.md'
    assert not undocumented(found, page)
    assert not never_written(found, page)


@pytest.mark.parametrize('page', ['training', 'algorithms/actor_critic', 'algorithms/on_policy',
                                  'algorithms/constraints'])
def test_what_shared_pages_say_is_written(written, page):
    graph = FreshRollouts(Mock(), Mock(rollout_length=1))
    names = written('sac') | written('ppo') | {f'train/{name}' for name in graph.metrics()}
    assert not never_written(names, DOCS / f'{page}.md')


def test_what_cloning_writes_is_what_its_page_says(tmp_path, one_thread):
    contract, count = load_task('cartpole', 'cartpole_balance').contract, 40
    rng, flags, index = np.random.default_rng(0), np.zeros(count, bool), np.arange(count)
    seen = rng.normal(size=(count, len(contract.observation.elements))).astype(np.float32)
    action = rng.uniform(-1.0, 1.0, (count, 1)).astype(np.float32)
    (tmp_path / 'quick.yaml').write_text('{algorithm: bc, learner: {hidden: [8], epochs: 2}}')
    result = clone(
        CloneOptions('it', str(tmp_path / 'quick.yaml'), str(tmp_path / 'run'),
                     evaluation_episodes=0),
        TransitionBatch(seen, action, action, rng.random(count, np.float32), seen, flags, flags,
                        flags, flags, index, index // 10, index % 10,
                        origin=np.full(count, Origin.DEMONSTRATION)), contract, [])
    found = written_to(result.run_dir)
    assert not undocumented(found, METHOD_PAGES / 'bc.md')
    assert not never_written(found, METHOD_PAGES / 'bc.md')
    assert result.policy.is_file()
