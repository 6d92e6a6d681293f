# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The loop's decisions, with a scripted source and an exporter that costs nothing."""

import math
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.training import session as session_module
from rl_nodes.training.evaluation import Evaluation
from rl_nodes.training.limits import Limits, Target
from rl_nodes.training.off_policy import run
from rl_nodes.training.session import Outputs, Session
from rl_nodes.training.settings import LoopConfig


def transitions(first, count):
    rng = np.random.default_rng(first)
    index = np.arange(first, first + count)
    flags = np.zeros(count, bool)
    action = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
    observation = rng.normal(size=(count, 2)).astype(np.float32)
    return TransitionBatch(observation, action, action, -np.ones(count, np.float32), observation,
                           flags, index % 5 == 4, flags, flags, index, index // 5, index % 5)


class ScriptedSource:
    """Gives ``count`` transitions per call and adopts policies when told to."""

    wants_policies = True

    def __init__(self, count=10, adopts=True):
        self.count, self.adopts, self.calls, self.adopted, self.published = count, adopts, 0, 0, []

    def collect(self):
        self.calls += 1
        return transitions(self.calls * self.count, self.count) if self.count else None

    def publish(self, bundle, version, updates):
        self.published.append((version, updates))
        if self.adopts:
            self.adopted = updates

    def policy_updates_in_use(self):
        return self.adopted

    def metrics(self):
        return {}

    def close(self):
        pass


class Bundle:
    """Stands for a policy bundle: the loop only carries it about."""

    def __init__(self, version):
        self.manifest = SimpleNamespace(version=version)
        self.onnx = b''

    def save(self, path):
        self.path = path


class Exporter:
    def export(self, module, version, updates, recorded_observations):
        assert np.isfinite(recorded_observations).all()
        return Bundle(version)


@pytest.fixture
def make_session(small_sac, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, '_keep_best',
                        lambda self, evaluation, bundle: setattr(self, 'best',
                                                                 (evaluation, bundle)))
    alarms = []

    def make(source, limits, evaluator=None, **config):
        outputs = Outputs(tmp_path, alarm=alarms.append)
        session = Session(small_sac(), source, Exporter(), LoopConfig(**config), limits, outputs,
                          evaluator or (lambda bundle, seeds: evaluation(0.0)))
        session.alarms = alarms
        return session
    return make


def evaluation(rate, seeds=(0,)):
    return Evaluation(seeds=tuple(seeds), returns=(rate,), discounted_returns=(rate,),
                      lengths=(1,), successes=(bool(rate),), final_info={})


def test_updates_follow_the_ratio_from_learning_starts_on(make_session):
    session = make_session(ScriptedSource(10), Limits(steps=200), updates_per_step=0.5)
    result = run(session)
    assert (result.reason, result.steps) == ('steps', 200)
    # 50 transitions come first, of which the last 10 already count: 16 batches of 10 at 0.5.
    assert result.updates == 80


def test_updates_per_round_bounds_a_round_and_the_rest_is_done_later(make_session):
    session = make_session(ScriptedSource(100), Limits(steps=300), updates_per_round=7)
    assert run(session).updates == 21
    assert session.debt == pytest.approx(300 - 21)


def test_learner_waits_for_a_policy_that_nobody_adopts(make_session):
    source = ScriptedSource(10, adopts=False)
    session = make_session(source, Limits(steps=400), max_staleness_updates=30)
    assert run(session).updates == 30


def test_first_policy_is_published_at_once_and_then_every_so_many_updates(make_session):
    source = ScriptedSource(10)
    run(make_session(source, Limits(steps=200), publish_every_updates=50, publish_every_s=1e6))
    assert source.published[0] == (1, 0)
    assert [updates for _, updates in source.published] == [0, 50, 100, 150]
    versions = [version for version, _ in source.published]
    assert versions == sorted(set(versions))


def test_silence_is_reported_and_survived(make_session, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def monotonic():
        clock.now += 0.01
        return clock.now

    monkeypatch.setattr(session_module.time, 'monotonic', monotonic)
    session = make_session(ScriptedSource(0), Limits(time_s=12.0), source_timeout_s=5.0)
    monkeypatch.setattr('rl_nodes.training.off_policy.IDLE_S', 0.0)
    assert run(session).reason == 'time'
    assert 1 <= len(session.alarms) <= 2
    assert 'no experience for 5 s' in session.alarms[0]


def test_divergence_is_rolled_back_and_training_goes_on(make_session):
    session = make_session(ScriptedSource(10), Limits(steps=300), snapshot_every_updates=20)
    original, done = session.learner.update, []

    def update():
        done.append(None)
        if len(done) == 60:
            session.learner.critics.flat.fill_(math.nan)
        original()

    session.learner.update = update
    run(session)
    assert session.rollbacks == 1
    assert 'DIVERGED (1 of at most 3)' in session.alarms[0]
    assert session.learner.is_finite()


def test_gives_up_when_it_always_diverges(make_session):
    session = make_session(ScriptedSource(10), Limits(steps=10_000))

    def update():
        raise TrainingError('loss is nan')

    session.learner.update = update
    with pytest.raises(TrainingError, match='gave up after 4 divergences; the last: loss is nan'):
        run(session)


def test_target_is_confirmed_on_fresh_episodes(make_session):
    asked = []

    def evaluator(bundle, seeds):
        asked.append(tuple(seeds))
        scheduled = seeds[0] < 2_000_000
        # The first time the scheduled episodes were only lucky.
        return evaluation(1.0 if scheduled or len(asked) > 2 else 0.0, seeds)

    session = make_session(
        ScriptedSource(10), Limits(steps=1000, target=Target('success_rate', 0.9)), evaluator,
        evaluate_every_steps=100, evaluation_episodes=3, confirmation_episodes=4)
    result = run(session)
    assert (result.reason, result.steps) == ('target', 200)
    assert [len(seeds) for seeds in asked] == [3, 4, 3, 4]
    assert asked[0] == asked[2]
    assert not set(asked[1]) & set(asked[3])
    assert result.evaluation.success_rate == 1.0


def test_best_policy_is_kept(make_session):
    rates = iter([0.0, 1.0, 0.0, 0.0, 1.0])
    session = make_session(ScriptedSource(10), Limits(steps=300),
                           lambda bundle, seeds: evaluation(next(rates), seeds),
                           evaluate_every_steps=100)
    run(session)
    assert session.best[0].success_rate == 0.0  # judged on fresh episodes at the end
    assert session.best[1].manifest.version < session.version


def test_stop_event_ends_the_run(make_session):
    stop = threading.Event()
    stop.set()
    assert run(make_session(ScriptedSource(10), Limits()), stop).reason == 'stopped'


def test_refused_transitions_raise_an_alarm(make_session):
    session = make_session(ScriptedSource(10), Limits(steps=10))
    batch = transitions(0, 4)
    batch.reward[1] = np.nan
    session.take(batch)
    session.take(batch)
    assert session.alarms == ['1 transitions refused: not finite']  # not for each of them


def test_nothing_but_refused_transitions_end_a_run(make_session):
    session = make_session(ScriptedSource(10), Limits())
    batch = transitions(0, 100)
    batch.reward[:] = np.inf
    with pytest.raises(BackendError, match='the last 1,000 transitions were not finite'):
        for _ in range(10):
            session.take(batch)


def test_target_text_and_missing_metric():
    target = Target('success_rate', 0.9)
    no_success = msgspec.structs.replace(evaluation(1.0), successes=())
    assert str(target) == 'success_rate >= 0.9'
    assert not target.reached(no_success)
