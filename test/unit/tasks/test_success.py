# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Tasks whose success a classifier knows: rewards, hysteresis, ends, and what is refused."""

import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import BundleError, ConfigError, ContractError
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import manifest_path
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from rl_nodes.tasks.success import SuccessView
from success_files import classified_task, FIGURES, make_classifier

UPRIGHT = np.array([0.0, 0, 0, 1])
PERIOD = 20_000_000


def at(task: Task, step: int, episode: str = '1@0') -> RobotState:
    home = task.robot.home
    return RobotState(PERIOD * step, episode, home, np.zeros(len(home)), np.zeros(0))


def goal(task: Task, away: float) -> Goal:
    """Return a goal so far from the tool at home, along x [m]."""
    return Goal(0, task.robot.chain.tip_position(task.robot.home) + [away, 0.0, 0.0], UPRIGHT)


def judged(task: Task, gaps, judge=None, first: int = 0) -> list:
    """Return the outcomes of states so far from the goal [m], one after the other."""
    judge = task.judge() if judge is None else judge
    return [judge(at(task, first + i), task.robot.home, at(task, first + i + 1), goal(task, gap))
            for i, gap in enumerate(gaps)]


def test_terms_and_total_by_hand(tmp_path) -> None:
    task = load_task('arm', classified_task(
        tmp_path, reward='success_probability: 2.0, success_log_odds: 0.1, '
                         'classified_success: 5.0, distance: -1.0'))
    near, far = judged(task, (0.02, 0.2))
    odds = 5.0 - 50.0 * 0.02
    likely = 1.0 / (1.0 + np.exp(-odds))
    assert near.terms['success_log_odds'] == pytest.approx(odds, abs=1e-4)
    assert near.terms['success_probability'] == pytest.approx(likely, abs=1e-6)
    assert (near.terms['classified_success'], near.success) == (1.0, True)
    assert near.total == pytest.approx(2 * likely + 0.1 * odds + 5.0 - 0.02, abs=1e-4)
    assert far.terms['success_log_odds'] == pytest.approx(-5.0, abs=1e-4)
    assert (far.terms['classified_success'], far.success) == (0.0, False)
    assert not near.terminated
    assert tuple(near.terms) == task.term_names
    assert set(task.first_outcome().terms) == set(task.term_names)


def test_success_counts_after_enough_states_in_a_row(tmp_path) -> None:
    task = load_task('arm', classified_task(tmp_path, ', steps: 3, ends_episode: true'))
    near, far = 0.0, 0.3
    found = judged(task, (near, near, far, near, near, near, near))
    assert [one.success for one in found] == [False] * 5 + [True] * 2
    assert [one.terminated for one in found] == [False] * 5 + [True] * 2
    assert [one.terms['success_probability'] > 0.9 for one in found] == [True, True, False] + [
        True] * 4


def test_a_state_that_was_not_judged_breaks_the_row(tmp_path) -> None:
    task = load_task('arm', classified_task(tmp_path, ', steps: 2'))
    judge = task.judge()
    assert [one.success for one in judged(task, (0.0, 0.0), judge)] == [False, True]
    assert [one.success for one in judged(task, (0.0, 0.0), judge, first=3)] == [False, True]
    other = [judge(at(task, i, '2@0'), task.robot.home, at(task, i + 1, '2@0'), goal(task, 0.0))
             for i in (5, 6)]
    assert [one.success for one in other] == [False, True]


def test_whose_word_success_is(tmp_path) -> None:
    section = ', success: task, ends_episode: true'
    task = load_task('arm', classified_task(tmp_path, section))
    outcome, = judged(task, (0.025,))  # near for the classifier, not within 2 cm
    assert (outcome.terms['classified_success'], outcome.success) == (1.0, False)
    assert outcome.terminated
    strict = load_task('arm', classified_task(tmp_path, ', threshold: 0.999'))
    assert not judged(strict, (0.0,))[0].success


def test_the_contract_of_a_task_does_not_know_of_its_rewards(tmp_path) -> None:
    ours = load_task('arm', classified_task(tmp_path)).contract
    plain = load_task('arm', 'reach').contract
    assert msgspec.structs.replace(ours, task='reach') == plain


def test_it_sees_what_the_task_observes_of_one_state() -> None:
    reach = load_task('arm', 'reach')
    assert SuccessView(reach).contract.observation == reach.contract.observation
    state, target = at(reach, 0), goal(reach, 0.1)
    assert SuccessView(reach).see(state, target).tobytes() == reach.observer().observe(
        state, target).tobytes()
    partial = load_task('cartpole', 'cartpole_swingup_partial')
    assert partial.history.remembers
    seen = SuccessView(partial).contract.observation.elements
    assert seen and not any('@' in name or name.startswith('last_action') for name in seen)
    with pytest.raises(ConfigError, match="signals: unknown signal 'goal_ofset'.*'goal_offset'"):
        SuccessView(reach, ('goal_ofset',))


@pytest.mark.parametrize(('change', 'message'), [
    (lambda text: text.replace('examples_of: reach', 'examples_of: push'),
     'reach_by_example by examples of push:'),
    (lambda text: text.replace('examples_of: reach', 'steps: 1'), 'task: success classifier .* '
     'has reach, .* has reach_by_example')])
def test_a_classifier_of_another_task_is_refused(tmp_path, change, message) -> None:
    path = classified_task(tmp_path)
    with open(path) as file:
        text = file.read()
    with open(path, 'w') as file:
        file.write(change(text))
    with pytest.raises(ContractError, match=message):
        load_task('arm', path).judge()


def test_a_classifier_of_another_robot_is_refused(tmp_path) -> None:
    path = classified_task(tmp_path)
    make_classifier('panda', 'reach_panda').save(tmp_path / 'success.onnx')
    with pytest.raises(ContractError, match='robot: .* has panda'):
        SimEnv('arm', path)


def test_what_is_no_classifier_is_refused(tmp_path) -> None:
    path = classified_task(tmp_path)
    file, task = tmp_path / 'success.onnx', load_task('arm', path)
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(BundleError, match='damaged'):
        task.judge()
    file.write_bytes(good)
    manifest = manifest_path(file)
    said = manifest.read_text()
    manifest.write_text(said.replace('"threshold": 0.9', '"threshold": 0.1'))
    with pytest.raises(BundleError, match='digest'):
        task.judge()
    make_classifier(evaluation=None).save(file)
    with pytest.raises(BundleError, match='evaluation of a success classifier'):
        task.judge()
    make_classifier(evaluation=msgspec.structs.replace(FIGURES, threshold=1.5)).save(file)
    with pytest.raises(BundleError, match='evaluation of a success classifier.*threshold'):
        task.judge()
    make_classifier(kind='joint_position_delta').save(file)
    with pytest.raises(BundleError, match='joint_position_delta, expected success_classifier'):
        task.judge()
    file.unlink()
    with pytest.raises(BundleError, match='cannot be read'):
        task.judge()


def test_an_unknown_term_names_those_of_the_classifier(tmp_path) -> None:
    with pytest.raises(ConfigError, match="'success_probabilty'.*'success_probability'"):
        load_task('arm', classified_task(tmp_path, reward='success_probabilty: 1.0'))
    path = tmp_path / 'plain.yaml'
    path.write_text(find_config('tasks', 'reach').read_text().replace(
        'closeness: 1.0', 'success_probability: 1.0'))
    with pytest.raises(ConfigError, match='unknown term'):
        load_task('arm', str(path))


def test_the_environment_pays_by_it(tmp_path) -> None:
    env = SimEnv('arm', classified_task(tmp_path, reward='success_log_odds: 1.0'))
    env.reset(seed=3)
    for _ in range(5):
        _, reward, _, _, info = env.step(np.full(6, 0.3, np.float32))
        assert reward == info['success_log_odds']
        assert 0.0 <= info['success_probability'] <= 1.0
    env.close()
