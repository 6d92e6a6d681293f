# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts from robots that go on: what counts, where they are cut, and the loop around them."""

from collections.abc import Callable
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.recurrent_ppo import RecurrentPpo, RecurrentPpoConfig
from rl_nodes.algorithms.reinforce import Reinforce, ReinforceConfig
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
from rl_nodes.training import session as session_module
from rl_nodes.training.fresh_rows import for_robots, FreshRollouts, FreshRows
from rl_nodes.training.limits import Limits
from rl_nodes.training.on_policy import run
from rl_nodes.training.session import Outputs, Session, VERSIONS_SKIPPED
from rl_nodes.training.settings import load_settings, ScheduleConfig
import torch

NO_POLICY, OLD, NEW = -1, 3, 4


def contract_of(kind: str = 'joint_velocity') -> Contract:
    spec = ArraySpec('observation', ('a', 'b', 'c'), ('1',) * 3, (None,) * 3, (None,) * 3)
    action = ArraySpec('action', ('x', 'y'), ('1',) * 2, (-2.0, 0.0), (2.0, 1.0))
    return Contract('', 'test', 0.0, 'velocity', (), spec, action, kind)


def small(steps: int = 6, **more) -> Ppo:
    return Ppo(contract_of(), PpoConfig(hidden=(8,), rollout_steps=steps, batch_size=16,
                                        censored=True, **more), 0)


def remembering(steps: int = 6, **more) -> RecurrentPpo:
    return RecurrentPpo(contract_of(), RecurrentPpoConfig(
        hidden=(8,), memory_size=4, rollout_steps=steps, batch_size=16, censored=True, **more), 0)


def steps_of(episode: int, steps: list[int], version: int = NEW, end: str = '',
             learner: Ppo | None = None, cost: bool = False) -> TransitionBatch:
    """Return steps of an episode, each observing its number and that of its episode."""
    count, number = len(steps), np.array(steps)

    def seen(at: np.ndarray) -> np.ndarray:
        return np.stack([np.full(count, episode), at, np.zeros(count)], 1).astype(np.float32)

    last = number == max(steps)
    action = np.zeros((count, 2), np.float32)
    if learner is not None:
        action = learner.command(learner.act(seen(number)))
    return TransitionBatch(
        seen(number), np.zeros_like(action), action, np.ones(count, np.float32), seen(number + 1),
        last & (end == 'terminated'), last & (end == 'truncated'), last & (end == 'terminated'),
        np.zeros(count, bool), np.full(count, version), np.full(count, episode), number,
        cost=np.full(count, 0.5, np.float32) if cost else None)


def test_only_the_expected_version_is_learned_from_and_the_others_are_counted() -> None:
    rows = FreshRows(small())
    rows.expect(NEW, 77)
    rows.add(steps_of(1, [0, 1, 2], OLD))
    rows.add(steps_of(1, [3, 4], NEW))
    rows.add(steps_of(1, [5], NO_POLICY))
    assert rows.take() is None
    assert rows.pending == 2
    assert (rows.stale, rows.unowned, rows.newest) == (3, 1, NEW)
    rows.add(steps_of(1, [6, 7, 8, 9, 10], NEW, 'terminated'))
    rollout = rows.take()
    assert rollout.observation[:, 0, 1].tolist() == [3, 4, 6, 7, 8, 9]
    assert rollout.policy_version == 77
    assert rows.pending == 0
    assert rows.stale == 4, 'the eleventh step came when the rollout was complete'
    assert rollout.episodes == ((11.0, 11, True),), 'the whole episode, whoever acted'


def test_a_gap_cuts_and_what_really_came_next_stands_for_the_rest() -> None:
    rows = FreshRows(small())
    rows.expect(NEW, 0)
    rows.add(steps_of(1, [0, 1]))
    rows.add(steps_of(1, [3], end='terminated'))
    rows.add(steps_of(2, [0], end='truncated'))
    rows.add(steps_of(3, [0, 1]))
    rollout = rows.take()
    assert rollout.terminated[:, 0].tolist() == [False, False, True, False, False, False]
    assert rollout.cut[:, 0].tolist() == [False, True, False, True, False, True]
    assert rollout.cut_observation[:, :2].tolist() == [[1, 2], [2, 1], [3, 2]]


def test_robots_that_take_turns_are_kept_apart() -> None:
    rows = FreshRows(small(), n_envs=2)
    rows.expect(NEW, 0)
    for step in range(6):
        rows.add(steps_of(10, [step], end='terminated' if step == 5 else ''))
        rows.add(steps_of(11, [step]))
    rollout = rows.take()
    assert rollout.observation[:, 0, :2].tolist() == [[10, t] for t in range(6)] + [
        [11, t] for t in range(6)]
    assert rollout.cut_observation[:, :2].tolist() == [[11, 6]]


def test_whole_episodes_are_those_of_one_policy_from_beginning_to_end() -> None:
    learner = Reinforce(contract_of(), ReinforceConfig(hidden=(8,), episodes_per_rollout=2), 0)
    rows = FreshRows(learner)
    rows.expect(NEW, 0)
    rows.add(steps_of(1, [0, 1], OLD))
    rows.add(steps_of(1, [2, 3], NEW, 'terminated'))     # its beginning was another policy's
    rows.add(steps_of(2, [0, 2], NEW, 'terminated'))     # has a gap
    rows.add(steps_of(3, [0, 1, 2], NEW, 'terminated'))
    rows.add(steps_of(4, [0, 1], NEW))
    assert rows.take() is None
    rows.add(steps_of(5, [0], NEW, 'truncated'))
    rollout = rows.take()
    assert rollout.observation[:, 0, 0].tolist() == [3, 3, 3, 5]
    assert rollout.counted.all() and rollout.cut_observation.shape == (1, 3)
    assert rows.stale == 2 + 6


def test_what_remembers_is_learned_from_where_it_remembered_nothing() -> None:
    rows = FreshRows(remembering())
    rows.expect(NEW, 0)
    rows.add(steps_of(1, [3, 4], NEW))                   # what came before was not seen
    rows.add(steps_of(2, [0, 1], OLD))
    rows.add(steps_of(2, [2, 3], NEW))                   # took over from another version
    rows.add(steps_of(2, [5, 6], NEW, 'terminated'))     # behind a gap
    rows.add(steps_of(3, [0], NO_POLICY))
    rows.add(steps_of(3, [1], NEW))                      # took over from a person, but when?
    assert rows.take() is None
    rows.add(steps_of(4, [0, 1, 2], NEW, 'terminated'))  # the beginning of an episode
    rows.add(steps_of(5, [0, 1], NEW))
    rollout = rows.take()
    assert rollout.observation[:, 0, :2].tolist() == [[2, 2], [2, 3], [4, 0], [4, 1], [4, 2],
                                                      [5, 0]]
    assert rollout.cut[:, 0].tolist() == [False, True, False, False, False, True]
    assert (rows.unknown, rows.stale, rows.unowned) == (5, 3, 1)


def test_costs_of_steps_and_episodes_come_along() -> None:
    rows = FreshRows(small(steps=3))
    rows.expect(NEW, 0)
    rows.add(steps_of(1, [0, 1, 2], end='terminated', cost=True))
    rollout = rows.take()
    assert rollout.cost.tolist() == [[0.5]] * 3 and rollout.episode_costs == (1.5,)


def test_a_newer_version_makes_what_came_before_stale() -> None:
    rows = FreshRows(small())
    rows.expect(OLD, 0)
    rows.add(steps_of(1, [0, 1, 2], OLD))
    rows.expect(NEW, 10)
    assert (rows.pending, rows.stale) == (0, 3)


@pytest.mark.parametrize('make', [small, remembering])
def test_it_is_learned_from_as_if_the_environments_were_in_process(
        make: Callable[..., Ppo]) -> None:
    """Advantages, targets and log-probabilities of each step are those of one that waits."""
    learner, count, steps = make(steps=30, normalize_observation=False), 4, 30
    rng = np.random.default_rng(5)
    observation = rng.normal(size=(steps + 1, count, 3)).astype(np.float32)
    reward = rng.normal(size=(steps, count)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, count)) < 0.1
    memory, actions = learner.remembered(count), []
    for row, done in zip(observation, terminated | truncated):
        actions.append(learner.act(row))
        learner.forget(done)
    action = np.stack(actions)
    real_end = rng.normal(size=(steps, count, 3)).astype(np.float32)  # after the end of episodes
    ended = terminated | truncated
    following = np.where(ended[..., None], real_end, observation[1:])
    waited = Rollout(observation[:-1], action, reward, terminated, truncated,
                     np.ones_like(ended), observation[-1], real_end[truncated & ~terminated], 0,
                     memory)

    rows = FreshRows(learner, n_envs=count)
    rows.expect(NEW, 0)
    episode, step = np.arange(count), np.zeros(count, int)
    for t in range(steps):
        command = learner.command(action[t])
        rows.add(TransitionBatch(
            observation[t], np.zeros_like(command), command, reward[t], following[t],
            terminated[t], truncated[t], terminated[t], np.zeros(count, bool),
            np.full(count, NEW), episode.copy(), step.copy()))
        step = np.where(ended[t], 0, step + 1)
        episode = np.where(ended[t], episode + count, episode)
    heard = rows.take()

    with torch.inference_mode():
        batches = [learner.prepare(rollout, rollout.reward) for rollout in (waited, heard)]
    orders = [np.lexsort(batch.observation.numpy()[:, :3].T) for batch in batches]
    assert (np.abs(action) > 1).any() and (np.abs(action) < 1).any()
    for name in ('observation', 'log_probability', 'value', 'advantage', 'target'):
        one, other = (getattr(batch, name)[order] for batch, order in zip(batches, orders))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name, changes, kind, said', [
    ('ppo', {'learner.state_dependent_noise': '4'}, 'joint_velocity', 'state_dependent_noise'),
    ('a2c', {}, 'planar_velocity', 'joint_position_delta')])
def test_what_robots_cannot_tell_is_refused(name: str, changes: dict[str, str], kind: str,
                                            said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        for_robots(load_settings(name, changes), contract_of(kind))


def test_robots_tell_actions_as_they_are_clipped() -> None:
    assert not load_settings('trpo').learner.censored
    assert for_robots(load_settings('trpo'), contract_of()).learner.censored


class Robot:
    """A source whose robot adopts each policy so many steps after it was published."""

    def __init__(self, lag: int = 3, adopts: bool = True) -> None:
        self.acting, self.coming, self.lag, self.adopts = 0, [], lag, adopts
        self.step, self.episode, self.published, self.learner = 0, 0, [], None

    def collect(self) -> TransitionBatch | None:
        if self.coming and self.coming[0][0] <= 0 and self.adopts:
            self.acting = self.coming.pop(0)[1]
        self.coming = [(left - 1, version) for left, version in self.coming]
        row = steps_of(self.episode, [self.step], self.acting, 'truncated' if self.step == 9
                       else '', self.learner)
        self.step += 1
        if self.step == 10:
            self.step, self.episode = 0, self.episode + 1
        return row

    def publish(self, bundle: object, version: int, updates: int) -> None:
        self.published.append((version, updates))
        self.coming.append((self.lag, version))

    def policy_updates_in_use(self) -> int:
        return 0

    def set_difficulty(self, difficulty: float) -> None:
        """Do nothing."""

    def restart(self, steps: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Exporter:
    """Gives something that has a version; refuses some of them."""

    def __init__(self, refused: int = 0) -> None:
        self.refused = refused

    def export(self, module: object, version: int, updates: int,
               recorded_observations: np.ndarray) -> SimpleNamespace:
        if version <= self.refused:
            raise session_module.BundleError('not good')
        return SimpleNamespace(manifest=SimpleNamespace(version=version), save=lambda path: None)


@pytest.fixture
def conduct(tmp_path):
    """Return a function that makes a session of PPO with a robot."""
    def make(robot: Robot, exporter: Exporter | None = None, **limits) -> Session:
        learner = robot.learner = small(steps=20, normalize_observation=False)
        alarms: list[str] = []
        session = Session(learner, FreshRollouts(robot, learner), exporter or Exporter(),
                          ScheduleConfig(), Limits(**limits),
                          Outputs(tmp_path, alarm=alarms.append), None)
        session.alarms = alarms
        return session
    return make


def test_every_policy_is_published_before_the_next_rollout_and_lag_costs_steps(conduct) -> None:
    robot = Robot(lag=3)
    session = conduct(robot, steps=100)
    result = run(session)
    assert (result.reason, result.steps) == ('steps', 100)
    updates = [updates for _, updates in robot.published]
    assert updates[0] == 0 and updates == sorted(set(updates))
    assert len(updates) == 6
    assert session.source.metrics()['stale_refused'] == 5 * 3, 'three steps for each policy'
    assert not session.alarms


def test_a_policy_that_nobody_adopts_is_told_of_and_nothing_is_learned(conduct,
                                                                       monkeypatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def monotonic() -> float:
        clock.now += 0.01
        return clock.now

    monkeypatch.setattr(session_module.time, 'monotonic', monotonic)
    session = conduct(Robot(adopts=False), time_s=25.0)
    assert run(session).updates == 0
    assert 'acts with policy 0, the newest is 1' in session.alarms[0]
    assert 'no experience for 10 s' in session.alarms[0]


def test_a_policy_that_cannot_be_exported_goes_back_and_in_the_end_gives_up(conduct) -> None:
    robot = Robot()
    session = conduct(robot, Exporter(refused=2), steps=20)
    run(session)
    assert session.rollbacks == 2 and robot.published[0][0] == 3
    with pytest.raises(TrainingError, match='gave up after 4 divergences'):
        run(conduct(Robot(), Exporter(refused=99), steps=20))


def test_a_resumed_run_does_not_take_what_died_for_its_own(conduct) -> None:
    """Versions published after the checkpoint may still act."""
    session = conduct(Robot(), steps=40)
    run(session)
    saved, robot = session.state_dict(), Robot()
    again = conduct(robot, steps=60)
    again.load_state_dict(saved)
    robot.acting = saved['version'] + 5
    run(again)
    assert robot.published[0][0] == saved['version'] + VERSIONS_SKIPPED + 1


def test_stop_ends_a_rollout_that_does_not_come(conduct) -> None:
    session, stop = conduct(Robot(adopts=False)), threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert run(session, stop).reason == 'stopped'
